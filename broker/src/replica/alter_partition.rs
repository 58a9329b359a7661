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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::alter_partition_response as answered;

    use super::*;
    use crate::replica::state::State;
    use crate::replica::state::{Decision, FollowerFetch};

    /// A proposal that broker 2 joins broker 1.
    fn proposal() -> IsrProposal {
        let mut state = State::new(1);
        let decision = Decision {
            controller_epoch: 1,
            leader: 1,
            leader_epoch: 5,
            partition_epoch: 9,
            isr: vec![1],
            replicas: vec![1, 2],
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            leader_recovery_state: RECOVERED,
        };
        state.become_leader(decision, 0, 0);
        let fetch = FollowerFetch {
            fetch_offset: 0,
            log_start_offset: 0,
            leader_end_offset: 0,
            broker_epoch: -1,
            now: 0,
        };
        state.on_follower_fetch(2, fetch);
        state.propose_expansion(2, 0, |_| true).unwrap()
    }

    fn open(partitions: &[(&str, i32, Option<u128>)]) -> Proposals {
        let mut proposals = Proposals::default();
        for &(topic, index, id) in partitions {
            let item = Item {
                topic_id: id.map(Uuid::from_u128),
                proposal: proposal(),
            };
            proposals.add(TopicPartition::new(topic, index), item);
        }
        proposals
    }

    /// Partition, error, leader recovery state.
    type Said = (i32, ErrorCode, i8);

    fn answer(topics: &[(&str, u128, &[Said])]) -> AlterPartitionResponse {
        let topics = topics.iter().map(|(name, id, partitions)| {
            let partitions = partitions.iter().map(|&(index, code, recovery)| {
                answered::PartitionData::default()
                    .with_partition_index(index)
                    .with_error_code(code.value())
                    .with_leader_epoch(5)
                    .with_partition_epoch(10)
                    .with_isr(vec![WireBrokerId(1), WireBrokerId(2)])
                    .with_leader_recovery_state(recovery)
            });
            answered::TopicData::default()
                .with_topic_name(WireTopicName(StrBytes::from_string((*name).to_owned())))
                .with_topic_id(Uuid::from_u128(*id))
                .with_partitions(partitions.collect())
        });
        AlterPartitionResponse::default().with_topics(topics.collect())
    }

    #[test]
    fn a_request_says_ids_and_epochs_as_its_version_has_them() {
        let batch = open(&[("t", 0, Some(7)), ("t", 3, Some(7)), ("u", 0, Some(8))]).batch();
        assert!(batch.can_use_topic_ids());
        for version in 0..=3 {
            let request = batch.request(1, 40, version);
            assert_eq!((request.broker_id.0, request.broker_epoch), (1, 40));
            assert_eq!(request.topics.len(), 2);
            let topic = &request.topics[0];
            assert_eq!(topic.topic_name.is_empty(), version > 1);
            assert_eq!(topic.topic_id.is_nil(), version <= 1);
            let partition = &topic.partitions[1];
            assert_eq!(partition.partition_index, 3);
            assert_eq!((partition.leader_epoch, partition.partition_epoch), (5, 9));
            let isr: Vec<i32> = if version < 3 {
                partition.new_isr.iter().map(|id| id.0).collect()
            } else {
                let members = partition.new_isr_with_epochs.iter();
                members
                    .map(|member| {
                        assert_eq!(member.broker_epoch, -1);
                        member.broker_id.0
                    })
                    .collect()
            };
            assert_eq!(isr, [1, 2], "version {version}");
        }
        let batch = open(&[("t", 0, Some(7)), ("u", 0, None)]).batch();
        assert!(!batch.can_use_topic_ids());
    }

    #[test]
    fn each_proposal_gets_its_answer_and_those_without_one_stay_open() {
        for version in [1, 3] {
            let mut proposals = open(&[
                ("t", 0, Some(7)),
                ("t", 1, Some(7)),
                ("t", 2, Some(7)),
                ("u", 0, Some(8)),
            ]);
            let batch = proposals.batch();
            let response = answer(&[
                (
                    "t",
                    7,
                    &[
                        (0, ErrorCode::None, RECOVERED),
                        (1, ErrorCode::InvalidUpdateVersion, RECOVERED),
                        (2, ErrorCode::None, 9),
                    ],
                ),
                // Nobody asked.
                ("v", 9, &[(0, ErrorCode::None, RECOVERED)]),
            ]);
            let answered = proposals.on_answer(batch, version, &response);
            let found: Vec<_> = answered
                .iter()
                .map(|one| {
                    (
                        one.partition.to_string(),
                        one.answer.as_ref().err().copied(),
                    )
                })
                .collect();
            assert_eq!(
                found,
                [
                    ("t-0".to_owned(), None),
                    ("t-1".to_owned(), Some(ErrorCode::InvalidUpdateVersion)),
                    ("t-2".to_owned(), Some(ErrorCode::UnknownServerError)),
                ]
            );
            let left = proposals.batch();
            assert_eq!(
                left.items.keys().collect::<Vec<_>>(),
                [&TopicPartition::new("u", 0)]
            );
        }
    }

    #[test]
    fn a_proposal_made_meanwhile_is_not_lost() {
        let mut proposals = open(&[("t", 0, Some(7))]);
        let batch = proposals.batch();
        let newer = Item {
            topic_id: Some(Uuid::from_u128(8)),
            proposal: proposal(),
        };
        proposals.add(TopicPartition::new("t", 0), newer);
        let response = answer(&[("t", 7, &[(0, ErrorCode::None, RECOVERED)])]);
        assert_eq!(proposals.on_answer(batch, 3, &response).len(), 1);
        assert!(!proposals.is_empty());
    }
}
