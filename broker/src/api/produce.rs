//! Produce (key 0), v0–11. v1 throttle time, v2 append time, v3 batches of magic 2 only and
//! transactions, v5 log start offset, v7 zstd, v8 record errors (KIP-467), v9 flexible, v10 current
//! leader (KIP-951), v11 TRANSACTION_ABORTABLE (KIP-890).
//!
//! There is no transaction coordinator yet, so no transaction is ever open: a transactional batch
//! gets what Kafka answers to one whose partition its coordinator does not know of, and nothing is
//! appended, so that no transaction can hang.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId as WireBrokerId, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use super::endpoint::{Node, current_leader};
use crate::error::{ErrorCode, KafkaCode};
use crate::record;
use crate::record::batch::{ATTRIBUTES_AT, BatchIter};
use crate::record::validate::{Origin, check_produce_version};
use crate::replica::{AppendFailure, Appended, ToAppend};
use crate::types::{BrokerId, TopicName, TopicPartition, is_internal_topic};

/// Client id that may write internal topics (`AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT_ID: &str = "__admin_client";
/// Bit of a batch's attributes.
const TRANSACTIONAL: u8 = 0x10;
const MAGIC_AT: usize = 16;

pub async fn handle(cx: &Context, request: ProduceRequest) -> ProduceResponse {
    match has_transactional_records(&request) {
        Ok(true) if request.transactional_id.is_none() => {
            return refuse(&request, ErrorCode::TransactionalIdAuthorizationFailed);
        }
        Ok(_) => {}
        // Kafka meets it here, before any partition is looked at: all of them are refused.
        Err(error) => {
            let message = (cx.version >= 8).then(|| error.to_string());
            return refuse_all(&request, error.code(), message);
        }
    }
    let entries = entries(&request);
    let mut answers: Vec<Option<Appended>> = Vec::with_capacity(entries.len());
    let mut to_append = Vec::with_capacity(entries.len());
    for (partition, records) in &entries {
        let refusal = check(cx, &request, partition, records);
        if refusal.is_none() {
            to_append.push(ToAppend {
                partition: partition.clone(),
                records: records.clone(),
            });
        }
        answers.push(refusal.map(|code| Appended {
            info: None,
            failure: Some(AppendFailure::new(code)),
        }));
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let appended = cx
        .rooms
        .replicas
        .append_records(to_append, Origin::Client, request.acks, timeout)
        .await;
    let open = answers.iter_mut().filter(|answer| answer.is_none());
    for (answer, appended) in open.zip(appended) {
        *answer = Some(appended);
    }
    let partitions = entries.into_iter().map(|(partition, _)| partition);
    let answers = partitions.zip(answers.into_iter().flatten());
    respond(cx, &request, answers.collect())
}

/// Why a partition's records are not even tried. Contract §7.1, rows 3 to 5 and 7 to 9.
fn check(
    cx: &Context,
    request: &ProduceRequest,
    partition: &TopicPartition,
    records: &Bytes,
) -> Option<ErrorCode> {
    if !cx.rooms.cluster.image().contains(partition) {
        Some(ErrorCode::UnknownTopicOrPartition)
    } else if let Err(rejected) = check_produce_version(cx.version, records) {
        Some(rejected.code)
    } else if is_transactional(records) {
        Some(if cx.version > 10 {
            ErrorCode::TransactionAbortable
        } else {
            ErrorCode::InvalidTxnState
        })
    } else if !matches!(request.acks, -1..=1) {
        Some(ErrorCode::InvalidRequiredAcks)
    } else if is_internal_topic(&partition.topic)
        && cx.client_id.as_deref() != Some(ADMIN_CLIENT_ID)
    {
        Some(ErrorCode::InvalidTopicException)
    } else {
        None
    }
}

/// The records by partition. As in Kafka the last entry of a partition named twice counts, so that
/// nothing is appended twice.
fn entries(request: &ProduceRequest) -> Vec<(TopicPartition, Bytes)> {
    if let [topic] = &request.topic_data[..]
        && let [partition] = &topic.partition_data[..]
    {
        let only = TopicPartition::new(TopicName::new(&topic.name), partition.index);
        return vec![(only, partition.records.clone().unwrap_or_default())];
    }
    let mut entries = IndexMap::new();
    for topic in &request.topic_data {
        let name = TopicName::new(&topic.name);
        for partition in &topic.partition_data {
            entries.insert(
                TopicPartition::new(name.clone(), partition.index),
                partition.records.clone().unwrap_or_default(),
            );
        }
    }
    entries.into_iter().collect()
}

/// Looks at the first batch of every partition, up to the first that is transactional
/// (`RequestUtils.hasTransactionalRecords`). The error is that of a batch without a beginning.
fn has_transactional_records(request: &ProduceRequest) -> Result<bool, record::Error> {
    let partitions = request
        .topic_data
        .iter()
        .flat_map(|topic| &topic.partition_data);
    for records in partitions.filter_map(|partition| partition.records.as_ref()) {
        if BatchIter::new(records).next().transpose()?.is_some() && is_transactional(records) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the first batch says so; whatever else is wrong with it, validation finds.
fn is_transactional(records: &[u8]) -> bool {
    records.get(MAGIC_AT) == Some(&2)
        && records
            .get(ATTRIBUTES_AT + 1)
            .is_some_and(|attributes| attributes & TRANSACTIONAL != 0)
}

fn respond(
    cx: &Context,
    request: &ProduceRequest,
    answers: Vec<(TopicPartition, Appended)>,
) -> ProduceResponse {
    let mut nodes: HashMap<BrokerId, Node> = HashMap::new();
    let mut topics: IndexMap<TopicName, Vec<PartitionProduceResponse>> = IndexMap::new();
    let mut only_topic = Vec::new();
    for (partition, appended) in answers {
        let mut answer = answer(partition.partition, appended);
        if cx.version < 8 {
            answer.record_errors.clear();
            answer.error_message = None;
        }
        if cx.version >= 10 && answer.error_code == ErrorCode::NotLeaderOrFollower.value() {
            let (leader, leader_epoch, node) = current_leader(cx, &partition);
            answer.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(WireBrokerId(leader))
                .with_leader_epoch(leader_epoch);
            nodes.extend(node.map(|node| (leader, node)));
        }
        if request.topic_data.len() == 1 {
            only_topic.push(answer);
        } else {
            topics.entry(partition.topic).or_default().push(answer);
        }
    }
    let mut names = request.topic_data.iter().map(|topic| &topic.name);
    let mut topics: Vec<TopicProduceResponse> = topics
        .into_iter()
        .filter_map(|(topic, partitions)| {
            // First entries of topics come in the request's order.
            let name = names.find(|name| name.as_str() == &*topic)?;
            Some(
                TopicProduceResponse::default()
                    .with_name(name.clone())
                    .with_partition_responses(partitions),
            )
        })
        .collect();
    if let [topic] = &request.topic_data[..]
        && !only_topic.is_empty()
    {
        topics.push(
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_partition_responses(only_topic),
        );
    }
    let endpoints = nodes
        .into_values()
        .map(|node| {
            NodeEndpoint::default()
                .with_node_id(WireBrokerId(node.id))
                .with_host(node.host)
                .with_port(node.port)
                .with_rack(node.rack)
        })
        .collect();
    ProduceResponse::default()
        .with_responses(topics)
        .with_node_endpoints(endpoints)
}

fn answer(index: i32, appended: Appended) -> PartitionProduceResponse {
    let mut answer = PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    if let Some(info) = appended.info {
        answer.base_offset = info.base_offset;
        answer.log_append_time_ms = info.log_append_time;
        answer.log_start_offset = info.log_start_offset;
    }
    if let Some(failure) = appended.failure {
        answer.error_code = failure.code.value();
        if appended.info.is_none() {
            answer.log_start_offset = failure.log_start_offset;
        }
        answer.error_message = failure.message.map(StrBytes::from_string);
        answer.record_errors = failure
            .record_errors
            .into_iter()
            .map(|(index, message)| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(message.map(StrBytes::from_string))
            })
            .collect();
    }
    answer
}

pub fn refuse(request: &ProduceRequest, code: ErrorCode) -> ProduceResponse {
    refuse_all(request, code, None)
}

fn refuse_all(
    request: &ProduceRequest,
    code: ErrorCode,
    message: Option<String>,
) -> ProduceResponse {
    let topics = request
        .topic_data
        .iter()
        .map(|topic| {
            let partitions = topic
                .partition_data
                .iter()
                .map(|partition| {
                    let mut failure = AppendFailure::new(code);
                    failure.message.clone_from(&message);
                    let failed = Appended {
                        info: None,
                        failure: Some(failure),
                    };
                    answer(partition.index, failed)
                })
                .collect();
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_partition_responses(partitions)
        })
        .collect();
    ProduceResponse::default().with_responses(topics)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName as WireTopicName;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

    use super::*;
    use crate::record::build::{BatchOptions, NewRecord, build_batch};

    fn request(partitions: Vec<Bytes>) -> ProduceRequest {
        let partitions = (0..)
            .zip(partitions)
            .map(|(index, records)| {
                PartitionProduceData::default()
                    .with_index(index)
                    .with_records(Some(records))
            })
            .collect();
        ProduceRequest::default().with_topic_data(vec![
            TopicProduceData::default()
                .with_name(WireTopicName(StrBytes::from_static_str("t")))
                .with_partition_data(partitions),
        ])
    }

    fn batch(transactional: bool) -> Bytes {
        let options = BatchOptions {
            transactional,
            ..BatchOptions::default()
        };
        build_batch(&[NewRecord::default()], &options)
    }

    #[test]
    fn a_batch_without_a_beginning_fails_the_request_unless_a_transaction_comes_first() {
        let broken = Bytes::from_static(&[0; 100]);
        let look = |partitions| has_transactional_records(&request(partitions));
        assert_eq!(look(vec![batch(false), Bytes::new()]), Ok(false));
        assert_eq!(look(vec![batch(false), batch(true)]), Ok(true));
        assert_eq!(look(vec![batch(true), broken.clone()]), Ok(true));
        assert_eq!(
            look(vec![batch(false), broken.clone(), batch(true)]),
            Err(record::Error::SizeTooSmall { size: 0 })
        );
        let answer = refuse_all(
            &request(vec![batch(false), broken]),
            ErrorCode::CorruptMessage,
            Some("why".to_owned()),
        );
        for partition in &answer.responses[0].partition_responses {
            assert_eq!((partition.error_code, partition.log_start_offset), (2, -1));
            assert_eq!(partition.error_message.as_deref(), Some("why"));
        }
    }
}
