//! One partition this broker holds: its replication state, its log, and the requests that wait
//! for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};

use super::state::{Decision, FollowerFetch, State};
use crate::error::ErrorCode;
use crate::log::{AppendInfo, EpochEndOffset, Log};
use crate::purgatory::{ANY_WEIGHT, OffsetWatchers, Watchers};
use crate::record::validate::Prepared;
use crate::types::{BrokerId, LeaderEpoch, Millis, Offset, TopicPartition, Uuid};

/// What may hold the high watermark back.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    /// `replica.lag.time.max.ms`.
    pub time_max_ms: Millis,
    pub now: Millis,
}

/// Those who wait for a partition.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Fetches that read up to the LEO: followers.
    pub log_end: Arc<Watchers>,
    /// Fetches that read up to the high watermark or the last stable offset: consumers.
    pub committed: Arc<Watchers>,
    /// Produces with acks=all, by the high watermark they need.
    pub high_watermark: Arc<OffsetWatchers>,
    /// DeleteRecords that need other replicas' log start offsets to grow.
    pub low_watermark: Arc<Watchers>,
}

impl Waiting {
    /// Everybody looks again: leadership changed, or the partition is gone.
    fn signal_all(&self) {
        self.log_end.signal(ANY_WEIGHT);
        self.committed.signal(ANY_WEIGHT);
        self.high_watermark.signal_all();
        self.low_watermark.signal(ANY_WEIGHT);
    }
}

struct Inner {
    state: State,
    log: Option<Arc<Log>>,
}

/// One partition this broker holds.
pub struct Partition {
    topic_partition: TopicPartition,
    inner: RwLock<Inner>,
    /// Grows with every change of leadership or of the log.
    generation: AtomicU64,
    pub(super) waiting: Waiting,
}

/// A consistent look at a log's offsets, for one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: Offset,
    pub last_stable: Offset,
    pub high_watermark: Offset,
    pub log_end: Offset,
}

impl Offsets {
    /// Read in an order that keeps start ≤ LSO ≤ high watermark ≤ LEO while others move them up.
    pub fn of(log: &Log) -> Self {
        let log_start = log.log_start_offset();
        let last_stable = log.last_stable_offset();
        let high_watermark = log.high_watermark();
        Self {
            log_start,
            last_stable,
            high_watermark,
            log_end: log.log_end_offset(),
        }
    }
}

impl Partition {
    pub fn new(topic_partition: TopicPartition, local: BrokerId) -> Self {
        Self {
            topic_partition,
            inner: RwLock::new(Inner {
                state: State::new(local),
                log: None,
            }),
            generation: AtomicU64::new(0),
            waiting: Waiting::default(),
        }
    }

    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub fn is_leader(&self) -> bool {
        self.inner.read().state.is_leader()
    }

    /// The leader, −1 for none, and the leader epoch.
    pub fn leader(&self) -> (BrokerId, LeaderEpoch) {
        let inner = self.inner.read();
        (
            inner.state.leader().unwrap_or(-1),
            inner.state.leader_epoch(),
        )
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.inner.read().state.leader_epoch()
    }

    pub fn isr(&self) -> Vec<BrokerId> {
        self.inner.read().state.isr().to_vec()
    }

    pub fn log(&self) -> Option<Arc<Log>> {
        self.inner.read().log.clone()
    }

