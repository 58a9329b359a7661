//! DescribeLogDirs (key 35), v0–4 (KIP-113): replicas and their sizes by log dir. v2 flexible, v3
//! top-level error, v4 total and usable bytes (KIP-827).

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::error::ErrorCode;
use crate::log::Log;

/// The replica is offline, or the controller has not spoken of it yet.
const UNKNOWN_LAG: i64 = -1;

pub async fn handle(cx: &Context<'_>, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let logs = cx.rooms.logs.logs();
    let results = cx
        .rooms
        .logs
        .dirs()
        .iter()
        .map(|dir| {
            let path = std::path::absolute(&dir.path).unwrap_or_else(|_| dir.path.clone());
            let result = DescribeLogDirsResult::default()
                .with_log_dir(StrBytes::from_string(path.display().to_string()));
            if dir.offline {
                return result.with_error_code(ErrorCode::KafkaStorageError.value());
            }
            let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
            for log in logs.iter().filter(|log| log.log_dir() == dir.path) {
                if wanted(&request, log) {
                    topics
                        .entry(&log.topic_partition().topic)
                        .or_default()
                        .push(replica(cx, log));
                }
            }
            let topics = topics
                .into_iter()
                .map(|(name, mut partitions)| {
                    partitions.sort_by_key(|partition| partition.partition_index);
                    DescribeLogDirsTopic::default()
                        .with_name(WireTopicName(StrBytes::from_string(name.to_owned())))
                        .with_partitions(partitions)
                })
                .collect();
            result
                .with_topics(topics)
                .with_total_bytes(dir.total_bytes)
                .with_usable_bytes(dir.usable_bytes)
        })
        .collect();
    DescribeLogDirsResponse::default().with_results(results)
}

/// Null asks for everything; a topic without partitions asks for none of it, as in Kafka.
fn wanted(request: &DescribeLogDirsRequest, log: &Log) -> bool {
    let Some(topics) = &request.topics else {
        return true;
    };
    let partition = log.topic_partition();
    topics.iter().any(|topic| {
        topic.topic.0.as_str() == partition.topic.as_str()
            && topic.partitions.contains(&partition.partition)
    })
}

fn replica(cx: &Context<'_>, log: &Log) -> DescribeLogDirsPartition {
    let current = cx.rooms.replicas.online_partition(log.topic_partition());
    let offset_lag = match current.ok().and_then(|partition| partition.log()) {
        // How far a copy on its way to another dir is behind the replica …
        Some(current) if log.is_future() => current.log_end_offset() - log.log_end_offset(),
        // … and the replica behind what it may serve.
        Some(current) => (current.high_watermark() - log.log_end_offset()).max(0),
        None => UNKNOWN_LAG,
    };
    DescribeLogDirsPartition::default()
        .with_partition_index(log.topic_partition().partition)
        .with_partition_size(i64::try_from(log.size()).unwrap_or(i64::MAX))
        .with_offset_lag(offset_lag)
        .with_is_future_key(log.is_future())
}

pub fn refuse(_: &DescribeLogDirsRequest, code: ErrorCode) -> DescribeLogDirsResponse {
    DescribeLogDirsResponse::default().with_error_code(code.value())
}
