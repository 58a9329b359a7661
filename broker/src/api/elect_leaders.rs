//! ElectLeaders (key 43), v0–2: preferred leaders, or any live replica where no leader is alive
//! (KIP-183, KIP-460). v1 election type and top-level error, v2 flexible.
//!
//! Source: `KafkaApis.handleElectLeaders`, `ReplicaManager.electLeaders`, `DelayedElectLeader`.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    ElectLeadersRequest, ElectLeadersResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::controller::event::Refusal;
use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicPartition};

use super::context::Context;

/// Ids of `ElectionType`.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

type Results = BTreeMap<TopicPartition, Result<(), Refusal>>;

pub async fn handle(cx: &Context<'_>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        // Only v1 and later can name another type.
        let code = ErrorCode::UnknownServerError;
        return refuse(&request, code).with_error_code(code.value());
    }
    let asked = match &request.topic_partitions {
        Some(topics) => topics
            .iter()
            .flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|index| TopicPartition::new(topic.topic.as_str(), *index))
            })
            .collect(),
        None => everything(cx),
    };
    let deadline = tokio::time::Instant::now()
        + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let elected = cx
        .rooms
        .controller
        .elect_leaders(request.election_type == UNCLEAN, asked.clone())
        .await;
    let mut results = Results::new();
    let mut expected = BTreeMap::new();
    match elected {
        Err(code) => {
            let refusal = Refusal {
                code,
                message: None,
            };
            let refused = asked
                .into_iter()
                .map(|partition| (partition, Err(refusal.clone())));
            results.extend(refused);
        }
        Ok(by_partition) => {
            for (partition, result) in by_partition {
                match result {
                    Ok(leader) => {
                        expected.insert(partition, leader);
                    }
                    Err(refusal) => {
                        results.insert(partition, Err(refusal));
                    }
                }
            }
        }
    }
    let late = wait_for_leaders(cx, &expected, deadline).await;
    for partition in expected.into_keys() {
        let result = if late.contains(&partition) {
            Err(Refusal {
                code: ErrorCode::RequestTimedOut,
                message: None,
            })
        } else {
            Ok(())
        };
        results.insert(partition, result);
    }
    if request.topic_partitions.is_none() {
        // Whoever asks for all wants to hear of those where something was to be done.
        results.retain(|_, result| {
            !matches!(result, Err(refusal) if refusal.code == ErrorCode::ElectionNotNeeded)
        });
    }
    response(results)
}

/// v0 has no error of the whole: each partition says it.
pub fn refuse(request: &ElectLeadersRequest, code: ErrorCode) -> ElectLeadersResponse {
    let results = request.topic_partitions.iter().flatten().flat_map(|topic| {
        topic.partitions.iter().map(|index| {
            let partition = TopicPartition::new(topic.topic.as_str(), *index);
            (partition, Err(Refusal::from(code)))
        })
    });
    response(results.collect())
}

fn everything(cx: &Context<'_>) -> Vec<TopicPartition> {
    let image = cx.rooms.cluster.image();
    let partitions = image.topics.values().flat_map(|topic| {
        let ids = topic.partitions.keys();
        ids.map(|index| TopicPartition::new(topic.name.clone(), *index))
    });
    partitions.collect()
}

/// Until this broker's image has these leaders, or the time is over; those it lacks.
async fn wait_for_leaders(
    cx: &Context<'_>,
    expected: &BTreeMap<TopicPartition, BrokerId>,
    deadline: tokio::time::Instant,
) -> Vec<TopicPartition> {
    let missing = || {
        let image = cx.rooms.cluster.image();
        let missing = expected.iter().filter(|(partition, leader)| {
            image
                .partition(*partition)
                .is_none_or(|seen| seen.leader != **leader)
        });
        missing.map(|(partition, _)| partition.clone()).collect()
    };
    let mut changes = cx.rooms.cluster.changes();
    loop {
        changes.mark_unchanged();
        let late: Vec<TopicPartition> = missing();
        if late.is_empty() {
            return late;
        }
        match tokio::time::timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            _ => return missing(),
        }
    }
}

fn response(results: Results) -> ElectLeadersResponse {
    let mut topics: Vec<ReplicaElectionResult> = Vec::new();
    for (partition, result) in results {
        let (code, message) = match result {
            Ok(()) => (ErrorCode::None, None),
            // Kafka keeps to itself what it did not expect.
            Err(refusal) if refusal.code == ErrorCode::UnknownServerError => (refusal.code, None),
            Err(refusal) => (refusal.code, refusal.message),
        };
        if topics
            .last()
            .is_none_or(|topic| topic.topic.as_str() != partition.topic.as_str())
        {
            let name = WireTopicName(StrBytes::from_string(partition.topic.to_string()));
            topics.push(ReplicaElectionResult::default().with_topic(name));
        }
        if let Some(topic) = topics.last_mut() {
            topic.partition_result.push(
                PartitionResult::default()
                    .with_partition_id(partition.partition)
                    .with_error_code(code.value())
                    .with_error_message(message.map(StrBytes::from_string)),
            );
        }
    }
    ElectLeadersResponse::default().with_replica_election_results(topics)
}
