//! What the controller's core is fed with, and what it wants done.
//!
//! One event is worked off to its end before the next is begun, as on Kafka's controller event
//! thread. Where the work needs the store, the core pushes one [`Effect::Store`] and stops; the
//! edge carries the operations out, pipelined and each under the controller epoch's check, and
//! hands the replies back in the same order with [`Event::StoreReplies`].

use std::collections::HashMap;

use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest, UpdateMetadataResponse,
};

use crate::error::ErrorCode;
use crate::types::{BrokerId, LeaderEpoch, ProducerId, TopicName, TopicPartition, Uuid};
use crate::zk;

use super::state::{LeaderAndIsr, Leadership, LiveBroker, ReplicaAssignment, TopicAssignment};

/// Names whoever asked a [`Question`]; the answer goes back to it by [`Effect::Answer`].
pub type Ticket = u64;

/// Producer ids are given in blocks of this many.
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1000;

/// The store's content at election.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub brokers: Vec<LiveBroker>,
    pub topics: Vec<TopicAssignment>,
    pub leadership: Vec<(TopicPartition, Leadership)>,
    /// Children of `/admin/delete_topics`.
    pub deletions: Vec<TopicName>,
    /// `/admin/reassign_partitions`.
    pub reassignments: Vec<(TopicPartition, Vec<BrokerId>)>,
    /// `/admin/preferred_replica_election`, when it exists.
    pub preferred_elections: Option<Vec<TopicPartition>>,
}

#[derive(Debug, Clone)]
pub enum Event {
    /// This broker is the controller now; first event of a core, and only once.
    Elected { epoch: i32, snapshot: Snapshot },
    /// Replies to the last [`Effect::Store`], in its order.
    StoreReplies(Vec<StoreReply>),
    /// All registered brokers.
    BrokersChanged(Vec<LiveBroker>),
    /// One broker's registration was rewritten (listeners changed).
    BrokerModified(LiveBroker),
    /// All topics in the store, and the content of those the core does not know yet.
    TopicsChanged {
        all: Vec<TopicName>,
        new: Vec<TopicAssignment>,
    },
    /// A topic's znode was rewritten. `created` lists the partitions that have a znode already.
    TopicModified {
        topic: TopicAssignment,
        created: Vec<i32>,
    },
    /// All topics marked for deletion.
    DeletionsChanged(Vec<TopicName>),
    /// Brokers that told of a failed log dir.
    LogDirFailure(Vec<BrokerId>),
    LeaderAndIsrAnswered {
        broker: BrokerId,
        response: LeaderAndIsrResponse,
    },
    UpdateMetadataAnswered {
        broker: BrokerId,
        response: UpdateMetadataResponse,
    },
    StopReplicaAnswered {
        broker: BrokerId,
        /// The partitions the request asked to delete.
        deleted: Vec<TopicPartition>,
        response: StopReplicaResponse,
    },
    /// `leader.imbalance.check.interval.seconds` is over.
    AutoLeaderRebalance,
    /// `unclean.leader.election.enable` became true: for one topic, or as the broker's default.
    UncleanElectionEnabled(Option<TopicName>),
    /// `/admin/reassign_partitions` was created.
    ReassignmentsRequested(Vec<(TopicPartition, Vec<BrokerId>)>),
    /// `/admin/preferred_replica_election` was created.
    PreferredElectionsRequested(Vec<TopicPartition>),
    /// Leaders of before IBP 2.7 wrote these partitions' states themselves.
    IsrChanged(Vec<TopicPartition>),
    /// A request of a broker or a client that only the controller answers.
    Asked { ticket: Ticket, question: Question },
}

/// What brokers and clients ask of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A broker is about to stop: lead its partitions elsewhere.
    ControlledShutdown {
        broker: BrokerId,
        /// −1: not checked.
        broker_epoch: i64,
    },
    /// A leader's ISRs.
    AlterPartition {
        broker: BrokerId,
        broker_epoch: i64,
        topics: Vec<(TopicRef, Vec<IsrChange>)>,
    },
    AllocateProducerIds {
        broker: BrokerId,
        broker_epoch: i64,
    },
    ElectLeaders {
        /// Else the preferred replica is elected.
        unclean: bool,
        partitions: Vec<TopicPartition>,
    },
    /// New replicas by partition, `None` cancels.
    Reassign(Vec<(TopicPartition, Option<Vec<BrokerId>>)>),
    /// `None`: all.
    ListReassignments(Option<Vec<TopicPartition>>),
}

