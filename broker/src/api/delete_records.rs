//! DeleteRecords (key 21), v0–2: raises log start offsets. v2 flexible. Answered when the low
//! watermark has passed, or after the timeout with REQUEST_TIMED_OUT.

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::context::Context;
use crate::error::ErrorCode;
use crate::types::{TopicPartition, is_internal_topic};

pub async fn handle(cx: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = cx.rooms.cluster.image();
    let timeout_ms = i64::from(request.timeout_ms);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let partition = TopicPartition::new(topic.name.0.as_str(), asked.partition_index);
            let deleted = if is_internal_topic(&partition.topic) {
                Err(ErrorCode::InvalidTopicException)
            } else if !image.contains(&partition) {
                Err(ErrorCode::UnknownTopicOrPartition)
            } else {
                cx.rooms
                    .replicas
                    .delete_records(&partition, asked.offset, timeout_ms)
                    .await
            };
            partitions.push(match deleted {
                Ok(low_watermark) => DeleteRecordsPartitionResult::default()
                    .with_partition_index(asked.partition_index)
                    .with_low_watermark(low_watermark),
                Err(code) => failed(asked.partition_index, code),
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn failed(index: i32, code: ErrorCode) -> DeleteRecordsPartitionResult {
    DeleteRecordsPartitionResult::default()
        .with_partition_index(index)
        .with_error_code(code.value())
        .with_low_watermark(-1)
}

pub fn refuse(request: &DeleteRecordsRequest, code: ErrorCode) -> DeleteRecordsResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            DeleteRecordsTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(
                    topic
                        .partitions
                        .iter()
                        .map(|asked| failed(asked.partition_index, code))
                        .collect(),
                )
        })
        .collect();
    DeleteRecordsResponse::default().with_topics(topics)
}
