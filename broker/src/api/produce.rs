//! Produce (key 0), v0–11. v1 throttle time, v2 append time, v3 batches of magic 2 only and
//! transactions, v5 log start offset, v7 zstd, v8 record errors (KIP-467), v9 flexible, v10 current
//! leader (KIP-951), v11 TRANSACTION_ABORTABLE (KIP-890).
//!
//! There is no transaction coordinator yet, so no transaction is ever open: a transactional batch
//! gets what Kafka answers to one whose partition its coordinator does not know of, and nothing is
//! appended, so that no transaction can hang.

mod wire;

use std::time::Duration;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use self::wire::Request;
use super::context::Context;
use super::dispatch::{caught, log_failure};
use super::endpoint::{self, Leader, Node, current_leader};
use crate::error::{ErrorCode, KafkaCode};
use crate::hash::IndexMap;
use crate::net::Outcome;
use crate::record;
use crate::record::batch::{ATTRIBUTES_AT, BatchIter};
use crate::record::validate::{Origin, check_produce_version};
use crate::replica::{AppendFailure, Appended, ToAppend};
use crate::types::{TopicName, TopicPartition, is_internal_topic};

/// Client id that may write internal topics (`AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT_ID: &str = "__admin_client";
/// Bit of a batch's attributes.
const TRANSACTIONAL: u8 = 0x10;
const MAGIC_AT: usize = 16;

/// What a producer is told about one partition.
#[derive(Debug)]
struct Answer {
    partition: TopicPartition,
    appended: Appended,
    /// v10+, for the partition of another broker.
    leader: Option<Leader>,
}

/// Most requests bring records for one partition.
type Few<T> = SmallVec<[T; 1]>;

pub(super) async fn answer(cx: &Context<'_>, body: Bytes) -> Outcome {
    let request = match Request::read(cx.version, &body) {
        Ok(request) => request,
        Err(error) => {
            return Outcome::Close(format!("Produce v{} cannot be read: {error}", cx.version));
        }
    };
    let entries = entries(&request, &body);
    let appended = caught(append(cx, &request, &entries))
        .await
        .unwrap_or_else(|| {
            log_failure(cx);
            refuse_all(&entries, &AppendFailure::new(ErrorCode::UnknownServerError))
        });
    let answers = entries.into_iter().zip(appended);
    let answers = answers.map(|(entry, appended)| Answer {
        partition: entry.partition,
        appended,
        leader: None,
    });
    if request.acks == 0 {
        unanswered(cx, answers)
    } else {
        respond(cx, answers.collect())
    }
}

/// The records by partition, those of a topic side by side. As in Kafka the last entry of a partition
/// named twice counts, so that nothing is appended twice.
fn entries(request: &Request<'_>, body: &Bytes) -> Few<ToAppend> {
    if let [only] = &request.entries[..] {
        return smallvec![ToAppend {
            partition: TopicPartition::new(only.topic, only.partition),
            records: body.slice_ref(only.records),
        }];
    }
    let mut topics: IndexMap<&str, IndexMap<i32, &[u8]>> = IndexMap::default();
    for entry in &request.entries {
        let topic = topics.entry(entry.topic).or_default();
        topic.insert(entry.partition, entry.records);
    }
    let mut entries = SmallVec::with_capacity(request.entries.len());
    for (topic, partitions) in topics {
        let topic = TopicName::new(topic);
        entries.extend(partitions.into_iter().map(|(partition, records)| ToAppend {
            partition: TopicPartition::new(topic.clone(), partition),
            records: body.slice_ref(records),
        }));
    }
    entries
}

