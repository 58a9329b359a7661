//! How members come into a group (JoinGroup) and what is kept of them [core].
//!
//! Dynamic members get an id first (v4+) and join with it. Static members are known by their
//! instance id (KIP-345): one that comes back takes its predecessor's place under a new id, without
//! a rebalance while the group is stable, and its predecessor is fenced.

use super::event::{
    Acks, Answer, Effect, JoinAnswer, JoinRequest, JoinedMember, Now, Protocol, SyncAnswer, Token,
};
use super::group::{Group, InFlight, State, StaticReplacement, answer};
use super::member::Member;
use crate::error::ErrorCode;
use crate::types::Millis;

/// A new member cannot heartbeat while its JoinGroup is parked; one that went away is given up
/// after this time.
const NEW_MEMBER_JOIN_TIMEOUT_MS: Millis = 5 * 60 * 1000;

impl Group {
    pub(super) fn on_join(&mut self, now: Now, request: JoinRequest, out: &mut Vec<Effect>) {
        let is_unknown = request.member_id.is_empty();
        let allowed_timeouts =
            self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        let token = request.token;
        let refusal = if !allowed_timeouts.contains(&request.session_timeout_ms) {
            Some((&*request.member_id, ErrorCode::InvalidSessionTimeout))
        } else if self.state == State::Dead {
            let id = if is_unknown { "" } else { &*request.member_id };
            Some((id, ErrorCode::CoordinatorNotAvailable))
        } else if !is_unknown && self.is_blank() {
            Some((&*request.member_id, ErrorCode::UnknownMemberId))
        } else if !self.has_room_for(&request.member_id) {
            self.remove_member(&request.member_id, out);
            Some(("", ErrorCode::GroupMaxSizeReached))
        } else if !self.supports_protocols(&request) {
            Some((&*request.member_id, ErrorCode::InconsistentGroupProtocol))
        } else {
            None
        };
        if let Some((member_id, error)) = refusal {
            answer(
                out,
                token,
                Answer::Join(JoinAnswer::refusal(member_id, error)),
            );
        } else if is_unknown {
            self.join_new_member(now, request, out);
        } else {
            self.join_known_member(now, request, out);
        }
        self.try_complete_join(now, out);
    }

