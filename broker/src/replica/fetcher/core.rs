//! What one fetcher does next: it copies the partitions that this broker follows from one leader.
//! [core]
//!
//! ```text
//!            latest epoch known                     OFFSET_OUT_OF_RANGE
//!  add ──────────────────────────► Fetching ───────────────────────────► SeekingEnd
//!   │ no epoch yet                  ▲    ▲ ▲  the leader's log is shorter: cut   │
//!   └────────► Truncating ──────────┘    │ └───────────────────────────────────┤
//!               cut by epoch, or at      │      longer                         ▼
//!               the high watermark       └──────────────────────────── SeekingStart
//! ```
//! In each phase a partition may be delayed (`replica.fetch.backoff.ms`). A failed partition is not
//! followed any more until the controller speaks of it again.
//!
//! Invariants:
//! 1. An answer counts only for a partition that is still where it was when it was asked for: same
//!    phase, offset and leader epoch.
//! 2. A log is cut before anything of the new leader is appended, and its high watermark is not
//!    raised by an answer that asks for a cut.
//! 3. At most one request is on its way.
//!
//! Source: `AbstractFetcherThread.scala`, `ReplicaFetcherThread.scala`, `RemoteLeaderEndPoint.scala`.

use std::collections::{BTreeSet, HashMap};

use super::session::{FetchAsk, FetcherSession, Sent};
use crate::error::ErrorCode;
use crate::log::EpochEndOffset;
use crate::replica::session::{PartitionKey, Wanted};
use crate::replica::truncation::{Follower, truncation};
use crate::types::{LeaderEpoch, Millis, Offset, TopicPartition, Uuid};

/// What the leader said of a partition in a Fetch answer without an error.
#[derive(Debug, Clone, Copy)]
pub struct LeaderData<'a> {
    /// Batches as the leader stores them; the last may be cut off.
    pub records: &'a [u8],
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
}

/// What an append made of the follower's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    pub log_end_offset: Offset,
    /// Of the last batch appended, if it has one.
    pub last_epoch: Option<LeaderEpoch>,
}

/// Why the log of a partition did not do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFailure {
    /// The leader's bytes are damaged: they are fetched again.
    Corrupt,
    /// The log cannot go on: offline, gone, or not a follower's any more.
    Failed,
}

/// The logs a fetcher writes.
pub trait FollowerLogs {
    /// Log start offset and LEO; `None` when there is no such log.
    fn bounds(&self, partition: &TopicPartition) -> Option<(Offset, Offset)>;
    fn latest_epoch(&self, partition: &TopicPartition) -> Option<LeaderEpoch>;
    fn end_offset_for_epoch(
        &self,
        partition: &TopicPartition,
        epoch: LeaderEpoch,
    ) -> EpochEndOffset;
    fn truncate_to(
        &mut self,
        partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure>;
    fn truncate_fully_and_start_at(
        &mut self,
        partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure>;
    /// Appends at `fetch_offset`, which must be the LEO, then raises the high watermark and the log
    /// start offset to the leader's.
    fn append(
        &mut self,
        partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        data: LeaderData<'_>,
    ) -> Result<Followed, LogFailure>;
}

/// A partition to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub topic_id: Option<Uuid>,
    pub leader_epoch: LeaderEpoch,
    /// The LEO where the log knows an epoch, else the high watermark.
    pub fetch_offset: Offset,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Ask(Ask),
    /// Nothing until then, or until a partition is added.
    Idle(Option<Millis>),
}

/// A request to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// OffsetForLeaderEpoch.
    EpochEnds(Vec<EpochAsk>),
    /// ListOffsets.
    Offsets(OffsetKind, Vec<OffsetAsk>),
    Fetch(FetchAsk),
}

/// One partition of an OffsetForLeaderEpoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochAsk {
    pub partition: TopicPartition,
    pub current_leader_epoch: LeaderEpoch,
    /// Whose end is asked for.
    pub epoch: LeaderEpoch,
}

