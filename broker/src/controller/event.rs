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

use crate::types::{BrokerId, TopicName, TopicPartition};
use crate::zk;

use super::state::{LeaderAndIsr, Leadership, LiveBroker, TopicAssignment};

/// The store's content at election.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub brokers: Vec<LiveBroker>,
    pub topics: Vec<TopicAssignment>,
    pub leadership: Vec<(TopicPartition, Leadership)>,
    /// Children of `/admin/delete_topics`.
    pub deletions: Vec<TopicName>,
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
}

/// A state to be written: what is meant, and to whom it is told once it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub partition: TopicPartition,
    pub state: LeaderAndIsr,
    pub recipients: Vec<BrokerId>,
}
