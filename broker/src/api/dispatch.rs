//! From a frame to an outcome: header, guard, codec, handler, codec (`KafkaApis.handle`).

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use kafka_protocol::messages::{
    AllocateProducerIdsRequest, AlterPartitionRequest, ApiVersionsRequest,
    ControlledShutdownRequest, FetchRequest, LeaderAndIsrRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest, StopReplicaRequest, UpdateMetadataRequest,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};
use tokio::sync::Notify;

use super::context::{Context, Rooms};
use super::{Api, api_versions, call, request_header_version};
use crate::error::ErrorCode;
use crate::net::guard::{self, Direction};
use crate::net::out::encode;
use crate::net::{Handler, Outcome, Peer, Response};

const KAFKA_APIS: &str = "kafka.server.KafkaApis";

/// Answers every API of the table.
pub struct Dispatcher {
    rooms: Arc<Rooms>,
    is_open: AtomicBool,
    opened: Notify,
}

impl Dispatcher {
    pub fn new(rooms: Arc<Rooms>) -> Self {
        let dispatcher = Self::closed(rooms);
        dispatcher.admit_clients();
        dispatcher
    }

    /// Serves what brokers ask of each other, so that the cluster can tell this one of itself, and
    /// lets clients wait until [`Self::admit_clients`].
    pub fn closed(rooms: Arc<Rooms>) -> Self {
        Self {
            rooms,
            is_open: AtomicBool::new(false),
            opened: Notify::new(),
        }
    }

    pub fn admit_clients(&self) {
        self.is_open.store(true, Ordering::Release);
        self.opened.notify_waiters();
    }

    /// Until this API is served.
    async fn admitted(&self, key: i16) {
        if self.is_open.load(Ordering::Acquire) || is_asked_by_brokers(key) {
            return;
        }
        let mut opened = pin!(self.opened.notified());
        // Registered before the second look, so that the signal is not missed.
        opened.as_mut().enable();
        if !self.is_open.load(Ordering::Acquire) {
            opened.await;
        }
    }
}

/// Control requests, and what followers and candidates for producer ids send; clients that know the
/// broker already may ask some of it too, and learn as much as this broker knows.
fn is_asked_by_brokers(key: i16) -> bool {
    matches!(
        key,
        FetchRequest::KEY
            | ListOffsetsRequest::KEY
            | LeaderAndIsrRequest::KEY
            | StopReplicaRequest::KEY
            | UpdateMetadataRequest::KEY
            | ControlledShutdownRequest::KEY
            | ApiVersionsRequest::KEY
            | OffsetForLeaderEpochRequest::KEY
            | AlterPartitionRequest::KEY
            | AllocateProducerIdsRequest::KEY
    )
}

/// What a connection remembers between requests.
#[derive(Debug, Default)]
pub struct Connection {
    /// Name and version from ApiVersions v3+ (KIP-511).
    pub software: Option<(String, String)>,
}

impl Handler for Dispatcher {
    type Connection = Connection;

    fn connect(&self, _: &Peer) -> Connection {
        Connection::default()
    }

    async fn handle(&self, connection: &mut Connection, peer: &Peer, frame: &[u8]) -> Outcome {
        match self.open(peer, frame) {
            Err(outcome) => outcome,
            Ok((cx, body)) => {
                if cx.api_key == ApiVersionsRequest::KEY
                    && let Ok(request) = decode::<ApiVersionsRequest>(&cx, body)
                    && let Some(software) = api_versions::software(cx.version, &request)
                {
                    connection.software = Some(software);
                }
                self.admitted(cx.api_key).await;
                call(&cx, body).await
            }
        }
    }

    /// A Fetch waits and reads; everything else may have begun to change something.
    fn is_abandonable(&self, frame: &[u8]) -> bool {
        matches!(guard::peek(frame), Ok((FetchRequest::KEY, _)))
    }
}

impl Dispatcher {
    /// Reads the header. What is not in the table ends here.
    fn open<'a>(
        &'a self,
        peer: &'a Peer,
        frame: &'a [u8],
    ) -> Result<(Context<'a>, &'a [u8]), Outcome> {
        let close = |error: guard::Error| {
            Outcome::Close(format!("the request header cannot be read: {error}"))
        };
        let (key, version) = guard::peek(frame).map_err(close)?;
        let Some(header_version) = request_header_version(key, version) else {
            return Err(refuse_version(key, version, frame));
        };
        let header = guard::request_header(frame, header_version).map_err(close)?;
        let cx = Context {
            rooms: &self.rooms,
            peer,
            api_key: key,
            version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
        };
        Ok((cx, &frame[header.len..]))
    }
}

