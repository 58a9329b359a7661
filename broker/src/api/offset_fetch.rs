//! OffsetFetch (key 9), v0–9. v0 reads the coordination store; v2 null topics = everything and an
//! error of the group (before: of each partition), v5 leader epoch, v6 flexible, v7 require_stable
//! (KIP-447), v8 many groups, v9 members of new groups.
//!
//! A partition without a commit is offset −1 without an error, from v1 on. Where a group's error
//! has no field, v1, Kafka 3.9 answers nothing at all, so that an old client takes a loading
//! coordinator for one without commits; we put the error on each partition asked for.
//!
//! Source: `KafkaApis.handleOffsetFetchRequest`, `OffsetFetchResponse`.

use indexmap::{IndexMap, IndexSet};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetFetchRequest, OffsetFetchResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use super::offset_commit::store_error;
use crate::error::ErrorCode;
use crate::group::group::Fetched;
use crate::types::{LeaderEpoch, Offset, TopicPartition};
use crate::zk::{self, Store, data, paths};

pub async fn handle(cx: &Context<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let groups = &cx.rooms.groups;
    if cx.version >= 8 {
        let results = request
            .groups
            .iter()
            .map(|asked| {
                let partitions = asked_in_group(asked);
                let fetched = groups.fetch_offsets(
                    &asked.group_id,
                    partitions.as_deref(),
                    request.require_stable,
                );
                let answer = match fetched {
                    Ok(found) => group_answer(found.into_iter().map(into_answer)),
                    Err(code) => OffsetFetchResponseGroup::default().with_error_code(code.value()),
                };
                answer.with_group_id(asked.group_id.clone())
            })
            .collect();
        return OffsetFetchResponse::default().with_groups(results);
    }
    let partitions = asked(&request);
    if cx.version == 0 {
        let mut answers = Vec::new();
        for partition in partitions.unwrap_or_default() {
            let answer = if cx.rooms.cluster.image().contains(&partition) {
                read_store(&*cx.rooms.store, &request.group_id, &partition).await
            } else {
                Answer::error(ErrorCode::UnknownTopicOrPartition)
            };
            answers.push((partition, answer));
        }
        return old_answer(answers.into_iter());
    }
    let fetched = groups.fetch_offsets(
        &request.group_id,
        partitions.as_deref(),
        request.require_stable,
    );
    match fetched {
        Ok(found) => old_answer(found.into_iter().map(into_answer)),
        Err(code) => refuse_old(cx.version, &request, code),
    }
}

/// The same refusal in the shape of the version, which shows in what was asked: of each group, or
/// of the response and each partition.
pub fn refuse(request: &OffsetFetchRequest, code: ErrorCode) -> OffsetFetchResponse {
    if request.groups.is_empty() {
        return refuse_old(1, request, code).with_error_code(code.value());
    }
    let groups = request
        .groups
        .iter()
        .map(|group| {
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id.clone())
                .with_error_code(code.value())
        })
        .collect();
    OffsetFetchResponse::default().with_groups(groups)
}

fn refuse_old(version: i16, request: &OffsetFetchRequest, code: ErrorCode) -> OffsetFetchResponse {
    if version >= 2 {
        return OffsetFetchResponse::default().with_error_code(code.value());
    }
    let partitions = asked(request).unwrap_or_default();
    old_answer(
        partitions
            .into_iter()
            .map(|partition| (partition, Answer::error(code))),
    )
}

/// What is said of one partition.
struct Answer {
    code: ErrorCode,
    offset: Offset,
    leader_epoch: LeaderEpoch,
    metadata: String,
}

impl Answer {
    fn error(code: ErrorCode) -> Self {
        Self {
            code,
            offset: -1,
            leader_epoch: -1,
            metadata: String::new(),
        }
    }
}

