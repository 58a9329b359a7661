//! ControllerChannelManager: one ordered queue of control requests per broker, one request in
//! flight. The queue of the broker we run in is served in the process, that of another over one
//! connection, which is made when it is needed and again after every failure.
//!
//! ```text
//! LeaderAndIsr v7, UpdateMetadata v8, StopReplica v4; client id = our broker id; no ApiVersions
//! ```
//! 1. A request is sent until it is answered, in its turn, for as long as the broker is registered.
//!    So it may arrive twice, or after its controller was replaced: brokers fence by controller
//!    epoch, broker epoch and leader epoch.
//! 2. Answers come back to the event loop as events.
//!
//! Source: `ControllerChannelManager.scala`; versions are those of `inter.broker.protocol.version`
//! 3.4 and later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest, UpdateMetadataResponse,
};
use kafka_protocol::protocol::Request;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::net::client::{self, Client};
use crate::types::BrokerId;
use crate::zk::BoxFuture;

use super::batch::deleted_partitions;
use super::core::CONTROLLER;
use super::event::{ControlRequest, Event};
use super::state::LiveBroker;

const LEADER_AND_ISR_VERSION: i16 = 7;
const UPDATE_METADATA_VERSION: i16 = 8;
const STOP_REPLICA_VERSION: i16 = 4;
/// Between attempts.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The broker in whose process the controller runs, as its receiver of control requests.
pub trait LocalBroker: Send + Sync + 'static {
    fn leader_and_isr(&self, request: LeaderAndIsrRequest) -> BoxFuture<'_, LeaderAndIsrResponse>;
    fn update_metadata(
        &self,
        request: UpdateMetadataRequest,
    ) -> BoxFuture<'_, UpdateMetadataResponse>;
    fn stop_replica(&self, request: StopReplicaRequest) -> BoxFuture<'_, StopReplicaResponse>;
}

/// How the controller reaches brokers.
#[derive(Debug, Clone)]
pub struct ChannelSettings {
    pub local_id: BrokerId,
    /// `control.plane.listener.name`, else the inter-broker listener.
    pub listener: String,
    /// `controller.socket.timeout.ms`.
    pub connect_timeout: Duration,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
}

impl ChannelSettings {
    pub fn from_config(config: &Config) -> Self {
        let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let listener = config.control_plane_listener_name();
        Self {
            local_id: config.broker_id(),
            listener: listener
                .unwrap_or_else(|| config.inter_broker_listener_name())
                .to_owned(),
            connect_timeout: millis(config.controller_socket_timeout_ms()),
            request_timeout: millis(config.request_timeout_ms()),
        }
    }
}

/// Queues of one term of office; dropped with it.
pub(super) struct Channels {
    settings: ChannelSettings,
    local: Arc<dyn LocalBroker>,
    answers: mpsc::UnboundedSender<Event>,
    open: HashMap<BrokerId, Channel>,
}

struct Channel {
    queue: mpsc::UnboundedSender<ControlRequest>,
    /// Ends the sender when the channel is dropped.
    _open: DropGuard,
}

impl Channels {
    pub(super) fn new(
        settings: ChannelSettings,
        local: Arc<dyn LocalBroker>,
        answers: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            settings,
            local,
            answers,
            open: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, broker: &LiveBroker) {
        let id = broker.info.id;
        let way = if id == self.settings.local_id {
            Way::Local(Arc::clone(&self.local))
        } else {
            let Some(endpoint) = broker.info.endpoint(&self.settings.listener) else {
                error!(
                    target: CONTROLLER,
                    "[Controller id={}] Broker {id} has no listener {}; it is sent nothing. Give it one, or change inter.broker.listener.name",
                    self.settings.local_id, self.settings.listener
                );
                return;
            };
            Way::Remote(Box::new(Remote {
                address: (
                    endpoint.host.clone(),
                    u16::try_from(endpoint.port).unwrap_or(0),
                ),
                controller: self.settings.local_id,
                options: client::Options {
                    client_id: self.settings.local_id.to_string(),
                    connect_timeout: self.settings.connect_timeout,
                    request_timeout: self.settings.request_timeout,
                    ..client::Options::default()
                },
                connection: None,
            }))
        };
        let (queue, requests) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        let sender = RequestSender {
            broker: id,
            way,
            answers: self.answers.clone(),
            closed: closed.clone(),
        };
        tokio::spawn(sender.run(requests));
        let channel = Channel {
            queue,
            _open: closed.drop_guard(),
        };
        self.open.insert(id, channel);
    }

