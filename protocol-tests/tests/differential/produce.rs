//! Produce: what is appended, what is refused, and what is told about it (H11, H13–H22).

use anyhow::Result;
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, FetchRequest, ProduceRequest, TransactionalId,
};
use ottla::record::compress::Codec;
use protocol_tests::batches::{Batch, Message, Record, TIME, message_set};
use protocol_tests::differential::{Case, Test};

use crate::make::{produce, produce_data, text, topic, topic_name};

pub(crate) const CASES: &[Test] = &[
    ("produce in every version", every_version),
    ("produce to what is not there", wrong_places),
    ("produce with other acks", acks),
    ("produce batches that are wrong", wrong_batches),
    ("produce records that are wrong", wrong_records),
    ("produce packed batches", packed),
    ("produce old formats", old_formats),
    ("produce to a compacted topic", compacted),
    ("produce with times out of range", times),
    ("produce with append time", append_time),
    ("produce and pack anew", recompression),
    ("produce too much", sizes),
];

fn read_all(case: &mut Case<'_>, topic: &str) -> Result<()> {
    read(case, topic, 0, "everything that is stored")
}

/// Everything that is stored in a partition, compared.
fn read(case: &mut Case<'_>, topic: &str, partition: i32, what: &str) -> Result<()> {
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_max_bytes(10_000_000)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(vec![
                    FetchPartition::default()
                        .with_partition(partition)
                        .with_partition_max_bytes(10_000_000),
                ]),
        ]);
    case.ask(11, what, request)?;
    Ok(())
}

fn every_version(case: &mut Case<'_>) -> Result<()> {
    topic(case, "produce", 3, &[])?;
    let batch = || Batch::new(3).bytes();
    for version in case.versions::<ProduceRequest>() {
        case.ask(version, "a batch", produce("produce", vec![(0, batch())]))?;
        let request = produce("produce", vec![(0, batch()), (2, batch())]);
        case.ask(version, "two partitions", request)?;
        let request = produce("produce", vec![(1, batch()), (1, Batch::new(1).bytes())]);
        case.ask(version, "a partition twice", request)?;
        let mut request = produce("produce", vec![(0, batch())]);
        request.topic_data.push(produce_data(
            "produce",
            vec![(1, batch()), (0, Batch::new(2).bytes())],
        ));
        case.ask(version, "a topic twice", request)?;
        let mut request = produce("produce", vec![(0, batch())]);
        request
            .topic_data
            .push(produce_data("no-such", vec![(0, batch())]));
        request
            .topic_data
            .push(produce_data("produce", vec![(9, batch()), (1, batch())]));
        case.ask(version, "right and wrong places", request)?;
        case.ask(version, "no topics", ProduceRequest::default().with_acks(1))?;
        case.ask(version, "no partitions", produce("produce", vec![]))?;
        case.ask(
            version,
            "no records",
            produce("produce", vec![(0, Bytes::new())]),
        )?;
        // Null records are left out: Kafka never answers them (NullPointerException).
        let two = [batch(), batch()].concat();
        case.ask(
            version,
            "two batches",
            produce("produce", vec![(0, two.into())]),
        )?;
        let cut = [&batch()[..], &batch()[..40]].concat();
        case.ask(
            version,
            "a batch and a half",
            produce("produce", vec![(0, cut.into())]),
        )?;
        if version >= 3 {
            let request = produce("produce", vec![(0, batch())])
                .with_transactional_id(Some(TransactionalId(text("t"))));
            case.ask(version, "a transactional id, plain records", request)?;
        }
    }
    read_all(case, "produce")
}

fn wrong_places(case: &mut Case<'_>) -> Result<()> {
    topic(case, "places", 1, &[])?;
    let batch = || Batch::new(1).bytes();
    for version in case.versions::<ProduceRequest>() {
        for name in ["no-such", "", ".", "a/b", "__consumer_offsets"] {
            let request = produce(name, vec![(0, batch())]);
            case.ask(version, &format!("topic {name:?}"), request)?;
        }
        for partition in [1, -1, i32::MAX] {
            let request = produce("places", vec![(partition, batch())]);
            case.ask(version, &format!("partition {partition}"), request)?;
        }
    }
    Ok(())
}

