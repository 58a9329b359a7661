//! ControllerChannelManager: one ordered queue of control requests per broker, one request in
//! flight. The queue of the broker we run in is served in the process.
//!
//! Answers come back to the event loop as events. A request that was begun is finished even when
//! the queue closes: the broker fences it by epoch, not we by forgetting it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest, UpdateMetadataResponse,
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::types::BrokerId;
use crate::zk::BoxFuture;

use super::batch::deleted_partitions;
use super::core::CONTROLLER;
use super::event::{ControlRequest, Event};

/// The broker in whose process the controller runs, as its receiver of control requests.
pub trait LocalBroker: Send + Sync + 'static {
    fn leader_and_isr(&self, request: LeaderAndIsrRequest) -> BoxFuture<'_, LeaderAndIsrResponse>;
    fn update_metadata(
        &self,
        request: UpdateMetadataRequest,
    ) -> BoxFuture<'_, UpdateMetadataResponse>;
    fn stop_replica(&self, request: StopReplicaRequest) -> BoxFuture<'_, StopReplicaResponse>;
}

/// Queues of one term of office; dropped with it.
pub(super) struct Channels {
    local_id: BrokerId,
    local: Arc<dyn LocalBroker>,
    answers: mpsc::UnboundedSender<Event>,
    open: HashMap<BrokerId, Channel>,
}

struct Channel {
    queue: mpsc::UnboundedSender<ControlRequest>,
    closed: Arc<AtomicBool>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl Channels {
    pub(super) fn new(
        local_id: BrokerId,
        local: Arc<dyn LocalBroker>,
        answers: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            local_id,
            local,
            answers,
            open: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, broker: BrokerId) {
        if broker != self.local_id {
            warn!(
                target: CONTROLLER,
                "[Controller id={}] Broker {broker} is registered in this cluster; this version controls only its own broker and sends it nothing",
                self.local_id
            );
            return;
        }
        let (queue, requests) = mpsc::unbounded_channel();
        let closed = Arc::new(AtomicBool::new(false));
        let sender = RequestSender {
            broker,
            local: Arc::clone(&self.local),
            answers: self.answers.clone(),
            closed: Arc::clone(&closed),
        };
        tokio::spawn(sender.run(requests));
        self.open.insert(broker, Channel { queue, closed });
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
                self.local_id
            ),
        }
    }
}

struct RequestSender {
    broker: BrokerId,
    local: Arc<dyn LocalBroker>,
    answers: mpsc::UnboundedSender<Event>,
    closed: Arc<AtomicBool>,
}

impl RequestSender {
    async fn run(self, mut requests: mpsc::UnboundedReceiver<ControlRequest>) {
        let broker = self.broker;
        while let Some(request) = requests.recv().await {
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            let answer = match request {
                ControlRequest::LeaderAndIsr(request) => Event::LeaderAndIsrAnswered {
                    broker,
                    response: self.local.leader_and_isr(request).await,
                },
                ControlRequest::UpdateMetadata(request) => Event::UpdateMetadataAnswered {
                    broker,
                    response: self.local.update_metadata(request).await,
                },
                ControlRequest::StopReplica(request) => {
                    let deleted = deleted_partitions(&request);
                    let response = self.local.stop_replica(request).await;
                    Event::StopReplicaAnswered {
                        broker,
                        deleted,
                        response,
                    }
                }
            };
            if self.answers.send(answer).is_err() {
                return;
            }
        }
    }
}
