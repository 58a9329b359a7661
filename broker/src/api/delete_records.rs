//! DeleteRecords (key 21), v0–2: raises log start offsets. v2 flexible. Answered when the low
//! watermark has passed, or after the timeout with REQUEST_TIMED_OUT.

use std::collections::HashMap;
use std::time::Duration;

use indexmap::IndexMap;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, TopicName as WireTopicName,
};

use super::context::Context;
use crate::error::ErrorCode;
use crate::types::{Offset, TopicName, TopicPartition};

pub async fn handle(cx: &Context<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = cx.rooms.cluster.image();
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut wanted: IndexMap<TopicPartition, Offset> = IndexMap::new();
    for topic in &request.topics {
        let name = TopicName::new(topic.name.0.as_str());
        for asked in &topic.partitions {
            let partition = TopicPartition::new(name.clone(), asked.partition_index);
            if image.contains(&partition) {
                wanted.insert(partition, asked.offset);
            }
        }
    }
    let (partitions, offsets): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    let deleted = cx
        .rooms
        .replicas
        .delete_records(partitions.iter().cloned().zip(offsets).collect(), timeout)
        .await;
    let deleted: HashMap<_, _> = partitions.into_iter().zip(deleted).collect();
    // Each partition once, and no topic without partitions, as in Kafka.
    let mut topics: IndexMap<&WireTopicName, IndexMap<i32, DeleteRecordsPartitionResult>> =
        IndexMap::new();
    for topic in &request.topics {
        let name = TopicName::new(topic.name.0.as_str());
        for asked in &topic.partitions {
            let partition = TopicPartition::new(name.clone(), asked.partition_index);
            let result = match deleted.get(&partition) {
                None => failed(asked.partition_index, ErrorCode::UnknownTopicOrPartition),
                Some(Err(code)) => failed(asked.partition_index, *code),
                Some(Ok(low_watermark)) => DeleteRecordsPartitionResult::default()
                    .with_partition_index(asked.partition_index)
                    .with_low_watermark(*low_watermark),
            };
            let results = topics.entry(&topic.name).or_default();
            results.insert(asked.partition_index, result);
        }
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| {
            DeleteRecordsTopicResult::default()
                .with_name(name.clone())
                .with_partitions(partitions.into_values().collect())
        })
        .collect();
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
