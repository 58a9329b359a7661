//! OffsetForLeaderEpoch (key 23), v0–4 (KIP-101, KIP-320): where an epoch ended. v1 leader epoch in
//! the answer, v2 current leader epoch, v4 flexible.

use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::context::Context;
use crate::error::ErrorCode;
use crate::types::{NO_LEADER_EPOCH, TopicPartition};

pub async fn handle(
    cx: &Context<'_>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|asked| {
                    let partition = TopicPartition::new(topic.topic.0.as_str(), asked.partition);
                    let current = (asked.current_leader_epoch != NO_LEADER_EPOCH)
                        .then_some(asked.current_leader_epoch);
                    match cx.rooms.replicas.end_offset_for_epoch(
                        &partition,
                        current,
                        asked.leader_epoch,
                    ) {
                        Ok(end) => EpochEndOffset::default()
                            .with_partition(asked.partition)
                            .with_leader_epoch(end.epoch)
                            .with_end_offset(end.end_offset),
                        Err(code) => failed(asked.partition, code),
                    }
                })
                .collect();
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic.clone())
                .with_partitions(partitions)
        })
        .collect();
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

fn failed(partition: i32, code: ErrorCode) -> EpochEndOffset {
    EpochEndOffset::default()
        .with_partition(partition)
        .with_error_code(code.value())
        .with_leader_epoch(-1)
        .with_end_offset(-1)
}

pub fn refuse(
    request: &OffsetForLeaderEpochRequest,
    code: ErrorCode,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic.clone())
                .with_partitions(
                    topic
                        .partitions
                        .iter()
                        .map(|asked| failed(asked.partition, code))
                        .collect(),
                )
        })
        .collect();
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}
