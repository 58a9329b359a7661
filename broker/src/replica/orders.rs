//! What the controller orders: LeaderAndIsr and StopReplica.
//!
//! Requests pass the [`crate::cluster::update::ControllerEpochGate`] one at a time and do their file
//! work on a blocking thread.
//!
//! Source: `ReplicaManager.becomeLeaderOrFollower`, `stopReplicas`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrPartitionState;
use kafka_protocol::messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::spawn_blocking;

use super::fetcher::ToFollow;
use super::manager::{Hosted, LeadershipChange, ReplicaManager, start};
use super::partition::Partition;
use super::state::Decision;
use crate::error::{ErrorCode, KafkaCode};
use crate::types::{BrokerId, LeaderEpoch, TopicName, TopicPartition, Uuid};
use crate::zk::configs::{TOPICS, read_configs};

const STATE_CHANGE: &str = "state.change.logger";
/// StopReplica of a topic that is being deleted: whatever the leader epoch.
const EPOCH_DURING_DELETE: LeaderEpoch = -2;
/// StopReplica of a controller that does not say the epoch.
const NO_EPOCH: LeaderEpoch = -1;

/// One partition of a LeaderAndIsr request.
struct Ordered {
    partition: TopicPartition,
    topic_id: Option<Uuid>,
    is_new: bool,
    decision: Decision,
}

/// What a decision did to a partition.
enum Transition {
    None,
    NewLeader,
    NewFollower(ToFollow),
}

impl ReplicaManager {
    /// Carries out a LeaderAndIsr request of the controller; answers in the shape of v5 and later
    /// (errors grouped by topic id).
    pub async fn become_leader_or_follower(
        self: &Arc<Self>,
        request: LeaderAndIsrRequest,
    ) -> LeaderAndIsrResponse {
        let ordered = ordered(&request);
        self.read_overrides(&ordered).await;
        let manager = Arc::clone(self);
        let work = spawn_blocking(move || {
            let passage = manager.parts.gate.enter(
                request.controller_id.0,
                request.controller_epoch,
                request.broker_epoch,
            );
            match passage {
                Err(code) => LeaderAndIsrResponse::default().with_error_code(code.value()),
                Ok(_passage) => manager.apply(&request, ordered),
            }
        });
        work.await.unwrap_or_else(|panic| {
            tracing::error!(target: STATE_CHANGE, "Error while processing LeaderAndIsr request: {panic}");
            LeaderAndIsrResponse::default().with_error_code(ErrorCode::UnknownServerError.value())
        })
    }

    /// What the store holds for the topics of the request, as far as it is not known.
    async fn read_overrides(&self, ordered: &[Ordered]) {
        let unknown: BTreeSet<&TopicName> = ordered
            .iter()
            .map(|order| &order.partition.topic)
            .filter(|topic| !self.overrides.contains_key(*topic))
            .collect();
        let names: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        match read_configs(&*self.parts.store, TOPICS, &names).await {
            Ok(read) => {
                for (topic, overrides) in unknown.into_iter().zip(read) {
                    self.keep_overrides(topic.clone(), overrides.unwrap_or_default());
                }
            }
            // The broker's defaults until a notification or the next request brings better.
            Err(error) => tracing::error!(
                target: STATE_CHANGE,
                "Cannot read the configuration of {} topics: {error}", unknown.len()
            ),
        }
    }

