//! Moving replicas between the log dirs of this broker (`ReplicaAlterLogDirsManager`,
//! `ReplicaAlterLogDirsThread`, KIP-113). [edge]
//!
//! One copier for each number below `num.replica.alter.log.dirs.threads`, a thread, because it reads
//! and writes files all the time; a partition always goes to the same number. A copier follows the
//! logs of this broker as `fetcher/` follows those of others, with the same core, and moves one
//! partition after the other. A copy that has caught up takes the place of its log
//! (`log/future.rs`).
//!
//! Invariants:
//! 1. When [`Copiers::remove`] returns, nothing more is written to the copies of these partitions,
//!    and none takes the place of its log.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::fetcher::core::{
    Ask, Fetcher, Followed, FollowerLogs, LeaderData, LogFailure, Next, OffsetKind,
    PartitionAnswer, Settings, Start,
};
use super::fetcher::fetcher_number;
use super::manager::ReplicaManager;
use super::partition::{Offsets, Partition};
use super::session::{NO_SESSION, PartitionKey, TopicKey, Wanted};
use super::truncation::{Fetching, divergence};
use crate::error::{ErrorCode, KafkaCode};
use crate::log::dir::{MAX_NAME, future_name};
use crate::log::{EpochEndOffset, Log, ReadRequest};
use crate::types::{LeaderEpoch, Millis, Offset, TopicPartition};

const MANAGER: &str = "kafka.server.ReplicaAlterLogDirsManager";
const COPIER: &str = "kafka.server.ReplicaAlterLogDirsThread";
/// Steps in a row that may bring nothing, on the way to where the log begins, before a pause.
const USELESS_STEPS: u32 = 4;

