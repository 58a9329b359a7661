//! Rebalances: the join phase, the sync phase and the timers of both [core].
//!
//! | timer | length | when it ends |
//! |---|---|---|
//! | initial delay | `group.initial.rebalance.delay.ms`, longer while members keep coming, up to the largest rebalance timeout | the join phase completes |
//! | rejoin | largest rebalance timeout of the members | dynamic members that have not joined are removed, static ones stay |
//! | sync | the same, from the start of the generation | members that have not sent SyncGroup are removed |
//! | session | the member's session timeout | the member is removed; not while it has a request parked |
//! | new member | 5 minutes | as session, and also while parked |
//! | pending member | the session timeout it asked for | its id is forgotten |

use std::collections::HashSet;

use bytes::Bytes;

use super::event::{Acks, Answer, Effect, Now, SyncAnswer, SyncRequest};
use super::group::{Group, InFlight, JoinPhase, State, answer};
use crate::error::ErrorCode;
use crate::hash::HashMap;
use crate::types::Millis;

/// How soon a join phase in which nobody joined ends again, if the members want no timeout at all.
const SHORTEST_REJOIN_MS: Millis = 1_000;

impl Group {
    pub(super) fn maybe_prepare_rebalance(
        &mut self,
        now: Now,
        reason: &str,
        out: &mut Vec<Effect>,
    ) {
        if matches!(
            self.state,
            State::Stable | State::CompletingRebalance | State::Empty
        ) {
            self.prepare_rebalance(now, reason, out);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now, reason: &str, out: &mut Vec<Effect>) {
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(now, ErrorCode::RebalanceInProgress, out);
        }
        self.forget_owed_syncs();
        self.sync_deadline = None;
        let timeout = self.rebalance_timeout_ms();
        let phase = if self.state == State::Empty {
            let delay_ms = self.settings.initial_rebalance_delay_ms;
            JoinPhase::Initial {
                deadline: now.steady + delay_ms,
                delay_ms,
                remaining_ms: (timeout - delay_ms).max(0),
            }
        } else {
            JoinPhase::Rejoin {
                deadline: now.steady + timeout,
            }
        };
        self.transition(now, State::PreparingRebalance);
        tracing::info!(target: super::LOG, "Preparing to rebalance group {} in state {} with old generation {} (reason: {reason})",
            self.id,
            self.state,
            self.generation
        );
        self.begin_join_phase(phase);
        if matches!(phase, JoinPhase::Initial { delay_ms: 0, .. }) {
            self.complete_join(now, out);
        } else {
            self.try_complete_join(now, out);
        }
    }

    fn begin_join_phase(&mut self, phase: JoinPhase) {
        self.join_phase = Some(phase);
        let (JoinPhase::Initial { deadline, .. } | JoinPhase::Rejoin { deadline }) = phase;
        self.wake_by(deadline);
    }

    /// Ends the join phase if every member has joined and nobody is expected. Does nothing during
    /// the initial delay, which is there to wait.
    pub(super) fn try_complete_join(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.state == State::PreparingRebalance
            && matches!(self.join_phase, Some(JoinPhase::Rejoin { .. }))
            && self.members.len() == self.awaiting_join
            && self.pending_members.is_empty()
        {
            self.complete_join(now, out);
        }
    }

    fn join_phase_expired(&mut self, now: Now, phase: JoinPhase, out: &mut Vec<Effect>) {
        match phase {
            JoinPhase::Initial {
                delay_ms,
                remaining_ms,
                ..
            } if self.new_member_added && remaining_ms != 0 => {
                self.new_member_added = false;
                let next_delay_ms = self.settings.initial_rebalance_delay_ms.min(remaining_ms);
                self.begin_join_phase(JoinPhase::Initial {
                    deadline: now.steady + next_delay_ms,
                    delay_ms: next_delay_ms,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                });
            }
            JoinPhase::Initial { .. } | JoinPhase::Rejoin { .. } => self.complete_join(now, out),
        }
    }