fn acks(case: &mut Case<'_>) -> Result<()> {
    topic(case, "acks", 1, &[("min.insync.replicas", "2")])?;
    topic(case, "acks-1", 1, &[])?;
    for version in case.versions::<ProduceRequest>() {
        for acks in [-1, 1, 2, -2, i16::MAX] {
            let request = produce("acks", vec![(0, Batch::new(1).bytes())]).with_acks(acks);
            case.ask(
                version,
                &format!("acks {acks}, two in-sync wanted"),
                request,
            )?;
        }
        let request = produce("acks-1", vec![(0, Batch::new(1).bytes())]).with_timeout_ms(0);
        case.ask(version, "no time", request)?;
        let request = produce("acks-1", vec![(0, Batch::new(1).bytes())]).with_timeout_ms(-1);
        case.ask(version, "negative time", request)?;
        for (what, topic, records) in [
            ("a batch", "acks-1", Batch::new(1).bytes()),
            ("an unknown topic", "no-such", Batch::new(1).bytes()),
            ("a wrong batch", "acks-1", Bytes::from_static(&[1; 70])),
        ] {
            // Nothing is answered; whether the connection lives, the next answer tells.
            let wire = case.wire();
            let request = produce(topic, vec![(0, records)]).with_acks(0);
            case.send(wire, version, &request.into())?;
            let after = ApiVersionsRequest::default();
            case.ask_on(
                wire,
                0,
                &format!("after acks 0 and {what}, v{version}"),
                after.into(),
            )?;
        }
    }
    read_all(case, "acks-1")
}

