use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetCommitResponse, TopicName};
use kafka_protocol::protocol::Encodable as _;
use proptest::prelude::*;

use super::*;
use crate::api::tests::by_hand::{self, text};
use crate::net::guard::{self, Direction};
use crate::types::Offset;

/// What a version leaves out has its default.
#[derive(Debug, Clone)]
struct Partition {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    timestamp: i64,
    metadata: Option<String>,
}

type Topics = Vec<(String, Vec<Partition>)>;

fn partition() -> impl Strategy<Value = Partition> {
    let metadata = proptest::option::of("[a-zß]{0,5}");
    let numbers = any::<(i32, i64, i32, i64)>();
    (numbers, metadata).prop_map(
        |((index, offset, leader_epoch, timestamp), metadata)| Partition {
            index,
            offset,
            leader_epoch,
            timestamp,
            metadata,
        },
    )
}

fn topics() -> impl Strategy<Value = Topics> {
    by_hand::topics(partition())
}

fn encoded(version: i16, instance_id: Option<&str>, retention_ms: i64, topics: &Topics) -> Bytes {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|partition| {
            let mut data = OffsetCommitRequestPartition::default()
                .with_partition_index(partition.index)
                .with_committed_offset(partition.offset)
                .with_committed_metadata(partition.metadata.as_deref().map(text));
            if version >= 6 {
                data = data.with_committed_leader_epoch(partition.leader_epoch);
            }
            if version == 1 {
                data = data.with_commit_timestamp(partition.timestamp);
            }
            if version >= 8 && partition.index % 3 == 0 {
                data = data.with_unknown_tagged_field(7, Bytes::from_static(b"seven"));
            }
            data
        });
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.collect())
    });
    let mut request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("group")))
        .with_topics(topics.collect());
    if version >= 1 {
        request = request
            .with_generation_id_or_member_epoch(5)
            .with_member_id(text("member"));
    }
    if (2..=4).contains(&version) {
        request = request.with_retention_time_ms(retention_ms);
    }
    if version >= 7 {
        request = request.with_group_instance_id(instance_id.map(text));
    }
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

proptest! {
    #[test]
    fn what_the_codec_wrote_is_read_and_what_is_cut_is_not(
        version in 0..=9_i16, instance_id in proptest::option::of("[a-z]{0,5}"),
        retention_ms: i64, topics in topics(), cut in 0.0..1.0,
    ) {
        let body = encoded(version, instance_id.as_deref(), retention_ms, &topics);
        let request = Request::read(version, &body).unwrap();
        prop_assert_eq!(request.group_id, "group");
        let expected = if version >= 1 { (5, "member") } else { (-1, "") };
        prop_assert_eq!((request.generation, request.member_id), expected);
        prop_assert_eq!(request.instance_id, instance_id.as_deref().filter(|_| version >= 7));
        let expected = if (2..=4).contains(&version) { retention_ms } else { -1 };
        prop_assert_eq!(request.retention_ms, expected);
        let written: Vec<_> = topics.iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |partition| Entry {
                topic,
                partition: partition.index,
                offset: partition.offset,
                leader_epoch: if version >= 6 { partition.leader_epoch } else { -1 },
                timestamp: if version == 1 { partition.timestamp } else { -1 },
                metadata: partition.metadata.as_deref().unwrap_or_default(),
            }))
            .collect();
        prop_assert_eq!(&request.entries[..], &written[..]);
        let cut = (body.len() as f64 * cut) as usize;
        prop_assert!(Request::read(version, &body[..cut]).is_err());
    }

    /// The guard's opinion is the measure.
    #[test]
    fn damaged_requests_are_refused_as_by_the_guard(
        version in 0..=9_i16, topics in topics(),
        damage in by_hand::damage(),
    ) {
        let body = by_hand::damaged(&encoded(version, None, -1, &topics), damage);
        let checked = guard::check(Direction::Request, 8, version, &body);
        prop_assert_eq!(Request::read(version, &body).map(drop), checked);
    }

    #[test]
    fn the_codec_reads_the_response_and_writes_the_same(
        version in 0..=9_i16, correlation_id: i32, topics in topics(),
    ) {
        let body = encoded(version, None, -1, &topics);
        let request = Request::read(version, &body).unwrap();
        let entries = last_of_each(&request.entries);
        let codes: Vec<_> = (0..entries.len())
            .map(|at| if at % 2 == 0 { ErrorCode::None } else { ErrorCode::NotCoordinator })
            .collect();
        let written = wire::response(version, correlation_id, &entries, &codes).read();
        let response: OffsetCommitResponse = by_hand::decoded(version, correlation_id, written);
        let read: Vec<_> = response.topics.iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| {
                (topic.name.as_str(), partition.partition_index, partition.error_code)
            }))
            .collect();
        let expected: Vec<_> = entries.iter().zip(&codes)
            .map(|(entry, code)| (entry.topic, entry.partition, code.value()))
            .collect();
        prop_assert_eq!(read, expected);
    }
}

fn entry(topic: &str, partition: i32, offset: Offset) -> Entry<'_> {
    Entry {
        topic,
        partition,
        offset,
        leader_epoch: -1,
        timestamp: -1,
        metadata: "",
    }
}

#[test]
fn of_what_is_named_twice_the_last_counts_and_is_answered_once() {
    let entries = [
        entry("a", 3, 1),
        entry("b", 0, 2),
        entry("a", 3, 3),
        entry("a", 4, 4),
    ];
    let expected = [entry("a", 3, 3), entry("a", 4, 4), entry("b", 0, 2)];
    assert_eq!(last_of_each(&entries)[..], expected);
}

#[test]
fn timestamps_and_retention_of_old_versions() {
    let commit = entry("t", 3, 42);
    let plain = translate(&commit, -1, 1_000);
    assert_eq!(plain.commit_timestamp, 1_000);
    assert_eq!(plain.expire_timestamp, None);
    assert_eq!(plain.leader_epoch, None);
    let stamped = Entry {
        timestamp: 5,
        leader_epoch: 0,
        ..commit
    };
    let stamped = translate(&stamped, 60, 1_000);
    assert_eq!(stamped.commit_timestamp, 5);
    assert_eq!(stamped.expire_timestamp, Some(1_060));
    assert_eq!(stamped.leader_epoch, Some(0));
    let forever = translate(&commit, i64::MAX, 1_000);
    assert_eq!(forever.expire_timestamp, Some(i64::MAX));
}
