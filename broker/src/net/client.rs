//! A client of brokers, for the controller's channels, followers and tools: one connection, answers
//! in the order of the requests (`NetworkClient`).
//!
//! Answers are walked by the [guard](super::guard) before they are decoded: a peer is not trusted.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{
    Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes, VersionRange,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

use super::{frame, guard};
use crate::error::ErrorCode;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the answer is not what it should be: {0}")]
    Malformed(String),
    #[error("API {key} in version {version}: {reason}")]
    Unencodable {
        key: i16,
        version: i16,
        reason: String,
    },
    #[error("the broker offers API {key} in {offered}, we know {known}")]
    NoCommonVersion {
        key: i16,
        offered: String,
        known: VersionRange,
    },
    #[error("ApiVersions was refused: {}", .0.name())]
    Refused(ErrorCode),
}

/// How to talk.
#[derive(Debug, Clone)]
pub struct Options {
    pub client_id: String,
    pub connect_timeout: Duration,
    /// From the call of `receive` or `send`; a long-poll request needs more than it waits.
    pub request_timeout: Duration,
    /// Bytes.
    pub max_response_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "ottla".to_owned(),
            connect_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            max_response_bytes: i32::MAX as usize,
        }
    }
}

/// A request that was sent and whose answer was not read yet.
#[derive(Debug)]
#[must_use = "answers are read in the order of the requests"]
pub struct Pending<R> {
    correlation_id: i32,
    version: i16,
    request: PhantomData<fn() -> R>,
}

/// One connection. After an error it is of no more use.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    options: Options,
    client_id: StrBytes,
    correlation_id: i32,
    in_flight: VecDeque<i32>,
    input: BytesMut,
    largest: usize,
    /// What the broker offers, once asked.
    offered: HashMap<i16, VersionRange>,
}

