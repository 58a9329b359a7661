use std::io::Write as _;
use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction as WireAborted, EpochEndOffset as WireEnd, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, FetchRequest, FetchResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::Encodable as _;
use proptest::prelude::*;

use super::super::endpoint::Leader;
use super::*;
use crate::api::tests::by_hand::{self, text};
use crate::log::{AbortedTransaction, EpochEndOffset};
use crate::net::guard::{self, Direction};
use crate::types::{TopicName, Uuid};

const VERSIONS: std::ops::RangeInclusive<i16> = 0..=17;

/// Name or number of a topic, and its partitions with their offsets.
type Topics = Vec<(String, Vec<(i32, i64)>)>;

fn topics() -> impl Strategy<Value = Topics> {
    by_hand::topics(any::<(i32, i64)>())
}

fn key(version: i16, topic: &str, partition: i32) -> PartitionKey {
    let topic = if version >= BY_ID {
        TopicKey::Id(id(topic))
    } else {
        TopicKey::Name(TopicName::new(topic))
    };
    PartitionKey { topic, partition }
}

fn id(topic: &str) -> Uuid {
    let sum = topic.bytes().fold(7_u128, |sum, byte| {
        sum.wrapping_mul(251).wrapping_add(u128::from(byte))
    });
    Uuid::from_u128(sum)
}

fn encoded(version: i16, number: i32, topics: &Topics, forgotten: &Topics) -> Bytes {
    let name = |name: &str| {
        let by_name = if version < BY_ID { name } else { "" };
        WireTopicName(text(by_name))
    };
    let by_id = |name: &str| {
        if version >= BY_ID {
            id(name)
        } else {
            Uuid::nil()
        }
    };
    let asked = topics.iter().map(|(topic, partitions)| {
        let partitions = partitions.iter().map(|&(partition, offset)| {
            let mut asked = FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset)
                .with_partition_max_bytes(partition ^ 5);
            if version >= 5 {
                asked.log_start_offset = offset ^ 1;
            }
            if version >= 9 {
                asked.current_leader_epoch = partition ^ 2;
            }
            if version >= 12 {
                asked.last_fetched_epoch = partition ^ 3;
                if partition % 3 == 0 {
                    asked = asked.with_unknown_tagged_field(7, Bytes::from_static(b"seven"));
                }
            }
            if version >= 17 && partition % 2 == 0 {
                asked.replica_directory_id = Uuid::from_u128(9);
            }
            asked
        });
        FetchTopic::default()
            .with_topic(name(topic))
            .with_topic_id(by_id(topic))
            .with_partitions(partitions.collect())
    });
    let mut request = FetchRequest::default()
        .with_max_wait_ms(number)
        .with_min_bytes(number ^ 1)
        .with_topics(asked.collect());
    if version < 15 {
        request.replica_id = WireBrokerId(number);
    } else if number % 2 == 0 {
        request.replica_state = ReplicaState::default()
            .with_replica_id(WireBrokerId(number))
            .with_replica_epoch(i64::from(number) << 9);
    }
    if version >= 3 {
        request.max_bytes = number ^ 2;
    }
    if version >= 4 {
        request.isolation_level = number as i8;
    }
    if version >= 7 {
        request.session_id = number ^ 3;
        request.session_epoch = number ^ 4;
        let forgotten = forgotten.iter().map(|(topic, partitions)| {
            ForgottenTopic::default()
                .with_topic(name(topic))
                .with_topic_id(by_id(topic))
                .with_partitions(partitions.iter().map(|&(partition, _)| partition).collect())
        });
        request.forgotten_topics_data = forgotten.collect();
    }
    if version >= 11 {
        request.rack_id = text("rack");
    }
    if version >= 12 && number % 3 == 0 {
        request.cluster_id = Some(text("cluster"));
    }
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

