//! One classic group: its members, its generation, its committed offsets [core]
//! (`GroupMetadata` and the rules of `GroupCoordinator`).
//!
//! ```text
//!            join                    every member joined, or the rebalance timeout
//!   Empty ─────────► PreparingRebalance ─────────────► CompletingRebalance
//!     ▲                ▲   │ nobody left                    │        │
//!     └────────────────┼───┘                                │        │ assignment of the leader
//!                      ├────── join, leave, failure ────────┘        ▼ is in the log
//!                      └────────────────────────────────────────── Stable
//!   any state ── deleted, expired or moved to another broker ──► Dead
//! ```
//!
//! `join.rs` takes members in, `rebalance.rs` takes the arrows above and keeps the timers. Durable
//! state is what [`Group::replay`] reads; see the invariants G1–G5 in `mod.rs`.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::event::{
    Acks, Answer, CommitRequest, Effect, Event, JoinAnswer, LeavingMember, MemberRef, Now,
    Protocol, Settings, SyncAnswer, Token, TransactionalProducer, WriteId,
};
use super::member::Member;
use super::offsets::{OffsetAndMetadata, Offsets, RetentionBase};
use super::record::{GroupValue, MemberValue, Record, subscribed_topics};
use crate::error::ErrorCode;
use crate::hash;
use crate::types::{Millis, Offset, ProducerId, TopicPartition};

/// The protocol type of consumers, the only one whose metadata we look into.
const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl State {
    /// As DescribeGroups and ListGroups spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    fn may_follow(self, previous: Self) -> bool {
        match self {
            Self::PreparingRebalance => matches!(
                previous,
                Self::Stable | Self::CompletingRebalance | Self::Empty
            ),
            Self::CompletingRebalance | Self::Empty => previous == Self::PreparingRebalance,
            Self::Stable => previous == Self::CompletingRebalance,
            Self::Dead => true,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a fetch finds for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// A commit is on its way and the client wants stable offsets: ask again.
    Unstable,
    Nothing,
    Committed(OffsetAndMetadata),
}

/// What DescribeGroups shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub state: State,
    /// Empty for a group that only stores offsets.
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable, as is the assignment.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// What waits for an append to end.
#[derive(Debug, Clone)]
pub(super) enum InFlight {
    Commit {
        token: Token,
        producer: Option<TransactionalProducer>,
        stored: Vec<(TopicPartition, OffsetAndMetadata)>,
        /// Places in the request of what is not stored: its metadata is too large.
        refused: Vec<usize>,
    },
    /// The leader's assignment of a generation.
    Assignment {
        generation: i32,
        assignment: hash::HashMap<String, Bytes>,
    },
    StaticMember(StaticReplacement),
    /// Nobody waits.
    Other,
}

/// A static member that came back under a new id; undone when it cannot be stored.
#[derive(Debug, Clone)]
pub(super) struct StaticReplacement {
    pub(super) token: Token,
    pub(super) generation: i32,
    pub(super) instance_id: String,
    pub(super) old_member_id: String,
    pub(super) new_member_id: String,
    pub(super) old_leader: Option<String>,
    pub(super) old_protocols: Vec<Protocol>,
    pub(super) old_rebalance_timeout_ms: i32,
    pub(super) old_session_timeout_ms: i32,
    pub(super) supports_skipping_assignment: bool,
}

/// The running join phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinPhase {
    /// Of a group that was empty: lasts its time, however many have joined.
    Initial {
        deadline: Millis,
        delay_ms: Millis,
        remaining_ms: Millis,
    },
    /// Ends as soon as every known member has joined.
    Rejoin { deadline: Millis },
}