/// Batches with one field wrong.
fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    let batch = Batch::new(3);
    let with = |change: &dyn Fn(&mut Batch)| {
        let mut batch = batch.clone();
        change(&mut batch);
        batch.bytes().to_vec()
    };
    let whole = batch.bytes();
    let length = whole.len() as i32 - 12;
    let mut out = vec![
        ("H14 a wrong crc", with(&|batch| batch.crc = Some(1))),
        (
            "H13 the length of a header",
            with(&|batch| batch.length = Some(48)),
        ),
        ("H13 length 49", with(&|batch| batch.length = Some(49))),
        ("H13 length 0", with(&|batch| batch.length = Some(0))),
        ("H13 length 5", with(&|batch| batch.length = Some(5))),
        ("H13 length 13", with(&|batch| batch.length = Some(13))),
        ("H13 length 14", with(&|batch| batch.length = Some(14))),
        (
            "H13 a negative length",
            with(&|batch| batch.length = Some(-1)),
        ),
        (
            "H13 one byte short",
            with(&|batch| batch.length = Some(length - 1)),
        ),
        (
            "H13 one byte long",
            with(&|batch| batch.length = Some(length + 1)),
        ),
        (
            "H13 a length of 2 GB",
            with(&|batch| batch.length = Some(i32::MAX)),
        ),
        ("H13 cut in the records", whole[..whole.len() - 3].to_vec()),
        ("H13 cut in the header", whole[..40].to_vec()),
        ("H13 cut before the magic", whole[..16].to_vec()),
        ("H13 cut before the length", whole[..11].to_vec()),
        ("H13 a byte", vec![0]),
        ("H13 magic 3", with(&|batch| batch.magic = 3)),
        ("H13 magic -1", with(&|batch| batch.magic = -1)),
        ("H13 magic 1", with(&|batch| batch.magic = 1)),
        ("H13 zeros", vec![0; 100]),
        ("a base offset", with(&|batch| batch.base_offset = 5)),
        (
            "H18 the last base offset",
            with(&|batch| batch.base_offset = i64::MAX),
        ),
        (
            "a negative base offset",
            with(&|batch| batch.base_offset = -1),
        ),
        ("a leader epoch", with(&|batch| batch.leader_epoch = 7)),
        (
            "H15 a higher last delta",
            with(&|batch| batch.last_offset_delta = 5),
        ),
        (
            "H15 a lower last delta",
            with(&|batch| batch.last_offset_delta = 1),
        ),
        (
            "H15 a negative last delta",
            with(&|batch| batch.last_offset_delta = -1),
        ),
        (
            "H15 the last last delta",
            with(&|batch| batch.last_offset_delta = i32::MAX),
        ),
        ("H15 count 0", with(&|batch| batch.count = 0)),
        ("H15 count -1", with(&|batch| batch.count = -1)),
        ("H16 a huge count", with(&|batch| batch.count = i32::MAX)),
        (
            "H16 a huge count and last delta",
            with(&|batch| {
                batch.count = i32::MAX;
                batch.last_offset_delta = i32::MAX - 1;
            }),
        ),
        (
            "H17 fewer records than counted",
            with(&|batch| {
                batch.count = 4;
                batch.last_offset_delta = 3;
            }),
        ),
        (
            "H17 more records than counted",
            with(&|batch| {
                batch.count = 2;
                batch.last_offset_delta = 1;
            }),
        ),
        (
            "H17 a byte behind the records",
            with(&|batch| batch.payload.push(0)),
        ),
        ("H17 no records", with(&|batch| batch.payload.clear())),
        (
            "no records and count 0",
            with(&|batch| {
                batch.payload.clear();
                batch.count = 0;
                batch.last_offset_delta = -1;
            }),
        ),
        (
            "H19 a control batch",
            with(&|batch| batch.attributes = 0x20),
        ),
        ("H19 transactional", with(&|batch| batch.attributes = 0x10)),
        (
            "H19 transactional, of a producer",
            with(&|batch| {
                batch.attributes = 0x10;
                batch.producer_id = 4711;
                batch.producer_epoch = 0;
                batch.base_sequence = 0;
            }),
        ),
        (
            "H19 a producer without sequence",
            with(&|batch| {
                batch.producer_id = 4711;
                batch.producer_epoch = 0;
            }),
        ),
        (
            "H19 a producer with sequence -2",
            with(&|batch| {
                batch.producer_id = 4711;
                batch.producer_epoch = 0;
                batch.base_sequence = -2;
            }),
        ),
        (
            "H19 a producer without epoch",
            with(&|batch| {
                batch.producer_id = 4711;
                batch.base_sequence = 0;
            }),
        ),
        (
            "a sequence without producer",
            with(&|batch| batch.base_sequence = 3),
        ),
        (
            "an epoch without producer",
            with(&|batch| batch.producer_epoch = 3),
        ),
        (
            "producer id -2",
            with(&|batch| {
                batch.producer_id = -2;
                batch.producer_epoch = 0;
                batch.base_sequence = 0;
            }),
        ),
        ("append time", with(&|batch| batch.attributes = 8)),
        ("a delete horizon", with(&|batch| batch.attributes = 0x40)),
        (
            "unused attributes",
            with(&|batch| batch.attributes = 0x7f80),
        ),
        (
            "a wrong max timestamp",
            with(&|batch| batch.max_timestamp = TIME + 99),
        ),
        ("no max timestamp", with(&|batch| batch.max_timestamp = -1)),
        (
            "base timestamp -1",
            with(&|batch| batch.base_timestamp = -1),
        ),
        (
            "H18 the last base timestamp",
            with(&|batch| batch.base_timestamp = i64::MAX - 1),
        ),
        (
            "H18 the first base timestamp",
            with(&|batch| batch.base_timestamp = i64::MIN),
        ),
        (
            "base timestamp -5",
            with(&|batch| batch.base_timestamp = -5),
        ),
    ];
    for codec in 5..8 {
        let name = ["H22 codec 5", "H22 codec 6", "H22 codec 7"][codec as usize - 5];
        out.push((name, with(&|batch| batch.attributes = codec)));
    }
    for (codec, name) in [
        (1, "gzip that is none"),
        (2, "snappy that is none"),
        (3, "lz4 that is none"),
        (4, "zstd that is none"),
    ] {
        out.push((name, with(&|batch| batch.attributes = codec)));
    }
    out
}

