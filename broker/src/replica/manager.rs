//! ReplicaManager: the partitions this broker holds, and everything that reads or writes them.
//!
//! Start: [`ReplicaManager::new`] over loaded logs, [`ReplicaManager::leadership_changes`] for each
//! coordinator, then the controller's requests (`orders.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::alter_log_dirs::Copiers;
use super::fetcher::core::Start;
use super::fetcher::{Fetchers, ToFollow};
use super::isr::AlterPartitions;
use super::partition::{Lag, Partition};
use super::selector::{LEADER, RACK_AWARE};
use super::session::SessionCache;
use super::throttles::Throttles;
use crate::clock::Clock;
use crate::cluster::image::Cluster;
use crate::cluster::update::ControllerEpochGate;
use crate::config::{LiveConfig, Properties};
use crate::error::ErrorCode;
use crate::hash::DashMap;
use crate::log::manager::{DirFailure, LogManager};
use crate::log::{EpochEndOffset, Log};
use crate::types::{AsPartition, BrokerId, LeaderEpoch, Millis, Offset, TopicName, TopicPartition};
use crate::zk::configs::{TOPICS, read_config};
use crate::zk::{CreateMode, Store, data, paths};

/// Shards of the fetch session cache, as in Kafka: they share out ids and slots.
pub(super) const SESSION_SHARDS: usize = 8;

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

pub(super) enum Hosted {
    Online(Arc<Partition>),
    /// Its log dir failed; until a restart.
    Offline,
}

/// The partitions this broker holds.
pub struct ReplicaManager {
    pub(super) parts: Parts,
    pub(super) partitions: DashMap<TopicPartition, Hosted>,
    /// Overrides of topics that have a partition here.
    pub(super) overrides: DashMap<TopicName, Arc<Properties>>,
    subscribers: Mutex<Vec<UnboundedSender<LeadershipChange>>>,
    pub(super) sessions: Vec<Mutex<SessionCache>>,
    pub(super) next_shard: AtomicUsize,
    pub(super) isr: AlterPartitions,
    pub(super) fetchers: Fetchers,
    pub(super) copiers: Copiers,
    pub(super) throttles: Throttles,
    pub(super) has_decisions: AtomicBool,
    /// `replica.lag.time.max.ms`, which only a restart changes.
    lag_time_max_ms: Millis,
}

impl ReplicaManager {
    /// Takes the high watermarks of all loaded logs from their checkpoints.
    pub fn new(parts: Parts) -> Arc<Self> {
        for log in parts.logs.logs() {
            log.reset_high_watermark(parts.logs.checkpointed_high_watermark(&log));
        }
        let slots = parts
            .config
            .load()
            .max_incremental_fetch_session_cache_slots();
        let slots = usize::try_from(slots).unwrap_or(0) / SESSION_SHARDS;
        let throttles = Throttles::new(&parts.config);
        let lag_time_max_ms = parts.config.load().replica_lag_time_max_ms();
        Arc::new(Self {
            parts,
            partitions: DashMap::default(),
            overrides: DashMap::default(),
            subscribers: Mutex::default(),
            sessions: (0..SESSION_SHARDS)
                .map(|_| Mutex::new(SessionCache::new(slots)))
                .collect(),
            next_shard: AtomicUsize::new(0),
            isr: AlterPartitions::default(),
            fetchers: Fetchers::default(),
            copiers: Copiers::default(),
            throttles,
            has_decisions: AtomicBool::new(false),
            lag_time_max_ms,
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
            time_max_ms: self.lag_time_max_ms,
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

    pub(super) fn announce(&self, change: &LeadershipChange) {
        self.subscribers
            .lock()
            .retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }

    /// The partition, or the code a client gets: KAFKA_STORAGE_ERROR when its log dir is offline,
    /// NOT_LEADER_OR_FOLLOWER when it is elsewhere, UNKNOWN_TOPIC_OR_PARTITION.
    pub fn online_partition(
        &self,
        partition: &dyn AsPartition,
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
    pub fn current_leader(&self, partition: &dyn AsPartition) -> (BrokerId, LeaderEpoch) {
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

    pub(super) fn keep_overrides(&self, topic: TopicName, overrides: Properties) {
        self.throttles
            .take_topic(&topic, Some(&overrides), self.broker_id());
        self.overrides.insert(topic, Arc::new(overrides));
    }

    pub(super) fn log_config(&self, topic: &TopicName) -> crate::config::topic::LogConfig {
        let overrides = self.overrides.get(topic).map(|entry| Arc::clone(&entry));
        self.parts
            .config
            .load()
            .log_config(overrides.as_deref().unwrap_or(&Properties::new()))
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
        for partition in &failure.future_partitions {
            self.copiers.remove(partition);
            if let Ok(partition) = self.online_partition(partition) {
                partition.drop_future();
            }
        }
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

    pub(super) fn mark_offline(&self, topic_partition: &TopicPartition) {
        self.fetchers.remove([topic_partition]);
        self.copiers.remove(topic_partition);
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

    /// Follows nobody any more, and moves nothing. Waits for the end of what is being copied.
    pub fn stop_fetchers(&self) {
        self.fetchers.stop();
        self.copiers.stop();
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
            self.copiers.wake();
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
pub(super) fn start(log: &Log, leader_epoch: LeaderEpoch) -> Start {
    Start {
        topic_id: log.topic_id(),
        leader_epoch,
        fetch_offset: match log.latest_epoch() {
            Some(_) => log.log_end_offset(),
            None => log.high_watermark(),
        },
    }
}
