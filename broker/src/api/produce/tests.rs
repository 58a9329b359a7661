use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, ProduceRequest, ProduceResponse, TopicName as WireTopicName,
    TransactionalId,
};
use kafka_protocol::protocol::Encodable as _;
use proptest::prelude::*;

use super::*;
use crate::api::tests::by_hand::{self, text};
use crate::log::AppendInfo;
use crate::net::guard::{self, Direction};
use crate::record::build::{BatchOptions, NewRecord, build_batch};

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
    let look = |records: Vec<Bytes>| {
        let entries: Vec<_> = (0..)
            .zip(&records)
            .map(|(partition, records)| ToAppend {
                partition: PartitionRef {
                    topic: "t",
                    partition,
                },
                records,
            })
            .collect();
        has_transactional_records(&entries)
    };
    assert_eq!(look(vec![batch(false), Bytes::new()]), Ok(false));
    assert_eq!(look(vec![batch(false), batch(true)]), Ok(true));
    assert_eq!(look(vec![batch(true), broken.clone()]), Ok(true));
    assert_eq!(
        look(vec![batch(false), broken]),
        Err(record::Error::SizeTooSmall { size: 0 })
    );
}

type Topics = Vec<(String, Vec<(i32, Option<Vec<u8>>)>)>;

fn encoded(version: i16, id: Option<&str>, acks: i16, timeout_ms: i32, topics: &Topics) -> Bytes {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|(index, records)| {
            let mut data = PartitionProduceData::default()
                .with_index(*index)
                .with_records(records.clone().map(Bytes::from));
            if version >= 9 && index % 3 == 0 {
                data = data.with_unknown_tagged_field(7, Bytes::from_static(b"seven"));
            }
            data
        });
        TopicProduceData::default()
            .with_name(WireTopicName(text(name)))
            .with_partition_data(partitions.collect())
    });
    let mut bytes = BytesMut::new();
    ProduceRequest::default()
        .with_transactional_id(
            id.filter(|_| version >= 3)
                .map(|id| TransactionalId(text(id))),
        )
        .with_acks(acks)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(topics.collect())
        .encode(&mut bytes, version)
        .unwrap();
    bytes.freeze()
}

fn topics() -> impl Strategy<Value = Topics> {
    let records = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    by_hand::topics((any::<i32>(), records))
}

proptest! {
    #[test]
    fn what_the_codec_wrote_is_read_and_what_is_cut_is_not(
        version in 0..=11_i16, id in proptest::option::of("[a-z]{0,5}"),
        acks: i16, timeout_ms: i32, topics in topics(), cut in 0.0..1.0,
    ) {
        let body = encoded(version, id.as_deref(), acks, timeout_ms, &topics);
        let request = Request::read(version, &body).unwrap();
        prop_assert_eq!(request.head.is_transactional, id.is_some() && version >= 3);
        prop_assert_eq!((request.head.acks, request.head.timeout_ms), (acks, timeout_ms));
        let read: Vec<_> = request.entries.iter()
            .map(|entry| (entry.partition.topic, entry.partition.partition, entry.records))
            .collect();
        let written: Vec<_> = topics.iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |(partition, records)| {
                (topic.as_str(), *partition, records.as_deref().unwrap_or_default())
            }))
            .collect();
        prop_assert_eq!(read, written);
        let cut = (body.len() as f64 * cut) as usize;
        prop_assert!(Request::read(version, &body[..cut]).is_err());
    }

    /// The guard's opinion is the measure.
    #[test]
    fn damaged_requests_are_refused_as_by_the_guard(
        version in 0..=11_i16, topics in topics(),
        damage in by_hand::damage(),
    ) {
        let body = by_hand::damaged(&encoded(version, None, 1, 1000, &topics), damage);
        let checked = guard::check(Direction::Request, 0, version, &body);
        prop_assert_eq!(Request::read(version, &body).map(drop), checked);
    }

    #[test]
    fn the_codec_reads_the_response_and_writes_the_same(
        version in 0..=11_i16, correlation_id: i32,
        answers in proptest::collection::vec(answer_of_partition(), 0..5), with_node: bool,
    ) {
        let mut answers = answers;
        answers.sort_by_key(|answer| answer.partition.topic);
        let nodes = if with_node {
            vec![Node { id: 3, host: text("host"), port: 9093, rack: None },
                 Node { id: 4, host: text(""), port: -1, rack: Some(text("rack")) }]
        } else {
            Vec::new()
        };
        let written = wire::response(version, correlation_id, &answers, &nodes).read();
        let response: ProduceResponse = by_hand::decoded(version, correlation_id, written);
        prop_assert_eq!(response, expected(version, &answers, &nodes));
    }
}