    pub fn topic_id(&self) -> Option<Uuid> {
        self.inner
            .read()
            .log
            .as_ref()
            .and_then(|log| log.topic_id())
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The log, if the epoch is right and, where asked for, this broker leads.
    pub fn log_for(
        &self,
        current_leader_epoch: Option<LeaderEpoch>,
        only_leader: bool,
    ) -> Result<Arc<Log>, ErrorCode> {
        Self::checked_log(&self.inner.read(), current_leader_epoch, only_leader).cloned()
    }

    fn checked_log<'a>(
        inner: &'a RwLockReadGuard<'_, Inner>,
        current_leader_epoch: Option<LeaderEpoch>,
        only_leader: bool,
    ) -> Result<&'a Arc<Log>, ErrorCode> {
        inner.state.check_leader_epoch(current_leader_epoch)?;
        if only_leader && !inner.state.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        inner.log.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// The leader's log and the offset its epoch began at.
    pub fn log_and_epoch_start(
        &self,
        current_leader_epoch: Option<LeaderEpoch>,
        only_leader: bool,
    ) -> Result<(Arc<Log>, LeaderEpoch, Option<Offset>), ErrorCode> {
        let inner = self.inner.read();
        let log = Self::checked_log(&inner, current_leader_epoch, only_leader)?;
        Ok((
            Arc::clone(log),
            inner.state.leader_epoch(),
            inner.state.leader_epoch_start(),
        ))
    }

    pub fn end_offset_for_epoch(
        &self,
        current_leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
        only_leader: bool,
    ) -> Result<EpochEndOffset, ErrorCode> {
        let log = self.log_for(current_leader_epoch, only_leader)?;
        Ok(log.end_offset_for_epoch(epoch))
    }

    /// Whether an append may be tried: this broker leads, and for acks=all enough replicas are in
    /// sync. Answers the log, whose configuration validation needs.
    pub fn check_append(&self, required_acks: i16) -> Result<Arc<Log>, ErrorCode> {
        let inner = self.inner.read();
        let log = Self::checked_log(&inner, None, true)?;
        Self::check_min_isr(&inner.state, log, required_acks)?;
        Ok(Arc::clone(log))
    }