    /// While a rebalance runs, members that have joined count, so that a group over its size loses
    /// those that come last.
    fn has_room_for(&self, member_id: &str) -> bool {
        let max_size = self.settings.max_size;
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                self.awaiting_join < max_size
                    || self
                        .members
                        .get(member_id)
                        .is_some_and(|member| member.awaiting_join.is_some())
            }
            State::CompletingRebalance | State::Stable => {
                self.members.len() < max_size || self.members.contains_key(member_id)
            }
        }
    }

    fn supports_protocols(&self, request: &JoinRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let members = self.members.len();
        self.protocol_type.as_deref() == Some(request.protocol_type.as_str())
            && request.protocols.iter().any(|protocol| {
                self.supported_protocols
                    .get(&protocol.name)
                    .copied()
                    .unwrap_or(0)
                    == members
            })
    }

    fn join_new_member(&mut self, now: Now, request: JoinRequest, out: &mut Vec<Effect>) {
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let new_id = format!("{prefix}-{}", request.unique);
        let instance_id = request.instance_id.clone();
        let state = self.state;
        if let Some(instance_id) = instance_id {
            if let Some(old_id) = self.static_members.get(&instance_id).cloned() {
                tracing::info!(target: super::LOG, "Static member with groupInstanceId={instance_id} and unknown member id joins \
                     group {} in {state} state. Replacing previously mapped member {old_id} with \
                     this groupInstanceId.",
                    self.id
                );
                self.replace_static_member(now, request, instance_id, old_id, new_id, out);
            } else {
                tracing::info!(target: super::LOG, "Static member with groupInstanceId={instance_id} and unknown member id joins \
                     group {} in {state} state. Created a new member id {new_id} for this member \
                     and add to the group.",
                    self.id
                );
                self.add_member(now, request, new_id, Some(instance_id), out);
            }
        } else if request.require_known_member_id {
            tracing::info!(target: super::LOG, "Dynamic member with unknown member id joins group {} in {state} state. Created a \
                 new member id {new_id} and request the member to rejoin with this id.",
                self.id
            );
            let deadline = now.steady + Millis::from(request.session_timeout_ms);
            self.pending_members.insert(new_id.clone(), deadline);
            self.wake_by(deadline);
            let refusal = JoinAnswer::refusal(new_id, ErrorCode::MemberIdRequired);
            answer(out, request.token, Answer::Join(refusal));
        } else {
            tracing::info!(target: super::LOG, "Dynamic Member with unknown member id joins group {} in {state} state. Created a \
                 new member id {new_id} for this member and add to the group.",
                self.id
            );
            self.add_member(now, request, new_id, None, out);
        }
    }

    fn join_known_member(&mut self, now: Now, request: JoinRequest, out: &mut Vec<Effect>) {
        let token = request.token;
        let member_id = request.member_id.clone();
        let is_pending = self.pending_members.contains_key(&member_id);
        if is_pending && request.instance_id.is_none() {
            return self.add_member(now, request, member_id, None, out);
        }
        if let Err(error) = self.check_member(&member_id, request.instance_id.as_deref()) {
            let refusal = JoinAnswer::refusal(member_id, error);
            return answer(out, token, Answer::Join(refusal));
        }
        let is_leader = self.is_leader(&member_id);
        let is_unchanged = self
            .members
            .get(&member_id)
            .is_some_and(|member| member.protocols == request.protocols);
        let client_reason = request.reason.as_deref().unwrap_or("not provided");
        let state = self.state;
        let reason = match state {
            // A rebalance runs already.
            State::PreparingRebalance => None,
            // It did not get the answer to its JoinGroup: here it is once more.
            State::CompletingRebalance if is_unchanged => {
                let joined = self.joined(&member_id);
                return answer(out, token, Answer::Join(joined));
            }
            // A leader that joins again wants a new assignment, whatever it says of itself.
            State::Stable if is_leader => Some(format!(
                "Leader {member_id} re-joining group during {state}"
            )),
            State::Stable if is_unchanged => {
                let joined = self.joined(&member_id);
                return answer(out, token, Answer::Join(joined));
            }
            State::CompletingRebalance | State::Stable => Some(format!(
                "Updating metadata for member {member_id} during {state}"
            )),
            State::Empty | State::Dead => {
                let refusal = JoinAnswer::refusal(member_id, ErrorCode::UnknownMemberId);
                return answer(out, token, Answer::Join(refusal));
            }
        };
        let reason = reason.map(|reason| format!("{reason}; client reason: {client_reason}"));
        self.update_member(
            &member_id,
            request.protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        self.park_join(&member_id, token, out);
        if let Some(reason) = reason {
            self.maybe_prepare_rebalance(now, &reason, out);
        }
    }

    fn add_member(
        &mut self,
        now: Now,
        request: JoinRequest,
        member_id: String,
        instance_id: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        if self.state == State::PreparingRebalance && self.generation == 0 {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        // While a rebalance runs, none begins.
        let reason = (self.state != State::PreparingRebalance).then(|| {
            format!(
                "Adding new member {member_id} with group instance id {}; client reason: {}",
                instance_id.as_deref().unwrap_or("None"),
                request.reason.as_deref().unwrap_or("not provided")
            )
        });
        self.pending_members.remove(&member_id);
        let deadline = now.steady + NEW_MEMBER_JOIN_TIMEOUT_MS;
        self.insert_member(Member {
            member_id: member_id.clone(),
            instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: bytes::Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            owes_sync: false,
            is_new: true,
            session_deadline: deadline,
        });
        self.wake_by(deadline);
        self.park_join(&member_id, request.token, out);
        if let Some(reason) = reason {
            self.maybe_prepare_rebalance(now, &reason, out);
        }
    }

    fn replace_static_member(
        &mut self,
        now: Now,
        request: JoinRequest,
        instance_id: String,
        old_id: String,
        new_id: String,
        out: &mut Vec<Effect>,
    ) {
        let old_leader = self.leader.clone();
        let fenced = JoinAnswer::refusal(old_id.as_str(), ErrorCode::FencedInstanceId);
        self.answer_join(&old_id, fenced, out);
        self.answer_sync(
            &old_id,
            SyncAnswer::refusal(ErrorCode::FencedInstanceId),
            out,
        );
        self.rename_static_member(&instance_id, &old_id, &new_id);
        let Some(member) = self.members.get(&new_id) else {
            return;
        };
        let replacement = StaticReplacement {
            token: request.token,
            generation: self.generation,
            instance_id,
            old_member_id: old_id,
            new_member_id: new_id.clone(),
            old_leader,
            old_protocols: member.protocols.clone(),
            old_rebalance_timeout_ms: member.rebalance_timeout_ms,
            old_session_timeout_ms: member.session_timeout_ms,
            supports_skipping_assignment: request.supports_skipping_assignment,
        };
        self.update_member(
            &new_id,
            request.protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        self.arm_session(now, &new_id);
        self.park_join(&new_id, request.token, out);
        let client_reason = request.reason.as_deref().unwrap_or("not provided");
        match self.state {
            State::Stable if self.select_protocol() == self.protocol_name => {
                tracing::info!(target: super::LOG, "Static member which joins during Stable stage and doesn't affect \
                     selectProtocol will not trigger rebalance."
                );
                let record = self.metadata_record(|member| member.assignment.clone());
                let in_flight = InFlight::StaticMember(replacement);
                self.append(vec![record], Acks::Configured, None, in_flight, out);
            }
            State::Stable => {
                let reason = format!(
                    "Group's selectedProtocol will change because static member {new_id} joined \
                     with change of protocol; client reason: {client_reason}"
                );
                self.maybe_prepare_rebalance(now, &reason, out);
            }
            // The leader may have been told the old id: what it assigns would miss the member.
            State::CompletingRebalance => {
                let reason = format!(
                    "Updating metadata for static member {new_id}; client reason: {client_reason}"
                );
                self.prepare_rebalance(now, &reason, out);
            }
            State::PreparingRebalance | State::Empty | State::Dead => {}
        }
    }

    /// The replacement is in the log, or could not be written and is undone. When a rebalance has
    /// begun meanwhile, that answers the member.
    pub(super) fn static_member_appended(
        &mut self,
        now: Now,
        replacement: StaticReplacement,
        error: ErrorCode,
        out: &mut Vec<Effect>,
    ) {
        let new_id = replacement.new_member_id.as_str();
        let still_waits = self
            .members
            .get(new_id)
            .is_some_and(|member| member.awaiting_join == Some(replacement.token));
        if self.state != State::Stable || self.generation != replacement.generation || !still_waits
        {
            return;
        }
        if error.is_none() {
            let mut joined = self.joined(new_id);
            if replacement.supports_skipping_assignment {
                joined.skip_assignment = self.is_leader(new_id);
            } else {
                // A leader of v8 and before would compute an assignment nobody takes: it is told
                // of its old id, and so does not know itself as the leader.
                joined.members.clear();
                joined.leader = replacement.old_leader.unwrap_or_default();
            }
            self.answer_join(new_id, joined, out);
            return self.arm_session(now, new_id);
        }
        tracing::warn!(target: super::LOG, "Failed to persist metadata for group {}: {}",
            self.id,
            error.message()
        );
        let refusal = JoinAnswer {
            error,
            member_id: String::new(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: replacement.old_leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: Vec::new(),
        };
        self.answer_join(new_id, refusal, out);
        self.update_member(
            new_id,
            replacement.old_protocols,
            replacement.old_rebalance_timeout_ms,
            replacement.old_session_timeout_ms,
        );
        self.rename_static_member(&replacement.instance_id, new_id, &replacement.old_member_id);
        self.arm_session(now, &replacement.old_member_id);
    }

    fn rename_static_member(&mut self, instance_id: &str, old_id: &str, new_id: &str) {
        if let Some(mut member) = self.members.shift_remove(old_id) {
            member.member_id = new_id.to_owned();
            self.members.insert(new_id.to_owned(), member);
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        self.static_members
            .insert(instance_id.to_owned(), new_id.to_owned());
    }

    pub(super) fn insert_member(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.member_id.clone());
        }
        count_protocols(&mut self.supported_protocols, &member.protocols, 1);
        self.members.insert(member.member_id.clone(), member);
    }

    fn update_member(
        &mut self,
        member_id: &str,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        count_protocols(&mut self.supported_protocols, &member.protocols, -1);
        count_protocols(&mut self.supported_protocols, &protocols, 1);
        member.protocols = protocols;
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
    }

    /// Forgets a member or pending member; whatever it has parked is told so (G3).
    pub(super) fn remove_member(&mut self, member_id: &str, out: &mut Vec<Effect>) {
        let unknown = JoinAnswer::refusal("", ErrorCode::UnknownMemberId);
        self.answer_join(member_id, unknown, out);
        self.answer_sync(
            member_id,
            SyncAnswer::refusal(ErrorCode::UnknownMemberId),
            out,
        );
        if let Some(member) = self.members.shift_remove(member_id) {
            self.owing_sync -= usize::from(member.owes_sync);
            count_protocols(&mut self.supported_protocols, &member.protocols, -1);
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_members.remove(member_id);
    }

    /// The answer to a member that is in the current generation.
    pub(super) fn joined(&self, member_id: &str) -> JoinAnswer {
        let members = if self.is_leader(member_id) {
            let protocol = self.protocol_name.as_deref().unwrap_or_default();
            self.members
                .values()
                .map(|member| JoinedMember {
                    member_id: member.member_id.clone(),
                    instance_id: member.instance_id.clone(),
                    metadata: member.metadata(protocol),
                })
                .collect()
        } else {
            Vec::new()
        };
        JoinAnswer {
            error: ErrorCode::None,
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members,
        }
    }

    /// Parks a JoinGroup. One parked before, of a client that asked again, is told to join again.
    fn park_join(&mut self, member_id: &str, token: Token, out: &mut Vec<Effect>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        match member.awaiting_join.replace(token) {
            None => self.awaiting_join += 1,
            Some(before) => {
                let again = JoinAnswer::refusal(member_id, ErrorCode::RebalanceInProgress);
                answer(out, before, Answer::Join(again));
            }
        }
    }

    /// Answers the member's parked JoinGroup, if there is one.
    pub(super) fn answer_join(
        &mut self,
        member_id: &str,
        join_answer: JoinAnswer,
        out: &mut Vec<Effect>,
    ) {
        let parked = self
            .members
            .get_mut(member_id)
            .and_then(|member| member.awaiting_join.take());
        if let Some(token) = parked {
            self.awaiting_join -= 1;
            answer(out, token, Answer::Join(join_answer));
        }
    }

    /// Answers the member's parked SyncGroup, if there is one; says whether there was.
    pub(super) fn answer_sync(
        &mut self,
        member_id: &str,
        sync_answer: SyncAnswer,
        out: &mut Vec<Effect>,
    ) -> bool {
        let parked = self
            .members
            .get_mut(member_id)
            .and_then(|member| member.awaiting_sync.take());
        if let Some(token) = parked {
            answer(out, token, Answer::Sync(sync_answer));
        }
        parked.is_some()
    }
}

fn count_protocols(
    counts: &mut std::collections::HashMap<String, usize>,
    protocols: &[Protocol],
    by: isize,
) {
    for protocol in protocols {
        match counts.get_mut(&protocol.name) {
            Some(count) => {
                *count = count.saturating_add_signed(by);
                if *count == 0 {
                    counts.remove(&protocol.name);
                }
            }
            None if by > 0 => {
                counts.insert(protocol.name.clone(), by.unsigned_abs());
            }
            None => {}
        }
    }
}