fn answer_of_partition() -> impl Strategy<Value = Answer<'static>> {
    let info = proptest::option::of(any::<[i64; 3]>()).prop_map(|offsets| {
        offsets.map(
            |[base_offset, log_start_offset, log_append_time]| AppendInfo {
                base_offset,
                last_offset: base_offset,
                log_start_offset,
                log_append_time,
                duplicate: false,
            },
        )
    });
    let message = || proptest::option::of("[a-zß]{0,200}");
    let failure = (
        any::<i64>(),
        message(),
        proptest::collection::vec((any::<i32>(), message()), 0..3),
    )
        .prop_map(|(log_start_offset, message, record_errors)| AppendFailure {
            code: ErrorCode::InvalidRecord,
            log_start_offset,
            message,
            record_errors,
        })
        .prop_map(Box::new);
    let leader = proptest::option::of((0..9, 0..9))
        .prop_map(|leader| leader.map(|(id, epoch)| Leader { id, epoch }));
    (
        prop::sample::select(vec!["a", "b", "ab", "ba"]),
        any::<i32>(),
        info,
        proptest::option::of(failure),
        leader,
    )
        .prop_map(|(topic, partition, info, failure, leader)| Answer {
            partition: PartitionRef { topic, partition },
            appended: Appended { info, failure },
            leader,
        })
}

fn expected(version: i16, answers: &[Answer<'_>], nodes: &[Node]) -> ProduceResponse {
    let mut topics: IndexMap<&str, Vec<PartitionProduceResponse>> = IndexMap::default();
    for answer in answers {
        let mut one = PartitionProduceResponse::default()
            .with_index(answer.partition.partition)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1);
        if let Some(failure) = &answer.appended.failure {
            one.error_code = failure.code.value();
            one.log_start_offset = failure.log_start_offset;
            if version >= 8 {
                one.error_message = failure.message.as_deref().map(text);
                let errors = failure.record_errors.iter().map(|(index, message)| {
                    BatchIndexAndErrorMessage::default()
                        .with_batch_index(*index)
                        .with_batch_index_error_message(message.as_deref().map(text))
                });
                one.record_errors = errors.collect();
            }
        }
        if let Some(info) = &answer.appended.info {
            one.base_offset = info.base_offset;
            one.log_append_time_ms = info.log_append_time;
            one.log_start_offset = info.log_start_offset;
        }
        if version < 2 {
            one.log_append_time_ms = -1;
        }
        if version < 5 {
            one.log_start_offset = -1;
        }
        if let Some(leader) = answer.leader.filter(|_| version >= 10) {
            one.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(WireBrokerId(leader.id))
                .with_leader_epoch(leader.epoch);
        }
        topics.entry(answer.partition.topic).or_default().push(one);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        TopicProduceResponse::default()
            .with_name(WireTopicName(text(name)))
            .with_partition_responses(partitions)
    });
    let nodes = nodes.iter().filter(|_| version >= 10).map(|node| {
        NodeEndpoint::default()
            .with_node_id(WireBrokerId(node.id))
            .with_host(node.host.clone())
            .with_port(node.port)
            .with_rack(node.rack.clone())
    });
    ProduceResponse::default()
        .with_responses(topics.collect())
        .with_node_endpoints(nodes.collect())
}