    fn apply(
        self: &Arc<Self>,
        request: &LeaderAndIsrRequest,
        ordered: Vec<Ordered>,
    ) -> LeaderAndIsrResponse {
        let controller = (request.controller_id.0, request.controller_epoch);
        tracing::info!(
            target: STATE_CHANGE,
            "[Broker id={}] Handling LeaderAndIsr request from controller {} for {} partitions",
            self.broker_id(),
            controller.0,
            ordered.len()
        );
        let mut errors: BTreeMap<Uuid, Vec<LeaderAndIsrPartitionError>> = BTreeMap::new();
        let mut changes = Vec::new();
        let mut to_follow = Vec::new();
        let to_resume: Vec<TopicPartition> = ordered
            .iter()
            .map(|order| order.partition.clone())
            .collect();
        for order in ordered {
            let topic_id = order.topic_id.unwrap_or_default();
            let partition = order.partition.clone();
            let leader_epoch = order.decision.leader_epoch;
            let code = match self.apply_one(order, request.is_k_raft_controller) {
                Ok(transition) => {
                    changes.extend(match transition {
                        Transition::None => None,
                        Transition::NewLeader => Some(LeadershipChange::BecameLeader {
                            partition: partition.clone(),
                            leader_epoch,
                        }),
                        Transition::NewFollower(follow) => {
                            to_follow.push(follow);
                            Some(LeadershipChange::ResignedLeader {
                                partition: partition.clone(),
                                leader_epoch: Some(leader_epoch),
                            })
                        }
                    });
                    ErrorCode::None
                }
                Err(code) => {
                    tracing::warn!(
                        target: STATE_CHANGE,
                        "[Broker id={}] Ignoring LeaderAndIsr request from controller {} epoch {} for partition {partition} with leader epoch {leader_epoch}: {code}",
                        self.broker_id(),
                        controller.0,
                        controller.1
                    );
                    code
                }
            };
            errors.entry(topic_id).or_default().push(
                LeaderAndIsrPartitionError::default()
                    .with_partition_index(partition.partition)
                    .with_error_code(code.value()),
            );
        }
        self.has_decisions.store(true, Ordering::Release);
        self.fetchers.add(self, to_follow);
        for partition in &to_resume {
            self.resume_move(partition);
        }
        self.fetchers.stop_idle();
        self.copiers.stop_idle();
        for change in &changes {
            self.announce(change);
        }
        LeaderAndIsrResponse::default().with_topics(
            errors
                .into_iter()
                .map(|(topic_id, partition_errors)| {
                    LeaderAndIsrTopicError::default()
                        .with_topic_id(topic_id)
                        .with_partition_errors(partition_errors)
                })
                .collect(),
        )
    }

    fn apply_one(
        &self,
        order: Ordered,
        is_kraft_controller: bool,
    ) -> Result<Transition, ErrorCode> {
        let topic_partition = order.partition.clone();
        let partition = {
            let hosted = self
                .partitions
                .entry(topic_partition.clone())
                .or_insert_with(|| {
                    Hosted::Online(Arc::new(Partition::new(
                        topic_partition.clone(),
                        self.broker_id(),
                        Arc::clone(&self.parts.cluster),
                    )))
                });
            match &*hosted {
                Hosted::Online(partition) => Arc::clone(partition),
                Hosted::Offline => return Err(ErrorCode::KafkaStorageError),
            }
        };
        let log_topic_id = partition
            .topic_id()
            .or_else(|| self.parts.logs.log(&topic_partition)?.topic_id());
        if let (Some(asked), Some(stored)) = (order.topic_id, log_topic_id)
            && asked != stored
        {
            return Err(ErrorCode::InconsistentTopicId);
        }
        let current = partition.leader_epoch();
        let epoch = order.decision.leader_epoch;
        if epoch > current || (epoch == current && is_kraft_controller) {
            if !order.decision.replicas.contains(&self.broker_id()) {
                return Err(ErrorCode::UnknownTopicOrPartition);
            }
            self.transition(&partition, order).inspect_err(|code| {
                if *code == ErrorCode::KafkaStorageError {
                    self.mark_offline(&topic_partition);
                }
            })
        } else if epoch == current
            && let Some(topic_id) = order.topic_id
            && log_topic_id.is_none()
        {
            // The controller gives an old topic its id without a new epoch.
            let log = partition.log().ok_or(ErrorCode::NotLeaderOrFollower)?;
            log.assign_topic_id(topic_id)
                .map_err(|error| error.code())?;
            self.fetchers.set_topic_id(&topic_partition, topic_id);
            Ok(Transition::None)
        } else if epoch == current
            && order.topic_id.is_none()
            && log_topic_id.is_some()
            && order.decision.leader != self.broker_id()
        {
            Ok(Transition::None)
        } else {
            Err(ErrorCode::StaleControllerEpoch)
        }
    }

