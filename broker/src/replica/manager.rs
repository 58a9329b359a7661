//! ReplicaManager: the partitions this broker holds, and everything that reads or writes them.
//!
//! Start: [`ReplicaManager::new`] over loaded logs, [`ReplicaManager::leadership_changes`] for each
//! coordinator, then the controller's requests. LeaderAndIsr and StopReplica pass the
//! [`ControllerEpochGate`] one at a time and do their file work on a blocking thread.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrPartitionState;
use kafka_protocol::messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::fetcher::core::Start;
use super::fetcher::{Fetchers, ToFollow};
use super::isr::AlterPartitions;
use super::partition::{Lag, Partition};
use super::selector::{LEADER, RACK_AWARE};
use super::session::SessionCache;
use super::state::Decision;
use crate::clock::Clock;
use crate::cluster::image::Cluster;
use crate::cluster::update::ControllerEpochGate;
use crate::config::{LiveConfig, Properties};
use crate::error::{ErrorCode, KafkaCode};
use crate::log::manager::{DirFailure, LogManager};
use crate::log::{EpochEndOffset, Log};
use crate::quota::window::RateWindow;
use crate::quota::{ReplicationQuota, Throttled, UNLIMITED};
use crate::types::{BrokerId, LeaderEpoch, Offset, TopicName, TopicPartition, Uuid};
use crate::zk::configs::{TOPICS, read_config};
use crate::zk::{CreateMode, Store, data, paths};

const STATE_CHANGE: &str = "state.change.logger";
/// StopReplica of a topic that is being deleted: whatever the leader epoch.
const EPOCH_DURING_DELETE: LeaderEpoch = -2;
/// StopReplica of a controller that does not say the epoch.
const NO_EPOCH: LeaderEpoch = -1;
/// Shards of the fetch session cache, as in Kafka: they share out ids and slots.
pub(super) const SESSION_SHARDS: usize = 8;
const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LEADER_THROTTLED: &str = "leader.replication.throttled.replicas";
const FOLLOWER_THROTTLED: &str = "follower.replication.throttled.replicas";

/// Which offsets a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the LEO: followers.
    LogEnd,
    /// Up to the high watermark: `read_uncommitted`.
    HighWatermark,
    /// Up to the last stable offset: `read_committed`.
    TxnCommitted,
}

/// A change of leadership of one partition, told to the coordinators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadershipChange {
    BecameLeader {
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
    },
    ResignedLeader {
        partition: TopicPartition,
        leader_epoch: Option<LeaderEpoch>,
    },
}

/// What a [`ReplicaManager`] is built over.
pub struct Parts {
    pub broker_id: BrokerId,
    pub config: Arc<LiveConfig>,
    pub clock: Arc<dyn Clock>,
    pub cluster: Arc<Cluster>,
    pub store: Arc<dyn Store>,
    /// With all logs loaded.
    pub logs: Arc<LogManager>,
    pub gate: Arc<ControllerEpochGate>,
}

enum Hosted {
    Online(Arc<Partition>),
    /// Its log dir failed; until a restart.
    Offline,
}

/// The partitions this broker holds.
pub struct ReplicaManager {
    parts: Parts,
    partitions: DashMap<TopicPartition, Hosted>,
    /// Overrides of topics that have a partition here.
    overrides: DashMap<TopicName, Arc<Properties>>,
    subscribers: Mutex<Vec<UnboundedSender<LeadershipChange>>>,
    pub(super) sessions: Vec<Mutex<SessionCache>>,
    pub(super) next_shard: AtomicUsize,
    pub(super) isr: AlterPartitions,
    fetchers: Fetchers,
    throttles: Throttles,
    has_decisions: AtomicBool,
}

/// What throttled replicas may copy (KIP-73).
pub struct Throttles {
    /// What this broker's leaders send.
    pub leader: ReplicationQuota,
    /// What this broker's followers ask for.
    pub follower: ReplicationQuota,
}

impl Throttles {
    fn new(config: &LiveConfig) -> Self {
        let quota = || {
            let config = config.load();
            ReplicationQuota::new(RateWindow::new(
                config.replication_quota_window_num(),
                config.replication_quota_window_size_seconds(),
            ))
        };
        let throttles = Self {
            leader: quota(),
            follower: quota(),
        };
        throttles.take_rates(config);
        throttles
    }

    /// The rates are dynamic only: what `server.properties` says of them does not count.
    fn take_rates(&self, config: &LiveConfig) {
        let layers = config.layers();
        let rate = |key: &str| {
            layers
                .dynamic_broker
                .get(key)
                .or_else(|| layers.dynamic_default.get(key))
                .and_then(|rate| rate.trim().parse().ok())
                .unwrap_or(UNLIMITED)
        };
        self.leader.set_bound(rate(LEADER_RATE));
        self.follower.set_bound(rate(FOLLOWER_RATE));
    }