/// How a request names a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    Name(TopicName),
    Id(Uuid),
}

/// The ISR a leader wants, and what it knew when it wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChange {
    pub partition: i32,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<BrokerId>,
    pub recovering: bool,
    pub partition_epoch: i32,
}

/// A code and what is said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: Option<String>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }
}

impl From<ErrorCode> for Refusal {
    /// With the code's own message, as Kafka's `ApiError` of a code alone.
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

/// What became of one partition of a request.
pub type ByPartition<T> = Vec<(TopicPartition, Result<T, Refusal>)>;

/// Answers by topic, in the order of the request.
pub type IsrAnswers = Vec<(TopicRef, Vec<(i32, Result<LeaderAndIsr, ErrorCode>)>)>;

/// Answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Partitions the broker still leads.
    ControlledShutdown(Result<Vec<TopicPartition>, ErrorCode>),
    AlterPartition(Result<IsrAnswers, ErrorCode>),
    /// The first of [`PRODUCER_ID_BLOCK_SIZE`] ids.
    AllocateProducerIds(Result<ProducerId, ErrorCode>),
    /// The leaders that were elected.
    ElectLeaders(ByPartition<BrokerId>),
    Reassign(ByPartition<()>),
    ListReassignments(Vec<(TopicPartition, ReplicaAssignment)>),
}

/// A change or a question to the store. Writes are made under the check of the controller epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOp {
    /// `/brokers/topics/<t>/partitions`; done as well when it exists.
    CreatePartitionsNode(TopicName),
    /// `…/partitions/<n>` and its state znode.
    CreateState {
        partition: TopicPartition,
        leadership: Leadership,
    },
    /// Expects the version `leadership.state.partition_epoch`.
    SetState {
        partition: TopicPartition,
        leadership: Leadership,
    },
    GetState(TopicPartition),
    GetTopicConfig(TopicName),
    SetTopic(TopicAssignment),
    /// The topic's tree, then its config, then its deletion mark.
    DeleteTopic(TopicName),
    DeleteDeletionMark(TopicName),
    /// Takes partitions out of `/admin/reassign_partitions`, where they are there with these
    /// replicas (`None`: with any); the node goes with the last one.
    ForgetReassignments(Vec<(TopicPartition, Option<Vec<BrokerId>>)>),
    DeletePreferredElections,
    /// The next block of producer ids, for this broker.
    ClaimProducerIds(BrokerId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreReply {
    Done,
    /// A state was set; its znode's version now.
    Written {
        partition_epoch: i32,
    },
    /// `None`: no such node, or not readable.
    State(Option<Leadership>),
    Config(HashMap<String, String>),
    /// The first id of the block.
    ProducerIds(ProducerId),
    Failed(zk::Error),
}

/// A request to a broker, with the fields of the version that IBP 3.9 sends (7, 8, 4).
#[derive(Debug, Clone, PartialEq)]
pub enum ControlRequest {
    LeaderAndIsr(LeaderAndIsrRequest),
    UpdateMetadata(UpdateMetadataRequest),
    StopReplica(StopReplicaRequest),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Carry out and answer with [`Event::StoreReplies`]; nothing else may be fed before.
    Store(Vec<StoreOp>),
    /// Append to the broker's queue.
    Send {
        broker: BrokerId,
        request: ControlRequest,
    },
    /// Open the queue of a broker; replaces an older one.
    AddBroker(LiveBroker),
    /// Close the queue of a broker and forget what is in it.
    RemoveBroker(BrokerId),
    /// No longer watch this topic's znode.
    ForgetTopic(TopicName),
    Answer {
        ticket: Ticket,
        answer: Answer,
    },
}

/// A state to be written: what is meant, and to whom it is told once it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub partition: TopicPartition,
    pub state: LeaderAndIsr,
    pub recipients: Vec<BrokerId>,
}