/// What became of each entry.
async fn append(cx: &Context<'_>, request: &Request<'_>, entries: &[ToAppend]) -> Few<Appended> {
    match has_transactional_records(entries) {
        Ok(true) if !request.is_transactional => {
            let code = ErrorCode::TransactionalIdAuthorizationFailed;
            return refuse_all(entries, &AppendFailure::new(code));
        }
        Ok(_) => {}
        // Kafka meets it here, before any partition is looked at: all of them are refused.
        Err(error) => {
            let mut failure = AppendFailure::new(error.code());
            failure.message = Some(error.to_string());
            return refuse_all(entries, &failure);
        }
    }
    let refusals: Few<Option<ErrorCode>> = entries
        .iter()
        .map(|entry| check(cx, request.acks, entry))
        .collect();
    let to_append: Few<&ToAppend> = entries
        .iter()
        .zip(&refusals)
        .filter_map(|(entry, refusal)| refusal.is_none().then_some(entry))
        .collect();
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let appended = cx
        .rooms
        .replicas
        .append_records(&to_append, Origin::Client, request.acks, timeout)
        .await;
    if appended.len() == entries.len() {
        return appended;
    }
    let mut appended = appended.into_iter();
    let answers = refusals.into_iter().filter_map(|refusal| match refusal {
        Some(code) => Some(Appended::failed(AppendFailure::new(code))),
        None => appended.next(),
    });
    answers.collect()
}

/// Why a partition's records are not even tried. Contract §7.1, rows 3 to 5 and 7 to 9.
fn check(cx: &Context<'_>, acks: i16, entry: &ToAppend) -> Option<ErrorCode> {
    let ToAppend { partition, records } = entry;
    let refusal = if let Err(rejected) = check_produce_version(cx.version, records) {
        rejected.code
    } else if is_transactional(records) {
        if cx.version > 10 {
            ErrorCode::TransactionAbortable
        } else {
            ErrorCode::InvalidTxnState
        }
    } else if !matches!(acks, -1..=1) {
        ErrorCode::InvalidRequiredAcks
    } else if is_internal_topic(&partition.topic)
        && cx.client_id.as_deref() != Some(ADMIN_CLIENT_ID)
    {
        ErrorCode::InvalidTopicException
    } else {
        // Whether there is such a partition, the append finds out.
        return None;
    };
    // Kafka looks at this first.
    if cx.rooms.cluster.image().contains(partition) {
        Some(refusal)
    } else {
        Some(ErrorCode::UnknownTopicOrPartition)
    }
}

/// Looks at the first batch of every partition, up to the first that is transactional
/// (`RequestUtils.hasTransactionalRecords`). The error is that of a batch without a beginning.
fn has_transactional_records(entries: &[ToAppend]) -> Result<bool, record::Error> {
    for ToAppend { records, .. } in entries {
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

fn refuse_all(entries: &[ToAppend], failure: &AppendFailure) -> Few<Appended> {
    smallvec![Appended::failed(failure.clone()); entries.len()]
}

fn respond(cx: &Context<'_>, mut answers: Few<Answer>) -> Outcome {
    let mut nodes: Vec<Node> = Vec::new();
    for answer in answers.iter_mut().filter(|_| cx.version >= 10) {
        let failure = answer.appended.failure.as_ref();
        if failure.is_some_and(|failure| failure.code == ErrorCode::NotLeaderOrFollower) {
            let (leader, node) = current_leader(cx, &answer.partition);
            answer.leader = leader;
            endpoint::add_node(&mut nodes, node);
        }
    }
    Outcome::Respond(wire::response(
        cx.version,
        cx.correlation_id,
        &answers,
        &nodes,
    ))
}

/// A producer that wants no answer learns of an error by the end of its connection.
fn unanswered(cx: &Context<'_>, mut answers: impl Iterator<Item = Answer>) -> Outcome {
    let failed = answers.find_map(|answer| {
        let failure = answer.appended.failure?;
        Some((answer.partition, failure.code))
    });
    match failed {
        None => Outcome::Silent,
        Some((partition, code)) => Outcome::Close(format!(
            "Produce request with correlation id {} from client {} with ack=0: {} for {partition}",
            cx.correlation_id,
            cx.client_id.as_deref().unwrap_or(""),
            code.name(),
        )),
    }
}

#[cfg(test)]
mod tests;