fn wrong_batches(case: &mut Case<'_>) -> Result<()> {
    let wrong = wrong();
    topic(case, "wrong-batches", wrong.len() as i32, &[])?;
    // A partition for each: one that is taken here and refused there must not move the others.
    for (partition, (what, records)) in (0..).zip(wrong) {
        for version in case.versions::<ProduceRequest>() {
            let request = produce("wrong-batches", vec![(partition, records.clone().into())]);
            case.ask(version, what, request)?;
        }
        read(
            case,
            "wrong-batches",
            partition,
            &format!("stored of {what}"),
        )?;
    }
    Ok(())
}

/// Three records of which the second is wrong.
fn wrong_record(change: impl Fn(&mut Record)) -> Vec<Record> {
    let mut records: Vec<_> = (0..3).map(Record::new).collect();
    change(&mut records[1]);
    records
}

fn wrong_records(case: &mut Case<'_>) -> Result<()> {
    let header = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
    let sets: Vec<(&str, Vec<Record>)> = vec![
        (
            "null key and value",
            wrong_record(|one| (one.key, one.value) = (None, None)),
        ),
        (
            "headers",
            wrong_record(|one| {
                one.headers = vec![
                    header(b"a", Some(b"1")),
                    header(b"", None),
                    header(b"a", Some(b"")),
                ];
            }),
        ),
        ("attributes", wrong_record(|one| one.attributes = 0x55)),
        (
            "H15 delta 0 again",
            wrong_record(|one| one.offset_delta = 0),
        ),
        ("H15 a gap", wrong_record(|one| one.offset_delta = 7)),
        (
            "H15 a negative delta",
            wrong_record(|one| one.offset_delta = -1),
        ),
        (
            "H15 the last delta",
            wrong_record(|one| one.offset_delta = i32::MAX),
        ),
        (
            "H16 a huge header count",
            wrong_record(|one| one.header_count = Some(i32::MAX)),
        ),
        (
            "H16 a negative header count",
            wrong_record(|one| one.header_count = Some(-1)),
        ),
        (
            "H16 a header too many",
            wrong_record(|one| one.header_count = Some(1)),
        ),
        (
            "H17 a byte short",
            wrong_record(|one| {
                one.length = Some(one.bytes().len() as i32 - 2);
            }),
        ),
        (
            "H17 a byte long",
            wrong_record(|one| one.length = Some(one.bytes().len() as i32)),
        ),
        ("H17 length 0", wrong_record(|one| one.length = Some(0))),
        (
            "H17 a negative length",
            wrong_record(|one| one.length = Some(-1)),
        ),
        (
            "H17 a huge length",
            wrong_record(|one| one.length = Some(i32::MAX)),
        ),
        (
            "a time before",
            wrong_record(|one| one.timestamp_delta = -5),
        ),
        (
            "H18 a time overflow",
            wrong_record(|one| one.timestamp_delta = i64::MAX),
        ),
        (
            "H18 a time underflow",
            wrong_record(|one| one.timestamp_delta = i64::MIN),
        ),
        (
            "a time of -1",
            wrong_record(|one| one.timestamp_delta = -TIME - 1),
        ),
        (
            "a time of -2",
            wrong_record(|one| one.timestamp_delta = -TIME - 2),
        ),
    ];
    topic(case, "wrong-records", 5 * sets.len() as i32, &[])?;
    let mut partition = 0;
    for (what, records) in sets {
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ] {
            let batch = Batch::of(&records);
            let batch = if codec == Codec::None {
                batch
            } else {
                batch.packed(codec)
            };
            let what = format!("{what}, {}", codec.name());
            for version in [2, 8, 11] {
                let request = produce("wrong-records", vec![(partition, batch.bytes())]);
                case.ask(version, &what, request)?;
            }
            read(
                case,
                "wrong-records",
                partition,
                &format!("stored of {what}"),
            )?;
            partition += 1;
        }
    }
    Ok(())
}