fn into_answer((partition, found): (TopicPartition, Fetched)) -> (TopicPartition, Answer) {
    let answer = match found {
        Fetched::Unstable => Answer::error(ErrorCode::UnstableOffsetCommit),
        Fetched::Nothing => Answer::error(ErrorCode::None),
        Fetched::Committed(value) => Answer {
            code: ErrorCode::None,
            offset: value.offset,
            leader_epoch: value.leader_epoch.unwrap_or(-1),
            metadata: value.metadata.to_string(),
        },
    };
    (partition, answer)
}

/// `None`: everything.
fn asked(request: &OffsetFetchRequest) -> Option<Vec<TopicPartition>> {
    let topics = request.topics.as_ref()?;
    Some(once_each(topics.iter().flat_map(|topic| {
        partitions_of(&topic.name, &topic.partition_indexes)
    })))
}

fn asked_in_group(group: &OffsetFetchRequestGroup) -> Option<Vec<TopicPartition>> {
    let topics = group.topics.as_ref()?;
    Some(once_each(topics.iter().flat_map(|topic| {
        partitions_of(&topic.name, &topic.partition_indexes)
    })))
}

/// Kafka answers a partition that was named twice once, and gathers those of a topic.
fn once_each(partitions: impl Iterator<Item = TopicPartition>) -> Vec<TopicPartition> {
    let mut topics: IndexMap<crate::types::TopicName, IndexSet<i32>> = IndexMap::new();
    for partition in partitions {
        let indexes = topics.entry(partition.topic).or_default();
        indexes.insert(partition.partition);
    }
    topics
        .into_iter()
        .flat_map(|(topic, indexes)| {
            indexes.into_iter().map(move |partition| TopicPartition {
                topic: topic.clone(),
                partition,
            })
        })
        .collect()
}

fn partitions_of<'a>(
    name: &'a WireTopicName,
    indexes: &'a [i32],
) -> impl Iterator<Item = TopicPartition> + 'a {
    let name = crate::types::TopicName::new(name.as_str());
    indexes.iter().map(move |index| TopicPartition {
        topic: name.clone(),
        partition: *index,
    })
}

async fn read_store(store: &dyn Store, group_id: &str, partition: &TopicPartition) -> Answer {
    match store
        .get(&paths::consumer_offset(group_id, partition))
        .await
    {
        Ok((bytes, _)) => match data::decode_consumer_offset(&bytes) {
            Ok(offset) => Answer {
                offset,
                ..Answer::error(ErrorCode::None)
            },
            Err(error) => {
                tracing::warn!("offset of group {group_id} for {partition}: {error}");
                Answer::error(ErrorCode::UnknownServerError)
            }
        },
        Err(zk::Error::NoNode { .. }) => Answer::error(ErrorCode::UnknownTopicOrPartition),
        Err(error) => Answer::error(store_error(&error)),
    }
}

/// v0–7.
fn old_answer(answers: impl Iterator<Item = (TopicPartition, Answer)>) -> OffsetFetchResponse {
    let mut topics: Vec<OffsetFetchResponseTopic> = Vec::new();
    for (partition, answer) in answers {
        if topics
            .last()
            .is_none_or(|topic| topic.name.as_str() != &*partition.topic)
        {
            topics.push(OffsetFetchResponseTopic::default().with_name(wire_name(&partition)));
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(
                OffsetFetchResponsePartition::default()
                    .with_partition_index(partition.partition)
                    .with_committed_offset(answer.offset)
                    .with_committed_leader_epoch(answer.leader_epoch)
                    .with_metadata(Some(StrBytes::from_string(answer.metadata)))
                    .with_error_code(answer.code.value()),
            );
        }
    }
    OffsetFetchResponse::default().with_topics(topics)
}

