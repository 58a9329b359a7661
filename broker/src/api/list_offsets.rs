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
use crate::error::{ErrorCode, KafkaCode};
use crate::log::{Log, TimestampOffset};
use crate::types::{LeaderEpoch, Millis, Offset, TopicPartition};

const LATEST: Millis = -1;
const EARLIEST: Millis = -2;
const MAX_TIMESTAMP: Millis = -3;
const EARLIEST_LOCAL: Millis = -4;
const LATEST_TIERED: Millis = -5;

const CONSUMER: i32 = -1;
const READ_COMMITTED: i8 = 1;

pub async fn handle(cx: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
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
    cx: &Context,
    request: &ListOffsetsRequest,
    partition: &TopicPartition,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let index = asked.partition_index;
    if asked.timestamp < EARLIEST {
        return failed(index, ErrorCode::UnsupportedVersion);
    }
    let log = match cx.rooms.replicas.leader_log(partition, None) {
        Ok(log) => log,
        Err(code) => return failed(index, code),
    };
    let max = usize::try_from(asked.max_num_offsets).unwrap_or(0);
    let offsets = log.legacy_offsets_before(asked.timestamp, max);
    let offsets = if request.replica_id.0 == CONSUMER {
        not_beyond(offsets, log.high_watermark())
    } else {
        offsets
    };
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_old_style_offsets(offsets)
}

/// A consumer sees nothing beyond the high watermark: what lies there is replaced by it.
fn not_beyond(offsets: Vec<Offset>, high_watermark: Offset) -> Vec<Offset> {
    if offsets.iter().all(|offset| *offset <= high_watermark) {
        return offsets;
    }
    std::iter::once(high_watermark)
        .chain(
            offsets
                .into_iter()
                .filter(|offset| *offset < high_watermark),
        )
        .collect()
}

fn by_time(
    cx: &Context,
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
    let current = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
    let log = match cx.rooms.replicas.leader_log(partition, current) {
        Ok(log) => log,
        Err(code) => return failed(index, code),
    };
    let bound = match (request.replica_id.0, request.isolation_level) {
        (CONSUMER, READ_COMMITTED) => log.last_stable_offset(),
        (CONSUMER, _) => log.high_watermark(),
        _ => log.log_end_offset(),
    };
    let leader_epoch = cx
        .rooms
        .cluster
        .image()
        .partition(partition)
        .map(|partition| partition.leader_epoch);
    match find(&log, asked.timestamp, bound, leader_epoch) {
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
        Err(code) => failed(index, code),
    }
}

/// `leader_epoch` is the epoch of the leader now, which goes with the end of the log.
fn find(
    log: &Log,
    timestamp: Millis,
    bound: Offset,
    leader_epoch: Option<LeaderEpoch>,
) -> Result<Option<TimestampOffset>, ErrorCode> {
    let at = |offset, leader_epoch| {
        Some(TimestampOffset {
            timestamp: -1,
            offset,
            leader_epoch,
        })
    };
    let found = match timestamp {
        LATEST => return Ok(at(bound, leader_epoch)),
        EARLIEST | EARLIEST_LOCAL => {
            let start = log.log_start_offset();
            let epoch = log
                .earliest_epoch()
                .filter(|(_, first)| *first <= start)
                .map(|(epoch, _)| epoch);
            return Ok(at(start, epoch));
        }
        // There is no tiered storage.
        LATEST_TIERED => return Ok(at(-1, Some(-1))),
        MAX_TIMESTAMP => log.max_timestamp(),
        time => log.offset_for_timestamp(time),
    };
    let found = found.map_err(|error| error.code())?;
    Ok(found.filter(|found| found.offset < bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_of_v0_see_the_high_watermark_instead_of_what_lies_beyond() {
        assert_eq!(not_beyond(vec![9, 5, 0], 9), [9, 5, 0]);
        assert_eq!(not_beyond(vec![9, 5, 0], 7), [7, 5, 0]);
        assert_eq!(not_beyond(vec![9, 7, 0], 7), [7, 0]);
        assert_eq!(not_beyond(vec![], 7), [] as [Offset; 0]);
    }
}