impl Client {
    pub async fn connect(address: impl ToSocketAddrs, options: Options) -> Result<Self, Error> {
        let stream = timeout(options.connect_timeout, TcpStream::connect(address))
            .await
            .map_err(|_| Error::TimedOut(options.connect_timeout))??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            client_id: StrBytes::from_string(options.client_id.clone()),
            options,
            correlation_id: 0,
            in_flight: VecDeque::new(),
            input: BytesMut::new(),
            largest: 0,
            offered: HashMap::new(),
        })
    }

    /// Asks the broker which versions it offers, for [`Client::version`] and [`Client::call`].
    pub async fn negotiate(&mut self) -> Result<&HashMap<i16, VersionRange>, Error> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("ottla"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut response = self.send(&request, 3).await?;
        if response.error_code == ErrorCode::UnsupportedVersion.value() {
            // A broker of before 2.4.
            response = self.send(&ApiVersionsRequest::default(), 0).await?;
        }
        if response.error_code != 0 {
            return Err(Error::Refused(ErrorCode::from_value(response.error_code)));
        }
        self.offered = response
            .api_keys
            .iter()
            .map(|api| {
                let range = VersionRange {
                    min: api.min_version,
                    max: api.max_version,
                };
                (api.api_key, range)
            })
            .collect();
        Ok(&self.offered)
    }

    /// The newest version that both sides know; [`Client::negotiate`] first.
    pub fn version<R: Request>(&self) -> Result<i16, Error> {
        let known = R::VERSIONS;
        let common = self.offered.get(&R::KEY).and_then(|offered| {
            let newest = offered.max.min(known.max);
            (newest >= offered.min && newest >= known.min).then_some(newest)
        });
        common.ok_or_else(|| Error::NoCommonVersion {
            key: R::KEY,
            offered: self
                .offered
                .get(&R::KEY)
                .map_or("no version".to_owned(), ToString::to_string),
            known,
        })
    }

    /// One request and its answer, in the newest common version.
    pub async fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, Error> {
        let version = self.version::<R>()?;
        self.send(request, version).await
    }

    /// One request and its answer.
    pub async fn send<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, Error> {
        let pending = self.submit(request, version).await?;
        self.receive(pending).await
    }

    /// Sends a request; several may be on their way.
    pub async fn submit<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Pending<R>, Error> {
        let correlation_id = self.write(request, version).await?;
        self.in_flight.push_back(correlation_id);
        Ok(Pending {
            correlation_id,
            version,
            request: PhantomData,
        })
    }

    /// Sends a request that has no answer: Produce with acks=0.
    pub async fn submit_unanswered<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(), Error> {
        self.write(request, version).await.map(drop)
    }

    async fn write<R: Request>(&mut self, request: &R, version: i16) -> Result<i32, Error> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_i32(0);
        header
            .encode(&mut bytes, R::header_version(version))
            .and_then(|()| request.encode(&mut bytes, version))
            .map_err(|error| Error::Unencodable {
                key: R::KEY,
                version,
                reason: error.to_string(),
            })?;
        let length = i32::try_from(bytes.len() - frame::PREFIX)
            .map_err(|_| io::Error::other(format!("a request of {} bytes", bytes.len())))?;
        bytes[..frame::PREFIX].copy_from_slice(&length.to_be_bytes());
        let limit = self.options.request_timeout;
        timeout(limit, self.stream.write_all(&bytes))
            .await
            .map_err(|_| Error::TimedOut(limit))??;
        Ok(self.correlation_id)
    }

    /// The answer to the oldest request that has none yet.
    pub async fn receive<R: Request>(&mut self, pending: Pending<R>) -> Result<R::Response, Error> {
        if self.in_flight.pop_front() != Some(pending.correlation_id) {
            return Err(Error::Malformed(format!(
                "request {} is not the oldest on its way",
                pending.correlation_id
            )));
        }
        let limit = self.options.request_timeout;
        let bytes = timeout(limit, self.next_frame())
            .await
            .map_err(|_| Error::TimedOut(limit))??;
        decode::<R>(bytes, pending.correlation_id, pending.version)
    }

    async fn next_frame(&mut self) -> Result<Bytes, Error> {
        let limit = self.options.max_response_bytes;
        loop {
            let frame = frame::split(&mut self.input, limit)
                .map_err(|error| Error::Malformed(error.to_string()))?;
            if let Some(frame) = frame {
                self.largest = self.largest.max(frame.len() + frame::PREFIX);
                return Ok(frame);
            }
            frame::reserve(&mut self.input, self.largest, limit);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn decode<R: Request>(
    mut frame: Bytes,
    correlation_id: i32,
    mut version: i16,
) -> Result<R::Response, Error> {
    let malformed = |reason: String| Error::Malformed(format!("API {}: {reason}", R::KEY));
    // An ApiVersions of a version the broker does not know is answered in version 0.
    let unsupported = ErrorCode::UnsupportedVersion.value().to_be_bytes();
    if R::KEY == ApiVersionsRequest::KEY && frame.get(4..6) == Some(unsupported.as_slice()) {
        version = 0;
    }
    let header = guard::response_header(&frame, R::Response::header_version(version))
        .map_err(|error| malformed(error.to_string()))?;
    if header.correlation_id != correlation_id {
        return Err(malformed(format!(
            "it answers request {}, not {correlation_id}",
            header.correlation_id
        )));
    }
    frame.advance(header.len);
    guard::check(guard::Direction::Response, R::KEY, version, &frame)
        .map_err(|error| malformed(error.to_string()))?;
    R::Response::decode(&mut frame, version).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{ApiVersionsResponse, HeartbeatRequest, MetadataRequest};

    use super::*;
    use crate::net::out::encode;
    use crate::net::{Connections, Handler, Limits, Listener, Outcome, Peer};

    /// Offers ApiVersions 0–1 and Heartbeat 1–2, and answers Heartbeats with its own count.
    struct OldBroker;

    impl Handler for OldBroker {
        type Connection = i32;

        fn connect(&self, _: &Peer) -> i32 {
            0
        }

        async fn handle(&self, heartbeats: &mut i32, _: &Peer, frame: &[u8]) -> Outcome {
            let (key, version) = guard::peek(frame).unwrap();
            let header = guard::request_header(frame, 1).unwrap();
            let id = header.correlation_id;
            let response = match key {
                ApiVersionsRequest::KEY if version > 1 => {
                    let answer = ApiVersionsResponse::default().with_error_code(35);
                    encode(id, 0, &answer, 0)
                }
                ApiVersionsRequest::KEY => {
                    let apis = [(18, 0, 1), (12, 1, 2)].map(|(key, min, max)| {
                        ApiVersion::default()
                            .with_api_key(key)
                            .with_min_version(min)
                            .with_max_version(max)
                    });
                    let answer = ApiVersionsResponse::default().with_api_keys(apis.to_vec());
                    encode(id, 0, &answer, version)
                }
                HeartbeatRequest::KEY => {
                    *heartbeats += 1;
                    let answer = kafka_protocol::messages::HeartbeatResponse::default()
                        .with_throttle_time_ms(*heartbeats);
                    encode(id, 0, &answer, version)
                }
                // A count of two milliards.
                _ => Ok([id.to_be_bytes(), [0x7f, 0xff, 0xff, 0xff]].concat().into()),
            };
            Outcome::Respond(response.unwrap())
        }
    }

    async fn client() -> Client {
        let limits = Limits::default();
        let listener = Listener::bind("PLAINTEXT", Some("127.0.0.1"), 0, &limits).unwrap();
        let address = listener.local_addr();
        listener
            .accept(
                Arc::new(OldBroker),
                tokio::sync::watch::channel(Arc::new(limits)).1,
                &Connections::new(),
            )
            .unwrap();
        Client::connect(address, Options::default()).await.unwrap()
    }

    #[tokio::test]
    async fn negotiates_with_a_broker_that_knows_only_old_versions() {
        let mut client = client().await;
        client.negotiate().await.unwrap();
        assert_eq!(client.version::<HeartbeatRequest>().unwrap(), 2);
        assert!(matches!(
            client.version::<MetadataRequest>(),
            Err(Error::NoCommonVersion { key: 3, .. })
        ));
        let answer = client.call(&HeartbeatRequest::default()).await.unwrap();
        assert_eq!(answer.throttle_time_ms, 1);
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_requests() {
        let mut client = client().await;
        let mut pending = Vec::new();
        for _ in 0..5 {
            pending.push(
                client
                    .submit(&HeartbeatRequest::default(), 1)
                    .await
                    .unwrap(),
            );
        }
        for (index, one) in pending.into_iter().enumerate() {
            let answer = client.receive(one).await.unwrap();
            assert_eq!(answer.throttle_time_ms, index as i32 + 1);
        }
    }

    #[tokio::test]
    async fn a_hostile_answer_is_an_error_and_costs_nothing() {
        let mut client = client().await;
        let error = client.send(&MetadataRequest::default(), 1).await;
        assert!(matches!(error, Err(Error::Malformed(_))), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_times_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            request_timeout: Duration::from_millis(50),
            ..Options::default()
        };
        let mut client = Client::connect(listener.local_addr().unwrap(), options)
            .await
            .unwrap();
        let error = client.send(&HeartbeatRequest::default(), 0).await;
        assert!(matches!(error, Err(Error::TimedOut(_))), "{error:?}");
    }
}
