//! InitProducerId, idempotent sequences, DescribeProducers.

use anyhow::Result;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{
    DescribeProducersRequest, InitProducerIdRequest, ProduceRequest, ProducerId, TransactionalId,
};
use ottla::record::compress::Codec;
use protocol_tests::batches::Batch;
use protocol_tests::differential::{Case, Test};

use crate::make::{produce, text, topic, topic_name};

pub(crate) const CASES: &[Test] = &[
    ("init producer id", init),
    ("idempotent sequences", sequences),
    ("describe producers", describe),
];

fn init(case: &mut Case<'_>) -> Result<()> {
    let plain = InitProducerIdRequest::default().with_transaction_timeout_ms(1000);
    for version in case.versions::<InitProducerIdRequest>() {
        case.ask(version, "an id", plain.clone())?;
        case.ask(version, "the next", plain.clone())?;
        case.ask(
            version,
            "timeout 0",
            plain.clone().with_transaction_timeout_ms(0),
        )?;
        let request = plain.clone().with_transaction_timeout_ms(i32::MAX);
        case.ask(version, "timeout of all", request)?;
        let request = plain
            .clone()
            .with_transactional_id(Some(TransactionalId(text(""))));
        case.ask(version, "an empty transactional id", request)?;
        if version >= 3 {
            for (id, epoch) in [(3, 0), (3, -1), (-1, 0), (-2, 0), (3, -2), (3, i16::MAX)] {
                let request = plain
                    .clone()
                    .with_producer_id(ProducerId(id))
                    .with_producer_epoch(epoch);
                case.ask(version, &format!("after id {id} epoch {epoch}"), request)?;
            }
        }
    }
    Ok(())
}

fn sequences(case: &mut Case<'_>) -> Result<()> {
    topic(case, "sequences", 1, &[])?;
    let mut id = 1_000_000;
    for version in case.versions::<ProduceRequest>() {
        if version < 2 {
            // Clients of that age knew no v2 batches; later versions say all there is to say.
            let batch = Batch::new(2).producer(id, 0, 0);
            case.ask(
                version,
                "a producer",
                produce("sequences", vec![(0, batch.bytes())]),
            )?;
            id += 1;
            continue;
        }
        let mut send = |what: &str, id: i64, epoch: i16, sequence: i32, count: i32| {
            let batch = Batch::new(count).producer(id, epoch, sequence);
            case.ask(
                version,
                what,
                produce("sequences", vec![(0, batch.bytes())]),
            )
        };
        send("the first", id, 0, 0, 3)?;
        send("the first again", id, 0, 0, 3)?;
        send("the second", id, 0, 3, 2)?;
        send("the first once more", id, 0, 0, 3)?;
        send("a gap", id, 0, 9, 1)?;
        send("overlapping", id, 0, 4, 3)?;
        send("part of the first", id, 0, 0, 2)?;
        for at in 0..5 {
            send("one more", id, 0, 5 + at, 1)?;
        }
        send("the fifth last", id, 0, 5, 1)?;
        send("the sixth last", id, 0, 3, 2)?;
        send("a new epoch not from 0", id, 1, 10, 1)?;
        send("a new epoch", id, 1, 0, 1)?;
        send("the new epoch again", id, 1, 0, 1)?;
        send("the old epoch", id, 0, 10, 1)?;
        send("the old epoch, a duplicate", id, 0, 9, 1)?;
        send("two epochs on", id, 3, 0, 1)?;
        id += 1;
        send("a new producer not from 0", id, 4, 77, 2)?;
        send("its next", id, 4, 79, 2)?;
        id += 1;
        send("before the wrap", id, 0, i32::MAX - 1, 2)?;
        send("after the wrap", id, 0, 0, 1)?;
        id += 1;
        send("over the wrap", id, 0, i32::MAX, 3)?;
        send("over the wrap again", id, 0, i32::MAX, 3)?;
        send("behind it", id, 0, 2, 1)?;
        id += 1;
        send("the last epoch", id, i16::MAX, 0, 1)?;
        id += 1;
        let packed = Batch::new(3).producer(id, 0, 0).packed(Codec::Snappy);
        for what in ["packed", "packed again"] {
            case.ask(
                version,
                what,
                produce("sequences", vec![(0, packed.bytes())]),
            )?;
        }
        id += 1;
    }
    Ok(())
}

fn describe(case: &mut Case<'_>) -> Result<()> {
    topic(case, "described", 2, &[])?;
    for (id, epoch, sequence) in [(2_000_000, 3, 0), (2_000_001, 0, 5)] {
        let batch = Batch::new(2).producer(id, epoch, sequence);
        case.ask(9, "produce", produce("described", vec![(1, batch.bytes())]))?;
    }
    let of = |name: &str, partitions: &[i32]| {
        TopicRequest::default()
            .with_name(topic_name(name))
            .with_partition_indexes(partitions.to_vec())
    };
    let request = |topics| DescribeProducersRequest::default().with_topics(topics);
    for version in case.versions::<DescribeProducersRequest>() {
        let all = request(vec![of("described", &[0, 1])]);
        case.ask(version, "both partitions", all)?;
        let wrong = request(vec![
            of("described", &[2, -1]),
            of("no-such", &[0]),
            of("a/b", &[0]),
        ]);
        case.ask(version, "wrong places", wrong)?;
        let twice = request(vec![of("described", &[1, 1]), of("described", &[1])]);
        case.ask(version, "a partition twice", twice)?;
        case.ask(version, "none", request(vec![]))?;
        case.ask(
            version,
            "no partitions",
            request(vec![of("described", &[])]),
        )?;
    }
    Ok(())
}