proptest! {
    #[test]
    fn what_the_codec_wrote_is_read_and_what_is_cut_is_not(
        version in VERSIONS, number: i32, topics in topics(), forgotten in topics(), cut in 0.0..1.0,
    ) {
        let body = encoded(version, number, &topics, &forgotten);
        let request = Request::read(version, &body).unwrap();
        let has_replica = version < 15 || number % 2 == 0;
        let since = |first: i16, value: i32, default: i32| if version >= first { value } else { default };
        prop_assert_eq!(request.replica_id, if has_replica { number } else { -1 });
        let epoch = if version >= 15 && has_replica { i64::from(number) << 9 } else { -1 };
        prop_assert_eq!(request.replica_epoch, epoch);
        prop_assert_eq!((request.max_wait_ms, request.min_bytes), (number, number ^ 1));
        prop_assert_eq!(request.max_bytes, since(3, number ^ 2, i32::MAX));
        prop_assert_eq!(request.isolation_level, since(4, number, 0) as i8);
        prop_assert_eq!(request.session_id, since(7, number ^ 3, 0));
        prop_assert_eq!(request.session_epoch, since(7, number ^ 4, -1));
        prop_assert_eq!(request.rack, if version >= 11 { "rack" } else { "" });
        let known = |first: i16, epoch: i32| (version >= first && epoch >= 0).then_some(epoch);
        let wanted: Vec<_> = topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|&(partition, offset)| (key(version, topic, partition), Wanted {
                fetch_offset: offset,
                max_bytes: partition ^ 5,
                current_leader_epoch: known(9, partition ^ 2),
                last_fetched_epoch: known(12, partition ^ 3),
                log_start_offset: if version >= 5 { offset ^ 1 } else { -1 },
            }))
        }).collect();
        prop_assert_eq!(&request.partitions, &wanted);
        let left: Vec<_> = forgotten.iter().filter(|_| version >= 7).flat_map(|(topic, partitions)| {
            partitions.iter().map(|&(partition, _)| key(version, topic, partition))
        }).collect();
        prop_assert_eq!(&request.forgotten, &left);
        let cut = (body.len() as f64 * cut) as usize;
        prop_assert!(Request::read(version, &body[..cut]).is_err());
    }

    /// The guard's opinion is the measure.
    #[test]
    fn damaged_requests_are_refused_as_by_the_guard(
        version in VERSIONS, number: i32, topics in topics(), forgotten in topics(),
        damage in by_hand::damage(),
    ) {
        let body = by_hand::damaged(&encoded(version, number, &topics, &forgotten), damage);
        let checked = guard::check(Direction::Request, 1, version, &body);
        prop_assert_eq!(Request::read(version, &body).map(drop), checked);
    }

    #[test]
    fn the_codec_reads_the_response_and_writes_the_same(
        version in VERSIONS, correlation_id: i32, session_id: i32,
        entries in proptest::collection::vec(entry(), 0..5), with_node: bool,
    ) {
        let mut entries = entries;
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (topic, entry) in &mut entries {
            entry.key = key(version, topic, entry.key.partition);
        }
        let nodes = if with_node {
            vec![Node { id: 3, host: text("host"), port: 9093, rack: None },
                 Node { id: 4, host: text(""), port: -1, rack: Some(text("rack")) }]
        } else {
            Vec::new()
        };
        let (topics, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let response = Response { error: ErrorCode::None, session_id, entries, nodes };
        let out = response.write(version, correlation_id);
        let len = out.len();
        let written = out.finish().read();
        prop_assert_eq!(written.len(), len);
        let read: FetchResponse = by_hand::decoded(version, correlation_id, written);
        prop_assert_eq!(read, expected(version, &topics, &response));
    }
}

fn content(region: &FileRegion) -> Vec<u8> {
    let mut bytes = vec![0; region.len];
    region
        .file
        .read_exact_at(&mut bytes, region.position)
        .unwrap();
    bytes
}

fn records() -> impl Strategy<Value = Records> {
    (
        proptest::collection::vec(any::<u8>(), 0..200),
        any::<bool>(),
    )
        .prop_map(|(bytes, is_stored)| {
            if !is_stored {
                return Records::Bytes(bytes.into());
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[&[9; 3], &bytes[..], &[9; 3]].concat())
                .unwrap();
            Records::Stored(FileRegion {
                file: Arc::new(file),
                position: 3,
                len: bytes.len(),
            })
        })
}