fn packed(case: &mut Case<'_>) -> Result<()> {
    topic(case, "packed", 41, &[])?;
    let mut partition = 0;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for version in case.versions::<ProduceRequest>() {
            let batch = Batch::new(5).packed(codec);
            let request = produce("packed", vec![(0, batch.bytes())]);
            case.ask(version, codec.name(), request)?;
        }
        let mut cut = Batch::new(50).packed(codec);
        cut.payload.truncate(cut.payload.len() / 2);
        let mut more = Batch::new(3).packed(codec);
        more.payload.extend([1, 2, 3]);
        let mut empty = Batch::new(3).packed(codec);
        empty.payload.clear();
        let mut short = Batch::new(3);
        (short.count, short.last_offset_delta) = (5, 4);
        let mut long = Batch::new(3);
        (long.count, long.last_offset_delta) = (2, 1);
        let mut wrong_time = Batch::new(3);
        wrong_time.max_timestamp = TIME + 99;
        let mut no_time = Batch::new(3);
        no_time.max_timestamp = -1;
        let mut append_time = Batch::new(3);
        append_time.attributes = 8;
        for (what, batch) in [
            ("cut", cut),
            ("bytes behind", more),
            ("empty", empty),
            ("fewer records than counted", short.packed(codec)),
            ("more records than counted", long.packed(codec)),
            ("a wrong max timestamp", wrong_time.packed(codec)),
            ("no max timestamp", no_time.packed(codec)),
            ("append time", append_time.packed(codec)),
        ] {
            partition += 1;
            let what = format!("{}, {what}", codec.name());
            for version in [2, 8] {
                let request = produce("packed", vec![(partition, batch.bytes())]);
                case.ask(version, &what, request)?;
            }
            read(case, "packed", partition, &format!("stored of {what}"))?;
        }
    }
    read_all(case, "packed")
}

fn old_formats(case: &mut Case<'_>) -> Result<()> {
    topic(case, "old", 1, &[])?;
    for magic in [0, 1] {
        let plain = || (0..3).map(Message::new).collect::<Vec<_>>();
        let set = message_set(magic, &plain());
        let mut sets = vec![
            ("one", message_set(magic, &plain()[..1])),
            ("three", set.clone()),
            ("three and a half", [&set[..], &set[..20]].concat()),
            ("half of one", set[..20].to_vec()),
            ("a wrong crc", {
                let mut set = set.clone();
                set[14] ^= 1;
                set
            }),
            ("null key and value", {
                let mut messages = plain();
                (messages[1].key, messages[1].value) = (None, None);
                message_set(magic, &messages)
            }),
            ("offsets that are all 0", {
                let mut messages = plain();
                messages.iter_mut().for_each(|message| message.offset = 0);
                message_set(magic, &messages)
            }),
            ("offsets with gaps", {
                let mut messages = plain();
                messages[2].offset = 9;
                message_set(magic, &messages)
            }),
            ("append time", {
                let mut messages = plain();
                messages[1].log_append_time = true;
                message_set(magic, &messages)
            }),
            ("no time", {
                let mut messages = plain();
                messages[1].timestamp = -1;
                message_set(magic, &messages)
            }),
            ("a time of -2", {
                let mut messages = plain();
                messages[1].timestamp = -2;
                message_set(magic, &messages)
            }),
            (
                "both formats",
                [&set[..], &message_set(1 - magic, &plain())].concat(),
            ),
            (
                "a v2 batch behind",
                [&set[..], &Batch::new(1).bytes()].concat(),
            ),
            (
                "before a v2 batch",
                [&Batch::new(1).bytes()[..], &set].concat(),
            ),
        ];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let wrapper = |offset, inner: &[u8]| Message::wrapping(codec, magic, offset, inner);
            let whole = message_set(magic, &[wrapper(2, &set)]);
            let name = codec.name();
            let named = |what: &str| -> &'static str { format!("{name} {what}").leak() };
            sets.push((named("wrapper"), whole.clone()));
            sets.push((named("wrapper twice"), [&whole[..], &whole].concat()));
            sets.push((named("wrapper and plain"), [&whole[..], &set].concat()));
            sets.push((
                named("wrapper at 0"),
                message_set(magic, &[wrapper(0, &set)]),
            ));
            sets.push((
                named("H21 wrapper in a wrapper"),
                message_set(magic, &[wrapper(2, &whole)]),
            ));
            sets.push((
                named("empty wrapper"),
                message_set(magic, &[wrapper(0, &[])]),
            ));
            sets.push((named("null wrapper"), {
                let mut message = wrapper(2, &set);
                message.value = None;
                message_set(magic, &[message])
            }));
            sets.push((named("wrapper of half a message"), {
                message_set(magic, &[wrapper(2, &set[..set.len() - 5])])
            }));
            sets.push((named("H21 wrapper of the other format"), {
                message_set(magic, &[wrapper(2, &message_set(1 - magic, &plain()))])
            }));
            sets.push((named("H21 wrapper of v2"), {
                message_set(magic, &[wrapper(2, &Batch::new(3).bytes())])
            }));
            sets.push((named("wrapper of bytes"), {
                let mut message = wrapper(2, &set);
                message.value = Some(vec![7; 30]);
                message_set(magic, &[message])
            }));
        }
        for (what, set) in sets {
            for version in [0, 1, 2, 3, 8] {
                let request = produce("old", vec![(0, set.clone().into())]);
                case.ask(version, &format!("v{magic} {what}"), request)?;
            }
        }
    }
    read_all(case, "old")
}

