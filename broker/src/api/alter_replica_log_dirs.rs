//! AlterReplicaLogDirs (key 34), v0–2 (KIP-113): moves replicas of this broker between its log dirs.
//! v1 as v0, v2 flexible. Answered once the moves are begun; DescribeLogDirs shows how far they are.
//!
//! Source: `KafkaApis.handleAlterReplicaLogDirsRequest`, `ReplicaManager.alterReplicaLogDirs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::spawn_blocking;

use super::context::Context;
use crate::error::ErrorCode;
use crate::types::TopicPartition;

pub async fn handle(
    cx: &Context<'_>,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let moves = moves(&request);
    let replicas = Arc::clone(&cx.rooms.replicas);
    let begun = spawn_blocking(move || {
        let results = replicas.alter_log_dirs(&moves);
        let codes = results
            .into_iter()
            .map(|result| result.err().unwrap_or(ErrorCode::None));
        response(moves.into_iter().map(|(partition, _)| partition).zip(codes))
    });
    begun.await.unwrap_or_else(|panic| {
        tracing::error!("Error while changing log dirs of replicas: {panic}");
        refuse(&request, ErrorCode::UnknownServerError)
    })
}

/// Where each partition shall go. The last word on one that is named twice counts.
fn moves(request: &AlterReplicaLogDirsRequest) -> Vec<(TopicPartition, String)> {
    let mut moves = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            for &partition in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), partition);
                moves.insert(partition, dir.path.to_string());
            }
        }
    }
    moves.into_iter().collect()
}

fn response(
    results: impl IntoIterator<Item = (TopicPartition, ErrorCode)>,
) -> AlterReplicaLogDirsResponse {
    let mut topics: Vec<AlterReplicaLogDirTopicResult> = Vec::new();
    for (partition, code) in results {
        let result = AlterReplicaLogDirPartitionResult::default()
            .with_partition_index(partition.partition)
            .with_error_code(code.value());
        match topics.last_mut() {
            Some(last) if last.topic_name.as_str() == &*partition.topic => {
                last.partitions.push(result);
            }
            _ => topics.push(
                AlterReplicaLogDirTopicResult::default()
                    .with_topic_name(WireTopicName(StrBytes::from_string(
                        partition.topic.to_string(),
                    )))
                    .with_partitions(vec![result]),
            ),
        }
    }
    AlterReplicaLogDirsResponse::default().with_results(topics)
}

pub fn refuse(
    request: &AlterReplicaLogDirsRequest,
    code: ErrorCode,
) -> AlterReplicaLogDirsResponse {
    response(
        moves(request)
            .into_iter()
            .map(|(partition, _)| (partition, code)),
    )
}