/// One group. Owned by one caller at a time.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) id: Arc<str>,
    pub(super) settings: Arc<Settings>,
    pub(super) state: State,
    /// When the state was entered, milliseconds since the epoch; unknown for old records.
    state_timestamp: Option<Millis>,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) generation: i32,
    pub(super) leader: Option<String>,
    /// By member id, in the order of joining.
    pub(super) members: hash::IndexMap<String, Member>,
    /// Member id by instance id.
    pub(super) static_members: HashMap<String, String>,
    /// Given an id but not yet joined with it; the moment each is given up.
    pub(super) pending_members: hash::HashMap<String, Millis>,
    /// Members with a parked JoinGroup.
    pub(super) awaiting_join: usize,
    /// How many members support each protocol.
    pub(super) supported_protocols: HashMap<String, usize>,
    /// How many members owe a SyncGroup to this generation.
    pub(super) owing_sync: usize,
    pub(super) sync_deadline: Option<Millis>,
    pub(super) join_phase: Option<JoinPhase>,
    /// A member came during the initial delay, which therefore lasts longer.
    pub(super) new_member_added: bool,
    /// Topics of a consumer group; `None` when not known, then all count as subscribed.
    pub(super) subscribed_topics: Option<HashSet<String>>,
    offsets: Offsets,
    in_flight: hash::HashMap<WriteId, InFlight>,
    next_write: WriteId,
    /// No deadline is earlier than this one.
    pub(super) wake_at: Option<Millis>,
}

impl Group {
    /// A group nobody knows yet: empty, generation 0.
    pub fn new(id: &str, settings: Arc<Settings>, now: Now) -> Self {
        Self {
            id: id.into(),
            settings,
            state: State::Empty,
            state_timestamp: Some(now.wall),
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: hash::IndexMap::default(),
            static_members: HashMap::new(),
            pending_members: hash::HashMap::default(),
            awaiting_join: 0,
            supported_protocols: HashMap::new(),
            owing_sync: 0,
            sync_deadline: None,
            join_phase: None,
            new_member_added: false,
            subscribed_topics: None,
            offsets: Offsets::default(),
            in_flight: hash::HashMap::default(),
            next_write: 1,
            wake_at: None,
        }
    }

    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Empty for a group that only stores offsets.
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub fn offset_count(&self) -> usize {
        self.offsets.len()
    }

    /// True for a group as [`Group::new`] makes it: it need not be kept, and for clients it does
    /// not exist.
    pub fn is_blank(&self) -> bool {
        self.state == State::Empty
            && self.generation == 0
            && self.protocol_type.is_none()
            && self.members.is_empty()
            && self.pending_members.is_empty()
            && self.offsets.is_empty()
            && self.in_flight.is_empty()
    }