/// Kafka closes the connection, but for ApiVersions: whoever asks in a version of the future is told
/// ours in the oldest shape.
fn refuse_version(key: i16, version: i16, frame: &[u8]) -> Outcome {
    let reason = match Api::of(key) {
        Some(_) if key == ApiVersionsRequest::KEY => {
            return match guard::request_header(frame, ApiVersionsRequest::header_version(version)) {
                Ok(header) => {
                    let response = api_versions::unsupported();
                    encoded(encode(header.correlation_id, 0, &response, 0), key, 0)
                }
                Err(error) => Outcome::Close(format!("the request header cannot be read: {error}")),
            };
        }
        Some(api) => format!(
            "Received request api key {} with version {version} which is not enabled; versions {} \
             to {} are",
            api.name, api.min_version, api.max_version
        ),
        None => format!("Unknown API key {key}"),
    };
    Outcome::Close(reason)
}

/// Guard, then codec. The error is the reason to close the connection.
pub(super) fn decode<R: Request>(cx: &Context<'_>, body: &[u8]) -> Result<R, String> {
    let failed = |error: &dyn std::fmt::Display| {
        let name = Api::of(R::KEY).map_or("", |api| api.name);
        format!("{name} v{} cannot be read: {error}", cx.version)
    };
    guard::check(Direction::Request, R::KEY, cx.version, body).map_err(|error| failed(&error))?;
    // Its texts and bytes stay slices of this copy.
    R::decode(&mut Bytes::copy_from_slice(body), cx.version).map_err(|error| failed(&error))
}

/// What an API that is read in place makes of a request.
pub(super) enum Answered<'a> {
    Now(Outcome),
    /// It waits, on the heap: within the future of the connection all requests would be moved with it.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>),
}

/// [`caught`] for what does not wait.
pub(super) fn caught_at_once<T>(handler: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(handler)).ok()
}

/// Runs a handler; `None` when it panicked. The panic hook has logged where. It is pinned by the
/// caller: to move it costs as much as a small append.
pub(super) async fn caught<F: Future>(mut handler: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        // The handler is not polled again after a panic, and what it shares with others it guards
        // by locks that a panic releases.
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// Encodes a response in the version of its request.
pub(super) fn respond<M: Encodable + HeaderVersion>(cx: &Context<'_>, response: &M) -> Outcome {
    let response = encode(
        cx.correlation_id,
        M::header_version(cx.version),
        response,
        cx.version,
    );
    encoded(response, cx.api_key, cx.version)
}

fn encoded(response: anyhow::Result<Response>, key: i16, version: i16) -> Outcome {
    response.map_or_else(
        |error| {
            let name = Api::of(key).map_or("", |api| api.name);
            // A mistake of ours; silence would leave the client waiting.
            tracing::error!(
                target: KAFKA_APIS,
                "The response to {name} v{version} cannot be encoded: {error}"
            );
            Outcome::Close(format!(
                "the response to {name} v{version} cannot be encoded"
            ))
        },
        Outcome::Respond,
    )
}

/// Says whose request a panic ended.
pub(super) fn log_failure(cx: &Context<'_>) {
    tracing::error!(
        target: KAFKA_APIS,
        "Unexpected error handling request {} v{} of {} (correlation id {})",
        Api::of(cx.api_key).map_or("", |api| api.name),
        cx.version,
        cx.peer.address,
        cx.correlation_id
    );
}

/// The answer in place of a handler that panicked: UNKNOWN_SERVER_ERROR in the API's own shape.
pub(super) fn refused<R: Request>(
    cx: &Context<'_>,
    body: &[u8],
    refuse: impl FnOnce(&R, ErrorCode) -> R::Response,
) -> Outcome {
    log_failure(cx);
    match decode::<R>(cx, body) {
        Ok(request) => respond(cx, &refuse(&request, ErrorCode::UnknownServerError)),
        Err(reason) => Outcome::Close(reason),
    }
}
