//! ListOffsets (key 2), v0–9. v0 lists segment starts; v1 one offset by time; v2 isolation level;
//! v4 leader epochs; v6 flexible; v7 MAX_TIMESTAMP (KIP-734); v8 EARLIEST_LOCAL (KIP-405); v9
//! LATEST_TIERED (KIP-1005). Contract §7.4; source: `KafkaApis.handleListOffsetRequest`,
//! `Partition.fetchOffsetForTimestamp`.

use std::collections::HashSet;

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::context::Context;
use crate::error::ErrorCode;
use crate::replica::manager::Isolation;
use crate::replica::offsets::{EARLIEST, EARLIEST_LOCAL, LATEST, LATEST_TIERED, MAX_TIMESTAMP};
use crate::types::{NO_LEADER_EPOCH, TopicPartition};

const CONSUMER: i32 = -1;
/// Asks any replica, and sees everything.
const DEBUGGER: i32 = -2;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

pub async fn handle(cx: &Context<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    // Kafka fails on a level it does not know, whatever is asked.
    if request.replica_id.0 == CONSUMER
        && !matches!(request.isolation_level, READ_UNCOMMITTED | READ_COMMITTED)
    {
        return refuse(&request, ErrorCode::UnknownServerError);
    }
    let mut seen = HashSet::new();
    let mut duplicates = HashSet::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            if !seen.insert((&topic.name, asked.partition_index)) {
                duplicates.insert((&topic.name, asked.partition_index));
            }
        }
    }
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|asked| {
                    let partition =
                        TopicPartition::new(topic.name.0.as_str(), asked.partition_index);
                    if cx.version == 0 {
                        legacy(cx, &request, &partition, asked)
                    } else if duplicates.contains(&(&topic.name, asked.partition_index)) {
                        failed(asked.partition_index, ErrorCode::InvalidRequest)
                    } else {
                        by_time(cx, &request, &partition, asked)
                    }
                })
                .collect();
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    ListOffsetsResponse::default().with_topics(topics)
}

pub fn refuse(request: &ListOffsetsRequest, code: ErrorCode) -> ListOffsetsResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            ListOffsetsTopicResponse::default()
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
    ListOffsetsResponse::default().with_topics(topics)
}

fn failed(index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code.value())
        .with_timestamp(-1)
        .with_offset(-1)
}

/// v0: start offsets of segments that are older than the time, newest first; the end itself when
/// that is what was asked for.
fn legacy(
    cx: &Context<'_>,
    request: &ListOffsetsRequest,
    partition: &TopicPartition,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let index = asked.partition_index;
    if asked.timestamp < EARLIEST {
        return failed(index, ErrorCode::UnsupportedVersion);
    }
    let offsets = cx.rooms.replicas.legacy_offsets(
        partition,
        asked.timestamp,
        usize::try_from(asked.max_num_offsets).unwrap_or(0),
        request.replica_id.0 == CONSUMER,
        request.replica_id.0 != DEBUGGER,
    );
    match offsets {
        Ok(offsets) => ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_old_style_offsets(offsets),
        Err(code) => failed(index, code),
    }
}

fn by_time(
    cx: &Context<'_>,
    request: &ListOffsetsRequest,
    partition: &TopicPartition,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let index = asked.partition_index;
    let needs = match asked.timestamp {
        0.. | LATEST | EARLIEST => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => i16::MAX,
    };
    if cx.version < needs {
        return failed(index, ErrorCode::UnsupportedVersion);
    }
    let current =
        (asked.current_leader_epoch != NO_LEADER_EPOCH).then_some(asked.current_leader_epoch);
    let isolation = match (request.replica_id.0, request.isolation_level) {
        (CONSUMER, READ_COMMITTED) => Some(Isolation::TxnCommitted),
        (CONSUMER, _) => Some(Isolation::HighWatermark),
        _ => None,
    };
    let found = cx.rooms.replicas.offset_for_timestamp(
        partition,
        asked.timestamp,
        isolation,
        current,
        request.replica_id.0 != DEBUGGER,
    );
    match found {
        Ok(Some(found)) => {
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_timestamp(found.timestamp)
                .with_offset(found.offset);
            match found.leader_epoch {
                Some(epoch) if cx.version >= 4 => answer.with_leader_epoch(epoch),
                _ => answer,
            }
        }
        Ok(None) => failed(index, ErrorCode::None),
        // Older clients do not know the code.
        Err(ErrorCode::OffsetNotAvailable) if cx.version < 5 => {
            failed(index, ErrorCode::LeaderNotAvailable)
        }
        Err(code) => failed(index, code),
    }
}
