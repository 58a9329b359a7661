//! Elections that somebody asks for: ElectLeaders, and the znode by which tools of before 2.2 asked
//! for preferred leaders. [core]
//!
//! Source: `KafkaController.processReplicaLeaderElection`, `onReplicaElection`.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicPartition};

use super::core::{CONTROLLER, Core, Task, join};
use super::election::ElectionStrategy;
use super::event::{Answer, ByPartition, Refusal, StoreOp, Ticket};
use super::state::{NO_LEADER, PartitionState};

impl Core {
    pub(super) fn begin_elections(
        &mut self,
        ticket: Ticket,
        unclean: bool,
        partitions: Vec<TopicPartition>,
    ) {
        let mut results: ByPartition<BrokerId> = Vec::with_capacity(partitions.len());
        let mut electable = Vec::new();
        for partition in partitions {
            let refused = match self.context.partition(&partition) {
                None => Some(Refusal::new(
                    ErrorCode::UnknownTopicOrPartition,
                    "The partition does not exist.",
                )),
                Some(_) if self.context.is_queued_for_deletion(&partition.topic) => {
                    Some(Refusal::new(
                        ErrorCode::InvalidTopicException,
                        "The topic is being deleted",
                    ))
                }
                Some(entry) => {
                    let leader = entry
                        .leadership
                        .as_ref()
                        .map_or(NO_LEADER, |known| known.state.leader);
                    let needed = if unclean {
                        leader == NO_LEADER || !self.context.is_live(leader)
                    } else {
                        entry.assignment.replicas.first() != Some(&leader)
                    };
                    (!needed).then(|| ErrorCode::ElectionNotNeeded.into())
                }
            };
            match refused {
                Some(refusal) => results.push((partition, Err(refusal))),
                None => electable.push(partition),
            }
        }
        let strategy = if unclean {
            ElectionStrategy::Offline {
                force_unclean: true,
            }
        } else {
            ElectionStrategy::Preferred
        };
        info!(
            target: CONTROLLER,
            "{self} Starting replica leader election ({}) for partitions {} triggered by AdminClientTriggered",
            if unclean { "UNCLEAN" } else { "PREFERRED" },
            join(&electable)
        );
        self.elections = Some(BTreeMap::new());
        self.push(Task::Partitions {
            partitions: electable.clone(),
            target: PartitionState::Online,
            strategy,
        });
        self.push(Task::AnswerElections {
            ticket,
            strategy,
            electable,
            results,
        });
    }

    pub(super) fn elections_answer(
        &mut self,
        strategy: ElectionStrategy,
        electable: Vec<TopicPartition>,
        mut results: ByPartition<BrokerId>,
    ) -> Answer {
        let elected = self.elections.take().unwrap_or_default();
        for partition in electable {
            let result = elected.get(&partition).copied().ok_or_else(|| {
                let code = if strategy == ElectionStrategy::Preferred {
                    ErrorCode::PreferredLeaderNotAvailable
                } else {
                    ErrorCode::EligibleLeadersNotAvailable
                };
                Refusal::new(
                    code,
                    format!(
                        "Failed to elect leader for partition {partition} under strategy {strategy}"
                    ),
                )
            });
            results.push((partition, result));
        }
        Answer::ElectLeaders(results)
    }

    /// The znode asks for these; it is deleted when all of them were tried.
    pub(super) fn elect_preferred(&mut self, asked: &[TopicPartition]) {
        let mut pending = Vec::new();
        for partition in asked {
            let Some(entry) = self.context.partition(partition) else {
                info!(
                    target: CONTROLLER,
                    "{self} Skipping replica leader election (PREFERRED) for partition {partition} by ZkTriggered since it doesn't exist."
                );
                continue;
            };
            if self.context.is_queued_for_deletion(&partition.topic) {
                warn!(
                    target: CONTROLLER,
                    "{self} Skipping replica leader election (PREFERRED) for partitions {partition} by ZkTriggered since the respective topics are being deleted"
                );
                continue;
            }
            let leader = entry.leadership.as_ref().map(|known| known.state.leader);
            if leader.is_some() && leader != entry.assignment.replicas.first().copied() {
                pending.push(partition.clone());
            }
        }
        info!(
            target: CONTROLLER,
            "{self} Starting replica leader election (PREFERRED) for partitions {} triggered by ZkTriggered",
            join(&pending)
        );
        self.before_others(vec![
            Task::Partitions {
                partitions: pending,
                target: PartitionState::Online,
                strategy: ElectionStrategy::Preferred,
            },
            Task::Store {
                ops: vec![StoreOp::DeletePreferredElections],
                what: "deleting the request for preferred leader elections",
            },
        ]);
    }
}
