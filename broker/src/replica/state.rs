//! What this broker knows about one partition it replicates: leader or follower, epochs, ISR, and
//! from these the high watermark. [core]
//!
//! Invariants:
//! 1. Leader epoch and partition epoch only grow.
//! 2. The high watermark candidate is never above the LEO of this replica, nor above that of a
//!    member of the ISR, nor above that of a follower that is about to join it.
//! 3. While the ISR is smaller than the effective `min.insync.replicas`, the high watermark stands.
//! 4. At most one change of the ISR is proposed to the controller at a time. Until its fate is known
//!    the larger of the two sets counts for the high watermark (the maximal ISR, KIP-497).
//! 5. A replica is proposed for the ISR only when its LEO has reached both the high watermark and
//!    the start of this leader epoch.
//!
//! Source: `Partition.scala` (makeLeader, makeFollower, maybeIncrementLeaderHW,
//! checkEnoughReplicasReachOffset, maybeExpandIsr, maybeShrinkIsr, handleAlterPartitionError),
//! `Replica.scala`.

use std::collections::BTreeMap;

use crate::error::ErrorCode;
use crate::types::{BrokerId, LeaderEpoch, Millis, Offset};

/// What the controller decided about a partition (one entry of a LeaderAndIsr request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub controller_epoch: i32,
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<BrokerId>,
    pub replicas: Vec<BrokerId>,
    pub adding_replicas: Vec<BrokerId>,
    pub removing_replicas: Vec<BrokerId>,
    /// [`RECOVERED`], or [`RECOVERING`] after an unclean election.
    pub leader_recovery_state: i8,
}

/// The leader has what was committed.
pub const RECOVERED: i8 = 0;
/// The leader was elected uncleanly and has not recovered yet (KIP-704).
pub const RECOVERING: i8 = 1;

/// A change of the ISR for the controller to decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    /// Tells this proposal from every other of this partition on this broker.
    number: u64,
    pub isr: Vec<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// The state that it changes.
    pub partition_epoch: i32,
    pub leader_recovery_state: i8,
}

/// The state of a partition in the store, as the controller answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<BrokerId>,
    pub leader_recovery_state: i8,
}

/// What the controller's answer to a proposal meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsrOutcome {
    /// The new ISR counts.
    Committed,
    /// The ISR before the proposal counts again.
    Reverted,
    /// Nothing is known; the next decision of the controller will tell.
    Waits,
    /// The same proposal is to be made again.
    Retry,
    /// The proposal was overtaken by a decision.
    Outdated,
}

/// A proposal on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    proposal: IsrProposal,
    /// `None` for a shrink.
    added: Option<BrokerId>,
}

/// What the leader knows about another replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follower {
    /// −1: has not fetched since we lead.
    log_end_offset: Offset,
    /// −1: unknown.
    log_start_offset: Offset,
    last_caught_up_ms: Millis,
    last_fetch_ms: Millis,
    last_fetch_leader_end: Offset,
    /// −1: unknown.
    broker_epoch: i64,
}

impl Follower {
    fn is_caught_up(&self, log_end_offset: Offset, lag_time_max_ms: Millis, now: Millis) -> bool {
        self.log_end_offset == log_end_offset || now - self.last_caught_up_ms <= lag_time_max_ms
    }
}

/// A replica that consumers could read from (KIP-392).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadCandidate {
    pub replica: BrokerId,
    pub log_end_offset: Offset,
    /// Milliseconds since it had all of the leader's log.
    pub behind_ms: Millis,
}

/// A fetch of a follower, as the leader notes it.
#[derive(Debug, Clone, Copy)]
pub struct FollowerFetch {
    /// The follower's LEO: the offset it asks for.
    pub fetch_offset: Offset,
    pub log_start_offset: Offset,
    /// LEO of this replica before the read.
    pub leader_end_offset: Offset,
    /// Of the follower's registration; −1 when it does not say.
    pub broker_epoch: i64,
    pub now: Millis,
}

