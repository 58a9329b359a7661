//! TopicDeletionManager: from the mark in `/admin/delete_topics` to the last znode. Core.
//!
//! ```text
//! marked ─▶ partitions Offline, NonExistent ─▶ UpdateMetadata (leader −2) ─▶ replicas Offline
//!        ─▶ DeletionStarted (StopReplica, delete) ─▶ all DeletionSuccessful ─▶ znodes deleted
//! ```
//! A replica on a dead broker or in a failed log dir is DeletionIneligible and its topic waits
//! until the broker is back. The topic's mark is the last znode to go, so that a deletion
//! interrupted by a fail-over is taken up again.

use std::collections::BTreeSet;

use kafka_protocol::messages::StopReplicaResponse;
use tracing::{debug, error, info, warn};

use crate::types::{BrokerId, TopicName, TopicPartition};

use super::core::{CONTROLLER, Core, OFFLINE, Task, Waiting, join};
use super::event::{Effect, StoreOp, StoreReply};
use super::state::{PartitionAndReplica, PartitionState, ReplicaState};

const DELETION: &str = "kafka.controller.TopicDeletionManager";

impl Core {
    /// Fail-over: takes up what is marked. Topics with an offline replica or a reassignment wait.
    pub(super) fn start_deletions(&mut self, marked: Vec<TopicName>, out: &mut Vec<Effect>) {
        if !self.settings.delete_topic_enable {
            if !marked.is_empty() {
                info!(
                    target: DELETION,
                    "{} Removing {} since delete topic is disabled",
                    self.deleter(),
                    join(&marked)
                );
            }
            let ops = marked
                .into_iter()
                .map(StoreOp::DeleteDeletionMark)
                .collect();
            self.ask(ops, Waiting::Log("removing deletion marks"), out);
            return;
        }
        let waiting: BTreeSet<TopicName> = self
            .context
            .all_partitions()
            .filter(|(partition, entry)| {
                entry.assignment.is_being_reassigned()
                    || entry
                        .assignment
                        .replicas
                        .iter()
                        .any(|replica| !self.context.is_replica_online(*replica, partition))
            })
            .map(|(partition, _)| partition.topic)
            .collect();
        info!(
            target: CONTROLLER,
            "{self} List of topics to be deleted: {}",
            join(&marked)
        );
        info!(
            target: CONTROLLER,
            "{self} List of topics ineligible for deletion: {}",
            join(&waiting)
        );
        for topic in marked {
            if waiting.contains(&topic) {
                self.context
                    .topics_ineligible_for_deletion
                    .insert(topic.clone());
            }
            self.context.topics_to_be_deleted.insert(topic);
        }
    }

    pub(super) fn on_deletions_changed(&mut self, marked: Vec<TopicName>, out: &mut Vec<Effect>) {
        debug!(
            target: CONTROLLER,
            "{self} Delete topics listener fired for topics {} to be deleted",
            join(&marked)
        );
        let (known, unknown): (Vec<_>, Vec<_>) = marked
            .into_iter()
            .partition(|topic| self.context.topics.contains_key(topic));
        let mut unmark = unknown;
        if !unmark.is_empty() {
            warn!(
                target: CONTROLLER,
                "{self} Ignoring request to delete non-existing topics {}",
                join(&unmark)
            );
        }
        if self.settings.delete_topic_enable {
            if !known.is_empty() {
                info!(
                    target: CONTROLLER,
                    "{self} Starting topic deletion for topics {}",
                    join(&known)
                );
                for topic in known {
                    let reassigned = self.context.topics.get(&topic).is_some_and(|entry| {
                        entry
                            .partitions
                            .values()
                            .any(|entry| entry.assignment.is_being_reassigned())
                    });
                    if reassigned {
                        self.context
                            .topics_ineligible_for_deletion
                            .insert(topic.clone());
                    }
                    self.context.topics_to_be_deleted.insert(topic);
                }
                self.push(Task::ResumeDeletions);
            }
        } else {
            info!(
                target: CONTROLLER,
                "{self} Removing {} since delete topic is disabled",
                join(&known)
            );
            unmark.extend(known);
        }
        let ops = unmark
            .into_iter()
            .map(StoreOp::DeleteDeletionMark)
            .collect();
        self.ask(ops, Waiting::Log("removing deletion marks"), out);
    }

