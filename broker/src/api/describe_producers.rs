//! DescribeProducers (key 61), v0 (KIP-664): the producers that a partition's leader remembers.

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId as WireProducerId,
};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::controller::topic_name::invalid_reason;
use crate::error::ErrorCode;
use crate::types::TopicPartition;

pub async fn handle(
    cx: &Context<'_>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let image = cx.rooms.cluster.image();
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let name = topic.name.0.as_str();
            let unknown = match invalid_reason(name) {
                Some(reason) => Some((
                    ErrorCode::InvalidTopicException,
                    format!("Topic name is invalid: {reason}"),
                )),
                None if image.topic(name).is_none() => Some((
                    ErrorCode::UnknownTopicOrPartition,
                    ErrorCode::UnknownTopicOrPartition.message().to_owned(),
                )),
                None => None,
            };
            let partitions = topic
                .partition_indexes
                .iter()
                .map(|index| match &unknown {
                    Some((code, message)) => failed(*index, *code, Some(message)),
                    None => producers(cx, name, *index),
                })
                .collect();
            TopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    DescribeProducersResponse::default().with_topics(topics)
}

fn producers(cx: &Context<'_>, topic: &str, index: i32) -> PartitionResponse {
    let log = match cx
        .rooms
        .replicas
        .leader_log(&TopicPartition::new(topic, index), None)
    {
        Ok(log) => log,
        // Kafka sends the code alone here.
        Err(code) => return failed(index, code, None),
    };
    let active = log
        .active_producers()
        .into_iter()
        .map(|producer| {
            ProducerState::default()
                .with_producer_id(WireProducerId(producer.producer_id))
                .with_producer_epoch(i32::from(producer.producer_epoch))
                .with_last_sequence(producer.last_sequence)
                .with_last_timestamp(producer.last_timestamp)
                .with_coordinator_epoch(producer.coordinator_epoch)
                .with_current_txn_start_offset(producer.current_txn_first_offset)
        })
        .collect();
    PartitionResponse::default()
        .with_partition_index(index)
        .with_active_producers(active)
}

fn failed(index: i32, code: ErrorCode, message: Option<&str>) -> PartitionResponse {
    PartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code.value())
        .with_error_message(message.map(|text| StrBytes::from_string(text.to_owned())))
}

pub fn refuse(request: &DescribeProducersRequest, code: ErrorCode) -> DescribeProducersResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            TopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(
                    topic
                        .partition_indexes
                        .iter()
                        .map(|index| failed(*index, code, Some(code.message())))
                        .collect(),
                )
        })
        .collect();
    DescribeProducersResponse::default().with_topics(topics)
}
