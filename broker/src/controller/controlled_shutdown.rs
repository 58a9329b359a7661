//! ControlledShutdown: a broker that is about to stop hands over what it leads, one partition at a
//! time, so that no client waits for its session to end. [core]
//!
//! It stays registered and is served until it is gone, but is no candidate for leadership and no
//! member of an ISR any more. Source: `KafkaController.doControlledShutdown`.

use tracing::{debug, info};

use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicPartition};

use super::core::{CONTROLLER, Core, Task, join};
use super::election::ElectionStrategy;
use super::event::{Answer, Ticket};
use super::state::{PartitionAndReplica, PartitionState, ReplicaState};

/// The broker epoch of a request that does not check it.
const UNKNOWN_BROKER_EPOCH: i64 = -1;

impl Core {
    /// The refusal, if any; else the work is queued and ends with the answer.
    pub(super) fn begin_controlled_shutdown(
        &mut self,
        ticket: Ticket,
        id: BrokerId,
        broker_epoch: i64,
    ) -> Result<(), ErrorCode> {
        let known = self.context.brokers.get(&id).map(|broker| broker.epoch);
        if broker_epoch != UNKNOWN_BROKER_EPOCH {
            // Kafka looks the epoch up without asking whether the broker is there.
            let current = known.ok_or(ErrorCode::UnknownServerError)?;
            if broker_epoch < current {
                info!(
                    target: CONTROLLER,
                    "{self} Received controlled shutdown request from an old broker epoch {broker_epoch} for broker {id}. Current broker epoch is {current}."
                );
                return Err(ErrorCode::StaleBrokerEpoch);
            }
        }
        info!(target: CONTROLLER, "{self} Shutting down broker {id}");
        if known.is_none() {
            return Err(ErrorCode::BrokerNotAvailable);
        }
        self.context.shutting_down.insert(id);
        debug!(
            target: CONTROLLER,
            "{self} All shutting down brokers: {}",
            join(&self.context.shutting_down)
        );
        let mut led = Vec::new();
        let mut followed = Vec::new();
        for (partition, entry) in self.context.all_partitions() {
            let replicas = &entry.assignment.replicas;
            let Some(known) = &entry.leadership else {
                continue;
            };
            if replicas.len() < 2
                || !replicas.contains(&id)
                || self.context.is_queued_for_deletion(&partition.topic)
            {
                continue;
            }
            if known.state.leader == id {
                led.push(partition);
            } else {
                followed.push(partition);
            }
        }
        self.push(Task::Partitions {
            partitions: led,
            target: PartitionState::Online,
            strategy: ElectionStrategy::ControlledShutdown,
        });
        // It stops following before it leaves the ISR; the transition alone would say both at once.
        self.push(Task::StopReplicas {
            broker: id,
            partitions: followed.clone(),
        });
        self.push(Task::Replicas {
            replicas: followed
                .into_iter()
                .map(|partition| PartitionAndReplica {
                    partition,
                    replica: id,
                })
                .collect(),
            target: ReplicaState::Offline,
        });
        self.push(Task::AnswerControlledShutdown { ticket, broker: id });
        Ok(())
    }

    /// Partitions it still leads because nobody else can.
    pub(super) fn controlled_shutdown_answer(&self, id: BrokerId) -> Answer {
        let remaining: Vec<TopicPartition> = self
            .context
            .all_partitions()
            .filter(|(partition, entry)| {
                entry
                    .leadership
                    .as_ref()
                    .is_some_and(|known| known.state.leader == id)
                    && entry.assignment.replicas.len() > 1
                    && !self.context.is_queued_for_deletion(&partition.topic)
            })
            .map(|(partition, _)| partition)
            .collect();
        Answer::ControlledShutdown(Ok(remaining))
    }
}