    /// Looks at every topic queued for deletion and does the next step it is ready for.
    pub(super) fn resume_deletions(&mut self) {
        if !self.settings.delete_topic_enable || self.context.topics_to_be_deleted.is_empty() {
            return;
        }
        info!(
            target: DELETION,
            "{} Handling deletion for topics {}",
            self.deleter(),
            join(&self.context.topics_to_be_deleted)
        );
        let mut complete = Vec::new();
        let mut retry = BTreeSet::new();
        let mut begin = BTreeSet::new();
        for topic in &self.context.topics_to_be_deleted {
            let mut all_successful = true;
            let mut any_started = false;
            let mut any_ineligible = false;
            for replica in self.context.replicas_of_topic(topic) {
                let state = self.context.replica_state(&replica);
                all_successful &= state == ReplicaState::DeletionSuccessful;
                any_started |= state == ReplicaState::DeletionStarted;
                any_ineligible |= state == ReplicaState::DeletionIneligible;
            }
            if all_successful {
                complete.push(topic.clone());
                continue;
            }
            if any_started {
                continue;
            }
            if any_ineligible {
                retry.insert(topic.clone());
            }
            if !self.context.topics_ineligible_for_deletion.contains(topic) {
                info!(
                    target: DELETION,
                    "{} Deletion of topic {topic} (re)started",
                    self.deleter()
                );
                begin.insert(topic.clone());
            }
        }
        let mut tasks = Vec::new();
        if !complete.is_empty() {
            tasks.push(Task::CompleteDeletion(complete));
        }
        if !retry.is_empty() {
            tasks.push(Task::RetryDeletion(retry));
        }
        if !begin.is_empty() {
            tasks.push(Task::BeginDeletion(begin));
        }
        self.before_others(tasks);
    }

    pub(super) fn retry_deletion(&mut self, topics: &BTreeSet<TopicName>) {
        let replicas = self.replicas_in_state(topics, ReplicaState::DeletionIneligible);
        debug!(
            target: DELETION,
            "{} Retrying deletion of topics {} since replicas {replicas:?} were not successfully deleted",
            self.deleter(),
            join(topics)
        );
        self.before_others(vec![Task::Replicas {
            replicas,
            target: ReplicaState::Offline,
        }]);
    }

    pub(super) fn begin_deletion(&mut self, topics: BTreeSet<TopicName>) {
        let unseen: Vec<TopicName> = topics
            .iter()
            .filter(|topic| !self.context.topics_with_deletion_started.contains(*topic))
            .cloned()
            .collect();
        let unseen_partitions: Vec<TopicPartition> = unseen
            .iter()
            .flat_map(|topic| self.context.partitions_of(topic))
            .collect();
        self.context.topics_with_deletion_started.extend(unseen);
        let partitions = topics
            .iter()
            .flat_map(|topic| self.context.partitions_of(topic))
            .collect();
        self.before_others(vec![
            Task::Partitions {
                partitions: unseen_partitions.clone(),
                target: PartitionState::Offline,
                strategy: OFFLINE,
            },
            Task::Partitions {
                partitions: unseen_partitions,
                target: PartitionState::NonExistent,
                strategy: OFFLINE,
            },
            // So that brokers stop serving the topics.
            Task::UpdateMetadata {
                brokers: self.context.broker_ids(),
                partitions,
            },
            Task::DeleteReplicas(topics),
        ]);
    }

    pub(super) fn delete_replicas(&mut self, topics: &BTreeSet<TopicName>) {
        let mut dead = Vec::new();
        let mut to_delete = Vec::new();
        let mut halted = BTreeSet::new();
        for topic in topics {
            for replica in self.context.replicas_of_topic(topic) {
                if !self
                    .context
                    .is_replica_online(replica.replica, &replica.partition)
                {
                    halted.insert(topic.clone());
                    dead.push(replica);
                } else if self.context.replica_state(&replica) != ReplicaState::DeletionSuccessful {
                    to_delete.push(replica);
                }
            }
        }
        self.before_others(vec![
            Task::Replicas {
                replicas: dead,
                target: ReplicaState::DeletionIneligible,
            },
            // Followers stop fetching before the leader's log goes.
            Task::Replicas {
                replicas: to_delete.clone(),
                target: ReplicaState::Offline,
            },
            Task::Replicas {
                replicas: to_delete,
                target: ReplicaState::DeletionStarted,
            },
        ]);
        self.halt_deletion(&halted, "offline replicas");
    }

    pub(super) fn halt_deletion(&mut self, topics: &BTreeSet<TopicName>, reason: &str) {
        let halted: Vec<TopicName> = topics
            .iter()
            .filter(|topic| self.context.is_queued_for_deletion(topic))
            .cloned()
            .collect();
        if !halted.is_empty() {
            info!(
                target: DELETION,
                "{} Halted deletion of topics {} due to {reason}",
                self.deleter(),
                join(&halted)
            );
            self.context.topics_ineligible_for_deletion.extend(halted);
        }
    }