    fn transition(
        &self,
        partition: &Arc<Partition>,
        order: Ordered,
    ) -> Result<Transition, ErrorCode> {
        let storage_error = |error: crate::log::Error| {
            tracing::error!(
                target: STATE_CHANGE,
                "[Broker id={}] Skipped the state change of partition {}: {error}",
                self.broker_id(),
                partition.topic_partition()
            );
            error.code()
        };
        let config = self.log_config(&order.partition.topic);
        let log = self
            .parts
            .logs
            .get_or_create(
                &order.partition,
                order.topic_id,
                order.is_new,
                config.clone(),
            )
            .map_err(storage_error)?;
        if self.overrides.contains_key(&order.partition.topic) && **log.config() != config {
            log.update_config(config);
        }
        if order.decision.leader == self.broker_id() {
            // Nothing of the old leader may come behind our own records.
            self.fetchers.remove([&order.partition]);
            let became = partition
                .become_leader(order.decision, log, self.lag())
                .map_err(storage_error)?;
            return Ok(match became {
                Some(true) => Transition::NewLeader,
                Some(false) | None => Transition::None,
            });
        }
        if !self.is_alive(order.decision.leader) {
            // The state stays, so that the leader's return brings the decision again; the log is
            // there for the checkpoint of its high watermark.
            tracing::error!(
                target: STATE_CHANGE,
                "[Broker id={}] Partition {} cannot become follower since the new leader {} is unavailable.",
                self.broker_id(),
                order.partition,
                order.decision.leader
            );
            partition.hold_log(log);
            return Ok(Transition::None);
        }
        let (leader, leader_epoch) = (order.decision.leader, order.decision.leader_epoch);
        Ok(
            match partition.become_follower(order.decision, Arc::clone(&log)) {
                Some(true) => {
                    // Before the offset is taken that the next one starts at.
                    self.fetchers.remove([&order.partition]);
                    Transition::NewFollower(ToFollow {
                        partition: order.partition,
                        leader,
                        start: start(&log, leader_epoch),
                    })
                }
                Some(false) | None => Transition::None,
            },
        )
    }

    /// Carries out a StopReplica request of the controller.
    pub async fn stop_replicas(
        self: &Arc<Self>,
        request: StopReplicaRequest,
    ) -> StopReplicaResponse {
        let manager = Arc::clone(self);
        let work = spawn_blocking(move || {
            let passage = manager.parts.gate.enter(
                request.controller_id.0,
                request.controller_epoch,
                request.broker_epoch,
            );
            match passage {
                Err(code) => StopReplicaResponse::default().with_error_code(code.value()),
                Ok(_passage) => manager.stop(&request),
            }
        });
        work.await.unwrap_or_else(|panic| {
            tracing::error!(target: STATE_CHANGE, "Error while processing StopReplica request: {panic}");
            StopReplicaResponse::default().with_error_code(ErrorCode::UnknownServerError.value())
        })
    }

    fn stop(&self, request: &StopReplicaRequest) -> StopReplicaResponse {
        let mut errors = Vec::new();
        for (partition, leader_epoch, is_deleted) in stopped(request) {
            let code = match self.stop_one(&partition, leader_epoch, is_deleted) {
                Ok(()) => {
                    if is_deleted {
                        self.announce(&LeadershipChange::ResignedLeader {
                            partition: partition.clone(),
                            leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
                        });
                    }
                    ErrorCode::None
                }
                Err(code) => {
                    tracing::warn!(
                        target: STATE_CHANGE,
                        "[Broker id={}] Ignoring StopReplica request (delete={is_deleted}) from controller {} epoch {} for partition {partition} with leader epoch {leader_epoch}: {code}",
                        self.broker_id(),
                        request.controller_id.0,
                        request.controller_epoch
                    );
                    code
                }
            };
            errors.push(
                StopReplicaPartitionError::default()
                    .with_topic_name(StrBytes::from_string(partition.topic.to_string()).into())
                    .with_partition_index(partition.partition)
                    .with_error_code(code.value()),
            );
        }
        self.fetchers.stop_idle();
        self.copiers.stop_idle();
        StopReplicaResponse::default().with_partition_errors(errors)
    }

