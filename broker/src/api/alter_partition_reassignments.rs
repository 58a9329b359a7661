//! AlterPartitionReassignments (key 45), v0: other replicas for partitions, or none to cancel
//! (KIP-455). Answered once the reassignment is begun.
//!
//! Source: `KafkaApis.handleAlterPartitionReassignmentsRequest`.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;
use crate::types::TopicPartition;

use super::context::Context;

pub async fn handle(
    cx: &Context<'_>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    // The last word on a partition that is named twice counts.
    let mut asked = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let replicas = partition.replicas.as_ref();
            asked.insert(
                TopicPartition::new(topic.name.as_str(), partition.partition_index),
                replicas.map(|ids| ids.iter().map(|id| id.0).collect()),
            );
        }
    }
    let begun = cx.rooms.controller.reassign(asked.into_iter().collect());
    let results = match begun.await {
        Ok(results) => results,
        Err(code) => return refuse(&request, code),
    };
    let mut topics: BTreeMap<String, Vec<ReassignablePartitionResponse>> = BTreeMap::new();
    for (partition, result) in results {
        let answer = ReassignablePartitionResponse::default()
            .with_partition_index(partition.partition)
            .with_error_message(None);
        let answer = match result {
            Ok(()) => answer,
            Err(refusal) => answer
                .with_error_code(refusal.code.value())
                .with_error_message(refusal.message.map(StrBytes::from_string)),
        };
        topics
            .entry(partition.topic.to_string())
            .or_default()
            .push(answer);
    }
    let responses = topics.into_iter().map(|(name, partitions)| {
        ReassignableTopicResponse::default()
            .with_name(WireTopicName(StrBytes::from_string(name)))
            .with_partitions(partitions)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_error_message(Some(StrBytes::default()))
        .with_responses(responses.collect())
}

pub fn refuse(
    _: &AlterPartitionReassignmentsRequest,
    code: ErrorCode,
) -> AlterPartitionReassignmentsResponse {
    AlterPartitionReassignmentsResponse::default()
        .with_error_code(code.value())
        .with_error_message(Some(StrBytes::from_static_str(code.message())))
}
