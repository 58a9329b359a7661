//! One member of a classic group (`MemberMetadata`).

use std::collections::HashSet;

use bytes::Bytes;

use super::event::{Now, Protocol, Token};
use crate::types::Millis;

/// A member, from its first join to its removal.
#[derive(Debug, Clone)]
pub struct Member {
    pub member_id: String,
    /// `group.instance.id`: present for static members.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// The parked JoinGroup.
    pub(super) awaiting_join: Option<Token>,
    /// The parked SyncGroup.
    pub(super) awaiting_sync: Option<Token>,
    /// It has not sent SyncGroup in this generation.
    pub(super) owes_sync: bool,
    /// True until its first join completes: it cannot heartbeat yet, so that its parked JoinGroup
    /// itself times out.
    pub(super) is_new: bool,
    /// When it is considered failed, on the steady clock. Ignored while a request of it is parked
    /// (unless it is new); every answer sets it anew.
    pub(super) session_deadline: Millis,
}

impl Member {
    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// What the member said about itself under `protocol`; empty when it does not support it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|candidate| candidate.name == protocol)
            .map(|found| found.metadata.clone())
            .unwrap_or_default()
    }

    /// The first of the member's protocols among the candidates.
    pub(super) fn vote<'a>(&'a self, candidates: &HashSet<&str>) -> Option<&'a str> {
        self.protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .find(|name| candidates.contains(name))
    }

    /// Starts the session timeout anew; answers when it ends.
    pub(super) fn arm_session(&mut self, now: Now) -> Millis {
        self.session_deadline = now.steady + Millis::from(self.session_timeout_ms);
        self.session_deadline
    }

    /// The moment at which the session ends, unless a parked request holds it open.
    pub(super) fn expires_at(&self) -> Option<Millis> {
        let parked = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        (self.is_new || !parked).then_some(self.session_deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(protocols: &[&str]) -> Member {
        Member {
            member_id: "m".into(),
            instance_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 1,
            protocols: protocols
                .iter()
                .map(|name| Protocol {
                    name: (*name).into(),
                    metadata: Bytes::copy_from_slice(name.as_bytes()),
                })
                .collect(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            owes_sync: false,
            is_new: false,
            session_deadline: 10,
        }
    }

    #[test]
    fn votes_for_the_first_of_its_own_that_is_a_candidate() {
        let member = member(&["cooperative", "range", "roundrobin"]);
        assert_eq!(
            member.vote(&HashSet::from(["roundrobin", "range"])),
            Some("range")
        );
        assert_eq!(member.vote(&HashSet::from(["other"])), None);
        assert_eq!(member.metadata("range"), Bytes::from_static(b"range"));
        assert_eq!(member.metadata("other"), Bytes::new());
    }

    #[test]
    fn session_is_held_open_by_a_parked_request_unless_the_member_is_new() {
        let mut member = member(&["range"]);
        assert_eq!(member.expires_at(), Some(10));
        member.awaiting_sync = Some(1);
        assert_eq!(member.expires_at(), None);
        member.awaiting_sync = None;
        member.awaiting_join = Some(1);
        assert_eq!(member.expires_at(), None);
        member.is_new = true;
        assert_eq!(member.expires_at(), Some(10));
    }
}
