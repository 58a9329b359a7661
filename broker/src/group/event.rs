//! What happens to a group and what the group wants done: the vocabulary of [`Group::step`].
//!
//! A request carries a token; its answer is an [`Effect::Answer`] with the same token, at once or
//! much later (a parked JoinGroup or SyncGroup). So the core parks requests without sockets.
//!
//! [`Group::step`]: super::group::Group::step

use bytes::Bytes;

use super::offsets::OffsetAndMetadata;
use super::record::Record;
use crate::error::ErrorCode;
use crate::types::{Millis, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid};

/// Names a request that waits for its answer; the edge chooses it, unique per group.
pub type Token = u64;

/// Names an append that is on its way to the log; the group chooses it.
pub type WriteId = u64;

/// One moment on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch: what is stored or compared with what was stored.
    pub wall: Millis,
    /// Milliseconds on a clock that never jumps: deadlines.
    pub steady: Millis,
}

/// What the broker's configuration says about groups; read once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: Millis,
    /// `offset.metadata.max.bytes`; Kafka compares it with UTF-16 code units.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: Millis,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            initial_rebalance_delay_ms: 3_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 10_080 * 60_000,
        }
    }
}

/// A protocol a member supports and what it says about itself under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    pub token: Token,
    /// Empty: the member has no id yet.
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The random part of the member id, should one be given out.
    pub unique: Uuid,
    /// v4 and later: a dynamic member first gets an id and joins again with it.
    pub require_known_member_id: bool,
    /// v9 and later.
    pub supports_skipping_assignment: bool,
    pub client_id: String,
    /// As Java prints an address: `/10.0.0.1`.
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// Why the client joins (v8+), for the log line.
    pub reason: Option<String>,
}

/// Who claims to be which member of which generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRef {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    pub token: Token,
    pub member: MemberRef,
    /// v5 and later; must then be the group's.
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// Member id and its assignment; only the leader sends any.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Empty: removal by instance id, as administrators do.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub reason: Option<String>,
}

/// The producer of a transactional commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionalProducer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    pub token: Token,
    pub member: MemberRef,
    /// Present for TxnOffsetCommit.
    pub producer: Option<TransactionalProducer>,
    pub offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
}

/// What may happen to a group.
#[derive(Debug, Clone)]
pub enum Event {
    Join(JoinRequest),
    Sync(SyncRequest),
    Heartbeat {
        token: Token,
        member: MemberRef,
    },
    Leave {
        token: Token,
        members: Vec<LeavingMember>,
    },
    Commit(CommitRequest),
    DeleteOffsets {
        token: Token,
        partitions: Vec<TopicPartition>,
    },
    DeleteGroup {
        token: Token,
    },
    /// Topics are gone: forget what was committed for them.
    PartitionsDeleted(Vec<TopicPartition>),
    /// A round of `offsets.retention.check.interval.ms`.
    Expire,
    /// A deadline may have passed; spurious ones do no harm.
    Timeout,
    /// The append ended: the offset of its first record, or why it failed.
    Appended {
        write: WriteId,
        result: Result<Offset, ErrorCode>,
    },
    /// A commit or abort marker of a producer was written.
    TransactionCompleted {
        producer_id: ProducerId,
        committed: bool,
    },
    /// All records are replayed.
    Loaded,
    /// This broker is no longer the coordinator.
    Unloaded,
}

/// How safe an append has to be before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// `offsets.commit.required.acks`
    Configured,
    /// Tombstones: a lost one is written again by the next round.
    None,
}

/// What the group wants done, in order.
#[derive(Debug, Clone)]
pub enum Effect {
    Answer {
        token: Token,
        answer: Answer,
    },
    /// Append as one batch, then step [`Event::Appended`].
    Append {
        write: WriteId,
        records: Vec<Record>,
        acks: Acks,
        producer: Option<TransactionalProducer>,
    },
    /// The group is dead: drop it once what was appended so far is written.
    Forget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Join(JoinAnswer),
    Sync(SyncAnswer),
    Heartbeat(ErrorCode),
    /// One result per leaving member, in the order of the request.
    Leave(Result<Vec<ErrorCode>, ErrorCode>),
    /// One result per offset, in the order of the request.
    Commit(Vec<ErrorCode>),
    DeleteOffsets(Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode>),
    DeleteGroup(ErrorCode),
}

/// A member as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    pub error: ErrorCode,
    pub member_id: String,
    /// −1 on errors.
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// Empty on errors.
    pub leader: String,
    pub skip_assignment: bool,
    /// Only the leader gets them.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    pub fn refusal(member_id: impl Into<String>, error: ErrorCode) -> Self {
        Self {
            error,
            member_id: member_id.into(),
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAnswer {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

impl SyncAnswer {
    pub fn refusal(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::new(),
        }
    }
}