fn compacted(case: &mut Case<'_>) -> Result<()> {
    topic(case, "compacted", 1, &[("cleanup.policy", "compact")])?;
    topic(
        case,
        "compacted-too",
        1,
        &[("cleanup.policy", "compact,delete")],
    )?;
    let mut records: Vec<_> = (0..12).map(Record::new).collect();
    for at in [1, 3, 4, 5, 9] {
        records[at].key = None;
    }
    let mut messages: Vec<_> = (0..3).map(Message::new).collect();
    messages[1].key = None;
    for version in case.versions::<ProduceRequest>() {
        for name in ["compacted", "compacted-too"] {
            let request = produce(name, vec![(0, Batch::new(2).bytes())]);
            case.ask(version, "with keys", request)?;
            let request = produce(name, vec![(0, Batch::of(&records).bytes())]);
            case.ask(version, "without keys", request)?;
            let batch = Batch::of(&records).packed(Codec::Gzip);
            case.ask(
                version,
                "packed, without keys",
                produce(name, vec![(0, batch.bytes())]),
            )?;
        }
        if version < 3 {
            for magic in [0, 1] {
                let set = message_set(magic, &messages);
                let request = produce("compacted", vec![(0, set.clone().into())]);
                case.ask(version, &format!("v{magic} without keys"), request)?;
                let set = message_set(magic, &[Message::wrapping(Codec::Gzip, magic, 2, &set)]);
                let request = produce("compacted", vec![(0, set.into())]);
                case.ask(version, &format!("v{magic} packed, without keys"), request)?;
            }
        }
    }
    read_all(case, "compacted")
}

fn times(case: &mut Case<'_>) -> Result<()> {
    let before = [("message.timestamp.before.max.ms", "1000")];
    let after = [("message.timestamp.after.max.ms", "1000")];
    let both = [("message.timestamp.difference.max.ms", "1000")];
    let future = 4_000_000_000_000;
    for (name, configs) in [("before", before), ("after", after), ("difference", both)] {
        topic(case, name, 1, &configs)?;
        for codec in [Codec::None, Codec::Snappy] {
            for (what, time) in [("old", TIME), ("of the future", future), ("none", -1)] {
                let mut batch = Batch::new(2);
                batch.payload = Record::new(0).bytes();
                batch.payload.extend(
                    Record {
                        timestamp_delta: 0,
                        ..Record::new(1)
                    }
                    .bytes(),
                );
                (batch.base_timestamp, batch.max_timestamp) = (time, time);
                let batch = match codec {
                    Codec::None => batch,
                    _ => batch.packed(codec),
                };
                for version in [2, 7, 8, 11] {
                    let request = produce(name, vec![(0, batch.bytes())]);
                    case.ask(version, &format!("{what}, {}", codec.name()), request)?;
                }
            }
            for magic in [0, 1] {
                let set = message_set(magic, &[Message::new(0)]);
                case.ask(
                    2,
                    &format!("v{magic}"),
                    produce(name, vec![(0, set.into())]),
                )?;
            }
        }
        read_all(case, name)?;
    }
    Ok(())
}