    /// When to feed [`Event::Timeout`] next, on the steady clock; may be too early, never too
    /// late.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.wake_at
    }

    /// Feeds one event; pushes what must now be done, in order.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Join(request) => self.on_join(now, request, out),
            Event::Sync(request) => self.on_sync(now, request, out),
            Event::Heartbeat { token, member } => {
                let error = self.on_heartbeat(now, &member);
                answer(out, token, Answer::Heartbeat(error));
            }
            Event::Leave { token, members } => {
                let result = self.on_leave(now, &members, out);
                answer(out, token, Answer::Leave(result));
            }
            Event::Commit(request) => self.on_commit(now, request, out),
            Event::DeleteOffsets { token, partitions } => {
                let result = self.on_delete_offsets(now, partitions, out);
                answer(out, token, Answer::DeleteOffsets(result));
            }
            Event::DeleteGroup { token } => {
                let error = self.on_delete_group(now, out);
                answer(out, token, Answer::DeleteGroup(error));
            }
            Event::PartitionsDeleted(partitions) => {
                if self.state != State::Dead {
                    let removed = self.offsets.remove(&partitions);
                    self.clean_up(now, removed, out);
                }
            }
            Event::Expire => self.on_expire(now, out),
            Event::Timeout => self.on_timeout(now, out),
            Event::Appended { write, result } => self.on_appended(now, write, result, out),
            Event::TransactionCompleted {
                producer_id,
                committed,
            } => {
                if self.state != State::Dead {
                    self.offsets.complete_transaction(producer_id, committed);
                }
            }
            Event::Loaded => self.on_loaded(now, out),
            Event::Unloaded => self.on_unloaded(now, out),
        }
        debug_assert_eq!(
            self.awaiting_join,
            self.members
                .values()
                .filter(|member| member.awaiting_join.is_some())
                .count()
        );
        debug_assert_eq!(
            self.owing_sync,
            self.members
                .values()
                .filter(|member| member.owes_sync)
                .count()
        );
    }

    /// Applies one record of this group found at `offset`; `producer` for a record of a
    /// transactional batch. Records come in the order of the log, [`Event::Loaded`] after the
    /// last.
    pub fn replay(&mut self, record: Record, offset: Offset, producer: Option<ProducerId>) {
        match record {
            Record::Offset {
                partition, value, ..
            } => self.offsets.replay(partition, value, offset, producer),
            Record::Group { value, .. } => self.replay_group(value),
            Record::Unknown { .. } => {}
        }
    }

    /// Applies a commit or abort marker of `producer`.
    pub fn replay_marker(&mut self, producer: ProducerId, committed: bool) {
        self.offsets.complete_transaction(producer, committed);
    }

    fn replay_group(&mut self, value: Option<GroupValue>) {
        self.members.clear();
        self.static_members.clear();
        self.supported_protocols.clear();
        self.owing_sync = 0;
        let value = value.unwrap_or_default();
        self.state = if value.members.is_empty() {
            State::Empty
        } else {
            State::Stable
        };
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|text| !text.is_empty());
        self.protocol_name = value.protocol;
        self.leader = value.leader;
        self.state_timestamp =
            Some(value.current_state_timestamp).filter(|timestamp| *timestamp != -1);
        let protocol = self.protocol_name.clone().unwrap_or_default();
        for member in value.members {
            self.insert_member(Member {
                member_id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: vec![Protocol {
                    name: protocol.clone(),
                    metadata: member.subscription,
                }],
                assignment: member.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                owes_sync: false,
                is_new: false,
                session_deadline: Millis::MAX,
            });
        }
        self.subscribed_topics = self.compute_subscribed_topics();
    }

    fn on_loaded(&mut self, now: Now, out: &mut Vec<Effect>) {
        tracing::info!(target: super::LOG, "Loading group metadata for {} with generation {}",
            self.id,
            self.generation
        );
        if self.members.len() > self.settings.max_size {
            let reason = format!(
                "Freshly-loaded group is over capacity ({}). Rebalancing in order to give a \
                 chance for consumers to commit offsets",
                self.settings.max_size
            );
            self.prepare_rebalance(now, &reason, out);
        }
        self.arm_all_sessions(now);
    }

    /// The group goes; what is parked is told to look for its coordinator again. Commits on their
    /// way are answered when their append ends.
    fn on_unloaded(&mut self, now: Now, out: &mut Vec<Effect>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let refusal = JoinAnswer::refusal(id.as_str(), ErrorCode::NotCoordinator);
            self.answer_join(&id, refusal, out);
            self.answer_sync(&id, SyncAnswer::refusal(ErrorCode::NotCoordinator), out);
        }
        self.transition(now, State::Dead);
        self.stop_timers();
    }

    fn on_heartbeat(&mut self, now: Now, member: &MemberRef) -> ErrorCode {
        if let Err(error) = self.check_member_of_generation(member) {
            return error;
        }
        let answer = match self.state {
            State::Empty | State::Dead => return ErrorCode::UnknownMemberId,
            State::PreparingRebalance => ErrorCode::RebalanceInProgress,
            State::CompletingRebalance | State::Stable => ErrorCode::None,
        };
        self.arm_session(now, &member.member_id);
        answer
    }

    fn on_leave(
        &mut self,
        now: Now,
        members: &[LeavingMember],
        out: &mut Vec<Effect>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let mut results = Vec::with_capacity(members.len());
        for leaving in members {
            results.push(self.leave_one(now, leaving, out));
        }
        Ok(results)
    }

    fn leave_one(&mut self, now: Now, leaving: &LeavingMember, out: &mut Vec<Effect>) -> ErrorCode {
        let member_id = if leaving.member_id.is_empty() {
            let by_instance = leaving
                .instance_id
                .as_ref()
                .and_then(|instance| self.static_members.get(instance));
            match by_instance {
                Some(member_id) => member_id.clone(),
                None => return ErrorCode::UnknownMemberId,
            }
        } else if self.pending_members.remove(&leaving.member_id).is_some() {
            tracing::info!(target: super::LOG, "Pending member with memberId={} has left group {} through explicit `LeaveGroup` \
                 request",
                leaving.member_id,
                self.id
            );
            self.try_complete_join(now, out);
            return ErrorCode::None;
        } else {
            let instance = leaving.instance_id.as_deref();
            if let Err(error) = self.check_member(&leaving.member_id, instance) {
                return error;
            }
            leaving.member_id.clone()
        };
        let client_reason = leaving.reason.as_deref().unwrap_or("not provided");
        let reason =
            format!("Removing member {member_id} on LeaveGroup; client reason: {client_reason}");
        self.remove_member_and_rebalance(now, &member_id, &reason, out);
        tracing::info!(target: super::LOG, "Member {member_id} has left group {} through explicit `LeaveGroup`; client reason: \
             {client_reason}",
            self.id
        );
        ErrorCode::None
    }

    fn on_commit(&mut self, now: Now, request: CommitRequest, out: &mut Vec<Effect>) {
        let checked = self.check_commit(&request);
        let error = match (checked, self.state) {
            (Err(error), _) => Some(error),
            (Ok(()), _) if request.producer.is_some() => None,
            (Ok(()), State::CompletingRebalance) => Some(ErrorCode::RebalanceInProgress),
            (Ok(()), State::Stable | State::PreparingRebalance) => {
                // Heartbeats will tell the member of a rebalance; its commits still count.
                self.arm_session(now, &request.member.member_id);
                None
            }
            (Ok(()), State::Empty | State::Dead) => None,
        };
        if let Some(error) = error {
            let results = vec![error; request.offsets.len()];
            return answer(out, request.token, Answer::Commit(results));
        }
        self.store_offsets(request, out);
    }

    fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        let member = &request.member;
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if request.producer.is_none() && member.generation >= 0 && self.is_blank() {
            return Err(ErrorCode::IllegalGeneration);
        }
        if member.generation < 0 && self.state == State::Empty {
            // A consumer without group management, or an administrator.
            return Ok(());
        }
        if member.generation >= 0 || !member.member_id.is_empty() || member.instance_id.is_some() {
            return self.check_member_of_generation(member);
        }
        // Old versions of TxnOffsetCommit do not say who commits.
        if request.producer.is_none() && self.state != State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        Ok(())
    }

    fn store_offsets(&mut self, request: CommitRequest, out: &mut Vec<Effect>) {
        let max = self.settings.offset_metadata_max_bytes;
        let is_too_large = |(_, value): &(TopicPartition, OffsetAndMetadata)| {
            // Never more code units than bytes.
            value.metadata.len() > max && value.metadata.encode_utf16().count() > max
        };
        let mut stored = request.offsets;
        let refused: Vec<usize> = (0..)
            .zip(&stored)
            .filter_map(|(at, offset)| is_too_large(offset).then_some(at))
            .collect();
        if !refused.is_empty() {
            stored.retain(|offset| !is_too_large(offset));
        }
        if stored.is_empty() {
            let results = vec![ErrorCode::OffsetMetadataTooLarge; refused.len()];
            return answer(out, request.token, Answer::Commit(results));
        }
        let records = stored
            .iter()
            .map(|(partition, value)| Record::Offset {
                group: Arc::clone(&self.id),
                partition: partition.clone(),
                value: Some(value.clone()),
            })
            .collect();
        let write = self.next_write;
        match request.producer {
            Some(producer) => {
                self.offsets
                    .begin_transactional(producer.id, write, stored.iter().cloned());
            }
            None => self
                .offsets
                .begin(write, stored.iter().map(|(partition, _)| partition.clone())),
        }
        let in_flight = InFlight::Commit {
            token: request.token,
            producer: request.producer,
            stored,
            refused,
        };
        self.append(records, Acks::Configured, request.producer, in_flight, out);
    }

    fn on_appended(
        &mut self,
        now: Now,
        write: WriteId,
        result: Result<Offset, ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        match self.in_flight.remove(&write) {
            None => {}
            Some(InFlight::Other) => {
                if let Err(error) = result {
                    tracing::warn!(target: super::LOG, "Failed to write metadata or tombstones of group {}: {error}",
                        self.id
                    );
                }
            }
            Some(InFlight::Commit {
                token,
                producer,
                stored,
                refused,
            }) => {
                let error = result.map_or_else(commit_error, |_| ErrorCode::None);
                let mut results = vec![error; stored.len() + refused.len()];
                for at in refused {
                    results[at] = ErrorCode::OffsetMetadataTooLarge;
                }
                if self.state != State::Dead {
                    for (index, (partition, value)) in (0..).zip(stored) {
                        let record_offset = result.map(|base_offset| base_offset + index);
                        self.commit_appended(write, producer, &partition, value, record_offset);
                    }
                }
                answer(out, token, Answer::Commit(results));
            }
            Some(InFlight::Assignment {
                generation,
                assignment,
            }) => {
                let error = result.map_or_else(group_error, |_| ErrorCode::None);
                self.assignment_appended(now, generation, assignment, error, out);
            }
            Some(InFlight::StaticMember(replacement)) => {
                let error = result.map_or_else(group_error, |_| ErrorCode::None);
                self.static_member_appended(now, replacement, error, out);
            }
        }
    }

    fn commit_appended(
        &mut self,
        write: WriteId,
        producer: Option<TransactionalProducer>,
        partition: &TopicPartition,
        value: OffsetAndMetadata,
        record_offset: Result<Offset, ErrorCode>,
    ) {
        let offsets = &mut self.offsets;
        match (producer, record_offset) {
            (None, Ok(offset)) => offsets.finish(write, partition, value, offset),
            (None, Err(_)) => offsets.abandon(write, partition),
            (Some(producer), Ok(offset)) => {
                offsets.finish_transactional(producer.id, write, partition, offset);
            }
            (Some(producer), Err(_)) => {
                offsets.abandon_transactional(producer.id, write, partition);
            }
        }
    }

    fn on_delete_offsets(
        &mut self,
        now: Now,
        partitions: Vec<TopicPartition>,
        out: &mut Vec<Effect>,
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode> {
        if self.state == State::Dead || self.is_blank() {
            return Err(ErrorCode::GroupIdNotFound);
        }
        if self.state != State::Empty && !self.is_consumer_group() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let (subscribed, deletable): (Vec<_>, Vec<_>) = partitions.into_iter().partition(|it| {
            self.state != State::Empty
                && self
                    .subscribed_topics
                    .as_ref()
                    .is_none_or(|topics| topics.contains(&*it.topic))
        });
        let removed = self.offsets.remove(&deletable);
        self.clean_up(now, removed, out);
        let mut results: Vec<_> = subscribed
            .into_iter()
            .map(|partition| (partition, ErrorCode::GroupSubscribedToTopic))
            .collect();
        results.extend(
            deletable
                .into_iter()
                .map(|partition| (partition, ErrorCode::None)),
        );
        Ok(results)
    }

    fn on_delete_group(&mut self, now: Now, out: &mut Vec<Effect>) -> ErrorCode {
        if self.state == State::Dead || self.is_blank() {
            return ErrorCode::GroupIdNotFound;
        }
        if self.state != State::Empty {
            return ErrorCode::NonEmptyGroup;
        }
        self.transition(now, State::Dead);
        let removed = self.offsets.remove_all();
        self.clean_up(now, removed, out);
        ErrorCode::None
    }

    fn on_expire(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.state == State::Dead {
            return;
        }
        let retention = self.settings.offsets_retention_ms;
        let offsets = &mut self.offsets;
        let removed = match (&self.protocol_type, self.state) {
            (Some(_), State::Empty) => {
                let base = self
                    .state_timestamp
                    .map_or(RetentionBase::Commit, RetentionBase::Moment);
                offsets.remove_expired(now.wall, retention, base, None)
            }
            (Some(kind), State::Stable) if kind == CONSUMER_PROTOCOL_TYPE => {
                match &self.subscribed_topics {
                    Some(topics) => offsets.remove_expired(
                        now.wall,
                        retention,
                        RetentionBase::Commit,
                        Some(topics),
                    ),
                    None => Vec::new(),
                }
            }
            (None, _) => offsets.remove_expired(now.wall, retention, RetentionBase::Commit, None),
            (Some(_), _) => Vec::new(),
        };
        self.clean_up(now, removed, out);
    }

    /// Writes tombstones of removed offsets; an empty group that has none left dies with them.
    fn clean_up(&mut self, now: Now, removed: Vec<TopicPartition>, out: &mut Vec<Effect>) {
        if self.state == State::Empty && self.offsets.is_empty() && self.pending_members.is_empty()
        {
            tracing::info!(target: super::LOG, "Group {} transitioned to Dead in generation {}",
                self.id,
                self.generation
            );
            self.transition(now, State::Dead);
        }
        let mut tombstones: Vec<Record> = removed
            .into_iter()
            .map(|partition| Record::Offset {
                group: Arc::clone(&self.id),
                partition,
                value: None,
            })
            .collect();
        // A group of generation 0 has never been written.
        if self.state == State::Dead && self.generation > 0 {
            tombstones.push(Record::Group {
                group: Arc::clone(&self.id),
                value: None,
            });
        }
        if !tombstones.is_empty() {
            self.append(tombstones, Acks::None, None, InFlight::Other, out);
        }
        if self.state == State::Dead {
            self.stop_timers();
            out.push(Effect::Forget);
        }
    }

    /// What is committed for these partitions, or for all. Blind to the state: consumers without
    /// group management read here too.
    pub fn fetch(
        &self,
        partitions: Option<&[TopicPartition]>,
        require_stable: bool,
    ) -> Vec<(TopicPartition, Fetched)> {
        let look_up = |partition: &TopicPartition| {
            let found = if self.state == State::Dead {
                Fetched::Nothing
            } else if require_stable && self.offsets.is_unstable(partition) {
                Fetched::Unstable
            } else {
                self.offsets
                    .get(partition)
                    .map_or(Fetched::Nothing, |value| Fetched::Committed(value.clone()))
            };
            (partition.clone(), found)
        };
        match partitions {
            Some(partitions) => partitions.iter().map(look_up).collect(),
            None if self.state == State::Dead => Vec::new(),
            None => {
                let mut all: Vec<_> = self.offsets.committed_partitions().map(look_up).collect();
                all.sort_by(|left, right| left.0.cmp(&right.0));
                all
            }
        }
    }

    pub fn describe(&self) -> Description {
        let is_stable = self.state == State::Stable;
        let protocol = self
            .protocol_name
            .clone()
            .filter(|_| is_stable)
            .unwrap_or_default();
        let members = self
            .members
            .values()
            .map(|member| MemberDescription {
                member_id: member.member_id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: if is_stable {
                    member.metadata(&protocol)
                } else {
                    Bytes::new()
                },
                assignment: if is_stable {
                    member.assignment.clone()
                } else {
                    Bytes::new()
                },
            })
            .collect();
        Description {
            state: self.state,
            protocol_type: self.protocol_type().to_owned(),
            protocol,
            members,
        }
    }

    /// Is this a member, and under this instance id? Fences the predecessor of a static member.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id => {
                    tracing::info!(target: super::LOG, "Request memberId={member_id} for static member with groupInstanceId=\
                         {instance_id} is fenced by current memberId={current}"
                    );
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    pub(super) fn check_member_of_generation(&self, member: &MemberRef) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(&member.member_id, member.instance_id.as_deref())?;
        if member.generation == self.generation {
            Ok(())
        } else {
            Err(ErrorCode::IllegalGeneration)
        }
    }

    pub(super) fn transition(&mut self, now: Now, state: State) {
        assert!(
            state.may_follow(self.state),
            "group {} cannot go from {} to {state}",
            self.id,
            self.state
        );
        self.state = state;
        self.state_timestamp = Some(now.wall);
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    pub(super) fn compute_subscribed_topics(&self) -> Option<HashSet<String>> {
        if !self.is_consumer_group() {
            return None;
        }
        if self.members.is_empty() {
            return Some(HashSet::new());
        }
        let protocol = self.protocol_name.as_deref()?;
        let mut topics = HashSet::new();
        for member in self.members.values() {
            match subscribed_topics(&member.metadata(protocol)) {
                Ok(of_member) => topics.extend(of_member),
                Err(error) => {
                    tracing::warn!(target: super::LOG, "Failed to parse Consumer Protocol consumer:{protocol} of group {}: \
                         {error}. Its offsets are kept as if it subscribed to every topic.",
                        self.id
                    );
                    return None;
                }
            }
        }
        Some(topics)
    }

    /// The group's metadata record with these assignments.
    pub(super) fn metadata_record(&self, assignment: impl Fn(&Member) -> Bytes) -> Record {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        Record::Group {
            group: Arc::clone(&self.id),
            value: Some(GroupValue {
                protocol_type: self.protocol_type().to_owned(),
                generation: self.generation,
                protocol: self.protocol_name.clone(),
                leader: self.leader.clone(),
                current_state_timestamp: self.state_timestamp.unwrap_or(-1),
                members: self
                    .members
                    .values()
                    .map(|member| MemberValue {
                        member_id: member.member_id.clone(),
                        instance_id: member.instance_id.clone(),
                        client_id: member.client_id.clone(),
                        client_host: member.client_host.clone(),
                        rebalance_timeout_ms: member.rebalance_timeout_ms,
                        session_timeout_ms: member.session_timeout_ms,
                        subscription: member.metadata(protocol),
                        assignment: assignment(member),
                    })
                    .collect(),
            }),
        }
    }

    pub(super) fn append(
        &mut self,
        records: Vec<Record>,
        acks: Acks,
        producer: Option<TransactionalProducer>,
        in_flight: InFlight,
        out: &mut Vec<Effect>,
    ) {
        let write = self.next_write;
        self.next_write += 1;
        self.in_flight.insert(write, in_flight);
        out.push(Effect::Append {
            write,
            records,
            acks,
            producer,
        });
    }
}

pub(super) fn answer(out: &mut Vec<Effect>, token: Token, answer: Answer) {
    out.push(Effect::Answer { token, answer });
}

/// What a failed append means to the client that commits offsets.
fn commit_error(error: ErrorCode) -> ErrorCode {
    match error {
        // Old clients do not expect the retriable error of a failed verification.
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::InvalidCommitOffsetSize,
        other => other,
    }
}

/// What a failed append means to members of the group it was to store.
fn group_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::RequestTimedOut => ErrorCode::RebalanceInProgress,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}

#[cfg(test)]
mod tests;