/// One partition of a ListOffsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAsk {
    pub partition: TopicPartition,
    pub current_leader_epoch: LeaderEpoch,
}

/// Which end of the leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetKind {
    Latest,
    Earliest,
}

/// One partition of a Fetch answer.
#[derive(Debug, Clone)]
pub struct PartitionAnswer<'a> {
    pub key: PartitionKey,
    pub error: ErrorCode,
    pub diverging_epoch: Option<EpochEndOffset>,
    pub data: LeaderData<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fetching,
    Truncating,
    /// The leader refused the offset: where does its log end?
    SeekingEnd,
    /// It ends at or beyond ours: where does it start?
    SeekingStart,
}

#[derive(Debug, Clone, Copy)]
struct Following {
    topic_id: Option<Uuid>,
    leader_epoch: LeaderEpoch,
    fetch_offset: Offset,
    last_fetched_epoch: Option<LeaderEpoch>,
    phase: Phase,
    delayed_until: Option<Millis>,
    /// When data last came, counted in answers: full requests ask for the others first.
    served: u64,
    /// It had the leader's high watermark after the last answer: never throttled then, or it would
    /// leave the ISR.
    is_caught_up: bool,
}

#[derive(Debug)]
enum InFlight {
    EpochEnds(Vec<EpochAsk>),
    Offsets(OffsetKind, Vec<OffsetAsk>),
    Fetch,
}

/// How a fetcher fetches.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `replica.fetch.backoff.ms`.
    pub backoff_ms: Millis,
    /// `replica.fetch.max.bytes`, for each partition.
    pub max_bytes: i32,
    /// Asks for one partition until it is done, so that each is behind for as short as possible. For
    /// leaders that answer without a fetch session.
    pub one_at_a_time: bool,
}

/// One fetcher.
#[derive(Debug)]
pub struct Fetcher {
    settings: Settings,
    following: HashMap<TopicPartition, Following>,
    /// Those of `following` in another phase than `Fetching`.
    unsettled: BTreeSet<TopicPartition>,
    delayed: BTreeSet<(Millis, TopicPartition)>,
    /// Not asked for while the quota is exceeded.
    throttled: BTreeSet<TopicPartition>,
    failed: BTreeSet<TopicPartition>,
    session: FetcherSession,
    in_flight: Option<InFlight>,
    answers: u64,
    /// Fetch answers in a row that were of no use.
    useless: u32,
}