fn append_time(case: &mut Case<'_>) -> Result<()> {
    topic(
        case,
        "append-time",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    )?;
    for version in case.versions::<ProduceRequest>() {
        let mut flagged = Batch::new(2);
        flagged.attributes = 8;
        for (what, batch) in [
            ("plain", Batch::new(2)),
            ("flagged", flagged),
            ("packed", Batch::new(2).packed(Codec::Lz4)),
        ] {
            let request = produce("append-time", vec![(0, batch.bytes())]);
            case.ask(version, what, request)?;
        }
        if version < 3 {
            for magic in [0, 1] {
                let set = message_set(magic, &[Message::new(0), Message::new(1)]);
                let request = produce("append-time", vec![(0, set.into())]);
                case.ask(version, &format!("v{magic}"), request)?;
            }
        }
    }
    read_all(case, "append-time")
}

fn recompression(case: &mut Case<'_>) -> Result<()> {
    for kind in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let name = format!("anew-{kind}");
        topic(case, &name, 6, &[("compression.type", kind)])?;
        let mut gap = wrong_record(|one| one.offset_delta = 7);
        gap[2].headers = vec![(b"h".to_vec(), Some(b"v".to_vec()))];
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ] {
            for (partition, what, batch) in [
                (0, "plain", Batch::new(3)),
                (
                    0,
                    "of a producer",
                    Batch::new(3).producer(90 + codec as i64, 0, 0),
                ),
                (1 + codec as i32, "a gap", Batch::of(&gap)),
            ] {
                let batch = match codec {
                    Codec::None => batch,
                    _ => batch.packed(codec),
                };
                let request = produce(&name, vec![(partition, batch.bytes())]);
                case.ask(9, &format!("{}, {what}", codec.name()), request)?;
            }
        }
        let set = message_set(1, &[Message::new(0), Message::new(1)]);
        case.ask(2, "v1", produce(&name, vec![(0, set.into())]))?;
        for partition in 0..6 {
            let what = match partition {
                0 => "everything that is stored",
                _ => "stored of a gap",
            };
            read(case, &name, partition, what)?;
        }
    }
    Ok(())
}

fn sizes(case: &mut Case<'_>) -> Result<()> {
    topic(case, "small-batches", 1, &[("max.message.bytes", "200")])?;
    topic(case, "small-segments", 1, &[("segment.bytes", "500")])?;
    topic(
        case,
        "unpacked-size",
        1,
        &[
            ("max.message.bytes", "300"),
            ("compression.type", "uncompressed"),
        ],
    )?;
    let big = Record {
        value: Some(vec![b'x'; 600]),
        ..Record::new(0)
    };
    for version in case.versions::<ProduceRequest>() {
        for name in ["small-batches", "small-segments", "unpacked-size"] {
            let request = produce(name, vec![(0, Batch::new(1).bytes())]);
            case.ask(version, &format!("a small batch to {name}"), request)?;
            let request = produce(
                name,
                vec![(0, Batch::of(std::slice::from_ref(&big)).bytes())],
            );
            case.ask(version, &format!("a big batch to {name}"), request)?;
            let batch = Batch::of(std::slice::from_ref(&big)).packed(Codec::Gzip);
            let request = produce(name, vec![(0, batch.bytes())]);
            case.ask(version, &format!("a packed big batch to {name}"), request)?;
        }
        if version < 3 {
            let mut message = Message::new(0);
            message.value = big.value.clone();
            let set = message_set(1, &[message]);
            let request = produce("small-batches", vec![(0, set.into())]);
            case.ask(version, "a big old message", request)?;
        }
    }
    Ok(())
}
