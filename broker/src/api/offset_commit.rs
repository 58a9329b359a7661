//! OffsetCommit (key 8), v0–9. v0 writes to the coordination store, as the 0.8 consumers expect; v1
//! a timestamp per partition, v2–4 a retention, v6 leader epoch, v7 group.instance.id, v8 flexible.
//!
//! Source: `KafkaApis.handleOffsetCommitRequest`, `GroupCoordinatorAdapter.commitOffsets`.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};

use super::context::Context;
use crate::error::ErrorCode;
use crate::group::event::MemberRef;
use crate::group::offsets::OffsetAndMetadata;
use crate::hash::{HashMap, IndexMap};
use crate::types::{Millis, TopicPartition};
use crate::zk::configs::create_with_parents;
use crate::zk::{self, Store, data, paths};

type Results = HashMap<TopicPartition, ErrorCode>;

pub async fn handle(cx: &Context<'_>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = cx.rooms.cluster.image();
    let known: Vec<(TopicPartition, &OffsetCommitRequestPartition)> = partitions(&request)
        .filter(|(partition, _)| image.contains(partition))
        .collect();
    let results = if known.is_empty() {
        Results::default()
    } else if cx.version == 0 {
        let max = cx.rooms.config.load().offset_metadata_max_bytes();
        let max = usize::try_from(max).unwrap_or(0);
        commit_to_store(&*cx.rooms.store, &request.group_id, known, max).await
    } else {
        let now = cx.rooms.clock.now();
        let offsets = known
            .into_iter()
            .map(|(partition, commit)| {
                let value = translate(commit, request.retention_time_ms, now);
                (partition, value)
            })
            .collect();
        let member = MemberRef {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
            generation: request.generation_id_or_member_epoch,
        };
        let groups = &cx.rooms.groups;
        groups
            .commit(&request.group_id, member, None, offsets)
            .await
            .into_iter()
            .collect()
    };
    // What has no result does not exist.
    respond(&request, |partition| {
        results
            .get(partition)
            .copied()
            .unwrap_or(ErrorCode::UnknownTopicOrPartition)
    })
}

/// The same refusal for every partition.
pub fn refuse(request: &OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse {
    respond(request, |_| code)
}

fn partitions(
    request: &OffsetCommitRequest,
) -> impl Iterator<Item = (TopicPartition, &OffsetCommitRequestPartition)> {
    request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            (TopicPartition::new(topic.name.as_str(), index), partition)
        })
    })
}

/// Copies what is kept: the request is a slice of its frame.
fn translate(
    commit: &OffsetCommitRequestPartition,
    retention_ms: Millis,
    now: Millis,
) -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset: commit.committed_offset,
        leader_epoch: Some(commit.committed_leader_epoch).filter(|epoch| *epoch != -1),
        metadata: commit
            .committed_metadata
            .as_deref()
            .unwrap_or_default()
            .into(),
        commit_timestamp: if commit.commit_timestamp == -1 {
            now
        } else {
            commit.commit_timestamp
        },
        expire_timestamp: (retention_ms != -1).then(|| now.saturating_add(retention_ms)),
    }
}

async fn commit_to_store(
    store: &dyn Store,
    group_id: &str,
    commits: Vec<(TopicPartition, &OffsetCommitRequestPartition)>,
    max_metadata: usize,
) -> Results {
    let mut results = Results::default();
    for (partition, commit) in commits {
        let metadata = commit.committed_metadata.as_deref().unwrap_or_default();
        let code = if metadata.encode_utf16().count() > max_metadata {
            ErrorCode::OffsetMetadataTooLarge
        } else {
            let path = paths::consumer_offset(group_id, &partition);
            match set_or_create(store, &path, commit.committed_offset).await {
                Ok(()) => ErrorCode::None,
                Err(error) => store_error(&error),
            }
        };
        results.insert(partition, code);
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

/// Topics and partitions once each, and no topic without partitions, as in Kafka.
fn respond(
    request: &OffsetCommitRequest,
    code_of: impl Fn(&TopicPartition) -> ErrorCode,
) -> OffsetCommitResponse {
    let mut topics: IndexMap<&TopicName, IndexMap<i32, OffsetCommitResponsePartition>> =
        IndexMap::default();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let code = code_of(&TopicPartition::new(topic.name.as_str(), index));
            let answer = OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.value());
            topics.entry(&topic.name).or_default().insert(index, answer);
        }
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| {
            OffsetCommitResponseTopic::default()
                .with_name(name.clone())
                .with_partitions(partitions.into_values().collect())
        })
        .collect();
    OffsetCommitResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    fn commit() -> OffsetCommitRequestPartition {
        OffsetCommitRequestPartition::default()
            .with_partition_index(3)
            .with_committed_offset(42)
    }

    #[test]
    fn every_answer_encodes_in_every_version() {
        let request = OffsetCommitRequest::default().with_topics(vec![
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(StrBytes::from_static_str("t")))
                .with_partitions(vec![commit()]),
        ]);
        for version in 0..=9 {
            let response = refuse(&request, ErrorCode::NotCoordinator);
            response.encode(&mut BytesMut::new(), version).unwrap();
            assert_eq!(response.topics[0].partitions[0].error_code, 16);
        }
    }

    #[test]
    fn what_is_named_twice_is_answered_once() {
        let topic = |name: &'static str, partitions| {
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(StrBytes::from_static_str(name)))
                .with_partitions(partitions)
        };
        let request = OffsetCommitRequest::default().with_topics(vec![
            topic("a", vec![commit(), commit()]),
            topic("b", vec![]),
            topic("a", vec![commit().with_partition_index(4)]),
        ]);
        let response = refuse(&request, ErrorCode::NotCoordinator);
        assert_eq!(response.topics.len(), 1);
        let indexes: Vec<i32> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| partition.partition_index)
            .collect();
        assert_eq!(indexes, [3, 4]);
    }

    #[test]
    fn timestamps_and_retention_of_old_versions() {
        let plain = translate(&commit(), -1, 1_000);
        assert_eq!(plain.commit_timestamp, 1_000);
        assert_eq!(plain.expire_timestamp, None);
        assert_eq!(plain.leader_epoch, None);
        let stamped = commit()
            .with_commit_timestamp(5)
            .with_committed_leader_epoch(0);
        let stamped = translate(&stamped, 60, 1_000);
        assert_eq!(stamped.commit_timestamp, 5);
        assert_eq!(stamped.expire_timestamp, Some(1_060));
        assert_eq!(stamped.leader_epoch, Some(0));
        let forever = translate(&commit(), i64::MAX, 1_000);
        assert_eq!(forever.expire_timestamp, Some(i64::MAX));
    }
}
