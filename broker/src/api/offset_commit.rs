//! OffsetCommit (key 8), v0–9. v0 writes to the coordination store, as the 0.8 consumers expect; v1
//! a timestamp per partition, v2–4 a retention, v6 leader epoch, v7 group.instance.id, v8 flexible.
//!
//! Source: `KafkaApis.handleOffsetCommitRequest`, `GroupCoordinatorAdapter.commitOffsets`.

mod wire;

use std::pin::pin;

use smallvec::{SmallVec, smallvec};

use self::wire::{Entry, Request};
use super::context::Context;
use super::dispatch::{Answered, caught, caught_at_once, log_failure};
use crate::error::ErrorCode;
use crate::group::coordinator::Reply;
use crate::group::event::MemberRef;
use crate::group::offsets::OffsetAndMetadata;
use crate::hash::IndexMap;
use crate::net::Outcome;
use crate::types::{Millis, TopicPartition};
use crate::zk::configs::create_with_parents;
use crate::zk::{self, Store, data, paths};

/// Most requests commit one partition.
type Few<T> = SmallVec<[T; 1]>;

pub(super) fn answer<'a>(cx: &'a Context<'_>, body: &'a [u8]) -> Answered<'a> {
    let request = match Request::read(cx.version, body) {
        Ok(request) => request,
        Err(error) => {
            let reason = format!("OffsetCommit v{} cannot be read: {error}", cx.version);
            return Answered::Now(Outcome::Close(reason));
        }
    };
    let (commit, partitions) = Commit::of(cx, &request);
    if partitions.is_empty() {
        return Answered::Now(commit.respond(cx, Vec::new()));
    }
    if cx.version == 0 {
        let group_id = request.group_id;
        return Answered::Later(Box::pin(async move {
            let storing = pin!(commit.store(cx, group_id, partitions));
            let results = caught(storing).await;
            commit.finish(cx, results)
        }));
    }
    match caught_at_once(|| commit.hand_in(cx, &request, partitions)) {
        None => Answered::Now(commit.finish(cx, None)),
        Some(Reply::Now(results)) => Answered::Now(commit.respond(cx, results)),
        Some(Reply::Later(results)) => Answered::Later(Box::pin(async move {
            let results = caught(pin!(results)).await;
            commit.finish(cx, results)
        })),
    }
}

/// What a request commits.
struct Commit<'a> {
    entries: Few<Entry<'a>>,
    /// Places of the entries whose partition there is.
    known: Few<usize>,
}

impl<'a> Commit<'a> {
    /// With the partitions of the known entries.
    fn of(cx: &Context<'_>, request: &Request<'a>) -> (Self, Few<TopicPartition>) {
        let entries = last_of_each(&request.entries);
        let mut known = SmallVec::new();
        let mut partitions = SmallVec::new();
        let image = cx.rooms.cluster.image();
        for (place, entry) in entries.iter().enumerate() {
            if let Some(topic) = image.topic(entry.topic)
                && topic.partitions.contains_key(&entry.partition)
            {
                known.push(place);
                partitions.push(TopicPartition::new(topic.name.clone(), entry.partition));
            }
        }
        (Self { entries, known }, partitions)
    }

    /// The known entries with their partitions.
    fn each(
        &self,
        partitions: Few<TopicPartition>,
    ) -> impl Iterator<Item = (TopicPartition, &Entry<'a>)> {
        let entries = self.known.iter().map(|place| &self.entries[*place]);
        partitions.into_iter().zip(entries)
    }

    /// To the group's coordinator.
    fn hand_in(
        &self,
        cx: &Context<'_>,
        request: &Request<'_>,
        partitions: Few<TopicPartition>,
    ) -> Reply<Vec<ErrorCode>, impl Future<Output = Vec<ErrorCode>> + use<>> {
        let now = cx.rooms.clock.now();
        let offsets = self
            .each(partitions)
            .map(|(partition, entry)| (partition, translate(entry, request.retention_ms, now)))
            .collect();
        let member = MemberRef {
            member_id: request.member_id.to_owned(),
            instance_id: request.instance_id.map(ToOwned::to_owned),
            generation: request.generation,
        };
        let groups = &cx.rooms.groups;
        groups.commit(request.group_id, member, None, offsets)
    }

