//! Produce (key 0), v0–11. v1 throttle time, v2 append time, v3 batches of magic 2 only and
//! transactions, v5 log start offset, v7 zstd, v8 record errors (KIP-467), v9 flexible, v10 current
//! leader (KIP-951), v11 TRANSACTION_ABORTABLE (KIP-890).
//!
//! There is no transaction coordinator yet, so no transaction is ever open: a transactional batch
//! gets what Kafka answers to one whose partition its coordinator does not know of, and nothing is
//! appended, so that no transaction can hang.

mod wire;

use std::pin::pin;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use self::wire::{Head, Request};
use super::context::Context;
use super::dispatch::{Answered, caught, caught_at_once, log_failure};
use super::endpoint::{self, Leader, Node, current_leader};
use crate::error::{ErrorCode, KafkaCode};
use crate::hash::IndexMap;
use crate::net::Outcome;
use crate::record;
use crate::record::batch::{ATTRIBUTES_AT, BatchIter};
use crate::record::validate::check_produce_version;
use crate::replica::{AppendFailure, Appended, Appends, ToAppend};
use crate::types::{PartitionRef, is_internal_topic};

/// Client id that may write internal topics (`AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT_ID: &str = "__admin_client";
/// Bit of a batch's attributes.
const TRANSACTIONAL: u8 = 0x10;
const MAGIC_AT: usize = 16;

/// What a producer is told about one partition.
#[derive(Debug)]
struct Answer<'a> {
    partition: PartitionRef<'a>,
    appended: Appended,
    /// v10+, for the partition of another broker.
    leader: Option<Leader>,
}

/// Most requests bring records for one partition.
type Few<T> = SmallVec<[T; 1]>;

pub(super) fn answer<'a>(cx: &'a Context<'_>, body: &'a [u8]) -> Answered<'a> {
    let Request { head, entries } = match Request::read(cx.version, body) {
        Ok(request) => request,
        Err(error) => {
            let reason = format!("Produce v{} cannot be read: {error}", cx.version);
            return Answered::Now(Outcome::Close(reason));
        }
    };
    let entries = if entries.len() > 1 {
        once_each(entries)
    } else {
        entries
    };
    let appends = caught_at_once(|| append(cx, head, &entries));
    let appended = appends
        .unwrap_or_else(|| failed(cx, &entries).into())
        .done();
    match appended {
        Ok(appended) => Answered::Now(finish(cx, head.acks, &entries, appended)),
        Err(appends) => Answered::Later(Box::pin(append_rest(cx, head, entries, appends))),
    }
}

/// For appends that wait for replicas, or that others should not have to wait for.
async fn append_rest(
    cx: &Context<'_>,
    request: Head,
    entries: Few<ToAppend<'_>>,
    appends: Appends,
) -> Outcome {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let refuse = |entry: &ToAppend<'_>| check(cx, request.acks, entry);
    let replicas = &cx.rooms.replicas;
    let appending = pin!(replicas.append_rest(&entries, refuse, request.acks, timeout, appends));
    let appended = caught(appending).await;
    let appended = appended.unwrap_or_else(|| failed(cx, &entries));
    finish(cx, request.acks, &entries, appended)
}

fn failed(cx: &Context<'_>, entries: &[ToAppend<'_>]) -> Few<Appended> {
    log_failure(cx);
    refuse_all(entries, &AppendFailure::new(ErrorCode::UnknownServerError))
}

fn finish(
    cx: &Context<'_>,
    acks: i16,
    entries: &[ToAppend<'_>],
    appended: Few<Appended>,
) -> Outcome {
    let mut answers = Few::with_capacity(entries.len());
    for (entry, appended) in entries.iter().zip(appended) {
        answers.push(Answer {
            partition: entry.partition,
            appended,
            leader: None,
        });
    }
    if acks == 0 {
        unanswered(cx, &answers)
    } else {
        respond(cx, &mut answers)
    }
}

/// The records by partition, those of a topic side by side. As in Kafka the last entry of a partition
/// named twice counts, so that nothing is appended twice.
fn once_each(entries: Few<ToAppend<'_>>) -> Few<ToAppend<'_>> {
    let mut topics: IndexMap<&str, IndexMap<i32, &[u8]>> = IndexMap::default();
    for ToAppend { partition, records } in entries {
        let topic = topics.entry(partition.topic).or_default();
        topic.insert(partition.partition, records);
    }
    let each = topics.into_iter().flat_map(|(topic, partitions)| {
        partitions
            .into_iter()
            .map(move |(partition, records)| ToAppend {
                partition: PartitionRef { topic, partition },
                records,
            })
    });
    each.collect()
}

/// Appends as far as that goes without waiting.
fn append(cx: &Context<'_>, request: Head, entries: &[ToAppend<'_>]) -> Appends {
    match has_transactional_records(entries) {
        Ok(true) if !request.is_transactional => {
            let code = ErrorCode::TransactionalIdAuthorizationFailed;
            return refuse_all(entries, &AppendFailure::new(code)).into();
        }
        Ok(_) => {}
        // Kafka meets it here, before any partition is looked at: all of them are refused.
        Err(error) => {
            let mut failure = AppendFailure::new(error.code());
            failure.message = Some(error.to_string());
            return refuse_all(entries, &failure).into();
        }
    }
    let refuse = |entry: &ToAppend<'_>| check(cx, request.acks, entry);
    let replicas = &cx.rooms.replicas;
    replicas.append_some(entries, refuse, request.acks, Appends::default())
}

/// Why a partition's records are not even tried. Contract §7.1, rows 3 to 5 and 7 to 9.
fn check(cx: &Context<'_>, acks: i16, entry: &ToAppend<'_>) -> Option<ErrorCode> {
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
    } else if is_internal_topic(partition.topic) && cx.client_id != Some(ADMIN_CLIENT_ID) {
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
fn has_transactional_records(entries: &[ToAppend<'_>]) -> Result<bool, record::Error> {
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

fn refuse_all(entries: &[ToAppend<'_>], failure: &AppendFailure) -> Few<Appended> {
    smallvec![Appended::failed(failure.clone()); entries.len()]
}

fn respond(cx: &Context<'_>, answers: &mut [Answer<'_>]) -> Outcome {
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
        answers,
        &nodes,
    ))
}

/// A producer that wants no answer learns of an error by the end of its connection.
fn unanswered(cx: &Context<'_>, answers: &[Answer<'_>]) -> Outcome {
    let failed = answers.iter().find_map(|answer| {
        let failure = answer.appended.failure.as_ref()?;
        Some((answer.partition, failure.code))
    });
    match failed {
        None => Outcome::Silent,
        Some((partition, code)) => Outcome::Close(format!(
            "Produce request with correlation id {} from client {} with ack=0: {} for {partition}",
            cx.correlation_id,
            cx.client_id.unwrap_or(""),
            code.name(),
        )),
    }
}

#[cfg(test)]
mod tests;
