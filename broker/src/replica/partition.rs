//! One partition this broker holds: its replication state, its log, and the requests that wait
//! for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};

use super::fetcher::core::{Followed, LeaderData, LogFailure};
use super::state::{
    Committed, Decision, FollowerFetch, IsrOutcome, IsrProposal, ReadCandidate, State,
};
use crate::cluster::image::Cluster;
use crate::error::ErrorCode;
use crate::log::{AppendInfo, EpochEndOffset, Log};
use crate::purgatory::{ANY_WEIGHT, OffsetWatchers, Watchers};
use crate::record::validate::Prepared;
use crate::types::{BrokerId, LeaderEpoch, Millis, Offset, TopicPartition, Uuid};

mod future;

const FETCHER: &str = "kafka.server.ReplicaFetcherThread";

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
    /// A copy of `log` that grows in another log dir.
    future: Option<Arc<Log>>,
}

/// One partition this broker holds.
pub struct Partition {
    topic_partition: TopicPartition,
    cluster: Arc<Cluster>,
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
    pub fn new(topic_partition: TopicPartition, local: BrokerId, cluster: Arc<Cluster>) -> Self {
        Self {
            topic_partition,
            cluster,
            inner: RwLock::new(Inner {
                state: State::new(local),
                log: None,
                future: None,
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

    /// Whether `replica` is in the ISR that the controller knows.
    pub fn is_in_sync(&self, replica: BrokerId) -> bool {
        self.inner.read().state.isr().contains(&replica)
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
        batch: &Prepared<'_>,
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
                self.advance_high_watermark(&inner.state, log, lag),
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
    fn advance_high_watermark(&self, state: &State, log: &Log, lag: Lag) -> Option<Offset> {
        let candidate = state.high_watermark_candidate(
            log.log_end_offset(),
            || log.config().min_insync_replicas,
            lag.time_max_ms,
            lag.now,
            |broker| self.is_alive(broker),
        )?;
        log.advance_high_watermark(candidate)
            .then(|| log.high_watermark())
    }

    fn is_alive(&self, broker: BrokerId) -> bool {
        self.cluster.image().brokers.contains_key(&broker)
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

    /// Notes a follower's progress, which may move both watermarks and bring it into the ISR: the
    /// proposal is for the controller. NOT_LEADER_OR_FOLLOWER for a fetch that counts no more;
    /// FENCED_LEADER_EPOCH when the leadership has changed since its offset was compared with our log.
    pub fn on_follower_fetch(
        &self,
        replica: BrokerId,
        current_leader_epoch: Option<LeaderEpoch>,
        fetch: FollowerFetch,
        time_max_ms: Millis,
    ) -> Result<Option<IsrProposal>, ErrorCode> {
        let (proposal, high_watermark) = {
            let mut inner = self.inner.write();
            let Inner { state, log, .. } = &mut *inner;
            let Some(log) = log.as_ref().filter(|_| state.is_leader()) else {
                return Err(ErrorCode::NotLeaderOrFollower);
            };
            state.check_leader_epoch(current_leader_epoch)?;
            if !state.on_follower_fetch(replica, fetch) {
                return Err(ErrorCode::NotLeaderOrFollower);
            }
            let proposal = state.propose_expansion(replica, log.high_watermark(), |broker| {
                self.is_alive(broker)
            });
            let lag = Lag {
                time_max_ms,
                now: fetch.now,
            };
            (proposal, self.advance_high_watermark(state, log, lag))
        };
        if let Some(high_watermark) = high_watermark {
            self.on_high_watermark(high_watermark, ANY_WEIGHT);
        }
        self.waiting.low_watermark.signal(ANY_WEIGHT);
        Ok(proposal)
    }

    /// A proposal to take laggards out of the ISR, if there are any.
    pub fn propose_shrink(&self, lag: Lag) -> Option<IsrProposal> {
        {
            let inner = self.inner.read();
            if !inner.state.is_leader() || inner.state.isr().len() < 2 {
                return None;
            }
        }
        let mut inner = self.inner.write();
        let log = inner.log.clone()?;
        let before = inner.state.isr().to_vec();
        let proposal =
            inner
                .state
                .propose_shrink(log.log_end_offset(), lag.time_max_ms, lag.now)?;
        tracing::info!(
            target: "kafka.cluster.Partition",
            "[Partition {} broker={}] Shrinking ISR from {before:?} to {:?}. Leader: (highWatermark: {}, endOffset: {})",
            self.topic_partition,
            inner.state.local(),
            proposal.isr,
            log.high_watermark(),
            log.log_end_offset()
        );
        Some(proposal)
    }

    /// The controller's answer to a proposal; true when the proposal is to be made again.
    pub fn on_isr_answer(
        &self,
        proposal: &IsrProposal,
        answer: Result<Committed, ErrorCode>,
        lag: Lag,
    ) -> bool {
        let (outcome, high_watermark) = {
            let mut inner = self.inner.write();
            let Inner { state, log, .. } = &mut *inner;
            let outcome = state.on_isr_answer(proposal, answer.clone());
            let high_watermark = match log {
                Some(log) if outcome == IsrOutcome::Committed => {
                    tracing::info!(
                        target: "kafka.cluster.Partition",
                        "[Partition {} broker={}] ISR updated to {:?} and version updated to {}",
                        self.topic_partition,
                        state.local(),
                        state.isr(),
                        state.partition_epoch()
                    );
                    self.advance_high_watermark(state, log, lag)
                }
                _ => None,
            };
            (outcome, high_watermark)
        };
        if let Some(high_watermark) = high_watermark {
            self.on_high_watermark(high_watermark, ANY_WEIGHT);
        }
        match (outcome, answer) {
            (IsrOutcome::Reverted, Err(code)) => tracing::info!(
                target: "kafka.cluster.Partition",
                "[Partition {}] Failed to alter the ISR to {:?}: the controller rejected it with {code}; the ISR is what it was",
                self.topic_partition, proposal.isr
            ),
            (IsrOutcome::Retry, Err(code)) => tracing::warn!(
                target: "kafka.cluster.Partition",
                "[Partition {}] Failed to update ISR to {:?} due to unexpected {code}. Retrying.",
                self.topic_partition, proposal.isr
            ),
            _ => {}
        }
        outcome == IsrOutcome::Retry
    }

    /// Followers a consumer at `fetch_offset` could read from; none unless this broker leads.
    pub fn read_candidates(&self, fetch_offset: Offset, now: Millis) -> Vec<ReadCandidate> {
        let inner = self.inner.read();
        if inner.state.is_leader() {
            inner.state.read_candidates(fetch_offset, now)
        } else {
            Vec::new()
        }
    }

    /// The log, if this broker follows in `leader_epoch`. The lock keeps it so.
    fn followed_log<'a>(
        inner: &'a RwLockReadGuard<'_, Inner>,
        leader_epoch: LeaderEpoch,
    ) -> Result<&'a Arc<Log>, LogFailure> {
        let is_follower = !inner.state.is_leader() && inner.state.leader_epoch() == leader_epoch;
        inner
            .log
            .as_ref()
            .filter(|_| is_follower)
            .ok_or(LogFailure::Failed)
    }

    fn log_failure(&self, error: &crate::log::Error) -> LogFailure {
        match error {
            crate::log::Error::Refused {
                code: ErrorCode::CorruptMessage | ErrorCode::UnknownLeaderEpoch,
                ..
            } => {
                tracing::error!(
                    target: FETCHER,
                    "Found invalid messages during fetch for partition {}: {error}",
                    self.topic_partition
                );
                LogFailure::Corrupt
            }
            error => {
                tracing::error!(
                    target: FETCHER,
                    "Unexpected error while following partition {}: {error}",
                    self.topic_partition
                );
                LogFailure::Failed
            }
        }
    }

    /// Appends what the leader sent for `fetch_offset`, then raises the high watermark and the log
    /// start offset to the leader's, as far as the log reaches.
    pub fn append_as_follower(
        &self,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        data: LeaderData<'_>,
    ) -> Result<Followed, LogFailure> {
        let inner = self.inner.read();
        let log = Self::followed_log(&inner, leader_epoch)?;
        if log.log_end_offset() != fetch_offset {
            tracing::error!(
                target: FETCHER,
                "Offset mismatch for partition {}: fetched offset = {fetch_offset}, log end offset = {}.",
                self.topic_partition,
                log.log_end_offset()
            );
            return Err(LogFailure::Failed);
        }
        if !data.records.is_empty() {
            Self::append_or_begin_earlier(log, data.records, leader_epoch)
                .map_err(|error| self.log_failure(&error))?;
        }
        let followed = Followed {
            log_end_offset: log.log_end_offset(),
            last_epoch: log.latest_epoch(),
        };
        let has_new_high_watermark = log.advance_high_watermark(data.high_watermark);
        log.follow_log_start_offset(data.log_start_offset)
            .map_err(|error| self.log_failure(&error))?;
        let high_watermark = log.high_watermark();
        drop(inner);
        if !data.records.is_empty() {
            self.waiting.log_end.signal(data.records.len() as u64);
        }
        if has_new_high_watermark {
            self.on_high_watermark(high_watermark, ANY_WEIGHT);
        }
        Ok(followed)
    }

    /// The leader's log may start in the middle of a batch (DeleteRecords): an empty log then begins
    /// where the batch does.
    fn append_or_begin_earlier(
        log: &Log,
        records: &[u8],
        leader_epoch: LeaderEpoch,
    ) -> Result<(), crate::log::Error> {
        match log.append_as_follower(records, leader_epoch) {
            Err(crate::log::Error::UnexpectedOffset {
                first_offset,
                last_offset,
                next_offset,
                ..
            }) if log.log_start_offset() == next_offset && last_offset >= next_offset => {
                tracing::info!(
                    target: FETCHER,
                    "Unexpected offset in append to {}. First offset {first_offset} is less than log start offset {next_offset}. Since this is the first record to be appended to the follower's log, will start the log from offset {first_offset}.",
                    log.topic_partition()
                );
                log.truncate_fully_and_start_at(first_offset)?;
                log.append_as_follower(records, leader_epoch).map(drop)
            }
            appended => appended.map(drop),
        }
    }

    /// Cuts the log of a follower; what is served of it ends there from now on.
    pub fn truncate_to(&self, leader_epoch: LeaderEpoch, offset: Offset) -> Result<(), LogFailure> {
        let inner = self.inner.read();
        let log = Self::followed_log(&inner, leader_epoch)?;
        let high_watermark = log.high_watermark();
        if offset < high_watermark {
            tracing::warn!(
                target: FETCHER,
                "Truncating {} to offset {offset} below high watermark {high_watermark}",
                self.topic_partition
            );
        }
        let done = log.truncate_to(offset);
        self.generation.fetch_add(1, Ordering::SeqCst);
        done.map_err(|error| self.log_failure(&error))
    }

    /// Empties the log of a follower, which then begins at `offset`.
    pub fn truncate_fully_and_start_at(
        &self,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        let inner = self.inner.read();
        let log = Self::followed_log(&inner, leader_epoch)?;
        let done = log.truncate_fully_and_start_at(offset);
        self.generation.fetch_add(1, Ordering::SeqCst);
        done.map_err(|error| self.log_failure(&error))
    }

    /// The smallest log start offset of the replicas that live, and of a copy on its way to another
    /// log dir.
    pub fn low_watermark(&self, is_alive: impl Fn(BrokerId) -> bool) -> Result<Offset, ErrorCode> {
        let inner = self.inner.read();
        let log = Self::checked_log(&inner, None, true)?;
        let low_watermark = inner.state.low_watermark(log.log_start_offset(), is_alive);
        Ok(match &inner.future {
            Some(future) => low_watermark.min(future.log_start_offset()),
            None => low_watermark,
        })
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
            let high_watermark = self.advance_high_watermark(&inner.state, &log, lag);
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
            inner.future = None;
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.waiting.signal_all();
    }

    /// Those who wait look again.
    pub fn signal_all(&self) {
        self.waiting.signal_all();
    }
}