/// v8 and later.
fn group_answer(
    answers: impl Iterator<Item = (TopicPartition, Answer)>,
) -> OffsetFetchResponseGroup {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (partition, answer) in answers {
        if topics
            .last()
            .is_none_or(|topic| topic.name.as_str() != &*partition.topic)
        {
            topics.push(OffsetFetchResponseTopics::default().with_name(wire_name(&partition)));
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition.partition)
                    .with_committed_offset(answer.offset)
                    .with_committed_leader_epoch(answer.leader_epoch)
                    .with_metadata(Some(StrBytes::from_string(answer.metadata)))
                    .with_error_code(answer.code.value()),
            );
        }
    }
    OffsetFetchResponseGroup::default().with_topics(topics)
}

fn wire_name(partition: &TopicPartition) -> WireTopicName {
    WireTopicName(StrBytes::from_string(partition.topic.to_string()))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::GroupId;
    use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::group::offsets::OffsetAndMetadata;

    fn found() -> Vec<(TopicPartition, Fetched)> {
        let committed = OffsetAndMetadata {
            offset: 7,
            leader_epoch: Some(2),
            metadata: "m".into(),
            commit_timestamp: 0,
            expire_timestamp: None,
        };
        vec![
            (TopicPartition::new("a", 0), Fetched::Committed(committed)),
            (TopicPartition::new("a", 1), Fetched::Nothing),
            (TopicPartition::new("b", 0), Fetched::Unstable),
        ]
    }

    #[test]
    fn every_answer_encodes_in_every_version() {
        let old = OffsetFetchRequest::default().with_topics(Some(vec![
            OffsetFetchRequestTopic::default()
                .with_name(WireTopicName(StrBytes::from_static_str("a")))
                .with_partition_indexes(vec![0, 1]),
        ]));
        let new = OffsetFetchRequest::default().with_groups(vec![
            OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(StrBytes::from_static_str("g"))),
        ]);
        for version in 0..=9 {
            let answers = found().into_iter().map(into_answer);
            let (response, request) = if version < 8 {
                (old_answer(answers), &old)
            } else {
                let group = group_answer(answers);
                let response = OffsetFetchResponse::default().with_groups(vec![group]);
                (response, &new)
            };
            response.encode(&mut BytesMut::new(), version).unwrap();
            refuse(request, ErrorCode::GroupAuthorizationFailed)
                .encode(&mut BytesMut::new(), version)
                .unwrap();
        }
    }

    #[test]
    fn topics_are_grouped_and_states_told_apart() {
        let response = old_answer(found().into_iter().map(into_answer));
        assert_eq!(response.topics.len(), 2);
        let [committed, nothing] = &response.topics[0].partitions[..] else {
            panic!("two partitions");
        };
        assert_eq!(
            (committed.committed_offset, committed.committed_leader_epoch),
            (7, 2)
        );
        assert_eq!((nothing.committed_offset, nothing.error_code), (-1, 0));
        assert_eq!(response.topics[1].partitions[0].error_code, 88);
    }

    #[test]
    fn what_is_asked_twice_is_answered_once() {
        let asked = [("a", 1), ("b", 0), ("a", 0), ("a", 1)];
        let once = once_each(
            asked
                .into_iter()
                .map(|(topic, index)| TopicPartition::new(topic, index)),
        );
        let expected = [("a", 1), ("a", 0), ("b", 0)];
        assert_eq!(
            once,
            expected.map(|(topic, index)| TopicPartition::new(topic, index))
        );
    }

    #[test]
    fn a_loading_coordinator_is_told_to_the_oldest_clients_too() {
        let request = OffsetFetchRequest::default().with_topics(Some(vec![
            OffsetFetchRequestTopic::default()
                .with_name(WireTopicName(StrBytes::from_static_str("a")))
                .with_partition_indexes(vec![4]),
        ]));
        let code = ErrorCode::CoordinatorLoadInProgress;
        let response = refuse_old(1, &request, code);
        assert_eq!(response.topics[0].partitions[0].error_code, code.value());
        let response = refuse_old(2, &request, code);
        assert_eq!(response.error_code, code.value());
        assert!(response.topics.is_empty());
    }
}