impl Fetcher {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            following: HashMap::new(),
            unsettled: BTreeSet::new(),
            delayed: BTreeSet::new(),
            throttled: BTreeSet::new(),
            failed: BTreeSet::new(),
            session: FetcherSession::default(),
            in_flight: None,
            answers: 0,
            useless: 0,
        }
    }

    /// Follows a partition from now on; one that is followed in the same epoch already goes on
    /// where it is.
    pub fn add(&mut self, partition: TopicPartition, start: Start, logs: &impl FollowerLogs) {
        self.failed.remove(&partition);
        if self
            .following
            .get(&partition)
            .is_some_and(|following| following.leader_epoch == start.leader_epoch)
        {
            return;
        }
        self.undelay(&partition);
        let last_fetched_epoch = logs.latest_epoch(&partition);
        let following = Following {
            topic_id: start.topic_id,
            leader_epoch: start.leader_epoch,
            fetch_offset: start.fetch_offset,
            last_fetched_epoch,
            phase: if last_fetched_epoch.is_some() {
                Phase::Fetching
            } else {
                Phase::Truncating
            },
            delayed_until: None,
            served: 0,
            is_caught_up: false,
        };
        self.put(&partition, following);
    }

    /// Follows a partition no more; true when it was followed.
    pub fn remove(&mut self, partition: &TopicPartition) -> bool {
        self.failed.remove(partition);
        self.drop_following(partition)
    }

    fn drop_following(&mut self, partition: &TopicPartition) -> bool {
        self.undelay(partition);
        self.unsettled.remove(partition);
        self.throttled.remove(partition);
        self.session.touch(partition);
        self.following.remove(partition).is_some()
    }

    /// The controller gave an old topic its id.
    pub fn set_topic_id(&mut self, partition: &TopicPartition, topic_id: Uuid) {
        if let Some(following) = self.following.get_mut(partition) {
            following.topic_id = Some(topic_id);
            self.session.touch(partition);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.following.is_empty()
    }

    /// Whether [`Self::next`] may cut a log.
    pub fn may_truncate(&self) -> bool {
        self.unsettled.iter().any(|partition| {
            self.following
                .get(partition)
                .is_some_and(|following| following.phase == Phase::Truncating)
        })
    }

    /// The partitions followed.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.following.keys().cloned().collect()
    }

    /// Partitions that wait for the controller.
    pub fn failed(&self) -> impl Iterator<Item = &TopicPartition> {
        self.failed.iter()
    }

    /// Says which partitions are throttled while their quota is exceeded, `None` while it is not;
    /// before each [`Self::next`]. Those that lag are not asked for meanwhile.
    pub fn throttle(&mut self, is_throttled: Option<impl Fn(&TopicPartition) -> bool>) {
        let throttled: BTreeSet<TopicPartition> = match is_throttled {
            None if self.throttled.is_empty() => return,
            None => BTreeSet::new(),
            Some(is_throttled) => self
                .following
                .iter()
                .filter(|(partition, one)| !one.is_caught_up && is_throttled(partition))
                .map(|(partition, _)| partition.clone())
                .collect(),
        };
        for partition in self.throttled.symmetric_difference(&throttled) {
            self.session.touch(partition);
        }
        self.throttled = throttled;
    }

    /// What to do next. The answer to an [`Ask`] goes to the method of its name, or to
    /// [`Self::on_failure`], before the next call.
    pub fn next(&mut self, now: Millis, logs: &mut impl FollowerLogs) -> Next {
        debug_assert!(self.in_flight.is_none(), "keeps 3");
        self.wake(now);
        let epochs = self.epoch_asks(logs);
        if !epochs.is_empty() {
            self.in_flight = Some(InFlight::EpochEnds(epochs.clone()));
            return Next::Ask(Ask::EpochEnds(epochs));
        }
        for (phase, kind) in [
            (Phase::SeekingEnd, OffsetKind::Latest),
            (Phase::SeekingStart, OffsetKind::Earliest),
        ] {
            let asks = self.offset_asks(phase);
            if !asks.is_empty() {
                self.in_flight = Some(InFlight::Offsets(kind, asks.clone()));
                return Next::Ask(Ask::Offsets(kind, asks));
            }
        }
        match self.fetch_ask(logs) {
            Some(ask) => {
                self.in_flight = Some(InFlight::Fetch);
                Next::Ask(Ask::Fetch(ask))
            }
            None => {
                let delayed = self.delayed.first().map(|(until, _)| *until);
                let look_again =
                    (!self.throttled.is_empty()).then_some(now + self.settings.backoff_ms);
                Next::Idle(delayed.into_iter().chain(look_again).min())
            }
        }
    }

    fn wake(&mut self, now: Millis) {
        while let Some((until, partition)) = self.delayed.first().cloned()
            && until <= now
        {
            self.undelay(&partition);
        }
    }

    /// Partitions in `phase` that are not delayed.
    fn in_phase(&self, phase: Phase) -> Vec<(TopicPartition, Following)> {
        self.unsettled
            .iter()
            .filter_map(|partition| {
                let following = self.following.get(partition)?;
                let is_in = following.phase == phase && following.delayed_until.is_none();
                is_in.then(|| (partition.clone(), *following))
            })
            .collect()
    }

    /// What to ask about truncating partitions; those without any epoch are cut at their high
    /// watermark at once.
    fn epoch_asks(&mut self, logs: &mut impl FollowerLogs) -> Vec<EpochAsk> {
        let mut asks = Vec::new();
        for (partition, following) in self.in_phase(Phase::Truncating) {
            match logs.latest_epoch(&partition) {
                Some(epoch) => asks.push(EpochAsk {
                    partition,
                    current_leader_epoch: following.leader_epoch,
                    epoch,
                }),
                None => self.cut(&partition, following, following.fetch_offset, logs),
            }
        }
        asks
    }

    fn offset_asks(&self, phase: Phase) -> Vec<OffsetAsk> {
        self.in_phase(phase)
            .into_iter()
            .map(|(partition, following)| OffsetAsk {
                partition,
                current_leader_epoch: following.leader_epoch,
            })
            .collect()
    }

    fn fetch_ask(&mut self, logs: &impl FollowerLogs) -> Option<FetchAsk> {
        let Settings {
            max_bytes,
            one_at_a_time,
            ..
        } = self.settings;
        let following = &self.following;
        let throttled = &self.throttled;
        let wanted = |partition: &TopicPartition| {
            let following = following.get(partition)?;
            if following.phase != Phase::Fetching
                || following.delayed_until.is_some()
                || throttled.contains(partition)
            {
                return None;
            }
            let (log_start_offset, _) = logs.bounds(partition)?;
            Some(Sent {
                topic_id: following.topic_id,
                wanted: Wanted {
                    fetch_offset: following.fetch_offset,
                    max_bytes,
                    current_leader_epoch: Some(following.leader_epoch),
                    last_fetched_epoch: following.last_fetched_epoch,
                    log_start_offset,
                },
            })
        };
        let all = || {
            let mut all: Vec<_> = following
                .iter()
                .filter_map(|(partition, one)| {
                    Some((one.served, partition.clone(), wanted(partition)?))
                })
                .collect();
            if one_at_a_time {
                all.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
                all.truncate(1);
            } else {
                // Topics together: an answer repeats its topic for each run of partitions.
                all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            }
            all.into_iter()
                .map(|(_, partition, sent)| (partition, sent))
                .collect()
        };
        self.session.build(wanted, all)
    }

    /// The request got no answer.
    pub fn on_failure(&mut self, now: Millis) {
        match self.in_flight.take() {
            None => {}
            Some(InFlight::EpochEnds(asks)) => {
                for ask in asks {
                    self.delay(&ask.partition, now);
                }
            }
            Some(InFlight::Offsets(_, asks)) => {
                for ask in asks {
                    self.delay(&ask.partition, now);
                }
            }
            Some(InFlight::Fetch) => {
                self.session.restart();
                self.delay_all(now);
            }
        }
    }

    /// The answer to [`Ask::EpochEnds`]. Partitions that were not asked for are ignored.
    pub fn on_epoch_ends(
        &mut self,
        now: Millis,
        answers: impl IntoIterator<Item = (TopicPartition, Result<EpochEndOffset, ErrorCode>)>,
        logs: &mut impl FollowerLogs,
    ) {
        let Some(InFlight::EpochEnds(asks)) = self.in_flight.take() else {
            return;
        };
        let mut answers: HashMap<_, _> = answers.into_iter().collect();
        for ask in asks {
            let Some(following) = self.unmoved(&ask.partition, Phase::Truncating) else {
                continue;
            };
            if following.leader_epoch != ask.current_leader_epoch {
                continue;
            }
            match answers.remove(&ask.partition) {
                Some(Ok(end)) => self.cut_by_epoch(&ask.partition, following, end, logs),
                Some(Err(ErrorCode::FencedLeaderEpoch)) => self.fail(&ask.partition),
                Some(Err(_)) | None => self.delay(&ask.partition, now),
            }
        }
    }

    /// The answer to [`Ask::Offsets`].
    pub fn on_offsets(
        &mut self,
        now: Millis,
        answers: impl IntoIterator<Item = (TopicPartition, Result<Offset, ErrorCode>)>,
        logs: &mut impl FollowerLogs,
    ) {
        let Some(InFlight::Offsets(kind, asks)) = self.in_flight.take() else {
            return;
        };
        let phase = match kind {
            OffsetKind::Latest => Phase::SeekingEnd,
            OffsetKind::Earliest => Phase::SeekingStart,
        };
        let mut answers: HashMap<_, _> = answers.into_iter().collect();
        for OffsetAsk {
            partition,
            current_leader_epoch,
        } in asks
        {
            let Some(following) = self.unmoved(&partition, phase) else {
                continue;
            };
            if following.leader_epoch != current_leader_epoch {
                continue;
            }
            match answers.remove(&partition) {
                Some(Ok(offset)) if offset >= 0 => {
                    self.seek(&partition, following, kind, offset, logs);
                }
                Some(Err(ErrorCode::FencedLeaderEpoch)) => self.fail(&partition),
                // The fetch is tried again, and leads here again if need be.
                Some(_) | None => {
                    self.settle(&partition, following, following.fetch_offset, logs);
                    self.delay(&partition, now);
                }
            }
        }
    }

    fn seek(
        &mut self,
        partition: &TopicPartition,
        following: Following,
        kind: OffsetKind,
        leader_offset: Offset,
        logs: &mut impl FollowerLogs,
    ) {
        let Some((_, log_end_offset)) = logs.bounds(partition) else {
            return self.fail(partition);
        };
        match kind {
            OffsetKind::Latest if leader_offset < log_end_offset => {
                self.cut(partition, following, leader_offset, logs);
            }
            OffsetKind::Latest => self.put(
                partition,
                Following {
                    phase: Phase::SeekingStart,
                    ..following
                },
            ),
            OffsetKind::Earliest if leader_offset > log_end_offset => {
                let done = logs.truncate_fully_and_start_at(
                    partition,
                    following.leader_epoch,
                    leader_offset,
                );
                match done {
                    Ok(()) => self.settle(partition, following, leader_offset, logs),
                    Err(_) => self.fail(partition),
                }
            }
            OffsetKind::Earliest => self.settle(partition, following, log_end_offset, logs),
        }
    }

    /// The answer to [`Ask::Fetch`].
    pub fn on_fetched(
        &mut self,
        now: Millis,
        error: ErrorCode,
        session_id: i32,
        answers: Vec<PartitionAnswer<'_>>,
        logs: &mut impl FollowerLogs,
    ) {
        if !matches!(self.in_flight.take(), Some(InFlight::Fetch)) {
            return;
        }
        let told: Vec<_> = answers
            .iter()
            .map(|answer| self.session.resolve(&answer.key))
            .collect();
        if !self.session.accept(error, session_id, &told) {
            // Once is what a restarted leader does; a leader that goes on gets a pause.
            self.useless += 1;
            if self.useless > 1 {
                self.delay_all(now);
            }
            return;
        }
        self.useless = 0;
        self.answers += 1;
        for (answer, partition) in answers.into_iter().zip(told) {
            if let Some(partition) = partition {
                self.on_partition(now, &partition, answer, logs);
            }
        }
    }

    fn on_partition(
        &mut self,
        now: Millis,
        partition: &TopicPartition,
        answer: PartitionAnswer<'_>,
        logs: &mut impl FollowerLogs,
    ) {
        let asked = self.session.sent(partition).map(|sent| sent.wanted);
        // Keeps 1. The leader believes that it told us, so it must be asked from the beginning.
        let Some((following, _)) =
            self.unmoved(partition, Phase::Fetching)
                .zip(asked)
                .filter(|(following, asked)| {
                    asked.fetch_offset == following.fetch_offset
                        && asked.current_leader_epoch == Some(following.leader_epoch)
                })
        else {
            self.session.restart();
            return;
        };
        match answer.error {
            ErrorCode::None => {
                if let Some(end) = answer.diverging_epoch {
                    // Keeps 2.
                    return self.cut_by_epoch(partition, following, end, logs);
                }
                let high_watermark = answer.data.high_watermark;
                let appended = logs.append(
                    partition,
                    following.leader_epoch,
                    following.fetch_offset,
                    answer.data,
                );
                match appended {
                    Ok(followed) => {
                        let has_data = followed.log_end_offset > following.fetch_offset;
                        self.put(
                            partition,
                            Following {
                                is_caught_up: followed.log_end_offset >= high_watermark,
                                fetch_offset: followed.log_end_offset,
                                last_fetched_epoch: followed
                                    .last_epoch
                                    .or(following.last_fetched_epoch),
                                served: if has_data {
                                    self.answers
                                } else {
                                    following.served
                                },
                                ..following
                            },
                        );
                    }
                    Err(LogFailure::Corrupt) => self.delay(partition, now),
                    Err(LogFailure::Failed) => self.fail(partition),
                }
            }
            ErrorCode::OffsetOutOfRange => self.put(
                partition,
                Following {
                    phase: Phase::SeekingEnd,
                    ..following
                },
            ),
            // We know of no newer epoch: the controller will tell.
            ErrorCode::FencedLeaderEpoch => self.fail(partition),
            _ => self.delay(partition, now),
        }
    }

    /// The partition, if it is where it was when it was asked for.
    fn unmoved(&self, partition: &TopicPartition, phase: Phase) -> Option<Following> {
        self.following
            .get(partition)
            .copied()
            .filter(|following| following.phase == phase && following.delayed_until.is_none())
    }

    fn cut_by_epoch(
        &mut self,
        partition: &TopicPartition,
        following: Following,
        end: EpochEndOffset,
        logs: &mut impl FollowerLogs,
    ) {
        let Some((_, log_end_offset)) = logs.bounds(partition) else {
            return self.fail(partition);
        };
        let follower = Follower {
            fetch_offset: following.fetch_offset,
            log_end_offset,
        };
        let cut = truncation(follower, end, |epoch| {
            logs.end_offset_for_epoch(partition, epoch)
        });
        self.cut(partition, following, cut, logs);
    }

    fn cut(
        &mut self,
        partition: &TopicPartition,
        following: Following,
        offset: Offset,
        logs: &mut impl FollowerLogs,
    ) {
        match logs.truncate_to(partition, following.leader_epoch, offset) {
            Ok(()) => self.settle(partition, following, offset, logs),
            Err(_) => self.fail(partition),
        }
    }

    /// Goes on fetching at `offset`.
    fn settle(
        &mut self,
        partition: &TopicPartition,
        following: Following,
        offset: Offset,
        logs: &impl FollowerLogs,
    ) {
        self.put(
            partition,
            Following {
                fetch_offset: offset,
                last_fetched_epoch: logs.latest_epoch(partition),
                phase: Phase::Fetching,
                ..following
            },
        );
    }

    fn put(&mut self, partition: &TopicPartition, following: Following) {
        self.session.touch(partition);
        if following.phase == Phase::Fetching {
            self.unsettled.remove(partition);
        } else {
            self.unsettled.insert(partition.clone());
        }
        match self.following.get_mut(partition) {
            Some(one) => *one = following,
            None => drop(self.following.insert(partition.clone(), following)),
        }
    }

    fn delay_all(&mut self, now: Millis) {
        for partition in self.partitions() {
            self.delay(&partition, now);
        }
    }

    /// Leaves a partition alone for a while; one that is delayed already waits no longer for it.
    fn delay(&mut self, partition: &TopicPartition, now: Millis) {
        let until = now + self.settings.backoff_ms;
        if let Some(following) = self.following.get_mut(partition)
            && following.delayed_until.is_none()
        {
            following.delayed_until = Some(until);
            self.delayed.insert((until, partition.clone()));
            self.session.touch(partition);
        }
    }

    fn undelay(&mut self, partition: &TopicPartition) {
        if let Some(following) = self.following.get_mut(partition)
            && let Some(until) = following.delayed_until.take()
        {
            self.delayed.remove(&(until, partition.clone()));
            self.session.touch(partition);
        }
    }

    fn fail(&mut self, partition: &TopicPartition) {
        self.drop_following(partition);
        self.failed.insert(partition.clone());
    }
}

#[cfg(test)]
mod tests;