    /// Starts the next generation with those who have joined.
    fn complete_join(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.join_phase = None;
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && !member.is_static())
            .map(|member| member.member_id.clone())
            .collect();
        if !absent.is_empty() {
            tracing::info!(target: super::LOG, "Group {} removed dynamic members who haven't joined: {}",
                self.id,
                absent.join(", ")
            );
        }
        for member_id in absent {
            self.remove_member(&member_id, out);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only absent static members are left: their sessions decide.
            tracing::error!(target: super::LOG, "Group {} could not complete rebalance because no members rejoined",
                self.id
            );
            let timeout = self.rebalance_timeout_ms().max(SHORTEST_REJOIN_MS);
            return self.begin_join_phase(JoinPhase::Rejoin {
                deadline: now.steady + timeout,
            });
        }
        self.new_member_added = false;
        self.forget_owed_syncs();
        // G2. A generation is an int32 on the wire; Kafka lets it wrap, clients take −1 for none.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol_name = None;
            self.subscribed_topics = self.compute_subscribed_topics();
            self.transition(now, State::Empty);
            tracing::info!(target: super::LOG, "Group {} with generation {} is now empty",
                self.id,
                self.generation
            );
            let record = self.metadata_record(|_| Bytes::new());
            self.append(vec![record], Acks::Configured, None, InFlight::Other, out);
        } else {
            self.protocol_name = self.select_protocol();
            self.subscribed_topics = self.compute_subscribed_topics();
            self.transition(now, State::CompletingRebalance);
            tracing::info!(target: super::LOG, "Stabilized group {} generation {} with {} members",
                self.id,
                self.generation,
                self.members.len()
            );
            self.answer_joined(now, out);
            let deadline = now.steady + self.rebalance_timeout_ms();
            self.sync_deadline = Some(deadline);
            self.wake_by(deadline);
        }
    }

    /// Answers everybody who has joined and starts the sync phase.
    fn answer_joined(&mut self, now: Now, out: &mut Vec<Effect>) {
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            member.is_new = false;
            member.owes_sync = true;
            let deadline = member.arm_session(now);
            let parked = member.awaiting_join.take();
            self.wake_by(deadline);
            if let Some(token) = parked {
                self.awaiting_join -= 1;
                let joined = self.joined(&self.members[at].member_id);
                answer(out, token, Answer::Join(joined));
            }
        }
        self.owing_sync = self.members.len();
    }

    /// Makes sure that the leader is one who has joined; false when nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        let has_joined = |id: &String| {
            self.members
                .get(id)
                .is_some_and(|member| member.awaiting_join.is_some())
        };
        if has_joined(leader) {
            return true;
        }
        match self.members.keys().find(|id| has_joined(id)).cloned() {
            Some(joined) => {
                tracing::info!(target: super::LOG, "Group leader [member.id: {leader}] failed to join before rebalance timeout, \
                     while new leader {joined} was elected."
                );
                self.leader = Some(joined);
                true
            }
            None => false,
        }
    }

    /// The protocol with the most votes among those every member supports; of equals, the one
    /// voted for first.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let candidates: HashSet<&str> = self
            .supported_protocols
            .iter()
            .filter(|(_, count)| **count == self.members.len())
            .map(|(name, _)| name.as_str())
            .collect();
        let mut votes: Vec<(&str, usize)> = Vec::new();
        for vote in self
            .members
            .values()
            .filter_map(|member| member.vote(&candidates))
        {
            match votes.iter_mut().find(|(name, _)| *name == vote) {
                Some((_, count)) => *count += 1,
                None => votes.push((vote, 1)),
            }
        }
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name.to_owned())
    }

    pub(super) fn on_sync(&mut self, now: Now, request: SyncRequest, out: &mut Vec<Effect>) {
        if let Err(error) = self.check_sync(&request) {
            return answer(out, request.token, Answer::Sync(SyncAnswer::refusal(error)));
        }
        let member_id = request.member.member_id;
        match self.state {
            State::Empty | State::Dead | State::PreparingRebalance => {
                let error = if self.state == State::PreparingRebalance {
                    ErrorCode::RebalanceInProgress
                } else {
                    ErrorCode::UnknownMemberId
                };
                answer(out, request.token, Answer::Sync(SyncAnswer::refusal(error)));
            }
            State::CompletingRebalance => {
                // One parked before, of a client that asked again.
                let again = SyncAnswer::refusal(ErrorCode::RebalanceInProgress);
                self.answer_sync(&member_id, again, out);
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.awaiting_sync = Some(request.token);
                }
                self.synced(&member_id);
                if self.is_leader(&member_id) {
                    self.store_assignment(request.assignments, out);
                }
            }
            State::Stable => {
                self.synced(&member_id);
                let assignment = self
                    .members
                    .get(&member_id)
                    .map(|member| member.assignment.clone())
                    .unwrap_or_default();
                let current = self.synced_answer(assignment);
                answer(out, request.token, Answer::Sync(current));
                self.arm_session(now, &member_id);
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        self.check_member_of_generation(&request.member)?;
        let differs = |claimed: &Option<String>, actual: &Option<String>| {
            claimed.is_some() && claimed != actual
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn synced(&mut self, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id)
            && std::mem::take(&mut member.owes_sync)
        {
            self.owing_sync -= 1;
        }
        if self.owing_sync == 0 {
            self.sync_deadline = None;
        }
    }

    fn forget_owed_syncs(&mut self) {
        if std::mem::take(&mut self.owing_sync) > 0 {
            for member in self.members.values_mut() {
                member.owes_sync = false;
            }
        }
    }

    fn store_assignment(&mut self, assignments: Vec<(String, Bytes)>, out: &mut Vec<Effect>) {
        tracing::info!(target: super::LOG, "Assignment received from leader {} for group {} for generation {}. The group has {} \
             members, {} of which are static.",
            self.leader.as_deref().unwrap_or_default(),
            self.id,
            self.generation,
            self.members.len(),
            self.static_members.len()
        );
        let assignment: HashMap<String, Bytes> = assignments.into_iter().collect();
        let missing = self
            .members
            .keys()
            .filter(|id| !assignment.contains_key(*id))
            .count();
        if missing > 0 {
            tracing::warn!(target: super::LOG, "Setting empty assignments for {missing} members of {} for generation {}",
                self.id,
                self.generation
            );
        }
        let record = self.metadata_record(|member| {
            assignment
                .get(&member.member_id)
                .cloned()
                .unwrap_or_default()
        });
        let in_flight = InFlight::Assignment {
            generation: self.generation,
            assignment,
        };
        self.append(vec![record], Acks::Configured, None, in_flight, out);
    }

    /// The assignment is in the log, or is not. Nothing is done when the group has moved on.
    pub(super) fn assignment_appended(
        &mut self,
        now: Now,
        generation: i32,
        mut assignment: HashMap<String, Bytes>,
        error: ErrorCode,
        out: &mut Vec<Effect>,
    ) {
        if self.state != State::CompletingRebalance || self.generation != generation {
            return;
        }
        if !error.is_none() {
            self.refuse_syncs(now, error, out);
            let reason = format!("Error {error} when storing group assignment during SyncGroup");
            return self.maybe_prepare_rebalance(now, &reason, out);
        }
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            member.assignment = assignment.remove(&member.member_id).unwrap_or_default();
            if let Some(token) = member.awaiting_sync.take() {
                let deadline = member.arm_session(now);
                let assignment = member.assignment.clone();
                self.wake_by(deadline);
                answer(out, token, Answer::Sync(self.synced_answer(assignment)));
            }
        }
        self.transition(now, State::Stable);
    }

    fn synced_answer(&self, assignment: Bytes) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment,
        }
    }

    fn refuse_syncs(&mut self, now: Now, error: ErrorCode, out: &mut Vec<Effect>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in ids {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = Bytes::new();
            }
            if self.answer_sync(&member_id, SyncAnswer::refusal(error), out) {
                self.arm_session(now, &member_id);
            }
        }
    }

    pub(super) fn remove_member_and_rebalance(
        &mut self,
        now: Now,
        member_id: &str,
        reason: &str,
        out: &mut Vec<Effect>,
    ) {
        self.remove_member(member_id, out);
        match self.state {
            State::Dead | State::Empty => {}
            State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(now, reason, out);
            }
            State::PreparingRebalance => self.try_complete_join(now, out),
        }
    }

    /// Fires what is due, then looks for the next deadline.
    pub(super) fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.state == State::Dead {
            return self.stop_timers();
        }
        self.expire_pending_members(now, out);
        self.expire_sessions(now, out);
        if self
            .sync_deadline
            .is_some_and(|deadline| deadline <= now.steady)
        {
            self.expire_sync(now, out);
        }
        match self.join_phase {
            Some(
                phase @ (JoinPhase::Initial { deadline, .. } | JoinPhase::Rejoin { deadline }),
            ) if deadline <= now.steady => {
                self.join_phase_expired(now, phase, out);
            }
            _ => {}
        }
        self.wake_at = self.earliest_deadline();
    }

    fn expire_pending_members(&mut self, now: Now, out: &mut Vec<Effect>) {
        let before = self.pending_members.len();
        self.pending_members
            .retain(|_, deadline| *deadline > now.steady);
        let expired = before - self.pending_members.len();
        if expired > 0 {
            tracing::info!(target: super::LOG, "{expired} pending members in group {} have been removed after session timeout \
                 expiration.",
                self.id
            );
            self.try_complete_join(now, out);
        }
    }

    fn expire_sessions(&mut self, now: Now, out: &mut Vec<Effect>) {
        let is_due = |member: &super::member::Member| {
            member
                .expires_at()
                .is_some_and(|deadline| deadline <= now.steady)
        };
        let due: Vec<String> = self
            .members
            .values()
            .filter(|member| is_due(member))
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in due {
            // The removal of one may have answered, and so re-armed, another.
            if !self.members.get(&member_id).is_some_and(is_due) {
                continue;
            }
            tracing::info!(target: super::LOG, "Member {member_id} in group {} has failed, removing it from the group",
                self.id
            );
            let reason = format!("removing member {member_id} on heartbeat expiration");
            self.remove_member_and_rebalance(now, &member_id, &reason, out);
        }
    }

    fn expire_sync(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.sync_deadline = None;
        if self.owing_sync == 0 || !matches!(self.state, State::CompletingRebalance | State::Stable)
        {
            return;
        }
        let late: Vec<String> = self
            .members
            .values()
            .filter(|member| member.owes_sync)
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in &late {
            self.remove_member(member_id, out);
        }
        let reason = format!(
            "Removing {} on pending sync request expiration",
            late.join(", ")
        );
        self.prepare_rebalance(now, &reason, out);
    }

    fn earliest_deadline(&self) -> Option<Millis> {
        let phase = self.join_phase.map(|phase| {
            let (JoinPhase::Initial { deadline, .. } | JoinPhase::Rejoin { deadline }) = phase;
            deadline
        });
        self.members
            .values()
            .filter_map(super::member::Member::expires_at)
            .chain(self.pending_members.values().copied())
            .chain(self.sync_deadline)
            .chain(phase)
            .min()
    }

    pub(super) fn stop_timers(&mut self) {
        self.join_phase = None;
        self.sync_deadline = None;
        self.forget_owed_syncs();
        self.pending_members.clear();
        self.wake_at = None;
    }

    pub(super) fn wake_by(&mut self, deadline: Millis) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |known| known.min(deadline)));
    }

    /// Starts the member's session timeout anew.
    pub(super) fn arm_session(&mut self, now: Now, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline = member.arm_session(now);
            self.wake_by(deadline);
        }
    }

    pub(super) fn arm_all_sessions(&mut self, now: Now) {
        for at in 0..self.members.len() {
            let deadline = self.members[at].arm_session(now);
            self.wake_by(deadline);
        }
    }

    fn rebalance_timeout_ms(&self) -> Millis {
        let largest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0);
        Millis::from(largest.max(0))
    }
}