    /// A broker with replicas of these topics is back.
    pub(super) fn resume_deletion_of(&mut self, topics: &BTreeSet<TopicName>) {
        for topic in topics {
            self.context.topics_ineligible_for_deletion.remove(topic);
        }
        self.before_others(vec![Task::ResumeDeletions]);
    }

    pub(super) fn fail_replica_deletion(&mut self, replicas: Vec<PartitionAndReplica>) {
        let failed: Vec<PartitionAndReplica> = replicas
            .into_iter()
            .filter(|replica| {
                self.context
                    .is_queued_for_deletion(&replica.partition.topic)
            })
            .collect();
        if failed.is_empty() {
            return;
        }
        let topics: BTreeSet<TopicName> = failed
            .iter()
            .map(|replica| replica.partition.topic.clone())
            .collect();
        debug!(
            target: DELETION,
            "{} Deletion failed for replicas {failed:?}. Halting deletion for topics {}",
            self.deleter(),
            join(&topics)
        );
        self.halt_deletion(&topics, "replica deletion failure");
        self.before_others(vec![
            Task::Replicas {
                replicas: failed,
                target: ReplicaState::DeletionIneligible,
            },
            Task::ResumeDeletions,
        ]);
    }

    pub(super) fn on_stop_replica_answered(
        &mut self,
        broker: BrokerId,
        deleted: &[TopicPartition],
        response: &StopReplicaResponse,
    ) {
        let asked: BTreeSet<(&str, i32)> = deleted
            .iter()
            .filter(|partition| {
                self.context
                    .topics_with_deletion_started
                    .contains(&partition.topic)
            })
            .map(|partition| (partition.topic.as_str(), partition.partition))
            .collect();
        let mut successful = Vec::new();
        let mut failed = Vec::new();
        for answer in &response.partition_errors {
            let key = (answer.topic_name.as_str(), answer.partition_index);
            if !asked.contains(&key) {
                continue;
            }
            let replica = PartitionAndReplica {
                partition: TopicPartition::new(key.0, key.1),
                replica: broker,
            };
            if response.error_code == 0 && answer.error_code == 0 {
                successful.push(replica);
            } else {
                failed.push(replica);
            }
        }
        if !failed.is_empty() {
            self.push(Task::FailReplicaDeletion(failed));
        }
        if !successful.is_empty() {
            self.push(Task::Replicas {
                replicas: successful,
                target: ReplicaState::DeletionSuccessful,
            });
            self.push(Task::ResumeDeletions);
        }
    }

    pub(super) fn complete_deletion(&mut self, topics: Vec<TopicName>, out: &mut Vec<Effect>) {
        for topic in &topics {
            // A topic of the same name may be created at once: its znode is another one.
            out.push(Effect::ForgetTopic(topic.clone()));
        }
        let replicas = self.replicas_in_state(
            &topics.iter().cloned().collect(),
            ReplicaState::DeletionSuccessful,
        );
        for replica in &replicas {
            self.context.remove_replica(replica);
        }
        let ops = topics.iter().cloned().map(StoreOp::DeleteTopic).collect();
        self.ask(ops, Waiting::CompleteDeletion(topics), out);
    }

    pub(super) fn on_deletion_completed(
        &mut self,
        topics: Vec<TopicName>,
        replies: Vec<StoreReply>,
    ) {
        for (topic, reply) in topics.into_iter().zip(replies) {
            if let StoreReply::Failed(error) = reply {
                // Stays queued; the next deletion or fail-over tries again.
                error!(
                    target: DELETION,
                    "{} Deletion of the znodes of topic {topic} failed: {error}",
                    self.deleter()
                );
                continue;
            }
            self.context.remove_topic(&topic);
            info!(
                target: DELETION,
                "{} Deletion of topic {topic} successfully completed",
                self.deleter()
            );
        }
    }

    fn replicas_in_state(
        &self,
        topics: &BTreeSet<TopicName>,
        state: ReplicaState,
    ) -> Vec<PartitionAndReplica> {
        topics
            .iter()
            .flat_map(|topic| self.context.replicas_of_topic(topic))
            .filter(|replica| self.context.replica_state(replica) == state)
            .collect()
    }

    fn deleter(&self) -> String {
        format!("[Topic Deletion Manager {}]", self.settings.controller_id)
    }
}
