//! ListPartitionReassignments (key 46), v0: reassignments that go on (KIP-455).
//!
//! Source: `KafkaApis.handleListPartitionReassignmentsRequest`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicPartition};

use super::context::Context;

pub async fn handle(
    cx: &Context<'_>,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let asked = request.topics.as_ref().map(|topics| {
        let partitions: BTreeSet<TopicPartition> = topics
            .iter()
            .flat_map(|topic| {
                let indexes = topic.partition_indexes.iter();
                indexes.map(|index| TopicPartition::new(topic.name.as_str(), *index))
            })
            .collect();
        partitions.into_iter().collect()
    });
    let found = match cx.rooms.controller.list_reassignments(asked).await {
        Ok(found) => found,
        Err(code) => return refuse(&request, code),
    };
    let mut topics: BTreeMap<String, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
    for (partition, assignment) in found {
        topics.entry(partition.topic.to_string()).or_default().push(
            OngoingPartitionReassignment::default()
                .with_partition_index(partition.partition)
                .with_replicas(ids(&assignment.replicas))
                .with_adding_replicas(ids(&assignment.adding))
                .with_removing_replicas(ids(&assignment.removing)),
        );
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OngoingTopicReassignment::default()
            .with_name(WireTopicName(StrBytes::from_string(name)))
            .with_partitions(partitions)
    });
    ListPartitionReassignmentsResponse::default()
        .with_error_message(Some(StrBytes::default()))
        .with_topics(topics.collect())
}

pub fn refuse(
    _: &ListPartitionReassignmentsRequest,
    code: ErrorCode,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
        .with_error_code(code.value())
        .with_error_message(Some(StrBytes::from_static_str(code.message())))
}

fn ids(ids: &[BrokerId]) -> Vec<WireBrokerId> {
    ids.iter().copied().map(WireBrokerId).collect()
}