    pub(super) fn remove(&mut self, broker: BrokerId) {
        self.open.remove(&broker);
    }

    pub(super) fn send(&self, broker: BrokerId, request: ControlRequest) {
        match self.open.get(&broker) {
            // The receiver lives as long as the channel.
            Some(channel) => drop(channel.queue.send(request)),
            None => debug!(
                target: CONTROLLER,
                "[Controller id={}] Not sending request to broker {broker}, since it is offline.",
                self.settings.local_id
            ),
        }
    }
}

struct RequestSender {
    broker: BrokerId,
    way: Way,
    answers: mpsc::UnboundedSender<Event>,
    closed: CancellationToken,
}

enum Way {
    Local(Arc<dyn LocalBroker>),
    Remote(Box<Remote>),
}

impl RequestSender {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<ControlRequest>) {
        let closed = self.closed.clone();
        while let Some(request) = requests.recv().await {
            if closed.is_cancelled() {
                return;
            }
            let answer = match &mut self.way {
                // Finished even when the queue closes meanwhile: half of it would be worse.
                Way::Local(local) => ask_local(&**local, self.broker, request).await,
                Way::Remote(remote) => tokio::select! {
                    answer = remote.ask(self.broker, request) => answer,
                    () = closed.cancelled() => return,
                },
            };
            if self.answers.send(answer).is_err() {
                return;
            }
        }
    }
}

async fn ask_local(local: &dyn LocalBroker, broker: BrokerId, request: ControlRequest) -> Event {
    match request {
        ControlRequest::LeaderAndIsr(request) => Event::LeaderAndIsrAnswered {
            broker,
            response: local.leader_and_isr(request).await,
        },
        ControlRequest::UpdateMetadata(request) => Event::UpdateMetadataAnswered {
            broker,
            response: local.update_metadata(request).await,
        },
        ControlRequest::StopReplica(request) => {
            let deleted = deleted_partitions(&request);
            Event::StopReplicaAnswered {
                broker,
                deleted,
                response: local.stop_replica(request).await,
            }
        }
    }
}

/// Another broker, over a connection.
struct Remote {
    address: (String, u16),
    controller: BrokerId,
    options: client::Options,
    connection: Option<Client>,
}

impl Remote {
    async fn ask(&mut self, broker: BrokerId, request: ControlRequest) -> Event {
        match request {
            ControlRequest::LeaderAndIsr(request) => Event::LeaderAndIsrAnswered {
                broker,
                response: self.send(broker, &request, LEADER_AND_ISR_VERSION).await,
            },
            ControlRequest::UpdateMetadata(request) => Event::UpdateMetadataAnswered {
                broker,
                response: self.send(broker, &request, UPDATE_METADATA_VERSION).await,
            },
            ControlRequest::StopReplica(request) => Event::StopReplicaAnswered {
                broker,
                deleted: deleted_partitions(&request),
                response: self.send(broker, &request, STOP_REPLICA_VERSION).await,
            },
        }
    }

    /// Until there is an answer.
    async fn send<R: Request>(
        &mut self,
        broker: BrokerId,
        request: &R,
        version: i16,
    ) -> R::Response {
        loop {
            match self.attempt(broker, request, version).await {
                Ok(response) => return response,
                Err(failure) => {
                    warn!(
                        target: CONTROLLER,
                        "[RequestSendThread controllerId={}] Controller {} fails to send request {} to broker {broker} ({}:{}). Reconnecting to broker: {failure}",
                        self.controller, self.controller, R::KEY, self.address.0, self.address.1
                    );
                    self.connection = None;
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    async fn attempt<R: Request>(
        &mut self,
        broker: BrokerId,
        request: &R,
        version: i16,
    ) -> Result<R::Response, client::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let (host, port) = &self.address;
                let made = Client::connect((host.as_str(), *port), self.options.clone()).await?;
                info!(
                    target: CONTROLLER,
                    "[RequestSendThread controllerId={}] Controller {} connected to {host}:{port} (id: {broker}) for sending state change requests",
                    self.controller, self.controller
                );
                none.insert(made)
            }
        };
        connection.send(request, version).await
    }
}
