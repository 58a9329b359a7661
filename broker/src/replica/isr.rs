//! AlterPartitionManager: takes proposals for ISRs to the controller. [edge]
//!
//! One request at a time, with everything that is open; a request without an answer, or with a
//! top-level error, is made again until the controller has spoken of every proposal.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::alter_partition::{Batch, Item, LAST_WITH_NAMES, Proposals};
use super::manager::ReplicaManager;
use super::partition::Partition;
use super::state::IsrProposal;
use crate::error::ErrorCode;
use crate::net::client::{Client, Error, Options};
use crate::types::BrokerId;

const LOGGER: &str = "kafka.server.DefaultAlterPartitionManager";
/// Before a request is made again.
const RETRY: Duration = Duration::from_millis(50);

/// Proposals on their way to the controller.
#[derive(Debug, Default)]
pub(super) struct AlterPartitions {
    proposals: Mutex<Proposals>,
    wake: Notify,
}

impl AlterPartitions {
    pub(super) fn submit(&self, partition: &Partition, proposal: IsrProposal) {
        self.proposals.lock().add(
            partition.topic_partition().clone(),
            Item {
                topic_id: partition.topic_id(),
                proposal,
            },
        );
        self.wake.notify_one();
    }
}

/// A connection to the controller of a moment.
struct Channel {
    controller: BrokerId,
    client: Client,
}

impl ReplicaManager {
    /// Takes laggards out of ISRs, every half of `replica.lag.time.max.ms`.
    pub(super) async fn shrink_rounds(self: Arc<Self>, cancel: CancellationToken) {
        let every = self.config().load().replica_lag_time_max_ms() / 2;
        let every = Duration::from_millis(every.max(1).unsigned_abs());
        let mut rounds = tokio::time::interval(every);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = rounds.tick() => {}
            }
            for partition in self.online_partitions() {
                if let Some(proposal) = partition.propose_shrink(self.lag()) {
                    self.isr.submit(&partition, proposal);
                }
            }
        }
    }

    /// Sends proposals until `cancel`.
    pub(super) async fn propose_isrs(self: Arc<Self>, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.send_proposals() => {}
        }
    }

    async fn send_proposals(&self) {
        let mut channel = None;
        loop {
            let batch = self.isr.proposals.lock().batch();
            if self.isr.proposals.lock().is_empty() {
                self.isr.wake.notified().await;
                continue;
            }
            match self.propose(&mut channel, &batch).await {
                Ok((version, response)) => match ErrorCode::from_value(response.error_code) {
                    ErrorCode::None => {
                        if !self.on_proposals_answered(batch, version, &response) {
                            continue;
                        }
                    }
                    ErrorCode::NotController => channel = None,
                    code => tracing::warn!(
                        target: LOGGER,
                        "[AlterPartitionManager broker={}] Controller returned an unexpected top-level error when handling AlterPartition request: {code}",
                        self.broker_id()
                    ),
                },
                Err(error) => {
                    channel = None;
                    tracing::debug!(
                        target: LOGGER,
                        "[AlterPartitionManager broker={}] AlterPartition was not answered: {error}",
                        self.broker_id()
                    );
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn propose(
        &self,
        channel: &mut Option<Channel>,
        batch: &Batch,
    ) -> Result<(i16, AlterPartitionResponse), Error> {
        let mut images = self.cluster().changes();
        images.mark_unchanged();
        let controller = self.cluster().image().controller_id;
        if channel.as_ref().map(|channel| channel.controller) != controller {
            *channel = None;
        }
        let channel = match channel {
            Some(channel) => channel,
            None => channel.insert(self.connect_to_controller().await?),
        };
        let offered = channel.client.version::<AlterPartitionRequest>()?;
        let version = if batch.can_use_topic_ids() {
            offered
        } else {
            offered.min(LAST_WITH_NAMES)
        };
        let request = batch.request(self.broker_id(), self.broker_epoch(), version);
        // The answer of a controller that is none any more may never come.
        let controller = channel.controller;
        let has_moved = async {
            while images.changed().await.is_ok() {
                if self.cluster().image().controller_id != Some(controller) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            answer = channel.client.send(&request, version) => Ok((version, answer?)),
            () = has_moved => Err(std::io::Error::other("another broker is the controller").into()),
        }
    }

    async fn connect_to_controller(&self) -> Result<Channel, Error> {
        let config = self.config().load();
        let image = self.cluster().image();
        let unknown = || Error::Io(std::io::Error::other("no controller is known"));
        let controller = image.controller_id.ok_or_else(unknown)?;
        let listener = config
            .control_plane_listener_name()
            .unwrap_or_else(|| config.inter_broker_listener_name());
        let endpoint = image
            .brokers
            .get(&controller)
            .and_then(|broker| broker.endpoint(listener))
            .ok_or_else(unknown)?;
        let connect_timeout = config.socket_connection_setup_timeout_ms();
        let request_timeout = i64::from(config.controller_socket_timeout_ms());
        let mut client = Client::connect(
            (endpoint.host.as_str(), port(endpoint.port)),
            Options {
                client_id: self.broker_id().to_string(),
                connect_timeout: Duration::from_millis(connect_timeout.max(0).unsigned_abs()),
                request_timeout: Duration::from_millis(request_timeout.max(0).unsigned_abs()),
                ..Options::default()
            },
        )
        .await?;
        client.negotiate().await?;
        Ok(Channel { controller, client })
    }

    /// True when some proposal is to be made again.
    fn on_proposals_answered(
        &self,
        batch: Batch,
        version: i16,
        response: &AlterPartitionResponse,
    ) -> bool {
        let mut is_retried = false;
        let answered = self
            .isr
            .proposals
            .lock()
            .on_answer(batch, version, response);
        for one in answered {
            let Ok(partition) = self.online_partition(&one.partition) else {
                continue;
            };
            if partition.on_isr_answer(&one.proposal, one.answer, self.lag()) {
                self.isr.submit(&partition, one.proposal);
                is_retried = true;
            }
        }
        is_retried
    }
}

/// A port as sockets take it; 0, which nobody listens at, for one that is none.
pub(super) fn port(port: i32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}