    fn check_min_isr(state: &State, log: &Log, required_acks: i16) -> Result<(), ErrorCode> {
        if required_acks == -1 && !state.has_min_isr(log.config().min_insync_replicas) {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        Ok(())
    }

    /// Appends as leader, moves the high watermark, and signals those who wait for either.
    pub fn append_as_leader(
        &self,
        batch: &Prepared,
        required_acks: i16,
        lag: Lag,
    ) -> Result<AppendInfo, crate::log::Error> {
        let (appended, high_watermark) = {
            let inner = self.inner.read();
            let log = Self::checked_log(&inner, None, true)
                .and_then(|log| {
                    Self::check_min_isr(&inner.state, log, required_acks)?;
                    Ok(log)
                })
                .map_err(|code| crate::log::Error::Refused {
                    code,
                    message: format!("{}: {code}", self.topic_partition),
                })?;
            let appended = log.append_as_leader(batch, inner.state.leader_epoch())?;
            (
                appended,
                Self::advance_high_watermark(&inner.state, log, lag),
            )
        };
        if !appended.duplicate {
            // What a marker makes readable was appended, and counted, before.
            let weight = if batch.header.is_control() {
                ANY_WEIGHT
            } else {
                batch.bytes.len() as u64
            };
            self.waiting.log_end.signal(weight);
            if let Some(high_watermark) = high_watermark {
                self.on_high_watermark(high_watermark, weight);
            }
        }
        Ok(appended)
    }

    /// Moves the high watermark as far as the replicas allow; answers it when it moved.
    fn advance_high_watermark(state: &State, log: &Log, lag: Lag) -> Option<Offset> {
        let candidate = state.high_watermark_candidate(
            log.log_end_offset(),
            log.config().min_insync_replicas,
            lag.time_max_ms,
            lag.now,
        )?;
        log.advance_high_watermark(candidate)
            .then(|| log.high_watermark())
    }

    fn on_high_watermark(&self, high_watermark: Offset, weight: u64) {
        self.waiting.committed.signal(weight);
        self.waiting.high_watermark.signal(high_watermark);
    }

    /// Whether an acks=all append up to `required_offset` (exclusive) is done, and how.
    pub fn acknowledged(&self, required_offset: Offset) -> Option<Result<(), ErrorCode>> {
        let inner = self.inner.read();
        let Some(log) = &inner.log else {
            return Some(Err(ErrorCode::NotLeaderOrFollower));
        };
        inner.state.acknowledged(
            required_offset,
            log.high_watermark(),
            log.config().min_insync_replicas,
        )
    }

    /// Whether `replica` is a follower that may fetch.
    pub fn check_follower(
        &self,
        replica: BrokerId,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(), ErrorCode> {
        self.inner
            .read()
            .state
            .check_follower(replica, current_leader_epoch)
    }

    /// Notes a follower's progress, which may move both watermarks.
    pub fn on_follower_fetch(&self, replica: BrokerId, fetch: FollowerFetch, time_max_ms: Millis) {
        let high_watermark = {
            let mut inner = self.inner.write();
            inner.state.on_follower_fetch(replica, fetch);
            let lag = Lag {
                time_max_ms,
                now: fetch.now,
            };
            match &inner.log {
                Some(log) if inner.state.is_leader() => {
                    Self::advance_high_watermark(&inner.state, log, lag)
                }
                _ => None,
            }
        };
        if let Some(high_watermark) = high_watermark {
            self.on_high_watermark(high_watermark, ANY_WEIGHT);
        }
        self.waiting.low_watermark.signal(ANY_WEIGHT);
    }

    /// The smallest log start offset of the replicas that live.
    pub fn low_watermark(&self, is_alive: impl Fn(BrokerId) -> bool) -> Result<Offset, ErrorCode> {
        let inner = self.inner.read();
        let log = Self::checked_log(&inner, None, true)?;
        Ok(inner.state.low_watermark(log.log_start_offset(), is_alive))
    }

    /// Takes `decision` as leader over `log`. `None` when it is outdated, else whether this broker
    /// did not lead before.
    pub fn become_leader(
        &self,
        decision: Decision,
        log: Arc<Log>,
        lag: Lag,
    ) -> Result<Option<bool>, crate::log::Error> {
        let (is_new_leader, high_watermark) = {
            let mut inner = self.inner.write();
            if inner.state.is_outdated(&decision) {
                return Ok(None);
            }
            let log_end_offset = log.log_end_offset();
            if decision.leader_epoch > inner.state.leader_epoch() {
                // A follower may know a later epoch than any in our log: ours must be above it.
                log.assign_epoch_start(decision.leader_epoch)?;
            }
            let is_new_leader = inner.state.become_leader(decision, log_end_offset, lag.now);
            let high_watermark = Self::advance_high_watermark(&inner.state, &log, lag);
            inner.log = Some(log);
            (is_new_leader, high_watermark)
        };
        self.generation.fetch_add(1, Ordering::SeqCst);
        if let Some(high_watermark) = high_watermark {
            self.on_high_watermark(high_watermark, ANY_WEIGHT);
        }
        Ok(Some(is_new_leader))
    }

    /// Takes `decision` as follower over `log`. `None` when it is outdated, else whether the leader
    /// epoch is a new one.
    pub fn become_follower(&self, decision: Decision, log: Arc<Log>) -> Option<bool> {
        let is_new_epoch = {
            let mut inner = self.inner.write();
            if inner.state.is_outdated(&decision) {
                return None;
            }
            inner.log = Some(log);
            inner.state.become_follower(decision)
        };
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.waiting.signal_all();
        Some(is_new_epoch)
    }

    /// The log exists but nothing is known of a leader: only the high watermark is kept for it.
    pub fn hold_log(&self, log: Arc<Log>) {
        self.inner.write().log = Some(log);
    }

    /// The replica was stopped, deleted or went offline: those who wait are answered now.
    pub fn retire(&self) {
        {
            let mut inner = self.inner.write();
            let local = inner.state.local();
            inner.state = State::new(local);
            inner.log = None;
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.waiting.signal_all();
    }

    /// Those who wait look again.
    pub fn signal_all(&self) {
        self.waiting.signal_all();
    }
}