    /// v0: to the coordination store.
    async fn store(
        &self,
        cx: &Context<'_>,
        group_id: &str,
        partitions: Few<TopicPartition>,
    ) -> Vec<ErrorCode> {
        let max = cx.rooms.config.load().offset_metadata_max_bytes();
        let max = usize::try_from(max).unwrap_or(0);
        let store = &*cx.rooms.store;
        commit_to_store(store, group_id, self.each(partitions), max).await
    }

    /// `None`: it panicked.
    fn finish(&self, cx: &Context<'_>, results: Option<Vec<ErrorCode>>) -> Outcome {
        let results = results.unwrap_or_else(|| {
            log_failure(cx);
            vec![ErrorCode::UnknownServerError; self.known.len()]
        });
        self.respond(cx, results)
    }

    /// `results` are those of the known entries.
    fn respond(&self, cx: &Context<'_>, results: Vec<ErrorCode>) -> Outcome {
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let mut codes: Few<ErrorCode> = smallvec![unknown; self.entries.len()];
        for (place, code) in self.known.iter().zip(results) {
            codes[*place] = code;
        }
        let response = wire::response(cx.version, cx.correlation_id, &self.entries, &codes);
        Outcome::Respond(response)
    }
}

/// The offsets by partition, those of a topic side by side. As in Kafka the last one of a partition
/// named twice counts.
fn last_of_each<'a>(entries: &[Entry<'a>]) -> Few<Entry<'a>> {
    if let [only] = entries {
        return smallvec![*only];
    }
    let mut topics: IndexMap<&str, IndexMap<i32, Entry<'a>>> = IndexMap::default();
    for entry in entries {
        let topic = topics.entry(entry.topic).or_default();
        topic.insert(entry.partition, *entry);
    }
    topics
        .into_values()
        .flat_map(IndexMap::into_values)
        .collect()
}

/// Copies what is kept: the request is a slice of its frame.
fn translate(entry: &Entry<'_>, retention_ms: Millis, now: Millis) -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset: entry.offset,
        leader_epoch: Some(entry.leader_epoch).filter(|epoch| *epoch != -1),
        metadata: entry.metadata.into(),
        commit_timestamp: if entry.timestamp == -1 {
            now
        } else {
            entry.timestamp
        },
        expire_timestamp: (retention_ms != -1).then(|| now.saturating_add(retention_ms)),
    }
}

async fn commit_to_store<'a, 'b: 'a>(
    store: &dyn Store,
    group_id: &str,
    commits: impl Iterator<Item = (TopicPartition, &'a Entry<'b>)>,
    max_metadata: usize,
) -> Vec<ErrorCode> {
    let mut results = Vec::new();
    for (partition, entry) in commits {
        results.push(if entry.metadata.encode_utf16().count() > max_metadata {
            ErrorCode::OffsetMetadataTooLarge
        } else {
            let path = paths::consumer_offset(group_id, &partition);
            match set_or_create(store, &path, entry.offset).await {
                Ok(()) => ErrorCode::None,
                Err(error) => store_error(&error),
            }
        });
    }
    results
}

async fn set_or_create(store: &dyn Store, path: &str, offset: i64) -> Result<(), zk::Error> {
    let bytes = data::encode_consumer_offset(offset);
    match store.set(path, bytes.clone(), None).await {
        Err(zk::Error::NoNode { .. }) => create_with_parents(store, path, bytes).await,
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// What a failure of the store means to a client of v0: to ask again, mostly.
pub(super) fn store_error(error: &zk::Error) -> ErrorCode {
    match error {
        zk::Error::InvalidPath { .. } => ErrorCode::InvalidGroupId,
        zk::Error::SessionExpired | zk::Error::Closed | zk::Error::Unknown { .. } => {
            ErrorCode::CoordinatorNotAvailable
        }
        zk::Error::NoNode { .. }
        | zk::Error::NodeExists { .. }
        | zk::Error::BadVersion { .. }
        | zk::Error::NotEmpty { .. }
        | zk::Error::NoAuth { .. }
        | zk::Error::NoChildrenForEphemerals { .. }
        | zk::Error::AuthFailed => ErrorCode::UnknownServerError,
    }
}

#[cfg(test)]
mod tests;