    /// Takes what a topic's overrides say of throttled replicas; nothing for a topic that is gone.
    fn take_topic(&self, topic: &TopicName, overrides: Option<&Properties>, broker: BrokerId) {
        for (quota, key) in [
            (&self.leader, LEADER_THROTTLED),
            (&self.follower, FOLLOWER_THROTTLED),
        ] {
            let list = overrides.and_then(|overrides| overrides.get(key));
            quota.set_throttled(topic, list.and_then(|list| Throttled::parse(list, broker)));
        }
    }
}

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
    /// Takes the high watermarks of all loaded logs from their checkpoints.
    pub fn new(parts: Parts) -> Arc<Self> {
        let checkpoints = parts.logs.checkpointed_high_watermarks();
        for log in parts.logs.logs() {
            let checkpointed = checkpoints.get(log.topic_partition()).copied();
            log.reset_high_watermark(checkpointed.unwrap_or(0));
        }
        let slots = parts
            .config
            .load()
            .max_incremental_fetch_session_cache_slots();
        let slots = usize::try_from(slots).unwrap_or(0) / SESSION_SHARDS;
        let throttles = Throttles::new(&parts.config);
        Arc::new(Self {
            parts,
            partitions: DashMap::new(),
            overrides: DashMap::new(),
            subscribers: Mutex::default(),
            sessions: (0..SESSION_SHARDS)
                .map(|_| Mutex::new(SessionCache::new(slots)))
                .collect(),
            next_shard: AtomicUsize::new(0),
            isr: AlterPartitions::default(),
            fetchers: Fetchers::default(),
            throttles,
            has_decisions: AtomicBool::new(false),
        })
    }

    pub fn broker_id(&self) -> BrokerId {
        self.parts.broker_id
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.parts.clock
    }

    pub(super) fn config(&self) -> &LiveConfig {
        &self.parts.config
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.parts.cluster
    }

    /// Of this broker's registration, −1 before it.
    pub(super) fn broker_epoch(&self) -> i64 {
        self.parts.gate.broker_epoch()
    }

    /// Those who follow other leaders.
    pub fn fetchers(&self) -> &Fetchers {
        &self.fetchers
    }

    pub fn throttles(&self) -> &Throttles {
        &self.throttles
    }

    pub(super) fn lag(&self) -> Lag {
        Lag {
            time_max_ms: self.parts.config.load().replica_lag_time_max_ms(),
            now: self.parts.clock.now(),
        }
    }

    pub(super) fn is_alive(&self, broker: BrokerId) -> bool {
        self.parts.cluster.image().brokers.contains_key(&broker)
    }

    /// Leadership changes from now on; the group coordinator loads and unloads by it.
    pub fn leadership_changes(&self) -> UnboundedReceiver<LeadershipChange> {
        let (sender, receiver) = unbounded_channel();
        self.subscribers.lock().push(sender);
        receiver
    }

    fn announce(&self, change: &LeadershipChange) {
        self.subscribers
            .lock()
            .retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }

    /// The partition, or the code a client gets: KAFKA_STORAGE_ERROR when its log dir is offline,
    /// NOT_LEADER_OR_FOLLOWER when it is elsewhere, UNKNOWN_TOPIC_OR_PARTITION.
    pub fn online_partition(
        &self,
        partition: &TopicPartition,
    ) -> Result<Arc<Partition>, ErrorCode> {
        match self.partitions.get(partition).as_deref() {
            Some(Hosted::Online(partition)) => return Ok(Arc::clone(partition)),
            Some(Hosted::Offline) => return Err(ErrorCode::KafkaStorageError),
            None => {}
        }
        Err(if self.parts.cluster.image().contains(partition) {
            ErrorCode::NotLeaderOrFollower
        } else {
            ErrorCode::UnknownTopicOrPartition
        })
    }

    /// All partitions that are online.
    pub fn online_partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions
            .iter()
            .filter_map(|hosted| match hosted.value() {
                Hosted::Online(partition) => Some(Arc::clone(partition)),
                Hosted::Offline => None,
            })
            .collect()
    }

    /// The log of a partition this broker leads, or the code a client gets (contract §4.2:
    /// NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, KAFKA_STORAGE_ERROR, FENCED/UNKNOWN
    /// LEADER_EPOCH when `current_leader_epoch` is given and differs).
    pub fn leader_log(
        &self,
        partition: &TopicPartition,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Arc<Log>, ErrorCode> {
        self.online_partition(partition)?
            .log_for(current_leader_epoch, true)
    }

    /// OffsetForLeaderEpoch on the leader.
    pub fn end_offset_for_epoch(
        &self,
        partition: &TopicPartition,
        current_leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<EpochEndOffset, ErrorCode> {
        self.online_partition(partition)?
            .end_offset_for_epoch(current_leader_epoch, epoch, true)
    }

    /// Leader (−1: none) and leader epoch, as far as this broker knows: for `current_leader` in
    /// answers of Produce and Fetch.
    pub fn current_leader(&self, partition: &TopicPartition) -> (BrokerId, LeaderEpoch) {
        match self.online_partition(partition) {
            Ok(partition) => partition.leader(),
            Err(_) => self
                .parts
                .cluster
                .image()
                .partition(partition)
                .map_or((-1, -1), |image| (image.leader, image.leader_epoch)),
        }
    }

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
        for Ordered { partition, .. } in ordered {
            if self.overrides.contains_key(&partition.topic) {
                continue;
            }
            match read_config(&*self.parts.store, TOPICS, &partition.topic).await {
                Ok(overrides) => {
                    self.keep_overrides(partition.topic.clone(), overrides);
                }
                // The broker's defaults until a notification or the next request brings better.
                Err(error) => tracing::error!(
                    target: STATE_CHANGE,
                    "Cannot read the configuration of topic {}: {error}", partition.topic
                ),
            }
        }
    }

    fn keep_overrides(&self, topic: TopicName, overrides: Properties) {
        self.throttles
            .take_topic(&topic, Some(&overrides), self.broker_id());
        self.overrides.insert(topic, Arc::new(overrides));
    }

    fn log_config(&self, topic: &TopicName) -> crate::config::topic::LogConfig {
        let overrides = self.overrides.get(topic).map(|entry| Arc::clone(&entry));
        self.parts
            .config
            .load()
            .log_config(overrides.as_deref().unwrap_or(&Properties::new()))
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
        self.fetchers.stop_idle();
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
        if self.overrides.contains_key(&order.partition.topic) && *log.config() != config {
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

    /// Takes a topic's overrides as the store now holds them.
    pub async fn update_topic_config(&self, topic: &str) {
        match read_config(&*self.parts.store, TOPICS, topic).await {
            Ok(overrides) => self.apply_topic_config(topic, &overrides),
            Err(error) => {
                tracing::error!("Cannot read the configuration of topic {topic}: {error}");
            }
        }
    }

    /// Takes overrides of a topic, as a notification brings them.
    pub fn apply_topic_config(&self, topic: &str, overrides: &Properties) {
        let topic = TopicName::new(topic);
        let logs: Vec<_> = self
            .parts
            .logs
            .logs()
            .into_iter()
            .filter(|log| log.topic_partition().topic == topic)
            .collect();
        // Known without a log: a LeaderAndIsr request is about to create one.
        if logs.is_empty() && !self.overrides.contains_key(&topic) {
            return;
        }
        self.keep_overrides(topic.clone(), overrides.clone());
        let config = self.log_config(&topic);
        for log in logs {
            log.update_config(config.clone());
        }
    }

    /// Takes changed defaults of the broker into every log.
    pub fn apply_default_log_config(&self) {
        let mut configs = HashMap::new();
        for log in self.parts.logs.logs() {
            let topic = log.topic_partition().topic.clone();
            // Opened with its overrides, which are not known here before the first decision.
            if !self.overrides.contains_key(&topic) {
                continue;
            }
            let config = configs
                .entry(topic)
                .or_insert_with_key(|topic| self.log_config(topic));
            log.update_config(config.clone());
        }
    }

    /// A log dir failed ([`LogManager::on_dir_failure`]): its partitions go offline, and the
    /// controller is told through the store.
    pub fn on_log_dir_failure(
        self: &Arc<Self>,
        failure: &DirFailure,
        runtime: &tokio::runtime::Handle,
    ) {
        for partition in &failure.partitions {
            self.mark_offline(partition);
        }
        tracing::warn!(
            "[ReplicaManager broker={}] Stopped serving replicas in dir {}",
            self.broker_id(),
            failure.dir.display()
        );
        if failure.none_left {
            return;
        }
        let manager = Arc::clone(self);
        runtime.spawn(async move {
            let path = paths::log_dir_event();
            let event = data::encode_log_dir_event(manager.broker_id());
            let created = manager
                .parts
                .store
                .create(&path, event, CreateMode::PersistentSequential)
                .await;
            if let Err(error) = created {
                tracing::error!("Cannot tell the controller of the failed log dir: {error}");
            }
        });
    }

    fn mark_offline(&self, topic_partition: &TopicPartition) {
        self.fetchers.remove([topic_partition]);
        let before = self
            .partitions
            .insert(topic_partition.clone(), Hosted::Offline);
        if let Some(Hosted::Online(partition)) = before {
            let (leader, leader_epoch) = partition.leader();
            partition.retire();
            if leader == self.broker_id() {
                self.announce(&LeadershipChange::ResignedLeader {
                    partition: topic_partition.clone(),
                    leader_epoch: Some(leader_epoch),
                });
            }
        }
    }

    /// Writes the high watermarks of all logs; not before the controller has spoken, as Kafka.
    pub fn checkpoint_high_watermarks(&self) {
        if self.has_decisions.load(Ordering::Acquire) {
            self.parts.logs.checkpoint_high_watermarks();
        }
    }

    /// Starts the rounds (checkpoints of high watermarks, changed defaults for logs, laggards of
    /// ISRs, proposals to the controller) on the runtime of the caller, and lets fetchers run on
    /// `data`. All end with `cancel`; the last checkpoint is [`Self::checkpoint_high_watermarks`] at
    /// shutdown.
    pub fn start(self: &Arc<Self>, data: tokio::runtime::Handle, cancel: CancellationToken) {
        let interval_ms = self
            .parts
            .config
            .load()
            .replica_high_watermark_checkpoint_interval_ms()
            .max(1);
        tokio::spawn(Arc::clone(self).checkpoint_rounds(
            Duration::from_millis(interval_ms.unsigned_abs()),
            cancel.clone(),
        ));
        tokio::spawn(Arc::clone(self).shrink_rounds(cancel.clone()));
        tokio::spawn(Arc::clone(self).propose_isrs(cancel.clone()));
        self.fetchers.start(data, cancel.clone());
        if let Some(class) = self.parts.config.load().replica_selector_class()
            && !matches!(class, RACK_AWARE | LEADER)
        {
            tracing::warn!(
                "replica.selector.class={class} is not known here, consumers read from leaders; {RACK_AWARE} goes by client.rack"
            );
        }
        tokio::spawn(Arc::clone(self).follow_config(cancel));
    }

    /// Follows nobody any more.
    pub fn stop_fetchers(&self) {
        self.fetchers.stop();
    }

    async fn checkpoint_rounds(self: Arc<Self>, every: Duration, cancel: CancellationToken) {
        let mut rounds = tokio::time::interval(every);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = rounds.tick() => {}
            }
            let manager = Arc::clone(&self);
            let round = spawn_blocking(move || manager.checkpoint_high_watermarks());
            if let Err(panic) = round.await {
                tracing::error!("Checkpointing high watermarks failed: {panic}");
            }
        }
    }

    async fn follow_config(self: Arc<Self>, cancel: CancellationToken) {
        let mut changes = self.parts.config.changes();
        let mut fetchers = self.parts.config.load().num_replica_fetchers();
        self.throttles.take_rates(&self.parts.config);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            self.throttles.take_rates(&self.parts.config);
            self.apply_default_log_config();
            let wanted = self.parts.config.load().num_replica_fetchers();
            if wanted != fetchers {
                fetchers = wanted;
                let manager = Arc::clone(&self);
                if let Err(panic) = spawn_blocking(move || manager.restart_fetchers()).await {
                    tracing::error!("Sharing partitions out to {wanted} fetchers failed: {panic}");
                }
            }
        }
    }

    /// Shares the followed partitions out anew.
    fn restart_fetchers(self: &Arc<Self>) {
        // No leadership changes meanwhile.
        let _passage = self.parts.gate.hold();
        let to_follow = self
            .fetchers
            .take_all()
            .into_iter()
            .filter_map(|topic_partition| {
                let partition = self.online_partition(&topic_partition).ok()?;
                let (leader, leader_epoch) = partition.leader();
                let log = partition.log()?;
                Some(ToFollow {
                    partition: topic_partition,
                    leader,
                    start: start(&log, leader_epoch),
                })
            })
            .collect();
        self.fetchers.add(self, to_follow);
    }

    /// The offset a client's LATEST means, by isolation.
    pub fn latest_offset(
        &self,
        partition: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Offset, ErrorCode> {
        let log = self.leader_log(partition, None)?;
        Ok(match isolation {
            Isolation::LogEnd => log.log_end_offset(),
            Isolation::HighWatermark => log.high_watermark(),
            Isolation::TxnCommitted => log.last_stable_offset(),
        })
    }
}

/// Where a follower begins: at its end, which the leader compares with its own log by epoch. A log
/// without epochs has only its high watermark.
fn start(log: &Log, leader_epoch: LeaderEpoch) -> Start {
    Start {
        topic_id: log.topic_id(),
        leader_epoch,
        fetch_offset: match log.latest_epoch() {
            Some(_) => log.log_end_offset(),
            None => log.high_watermark(),
        },
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