    fn stop_one(
        &self,
        topic_partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        is_deleted: bool,
    ) -> Result<(), ErrorCode> {
        let hosted = match self.partitions.get(topic_partition).as_deref() {
            None => None,
            Some(Hosted::Offline) => return Err(ErrorCode::KafkaStorageError),
            Some(Hosted::Online(partition)) => Some(Arc::clone(partition)),
        };
        if let Some(partition) = hosted {
            let is_accepted = leader_epoch == EPOCH_DURING_DELETE
                || leader_epoch == NO_EPOCH
                || leader_epoch >= partition.leader_epoch();
            if !is_accepted {
                return Err(ErrorCode::FencedLeaderEpoch);
            }
            self.fetchers.remove([topic_partition]);
            self.copiers.remove(topic_partition);
            if is_deleted {
                self.partitions.remove(topic_partition);
                partition.retire();
                let topic = &topic_partition.topic;
                if !self
                    .partitions
                    .iter()
                    .any(|entry| entry.key().topic == *topic)
                {
                    self.overrides.remove(topic);
                    self.throttles.take_topic(topic, None, self.broker_id());
                }
            } else {
                partition.signal_all();
            }
        }
        if is_deleted {
            // Also when unknown: the topic may have been deleted while this broker was down.
            self.parts
                .logs
                .delete(topic_partition)
                .map_err(|error| error.code())?;
        }
        Ok(())
    }
}

fn ids(ids: &[kafka_protocol::messages::BrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| id.0).collect()
}

/// The partitions of a LeaderAndIsr request of any version.
fn ordered(request: &LeaderAndIsrRequest) -> Vec<Ordered> {
    let one =
        |topic: TopicName, topic_id: Option<Uuid>, state: &LeaderAndIsrPartitionState| Ordered {
            partition: TopicPartition {
                topic,
                partition: state.partition_index,
            },
            topic_id,
            is_new: state.is_new,
            decision: Decision {
                controller_epoch: state.controller_epoch,
                leader: state.leader.0,
                leader_epoch: state.leader_epoch,
                partition_epoch: state.partition_epoch,
                isr: ids(&state.isr),
                replicas: ids(&state.replicas),
                adding_replicas: ids(&state.adding_replicas),
                removing_replicas: ids(&state.removing_replicas),
                leader_recovery_state: state.leader_recovery_state,
            },
        };
    let mut ordered = Vec::new();
    for topic in &request.topic_states {
        let name = TopicName::new(&topic.topic_name);
        let id = Some(topic.topic_id).filter(|id| !id.is_nil());
        for state in &topic.partition_states {
            ordered.push(one(name.clone(), id, state));
        }
    }
    for state in &request.ungrouped_partition_states {
        ordered.push(one(TopicName::new(&state.topic_name), None, state));
    }
    ordered
}

/// The partitions of a StopReplica request of any version: leader epoch, whether it is deleted.
fn stopped(request: &StopReplicaRequest) -> Vec<(TopicPartition, LeaderEpoch, bool)> {
    let mut stopped = Vec::new();
    for topic in &request.topic_states {
        let name = TopicName::new(&topic.topic_name);
        for state in &topic.partition_states {
            stopped.push((
                TopicPartition::new(name.clone(), state.partition_index),
                state.leader_epoch,
                state.delete_partition,
            ));
        }
    }
    let delete = request.delete_partitions;
    for topic in &request.topics {
        let name = TopicName::new(&topic.name);
        for &partition in &topic.partition_indexes {
            stopped.push((
                TopicPartition::new(name.clone(), partition),
                NO_EPOCH,
                delete,
            ));
        }
    }
    for state in &request.ungrouped_partitions {
        let partition = TopicPartition::new(&*state.topic_name.to_string(), state.partition_index);
        stopped.push((partition, NO_EPOCH, delete));
    }
    stopped
}
