//! AlterPartition (key 56) as the leader of partitions sends it: which proposals go into the next
//! request, and what its answer says of each. [core]
//!
//! Invariants:
//! 1. One proposal of a partition at a time; it is dropped when it was answered.
//! 2. A request uses topic ids (v2 and later) only when every partition in it has one; two ids of one
//!    name, as after a topic was made anew, never share a request by name.
//!
//! Source: `AlterPartitionManager.scala`, `AlterPartitionRequest.java`; contract §3.7.

use std::collections::HashMap;

use indexmap::IndexMap;
use kafka_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use kafka_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerId as WireBrokerId,
    TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::state::{Committed, IsrProposal, RECOVERED, RECOVERING};
use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicName, TopicPartition, Uuid};

/// Newest version without topic ids.
pub const LAST_WITH_NAMES: i16 = 1;
/// First version that says the broker epochs of the ISR.
const FIRST_WITH_EPOCHS: i16 = 3;
/// In a cluster with ZooKeeper the controller does not check the epochs of ISR members.
const UNCHECKED_EPOCH: i64 = -1;

/// A proposal that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub topic_id: Option<Uuid>,
    pub proposal: IsrProposal,
}

/// The proposals of all partitions.
#[derive(Debug, Default)]
pub struct Proposals {
    open: IndexMap<TopicPartition, Item>,
}

/// What one request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    items: IndexMap<TopicPartition, Item>,
}

/// Answer to one proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub partition: TopicPartition,
    pub proposal: IsrProposal,
    pub answer: Result<Committed, ErrorCode>,
}

impl Proposals {
    /// Takes a proposal; a newer one of the same partition replaces it (keeps 1).
    pub fn add(&mut self, partition: TopicPartition, item: Item) {
        self.open.insert(partition, item);
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All that is open.
    pub fn batch(&self) -> Batch {
        Batch {
            items: self.open.clone(),
        }
    }

    /// Takes an answer without a top-level error. Partitions it does not speak of stay open.
    pub fn on_answer(
        &mut self,
        batch: Batch,
        version: i16,
        response: &AlterPartitionResponse,
    ) -> Vec<Answered> {
        let mut said = batch.said(version, response);
        let mut answered = Vec::new();
        for (partition, item) in batch.items {
            let Some(answer) = said.remove(&partition) else {
                continue;
            };
            if self.open.get(&partition) == Some(&item) {
                self.open.shift_remove(&partition);
            }
            answered.push(Answered {
                partition,
                proposal: item.proposal,
                answer,
            });
        }
        answered
    }
}

impl Batch {
    /// Whether a version with topic ids may be used (keeps 2).
    pub fn can_use_topic_ids(&self) -> bool {
        self.items.values().all(|item| item.topic_id.is_some())
    }

    pub fn request(
        &self,
        broker: BrokerId,
        broker_epoch: i64,
        version: i16,
    ) -> AlterPartitionRequest {
        let mut topics: IndexMap<(TopicName, Uuid), Vec<PartitionData>> = IndexMap::new();
        for (partition, item) in &self.items {
            let id = item.topic_id.unwrap_or_default();
            topics
                .entry((partition.topic.clone(), id))
                .or_default()
                .push(partition_data(partition.partition, &item.proposal, version));
        }
        let topics = topics
            .into_iter()
            .map(|((name, id), partitions)| {
                let topic = TopicData::default().with_partitions(partitions);
                if version > LAST_WITH_NAMES {
                    topic.with_topic_id(id)
                } else {
                    topic.with_topic_name(WireTopicName(StrBytes::from_string(name.to_string())))
                }
            })
            .collect();
        AlterPartitionRequest::default()
            .with_broker_id(WireBrokerId(broker))
            .with_broker_epoch(broker_epoch)
            .with_topics(topics)
    }

    fn said(
        &self,
        version: i16,
        response: &AlterPartitionResponse,
    ) -> HashMap<TopicPartition, Result<Committed, ErrorCode>> {
        let names: HashMap<Uuid, &TopicName> = self
            .items
            .iter()
            .filter_map(|(partition, item)| Some((item.topic_id?, &partition.topic)))
            .collect();
        let mut said = HashMap::new();
        for topic in &response.topics {
            let name = if version > LAST_WITH_NAMES {
                names.get(&topic.topic_id).map(|name| (*name).clone())
            } else {
                Some(TopicName::new(&topic.topic_name))
            };
            let Some(name) = name else { continue };
            for partition in &topic.partitions {
                let answer = match ErrorCode::from_value(partition.error_code) {
                    ErrorCode::None
                        if matches!(partition.leader_recovery_state, RECOVERED | RECOVERING) =>
                    {
                        Ok(Committed {
                            leader_epoch: partition.leader_epoch,
                            partition_epoch: partition.partition_epoch,
                            isr: partition.isr.iter().map(|id| id.0).collect(),
                            leader_recovery_state: partition.leader_recovery_state,
                        })
                    }
                    ErrorCode::None => Err(ErrorCode::UnknownServerError),
                    code => Err(code),
                };
                said.insert(
                    TopicPartition::new(name.clone(), partition.partition_index),
                    answer,
                );
            }
        }
        said
    }
}

fn partition_data(index: i32, proposal: &IsrProposal, version: i16) -> PartitionData {
    let ids = proposal.isr.iter().map(|&id| WireBrokerId(id));
    let data = PartitionData::default()
        .with_partition_index(index)
        .with_leader_epoch(proposal.leader_epoch)
        .with_partition_epoch(proposal.partition_epoch);
    let data = if version >= FIRST_WITH_EPOCHS {
        data.with_new_isr_with_epochs(
            ids.map(|id| {
                BrokerState::default()
                    .with_broker_id(id)
                    .with_broker_epoch(UNCHECKED_EPOCH)
            })
            .collect(),
        )
    } else {
        data.with_new_isr(ids.collect())
    };
    if version >= 1 {
        data.with_leader_recovery_state(proposal.leader_recovery_state)
    } else {
        data
    }
}