/// One partition's replication state on this broker.
#[derive(Debug)]
pub struct State {
    local: BrokerId,
    controller_epoch: i32,
    leader: Option<BrokerId>,
    /// −1 before the first decision.
    leader_epoch: LeaderEpoch,
    /// −1 before the first decision.
    partition_epoch: i32,
    /// LEO when this broker became leader in `leader_epoch`.
    leader_epoch_start: Option<Offset>,
    assigned: Vec<BrokerId>,
    adding: Vec<BrokerId>,
    removing: Vec<BrokerId>,
    /// As last committed; empty on a follower.
    isr: Vec<BrokerId>,
    pending: Option<Pending>,
    proposals: u64,
    leader_recovery_state: i8,
    /// The other replicas; empty on a follower.
    followers: BTreeMap<BrokerId, Follower>,
}

impl State {
    /// Of a partition of which nothing is known yet, on broker `local`.
    pub fn new(local: BrokerId) -> Self {
        Self {
            local,
            controller_epoch: 0,
            leader: None,
            leader_epoch: -1,
            partition_epoch: -1,
            leader_epoch_start: None,
            assigned: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            isr: Vec::new(),
            pending: None,
            proposals: 0,
            leader_recovery_state: RECOVERED,
            followers: BTreeMap::new(),
        }
    }

    /// Whether `decision` is older than what is known; it is then ignored.
    pub fn is_outdated(&self, decision: &Decision) -> bool {
        decision.partition_epoch < self.partition_epoch
    }

    /// This broker leads from `log_end_offset` on. Returns whether it did not lead before.
    pub fn become_leader(
        &mut self,
        decision: Decision,
        log_end_offset: Offset,
        now: Millis,
    ) -> bool {
        let was_leader = self.is_leader();
        let is_new_epoch = decision.leader_epoch > self.leader_epoch;
        self.isr = decision.isr;
        self.pending = None;
        // Its log is what there is; the next change of the ISR tells the controller.
        self.leader_recovery_state = RECOVERED;
        self.followers
            .retain(|id, _| decision.replicas.contains(id));
        for &id in decision.replicas.iter().filter(|&&id| id != self.local) {
            self.followers.entry(id).or_insert(Follower {
                log_end_offset: -1,
                log_start_offset: -1,
                last_caught_up_ms: 0,
                last_fetch_ms: 0,
                last_fetch_leader_end: 0,
                broker_epoch: -1,
            });
        }
        if is_new_epoch {
            for (id, follower) in &mut self.followers {
                let in_sync = self.isr.contains(id);
                if !was_leader {
                    follower.log_end_offset = -1;
                    follower.log_start_offset = -1;
                }
                follower.last_caught_up_ms = if in_sync { now } else { 0 };
                follower.last_fetch_ms = if in_sync { now } else { 0 };
                follower.last_fetch_leader_end = if in_sync { log_end_offset } else { 0 };
            }
            self.leader_epoch = decision.leader_epoch;
            self.leader_epoch_start = Some(log_end_offset);
        }
        self.controller_epoch = decision.controller_epoch;
        self.leader = Some(self.local);
        self.partition_epoch = decision.partition_epoch;
        self.assigned = decision.replicas;
        self.adding = decision.adding_replicas;
        self.removing = decision.removing_replicas;
        !was_leader
    }

    /// Another broker leads. Returns whether the leader epoch is a new one.
    pub fn become_follower(&mut self, decision: Decision) -> bool {
        let is_new_epoch = decision.leader_epoch > self.leader_epoch;
        self.controller_epoch = decision.controller_epoch;
        self.leader = Some(decision.leader);
        self.leader_epoch = decision.leader_epoch;
        self.leader_epoch_start = None;
        self.partition_epoch = decision.partition_epoch;
        self.assigned = decision.replicas;
        self.adding = decision.adding_replicas;
        self.removing = decision.removing_replicas;
        self.isr.clear();
        self.pending = None;
        self.leader_recovery_state = decision.leader_recovery_state;
        self.followers.clear();
        is_new_epoch
    }