/// A copier that runs.
struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the copier's thread shares with those who give it work.
struct Shared {
    fetcher: Mutex<Fetcher>,
    /// There is something new to look at, or the end.
    news: Mutex<bool>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Shared {
    fn wake(&self) {
        *self.news.lock() = true;
        self.changed.notify_one();
    }

    /// Until the next [`Self::wake`], or until the time has passed.
    fn wait(&self, for_ms: Option<Millis>) {
        let mut news = self.news.lock();
        if !*news {
            match for_ms {
                None => self.changed.wait(&mut news),
                Some(ms) => {
                    let pause = Duration::from_millis(ms.max(1).unsigned_abs());
                    self.changed.wait_for(&mut news, pause);
                }
            }
        }
        *news = false;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// All copiers of a broker.
#[derive(Default)]
pub struct Copiers {
    running: Mutex<HashMap<i32, Running>>,
    stopped: AtomicBool,
}

impl Copiers {
    /// Copies a partition from now on; one that is copied in the same epoch already goes on.
    fn add(&self, manager: &Arc<ReplicaManager>, partition: &TopicPartition, start: Start) {
        let mut running = self.running.lock();
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        let number = fetcher_number(partition, manager.num_copiers());
        let one = running
            .entry(number)
            .or_insert_with(|| spawn(manager, number));
        tracing::info!(
            target: MANAGER,
            "[ReplicaAlterLogDirsManager on broker {}] Added log dir fetcher for partition {partition} with leader epoch {} from offset {}",
            manager.broker_id(),
            start.leader_epoch,
            start.fetch_offset
        );
        let logs = Copies::new(manager);
        one.shared
            .fetcher
            .lock()
            .add(partition.clone(), start, &logs);
        one.shared.wake();
    }

    /// Copies a partition no more (keeps 1).
    pub(super) fn remove(&self, partition: &TopicPartition) {
        for one in self.running.lock().values() {
            one.shared.fetcher.lock().remove(partition);
        }
    }

    /// Ends copiers that have nothing to do.
    pub(super) fn stop_idle(&self) {
        let idle: Vec<Running> = {
            let mut running = self.running.lock();
            let numbers: Vec<i32> = running
                .iter()
                .filter(|(_, one)| one.shared.fetcher.lock().is_empty())
                .map(|(number, _)| *number)
                .collect();
            numbers
                .iter()
                .filter_map(|number| running.remove(number))
                .collect()
        };
        drop(idle);
    }

    /// Ends all copiers; no other begins.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let running = std::mem::take(&mut *self.running.lock());
        drop(running);
    }

    /// Lets all look again, after the throttle changed.
    pub fn wake(&self) {
        for one in self.running.lock().values() {
            one.shared.wake();
        }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.running.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn spawn(manager: &Arc<ReplicaManager>, number: i32) -> Running {
    let config = manager.config().load();
    let shared = Arc::new(Shared {
        fetcher: Mutex::new(Fetcher::new(Settings {
            backoff_ms: i64::from(config.replica_fetch_backoff_ms()),
            max_bytes: config.replica_fetch_max_bytes(),
            one_at_a_time: true,
        })),
        news: Mutex::new(false),
        changed: Condvar::new(),
        stopped: AtomicBool::new(false),
    });
    let copier = Copier {
        manager: Arc::downgrade(manager),
        shared: Arc::clone(&shared),
        prepared: None,
        useless: 0,
    };
    let thread = std::thread::Builder::new()
        .name(format!("log-dir-move-{number}"))
        .spawn(move || copier.run())
        .inspect_err(|error| {
            tracing::error!(target: MANAGER, "Cannot start a thread that moves replicas: {error}");
        })
        .ok();
    Running { shared, thread }
}

/// The copies, as the logs that the core writes.
struct Copies {
    manager: Weak<ReplicaManager>,
    /// Those that have reached the end of their log.
    caught_up: Vec<TopicPartition>,
    /// Something was written.
    has_moved: bool,
}

impl Copies {
    fn new(manager: &Arc<ReplicaManager>) -> Self {
        Self {
            manager: Arc::downgrade(manager),
            caught_up: Vec::new(),
            has_moved: false,
        }
    }

    fn partition(&self, partition: &TopicPartition) -> Result<Arc<Partition>, LogFailure> {
        let manager = self.manager.upgrade().ok_or(LogFailure::Failed)?;
        manager
            .online_partition(partition)
            .map_err(|_| LogFailure::Failed)
    }

    fn copy(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.partition(partition).ok()?.future_log()
    }
}

impl FollowerLogs for Copies {
    fn bounds(&self, partition: &TopicPartition) -> Option<(Offset, Offset)> {
        let copy = self.copy(partition)?;
        Some((copy.log_start_offset(), copy.log_end_offset()))
    }

    fn latest_epoch(&self, partition: &TopicPartition) -> Option<LeaderEpoch> {
        self.copy(partition)?.latest_epoch()
    }

    fn end_offset_for_epoch(
        &self,
        partition: &TopicPartition,
        epoch: LeaderEpoch,
    ) -> EpochEndOffset {
        self.copy(partition).map_or(
            EpochEndOffset {
                epoch: -1,
                end_offset: -1,
            },
            |copy| copy.end_offset_for_epoch(epoch),
        )
    }

    fn truncate_to(
        &mut self,
        partition: &TopicPartition,
        _leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        self.has_moved = true;
        self.partition(partition)?.truncate_future_to(offset)
    }

    fn truncate_fully_and_start_at(
        &mut self,
        partition: &TopicPartition,
        _leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        self.has_moved = true;
        self.partition(partition)?
            .truncate_future_fully_and_start_at(offset)
    }

    fn append(
        &mut self,
        topic_partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        data: LeaderData<'_>,
    ) -> Result<Followed, LogFailure> {
        let partition = self.partition(topic_partition)?;
        let bytes = data.records.len();
        let followed = partition.append_to_future(leader_epoch, fetch_offset, data)?;
        self.has_moved |= bytes > 0;
        if let Some(manager) = self.manager.upgrade() {
            let quota = &manager.throttles().alter_log_dirs;
            quota.record(manager.clock().now(), bytes);
        }
        if partition.caught_up_future().is_some() {
            self.caught_up.push(topic_partition.clone());
        }
        Ok(followed)
    }
}

/// One copier at work.
struct Copier {
    manager: Weak<ReplicaManager>,
    shared: Arc<Shared>,
    /// The copy that was last made ready to take its log's place.
    prepared: Option<Arc<Log>>,
    useless: u32,
}

impl Copier {
    /// Until it is stopped, or the manager is gone.
    fn run(mut self) {
        while !self.shared.stopped.load(Ordering::Acquire) {
            let Some(manager) = self.manager.upgrade() else {
                return;
            };
            let idle = self.step(&manager);
            drop(manager);
            if let Some(for_ms) = idle {
                self.shared.wait(for_ms);
            }
        }
    }

    /// Asks the core what to do and does it; how long there is nothing else, `None` when there is.
    fn step(&mut self, manager: &Arc<ReplicaManager>) -> Option<Option<Millis>> {
        let now = manager.clock().now();
        let mut copies = Copies::new(manager);
        {
            let mut fetcher = self.shared.fetcher.lock();
            let is_exceeded = manager.throttles().alter_log_dirs.is_exceeded(now);
            fetcher.throttle(is_exceeded.then_some(|_: &TopicPartition| true));
            match fetcher.next(now, &mut copies) {
                Next::Idle(until) => return Some(until.map(|until| until - now)),
                Next::Ask(ask) => answer(manager, &mut fetcher, now, ask, &mut copies),
            }
        }
        for partition in &copies.caught_up {
            copies.has_moved |= self.promote(manager, partition);
        }
        if copies.has_moved {
            self.useless = 0;
            return None;
        }
        self.useless += 1;
        let backoff_ms = i64::from(manager.config().load().replica_fetch_backoff_ms());
        (self.useless > USELESS_STEPS).then_some(Some(backoff_ms))
    }

    /// Puts a copy that has caught up in the place of its log; whether there is no more to copy.
    fn promote(&mut self, manager: &ReplicaManager, topic_partition: &TopicPartition) -> bool {
        let Ok(partition) = manager.online_partition(topic_partition) else {
            return false;
        };
        let Some((current, future)) = partition.caught_up_future() else {
            return false;
        };
        let logs = &manager.parts.logs;
        let is_prepared = self
            .prepared
            .as_ref()
            .is_some_and(|prepared| Arc::ptr_eq(prepared, &future));
        let prepared = if is_prepared {
            Ok(())
        } else {
            logs.prepare_replacement(&current, &future)
        };
        self.prepared = Some(Arc::clone(&future));
        // Keeps 1: who removes the partition waits, and then sees what became of it.
        let mut fetcher = self.shared.fetcher.lock();
        let replaced =
            prepared.and_then(|()| partition.maybe_replace_current_with_future(&future, logs));
        match replaced {
            Ok(false) => return false,
            Ok(true) => {}
            Err(error) => tracing::error!(
                target: COPIER,
                "Moving {topic_partition} to {} failed: {error}",
                future.log_dir().display()
            ),
        }
        fetcher.remove(topic_partition);
        self.prepared = None;
        true
    }
}

/// Answers the core from the logs of this broker (`LocalLeaderEndPoint`).
fn answer(
    manager: &ReplicaManager,
    fetcher: &mut Fetcher,
    now: Millis,
    ask: Ask,
    copies: &mut Copies,
) {
    match ask {
        Ask::EpochEnds(asks) => {
            let answers: Vec<_> = asks
                .into_iter()
                .map(|ask| {
                    let end = manager.online_partition(&ask.partition).and_then(|one| {
                        one.end_offset_for_epoch(Some(ask.current_leader_epoch), ask.epoch, false)
                    });
                    (ask.partition, end)
                })
                .collect();
            fetcher.on_epoch_ends(now, answers, copies);
        }
        Ask::Offsets(kind, asks) => {
            let answers: Vec<_> = asks
                .into_iter()
                .map(|ask| {
                    let offset = manager
                        .online_partition(&ask.partition)
                        .and_then(|one| one.log_for(Some(ask.current_leader_epoch), false))
                        .map(|log| match kind {
                            OffsetKind::Latest => log.log_end_offset(),
                            OffsetKind::Earliest => log.log_start_offset(),
                        });
                    (ask.partition, offset)
                })
                .collect();
            fetcher.on_offsets(now, answers, copies);
        }
        Ask::Fetch(ask) => {
            let read: Vec<_> = ask
                .partitions
                .into_iter()
                .map(|(partition, sent)| {
                    let read = read(manager, &partition, &sent.wanted);
                    (partition, read)
                })
                .collect();
            let answers = read
                .iter()
                .map(|(partition, read)| {
                    let key = PartitionKey {
                        topic: TopicKey::Name(partition.topic.clone()),
                        partition: partition.partition,
                    };
                    match read {
                        Ok(read) => PartitionAnswer {
                            key,
                            error: ErrorCode::None,
                            diverging_epoch: read.diverging_epoch,
                            data: LeaderData {
                                records: &read.records,
                                high_watermark: read.high_watermark,
                                log_start_offset: read.log_start_offset,
                            },
                        },
                        Err(error) => PartitionAnswer {
                            key,
                            error: *error,
                            diverging_epoch: None,
                            data: LeaderData {
                                records: &[],
                                high_watermark: -1,
                                log_start_offset: -1,
                            },
                        },
                    }
                })
                .collect();
            fetcher.on_fetched(now, ErrorCode::None, NO_SESSION, answers, copies);
        }
    }
}

/// What a log holds of what its copy asks for.
struct Read {
    diverging_epoch: Option<EpochEndOffset>,
    records: Vec<u8>,
    high_watermark: Offset,
    log_start_offset: Offset,
}

fn read(
    manager: &ReplicaManager,
    topic_partition: &TopicPartition,
    wanted: &Wanted,
) -> Result<Read, ErrorCode> {
    let partition = manager.online_partition(topic_partition)?;
    let generation = partition.generation();
    let log = partition.log_for(wanted.current_leader_epoch, false)?;
    let offsets = Offsets::of(&log);
    let diverging_epoch = match wanted.last_fetched_epoch {
        None => None,
        Some(last_fetched_epoch) => divergence(
            Fetching {
                fetch_offset: wanted.fetch_offset,
                last_fetched_epoch,
            },
            log.end_offset_for_epoch(last_fetched_epoch),
            offsets.log_start,
        )?,
    };
    let mut records = Vec::new();
    if diverging_epoch.is_none() {
        let found = log
            .read(ReadRequest {
                offset: wanted.fetch_offset,
                max_bytes: usize::try_from(wanted.max_bytes).unwrap_or(0),
                upper_bound: offsets.log_end,
                min_one_message: true,
                with_aborted: false,
            })
            .map_err(|error| error.code())?;
        if let Some(region) = found.region {
            records.resize(region.len, 0);
            region
                .file
                .read_exact_at(&mut records, region.position)
                .map_err(|error| {
                    tracing::warn!(target: COPIER, "Reading {topic_partition} failed: {error}");
                    ErrorCode::KafkaStorageError
                })?;
        }
    }
    // A cut since the comparison: what was read may continue another log.
    if partition.generation() != generation {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    Ok(Read {
        diverging_epoch,
        records,
        high_watermark: offsets.high_watermark,
        log_start_offset: offsets.log_start,
    })
}

impl ReplicaManager {
    /// Those who move replicas between log dirs.
    pub fn copiers(&self) -> &Copiers {
        &self.copiers
    }

    /// `num.replica.alter.log.dirs.threads`, or one for each log dir.
    fn num_copiers(&self) -> i32 {
        let config = self.config().load();
        config
            .num_replica_alter_log_dirs_threads()
            .unwrap_or_else(|| i32::try_from(self.parts.logs.dirs().len()).unwrap_or(i32::MAX))
    }

    /// Moves each partition to a log dir of this broker, or, while it is not here, has it created
    /// there. Answers in the order of `moves`; the copying goes on afterwards.
    ///
    /// Touches files: not for a worker that serves connections.
    pub fn alter_log_dirs(
        self: &Arc<Self>,
        moves: &[(TopicPartition, String)],
    ) -> Vec<Result<(), ErrorCode>> {
        // No leadership changes meanwhile.
        let _passage = self.parts.gate.hold();
        moves
            .iter()
            .map(|(partition, path)| {
                self.alter_log_dir(partition, path).inspect_err(|code| {
                    tracing::warn!(
                        "[ReplicaManager broker={}] Unable to alter log dirs for {partition}: {code}",
                        self.broker_id()
                    );
                })
            })
            .collect()
    }

    fn alter_log_dir(
        self: &Arc<Self>,
        topic_partition: &TopicPartition,
        path: &str,
    ) -> Result<(), ErrorCode> {
        let logs = &self.parts.logs;
        if future_name(topic_partition).len() > MAX_NAME {
            return Err(ErrorCode::InvalidTopicException);
        }
        logs.check_dir(path).map_err(|error| error.code())?;
        let hosted = self.online_partition(topic_partition);
        match &hosted {
            Err(ErrorCode::KafkaStorageError) => return Err(ErrorCode::KafkaStorageError),
            Err(_) => {}
            Ok(partition) => {
                if partition.future_log().is_some_and(|log| !log.is_in(path)) {
                    self.cancel_move(partition).map_err(|error| error.code())?;
                }
            }
        }
        logs.prefer_dir(topic_partition, path);
        let not_here = |code| match code {
            // What clients of this API know it by.
            ErrorCode::NotLeaderOrFollower => ErrorCode::ReplicaNotAvailable,
            code => code,
        };
        let partition = hosted.map_err(not_here)?;
        let current = partition.log().ok_or(ErrorCode::ReplicaNotAvailable)?;
        if current.is_in(path) {
            return Ok(());
        }
        let future = logs
            .get_or_create_future(
                topic_partition,
                path,
                current.topic_id(),
                current.config().as_ref().clone(),
            )
            .map_err(|error| error.code())?;
        if let Some(future) = future {
            self.copy_into(&partition, future);
        }
        Ok(())
    }

    /// Forgets a partition's copy and deletes its files.
    fn cancel_move(&self, partition: &Partition) -> Result<(), crate::log::Error> {
        let topic_partition = partition.topic_partition();
        self.copiers.remove(topic_partition);
        partition.drop_future();
        self.parts.logs.delete_future(topic_partition)
    }

    fn copy_into(self: &Arc<Self>, partition: &Partition, future: Arc<Log>) {
        let start = Start {
            topic_id: future.topic_id(),
            leader_epoch: partition.leader_epoch(),
            fetch_offset: match future.latest_epoch() {
                Some(_) => future.log_end_offset(),
                None => future.high_watermark(),
            },
        };
        if partition.hold_future(future) {
            self.copiers.add(self, partition.topic_partition(), start);
        }
    }

    /// Goes on with the move of a partition that was under way when the broker stopped, when the
    /// leader epoch changed, or when the replica was stopped.
    pub(super) fn resume_move(self: &Arc<Self>, topic_partition: &TopicPartition) {
        let Some(future) = self.parts.logs.future_log(topic_partition) else {
            return;
        };
        if let Ok(partition) = self.online_partition(topic_partition)
            && let Some(current) = partition.log()
        {
            if let Some(id) = current.topic_id()
                && let Err(error) = future.assign_topic_id(id)
            {
                // The copy of a topic of the same name that was deleted meanwhile.
                tracing::warn!(target: MANAGER, "{error}; the copy is deleted");
                // An error took the dir offline and was logged there.
                let _ = self.cancel_move(&partition);
                return;
            }
            self.copy_into(&partition, future);
        }
    }
}