fn entry() -> impl Strategy<Value = (String, Entry)> {
    let aborted = proptest::option::of(proptest::collection::vec(
        any::<[i64; 2]>().prop_map(|[producer_id, first_offset]| AbortedTransaction {
            producer_id,
            first_offset,
        }),
        0..3,
    ));
    let diverging = proptest::option::of((0..9, 0..9_i64))
        .prop_map(|end| end.map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset }));
    let leader = proptest::option::of((0..9, 0..9))
        .prop_map(|leader| leader.map(|(id, epoch)| Leader { id, epoch }));
    (
        ("[ab]{1,2}", any::<i32>(), any::<[i64; 3]>(), any::<i32>()),
        (aborted, diverging, leader, records()),
    )
        .prop_map(
            |(
                (topic, partition, offsets, preferred_read_replica),
                (aborted, diverging_epoch, leader, records),
            )| {
                let entry = Entry {
                    key: key(0, &topic, partition),
                    error: ErrorCode::OffsetOutOfRange,
                    high_watermark: offsets[0],
                    last_stable_offset: offsets[1],
                    log_start_offset: offsets[2],
                    diverging_epoch,
                    leader,
                    aborted,
                    preferred_read_replica,
                    records,
                };
                (topic, entry)
            },
        )
}

fn expected(version: i16, topics: &[String], response: &Response) -> FetchResponse {
    let mut by_topic: IndexMap<&str, Vec<PartitionData>> = IndexMap::default();
    for (topic, entry) in topics.iter().zip(&response.entries) {
        let mut data = PartitionData::default()
            .with_partition_index(entry.key.partition)
            .with_error_code(entry.error.value())
            .with_high_watermark(entry.high_watermark)
            .with_records(Some(match &entry.records {
                Records::Bytes(bytes) => bytes.clone(),
                Records::Stored(region) => content(region).into(),
            }));
        if version >= 4 {
            data.last_stable_offset = entry.last_stable_offset;
            data.aborted_transactions = entry.aborted.as_ref().map(|aborted| {
                let aborted = aborted.iter().map(|transaction| {
                    WireAborted::default()
                        .with_producer_id(transaction.producer_id.into())
                        .with_first_offset(transaction.first_offset)
                });
                aborted.collect()
            });
        }
        if version >= 5 {
            data.log_start_offset = entry.log_start_offset;
        }
        if version >= 11 {
            data.preferred_read_replica = WireBrokerId(entry.preferred_read_replica);
        }
        if version >= 12 {
            if let Some(end) = entry.diverging_epoch {
                data.diverging_epoch = WireEnd::default()
                    .with_epoch(end.epoch)
                    .with_end_offset(end.end_offset);
            }
            if let Some(leader) = entry.leader {
                data.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(WireBrokerId(leader.id))
                    .with_leader_epoch(leader.epoch);
            }
        }
        by_topic.entry(topic).or_default().push(data);
    }
    let topics = by_topic.into_iter().map(|(topic, partitions)| {
        let entry = FetchableTopicResponse::default().with_partitions(partitions);
        if version >= BY_ID {
            entry.with_topic_id(id(topic))
        } else {
            entry.with_topic(WireTopicName(text(topic)))
        }
    });
    let nodes = response.nodes.iter().filter(|_| version >= 16).map(|node| {
        NodeEndpoint::default()
            .with_node_id(WireBrokerId(node.id))
            .with_host(node.host.clone())
            .with_port(node.port)
            .with_rack(node.rack.clone())
    });
    FetchResponse::default()
        .with_session_id(if version >= 7 { response.session_id } else { 0 })
        .with_responses(topics.collect())
        .with_node_endpoints(nodes.collect())
}

#[test]
fn a_partition_named_twice_is_read_once_as_it_was_named_last() {
    let wanted = |fetch_offset| Wanted {
        fetch_offset,
        max_bytes: 1,
        current_leader_epoch: None,
        last_fetched_epoch: None,
        log_start_offset: -1,
    };
    let named = [("a", 0, 1), ("a", 1, 2), ("b", 0, 3), ("a", 0, 4)];
    let named = named.map(|(topic, partition, offset)| (key(4, topic, partition), wanted(offset)));
    let once = each_once(named.to_vec());
    assert_eq!(once, [named[3].clone(), named[1].clone(), named[2].clone()]);
}