    /// The id of this broker.
    pub fn local(&self) -> BrokerId {
        self.local
    }

    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.local)
    }

    pub fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    pub fn controller_epoch(&self) -> i32 {
        self.controller_epoch
    }

    /// LEO at which this broker's leadership began; `None` on a follower.
    pub fn leader_epoch_start(&self) -> Option<Offset> {
        self.leader_epoch_start
    }

    pub fn isr(&self) -> &[BrokerId] {
        &self.isr
    }

    pub fn assigned(&self) -> &[BrokerId] {
        &self.assigned
    }

    /// Whether `replica` counts for the high watermark (4).
    fn is_in_maximal_isr(&self, replica: BrokerId) -> bool {
        self.isr.contains(&replica)
            || self
                .pending
                .as_ref()
                .is_some_and(|pending| pending.added == Some(replica))
    }

    fn maximal_isr_size(&self) -> usize {
        let added = self.pending.as_ref().and_then(|pending| pending.added);
        self.isr.len() + usize::from(added.is_some())
    }

    /// Whether a proposal is on its way.
    pub fn is_isr_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Compares the epoch a client believes in with ours.
    pub fn check_leader_epoch(&self, current: Option<LeaderEpoch>) -> Result<(), ErrorCode> {
        match current {
            Some(epoch) if epoch < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            Some(epoch) if epoch > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// `min.insync.replicas`, but not more than there are replicas.
    pub fn effective_min_isr(&self, min_insync_replicas: i32) -> usize {
        usize::try_from(min_insync_replicas)
            .unwrap_or(0)
            .min(self.followers.len() + 1)
    }

    /// Whether an append with acks=all may be made at all.
    pub fn has_min_isr(&self, min_insync_replicas: i32) -> bool {
        self.isr.len() >= self.effective_min_isr(min_insync_replicas)
    }

    /// How far the high watermark may go; `None` when it must stand (3).
    pub fn high_watermark_candidate(
        &self,
        log_end_offset: Offset,
        min_insync_replicas: impl FnOnce() -> i32,
        lag_time_max_ms: Millis,
        now: Millis,
        is_alive: impl Fn(BrokerId) -> bool,
    ) -> Option<Offset> {
        if self.followers.is_empty() {
            return Some(log_end_offset);
        }
        if !self.has_min_isr(min_insync_replicas()) {
            return None;
        }
        let candidate = self
            .followers
            .iter()
            .filter(|(id, follower)| {
                // One that is about to join is waited for, or it would never catch up.
                self.is_in_maximal_isr(**id)
                    || (follower.is_caught_up(log_end_offset, lag_time_max_ms, now)
                        && is_alive(**id))
            })
            .map(|(_, follower)| follower.log_end_offset)
            .fold(log_end_offset, Offset::min);
        (candidate >= 0).then_some(candidate)
    }

    /// Whether an acks=all append up to `required_offset` (exclusive) is done, and how.
    pub fn acknowledged(
        &self,
        required_offset: Offset,
        high_watermark: Offset,
        min_insync_replicas: i32,
    ) -> Option<Result<(), ErrorCode>> {
        if !self.is_leader() {
            return Some(Err(ErrorCode::NotLeaderOrFollower));
        }
        if high_watermark < required_offset {
            return None;
        }
        let is_enough = self.maximal_isr_size() >= self.effective_min_isr(min_insync_replicas);
        Some(if is_enough {
            Ok(())
        } else {
            Err(ErrorCode::NotEnoughReplicasAfterAppend)
        })
    }

    /// The smallest log start offset of the replicas that live: DeleteRecords is done up to there.
    pub fn low_watermark(
        &self,
        log_start_offset: Offset,
        is_alive: impl Fn(BrokerId) -> bool,
    ) -> Offset {
        self.followers
            .iter()
            .filter(|(id, _)| is_alive(**id))
            .map(|(_, follower)| follower.log_start_offset)
            .fold(log_start_offset, Offset::min)
    }

    /// Whether `replica` may fetch as a follower; the code as of contract §4.2.
    pub fn check_follower(
        &self,
        replica: BrokerId,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(), ErrorCode> {
        if self.followers.contains_key(&replica) {
            Ok(())
        } else if current_leader_epoch.is_some() {
            Err(ErrorCode::UnknownLeaderEpoch)
        } else {
            Err(ErrorCode::NotLeaderOrFollower)
        }
    }

    /// Notes how far a follower has come. False for a fetch that an earlier life of the broker sent:
    /// the log it speaks of may have lost its end since.
    pub fn on_follower_fetch(&mut self, replica: BrokerId, fetch: FollowerFetch) -> bool {
        let Some(follower) = self.followers.get_mut(&replica) else {
            return false;
        };
        if fetch.broker_epoch >= 0 && fetch.broker_epoch < follower.broker_epoch {
            return false;
        }
        follower.broker_epoch = follower.broker_epoch.max(fetch.broker_epoch);
        if fetch.fetch_offset >= fetch.leader_end_offset {
            follower.last_caught_up_ms = follower.last_caught_up_ms.max(fetch.now);
        } else if fetch.fetch_offset >= follower.last_fetch_leader_end {
            follower.last_caught_up_ms = follower.last_caught_up_ms.max(follower.last_fetch_ms);
        }
        follower.log_start_offset = fetch.log_start_offset;
        follower.log_end_offset = fetch.fetch_offset;
        follower.last_fetch_leader_end =
            follower.last_fetch_leader_end.max(fetch.leader_end_offset);
        follower.last_fetch_ms = fetch.now;
        true
    }

    /// Proposes `replica` for the ISR, if it may join (keeps 4 and 5).
    pub fn propose_expansion(
        &mut self,
        replica: BrokerId,
        high_watermark: Offset,
        is_alive: impl Fn(BrokerId) -> bool,
    ) -> Option<IsrProposal> {
        if !self.is_leader() || self.pending.is_some() || self.isr.contains(&replica) {
            return None;
        }
        let end = self.followers.get(&replica)?.log_end_offset;
        let has_committed = end >= high_watermark && end >= self.leader_epoch_start?;
        if !has_committed || !is_alive(replica) {
            return None;
        }
        let mut isr = self.isr.clone();
        isr.push(replica);
        Some(self.propose(isr, Some(replica)))
    }

    /// Members of the ISR that have not had all of the log for longer than `lag_time_max_ms`.
    fn out_of_sync(
        &self,
        log_end_offset: Offset,
        lag_time_max_ms: Millis,
        now: Millis,
    ) -> Vec<BrokerId> {
        self.isr
            .iter()
            .copied()
            .filter(|&id| id != self.local)
            .filter(|id| {
                self.followers.get(id).is_none_or(|follower| {
                    !follower.is_caught_up(log_end_offset, lag_time_max_ms, now)
                })
            })
            .collect()
    }

    /// Proposes an ISR without its laggards, if there are any (keeps 4).
    pub fn propose_shrink(
        &mut self,
        log_end_offset: Offset,
        lag_time_max_ms: Millis,
        now: Millis,
    ) -> Option<IsrProposal> {
        if !self.is_leader() || self.pending.is_some() {
            return None;
        }
        let out = self.out_of_sync(log_end_offset, lag_time_max_ms, now);
        if out.is_empty() {
            return None;
        }
        let isr = self.isr.iter().copied().filter(|id| !out.contains(id));
        let isr = isr.collect();
        Some(self.propose(isr, None))
    }

    fn propose(&mut self, isr: Vec<BrokerId>, added: Option<BrokerId>) -> IsrProposal {
        self.proposals += 1;
        let proposal = IsrProposal {
            number: self.proposals,
            isr,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            leader_recovery_state: self.leader_recovery_state,
        };
        self.pending = Some(Pending {
            proposal: proposal.clone(),
            added,
        });
        proposal
    }

    /// The controller's answer to a proposal.
    pub fn on_isr_answer(
        &mut self,
        proposal: &IsrProposal,
        answer: Result<Committed, ErrorCode>,
    ) -> IsrOutcome {
        let is_current = self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.proposal == *proposal);
        if !is_current {
            return IsrOutcome::Outdated;
        }
        match answer {
            Ok(committed) => {
                if committed.leader_epoch != self.leader_epoch
                    || committed.partition_epoch < self.partition_epoch
                {
                    return IsrOutcome::Waits;
                }
                self.isr = committed.isr;
                self.partition_epoch = committed.partition_epoch;
                self.leader_recovery_state = committed.leader_recovery_state;
                self.pending = None;
                IsrOutcome::Committed
            }
            // Certainly not applied, by this or any other controller.
            Err(ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica) => {
                self.pending = None;
                IsrOutcome::Reverted
            }
            Err(
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest
                | ErrorCode::NewLeaderElected,
            ) => IsrOutcome::Waits,
            Err(_) => IsrOutcome::Retry,
        }
    }

    /// Followers that have `fetch_offset` and are in the ISR: one that is not might never catch up
    /// with the consumer.
    pub fn read_candidates(&self, fetch_offset: Offset, now: Millis) -> Vec<ReadCandidate> {
        self.followers
            .iter()
            .filter(|(id, follower)| {
                self.isr.contains(id)
                    && follower.log_end_offset >= fetch_offset
                    && follower.log_start_offset <= fetch_offset
            })
            .map(|(&replica, follower)| ReadCandidate {
                replica,
                log_end_offset: follower.log_end_offset,
                behind_ms: now - follower.last_caught_up_ms,
            })
            .collect()
    }
}

/// Mistakes, for the tests that show that they are found.
#[cfg(test)]
impl State {
    /// The least end of `replicas`, whatever the ISR is.
    pub(super) fn least_end_of(
        &self,
        replicas: &[BrokerId],
        log_end_offset: Offset,
    ) -> Option<Offset> {
        let least = self
            .followers
            .iter()
            .filter(|(id, _)| replicas.contains(id))
            .map(|(_, follower)| follower.log_end_offset)
            .fold(log_end_offset, Offset::min);
        (least >= 0).then_some(least)
    }

    /// A proposal that only looks at the high watermark.
    pub(super) fn propose_expansion_at(
        &mut self,
        replica: BrokerId,
        high_watermark: Offset,
    ) -> Option<IsrProposal> {
        let is_new = self.pending.is_none() && !self.isr.contains(&replica);
        let end = self.followers.get(&replica)?.log_end_offset;
        if !is_new || end < high_watermark {
            return None;
        }
        let mut isr = self.isr.clone();
        isr.push(replica);
        Some(self.propose(isr, Some(replica)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Millis = 30_000;

    fn decision(leader: BrokerId, epoch: LeaderEpoch, isr: &[BrokerId]) -> Decision {
        Decision {
            controller_epoch: 1,
            leader,
            leader_epoch: epoch,
            partition_epoch: epoch,
            isr: isr.to_vec(),
            replicas: vec![1, 2, 3],
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            leader_recovery_state: RECOVERED,
        }
    }

    fn leader(isr: &[BrokerId]) -> State {
        let mut state = State::new(1);
        assert!(state.become_leader(decision(1, 5, isr), 100, 1_000_000));
        state
    }

    fn fetched(state: &mut State, replica: BrokerId, offset: Offset, now: Millis) {
        state.on_follower_fetch(
            replica,
            FollowerFetch {
                fetch_offset: offset,
                log_start_offset: 0,
                leader_end_offset: 120,
                broker_epoch: -1,
                now,
            },
        );
    }

    #[test]
    fn a_single_replica_has_its_log_end_as_high_watermark() {
        let mut state = State::new(1);
        let only = Decision {
            isr: vec![1],
            replicas: vec![1],
            ..decision(1, 0, &[])
        };
        state.become_leader(only, 7, 0);
        // min.insync.replicas above the number of replicas counts as that number.
        assert_eq!(
            state.high_watermark_candidate(9, || 3, LAG, 0, |_| true),
            Some(9)
        );
        assert_eq!(state.effective_min_isr(3), 1);
        assert_eq!(state.acknowledged(9, 9, 3), Some(Ok(())));
    }

    #[test]
    fn high_watermark_is_the_least_end_of_the_isr() {
        let now = 1_000_000 + LAG + 1;
        for (isr, ends, min_isr, expect) in [
            // Nothing is known of a member yet: stand still.
            (&[1, 2, 3][..], &[(2, 110)][..], 1, None),
            (&[1, 2, 3], &[(2, 110), (3, 105)], 1, Some(105)),
            (&[1, 2, 3], &[(2, 120), (3, 120)], 1, Some(120)),
            // Out of the ISR and behind: not waited for.
            (&[1, 2], &[(2, 110), (3, 50)], 1, Some(110)),
            (&[1], &[], 1, Some(120)),
            // Below min ISR (keeps 3).
            (&[1], &[], 2, None),
        ] {
            let mut state = leader(isr);
            for &(replica, end) in ends {
                fetched(&mut state, replica, end, 1_000_000);
            }
            assert_eq!(
                state.high_watermark_candidate(120, || min_isr, LAG, now, |_| true),
                expect,
                "isr {isr:?} ends {ends:?} min {min_isr}"
            );
        }
    }

    #[test]
    fn a_follower_about_to_join_the_isr_holds_the_high_watermark() {
        let mut state = leader(&[1, 2]);
        fetched(&mut state, 2, 120, 2_000_000);
        // It had reached the leader's end as of its previous fetch.
        fetched(&mut state, 3, 120, 2_000_000);
        fetched(&mut state, 3, 119, 2_000_001);
        assert_eq!(
            state.high_watermark_candidate(125, || 1, LAG, 2_000_002, |_| true),
            Some(119)
        );
    }

    #[test]
    fn epochs_are_compared_only_when_given() {
        let state = leader(&[1]);
        assert_eq!(state.check_leader_epoch(None), Ok(()));
        assert_eq!(state.check_leader_epoch(Some(5)), Ok(()));
        assert_eq!(
            state.check_leader_epoch(Some(4)),
            Err(ErrorCode::FencedLeaderEpoch)
        );
        assert_eq!(
            state.check_leader_epoch(Some(6)),
            Err(ErrorCode::UnknownLeaderEpoch)
        );
    }

    #[test]
    fn an_older_partition_epoch_is_outdated_and_the_same_is_not() {
        let state = leader(&[1]);
        assert!(state.is_outdated(&decision(1, 4, &[1])));
        assert!(!state.is_outdated(&decision(1, 5, &[1])));
    }

    #[test]
    fn only_a_new_epoch_moves_the_start_of_the_leader_epoch() {
        let mut state = leader(&[1]);
        assert_eq!(state.leader_epoch_start(), Some(100));
        assert!(!state.become_leader(decision(1, 5, &[1, 2]), 150, 0));
        assert_eq!(state.leader_epoch_start(), Some(100));
        assert!(!state.become_leader(decision(1, 6, &[1, 2]), 160, 0));
        assert_eq!(state.leader_epoch_start(), Some(160));
    }

    #[test]
    fn a_follower_forgets_the_isr_and_acknowledges_nothing() {
        let mut state = leader(&[1, 2]);
        assert!(state.become_follower(decision(2, 6, &[1, 2])));
        assert!(!state.become_follower(decision(2, 6, &[1, 2])));
        assert!(!state.is_leader());
        assert_eq!(state.leader_epoch_start(), None);
        assert_eq!(
            state.acknowledged(1, 1, 1),
            Some(Err(ErrorCode::NotLeaderOrFollower))
        );
    }

    #[test]
    fn acknowledgement_needs_the_high_watermark_and_then_enough_replicas() {
        let state = leader(&[1]);
        assert_eq!(state.acknowledged(101, 100, 1), None);
        assert_eq!(state.acknowledged(101, 101, 1), Some(Ok(())));
        assert_eq!(
            state.acknowledged(101, 101, 2),
            Some(Err(ErrorCode::NotEnoughReplicasAfterAppend))
        );
    }

    #[test]
    fn low_watermark_waits_for_replicas_that_live() {
        let mut state = leader(&[1, 2]);
        assert_eq!(state.low_watermark(50, |_| true), -1);
        assert_eq!(state.low_watermark(50, |_| false), 50);
        fetched(&mut state, 2, 110, 0);
        assert_eq!(state.low_watermark(50, |id| id == 2), 0);
    }

    #[test]
    fn a_stranger_may_not_fetch_as_a_follower() {
        let state = leader(&[1]);
        assert_eq!(state.check_follower(2, Some(5)), Ok(()));
        assert_eq!(
            state.check_follower(9, Some(5)),
            Err(ErrorCode::UnknownLeaderEpoch)
        );
        assert_eq!(
            state.check_follower(9, None),
            Err(ErrorCode::NotLeaderOrFollower)
        );
    }

    const ALIVE: fn(BrokerId) -> bool = |_| true;

    fn committed(proposal: &IsrProposal) -> Committed {
        Committed {
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch + 1,
            isr: proposal.isr.clone(),
            leader_recovery_state: RECOVERED,
        }
    }

    #[test]
    fn a_follower_joins_from_the_high_watermark_and_the_epoch_start_on() {
        // The epoch began at 100.
        for (end, high_watermark, is_alive, expect) in [
            (99, 90, true, false),
            (100, 90, true, true),
            (100, 101, true, false),
            (101, 101, true, true),
            (101, 101, false, false),
        ] {
            let mut state = leader(&[1]);
            fetched(&mut state, 2, end, 1_000_000);
            let proposal = state.propose_expansion(2, high_watermark, |_| is_alive);
            assert_eq!(
                proposal.is_some(),
                expect,
                "{end} {high_watermark} {is_alive}"
            );
        }
        assert_eq!(
            leader(&[1]).propose_expansion(2, 0, ALIVE),
            None,
            "never fetched"
        );
        assert_eq!(
            leader(&[1]).propose_expansion(9, 0, ALIVE),
            None,
            "a stranger"
        );
    }

    #[test]
    fn one_change_at_a_time_and_the_larger_isr_counts_until_it_is_known() {
        let now = 1_000_000 + LAG + 1;
        let mut state = leader(&[1, 2]);
        fetched(&mut state, 2, 120, now);
        fetched(&mut state, 3, 110, 900_000);
        let proposal = state.propose_expansion(3, 105, ALIVE).unwrap();
        assert_eq!(proposal.isr, [1, 2, 3]);
        assert_eq!(state.propose_expansion(3, 105, ALIVE), None);
        assert_eq!(state.propose_shrink(130, LAG, now + 2 * LAG), None);
        // 3 counts for the high watermark and for what was appended, not for new appends.
        assert_eq!(
            state.high_watermark_candidate(125, || 1, LAG, now, ALIVE),
            Some(110)
        );
        assert!(!state.has_min_isr(3));
        assert_eq!(state.acknowledged(1, 1, 3), Some(Ok(())));
        let answer = Ok(committed(&proposal));
        assert_eq!(
            state.on_isr_answer(&proposal, answer.clone()),
            IsrOutcome::Committed
        );
        assert_eq!((state.isr(), state.partition_epoch()), (&[1, 2, 3][..], 6));
        assert_eq!(state.on_isr_answer(&proposal, answer), IsrOutcome::Outdated);
        // A shrink counts only once it is committed.
        let later = now + 2 * LAG;
        let proposal = state.propose_shrink(130, LAG, later).unwrap();
        assert_eq!(proposal.isr, [1]);
        assert_eq!(
            state.high_watermark_candidate(130, || 1, LAG, later, ALIVE),
            Some(110)
        );
        state.on_isr_answer(&proposal, Ok(committed(&proposal)));
        assert_eq!(
            state.high_watermark_candidate(130, || 1, LAG, later, ALIVE),
            Some(130)
        );
    }

    #[test]
    fn who_has_the_leaders_end_stays_however_long_ago_that_was() {
        let mut state = leader(&[1, 2, 3]);
        fetched(&mut state, 2, 120, 1_000_000);
        fetched(&mut state, 3, 119, 1_000_000);
        let later = 1_000_001 + LAG;
        assert_eq!(state.propose_shrink(120, LAG, later - 1), None);
        assert_eq!(state.propose_shrink(120, LAG, later).unwrap().isr, [1, 2]);
    }

    #[test]
    fn what_the_controllers_answers_mean() {
        for (code, expect, is_pending) in [
            (
                ErrorCode::OperationNotAttempted,
                IsrOutcome::Reverted,
                false,
            ),
            (ErrorCode::IneligibleReplica, IsrOutcome::Reverted, false),
            (ErrorCode::UnknownTopicOrPartition, IsrOutcome::Waits, true),
            (ErrorCode::UnknownTopicId, IsrOutcome::Waits, true),
            (ErrorCode::FencedLeaderEpoch, IsrOutcome::Waits, true),
            (ErrorCode::InvalidUpdateVersion, IsrOutcome::Waits, true),
            (ErrorCode::InvalidRequest, IsrOutcome::Waits, true),
            (ErrorCode::NewLeaderElected, IsrOutcome::Waits, true),
            (ErrorCode::UnknownServerError, IsrOutcome::Retry, true),
            (ErrorCode::NotController, IsrOutcome::Retry, true),
        ] {
            let mut state = leader(&[1]);
            fetched(&mut state, 2, 120, 1_000_000);
            let proposal = state.propose_expansion(2, 0, ALIVE).unwrap();
            assert_eq!(
                state.on_isr_answer(&proposal, Err(code)),
                expect,
                "{code:?}"
            );
            assert_eq!(state.is_isr_pending(), is_pending, "{code:?}");
            assert_eq!(state.isr(), [1], "{code:?}");
        }
        let mut state = leader(&[1]);
        fetched(&mut state, 2, 120, 1_000_000);
        let proposal = state.propose_expansion(2, 0, ALIVE).unwrap();
        for stale in [
            Committed {
                leader_epoch: 6,
                ..committed(&proposal)
            },
            Committed {
                partition_epoch: 4,
                ..committed(&proposal)
            },
        ] {
            assert_eq!(state.on_isr_answer(&proposal, Ok(stale)), IsrOutcome::Waits);
        }
        state.become_leader(decision(1, 6, &[1]), 130, 0);
        assert!(!state.is_isr_pending(), "a decision ends the wait");
    }

    #[test]
    fn a_fetch_of_an_earlier_life_counts_for_nothing() {
        let mut state = leader(&[1, 2]);
        let fetch = |fetch_offset, broker_epoch| FollowerFetch {
            fetch_offset,
            log_start_offset: 0,
            leader_end_offset: 120,
            broker_epoch,
            now: 1_000_000,
        };
        assert!(state.on_follower_fetch(2, fetch(100, 40)));
        assert!(state.on_follower_fetch(2, fetch(90, 41)));
        assert!(!state.on_follower_fetch(2, fetch(120, 40)));
        assert!(state.on_follower_fetch(2, fetch(91, -1)));
        assert!(!state.on_follower_fetch(9, fetch(91, -1)));
    }

    #[test]
    fn consumers_are_sent_to_members_of_the_isr_that_have_what_they_want() {
        let mut state = leader(&[1, 2]);
        fetched(&mut state, 2, 110, 1_000_000);
        fetched(&mut state, 3, 120, 1_000_000);
        let found = |offset| {
            let found = state.read_candidates(offset, 1_000_000);
            found.iter().map(|one| one.replica).collect::<Vec<_>>()
        };
        assert_eq!(found(110), [2]);
        assert!(found(111).is_empty());
        assert!(found(-1).is_empty());
    }

    #[test]
    fn a_leader_has_recovered_and_says_so_with_the_next_change() {
        let mut state = State::new(1);
        let recovering = Decision {
            leader_recovery_state: RECOVERING,
            ..decision(1, 5, &[1])
        };
        state.become_leader(recovering, 100, 0);
        fetched(&mut state, 2, 120, 0);
        let proposal = state.propose_expansion(2, 0, ALIVE).unwrap();
        assert_eq!(proposal.leader_recovery_state, RECOVERED);
    }
}
