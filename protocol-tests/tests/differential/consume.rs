//! Fetch: offsets, sizes, epochs, isolation, sessions, old formats.

use anyhow::Result;
use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use ottla::record::compress::Codec;
use protocol_tests::batches::{Batch, Message, Record, message_set};
use protocol_tests::differential::{Both, Case, Test};
use uuid::Uuid;

use crate::make::{produce, text, topic, topic_name};

pub(crate) const CASES: &[Test] = &[
    ("fetch in every version", every_version),
    ("fetch within sizes", sizes),
    ("fetch with leader epochs", epochs),
    ("fetch in sessions", sessions),
    ("fetch by topic id", by_id),
    ("fetch in old formats", old_formats),
    ("fetch, other", other),
];

pub(crate) fn from(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

/// A topic by name or by id, as the version wants it.
fn of(version: i16, name: &str, id: Uuid, partitions: Vec<FetchPartition>) -> FetchTopic {
    let topic = FetchTopic::default().with_partitions(partitions);
    if version >= 13 {
        topic.with_topic_id(id)
    } else {
        topic.with_topic(topic_name(name))
    }
}

pub(crate) fn request(version: i16, topics: Vec<FetchTopic>) -> FetchRequest {
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_session_epoch(-1)
        .with_topics(topics);
    let request = if version >= 3 {
        request.with_max_bytes(10 << 20)
    } else {
        request
    };
    let request = if version < 7 {
        request.with_session_epoch(0)
    } else {
        request
    };
    replica(version, request, -1)
}

fn replica(version: i16, request: FetchRequest, id: i32) -> FetchRequest {
    if version < 15 {
        request.with_replica_id(BrokerId(id))
    } else {
        let state = ReplicaState::default().with_replica_id(BrokerId(id));
        request.with_replica_state(state)
    }
}

/// Three batches of 3, 2 and 1 records in partition 0, one packed in partition 1.
fn fill(case: &mut Case<'_>, name: &str) -> Result<Both<Uuid>> {
    let id = topic(case, name, 3, &[])?;
    for count in [3, 2, 1] {
        let request = produce(name, vec![(0, Batch::new(count).bytes())]);
        case.ask(9, "fill", request)?;
    }
    let packed = Batch::new(4).packed(Codec::Lz4);
    case.ask(9, "fill", produce(name, vec![(1, packed.bytes())]))?;
    Ok(id)
}

fn every_version(case: &mut Case<'_>) -> Result<()> {
    let id = fill(case, "fetch")?;
    for version in case.versions::<FetchRequest>() {
        let mut ask =
            |what: &str, partitions: Vec<FetchPartition>, change: &dyn Fn(&mut FetchRequest)| {
                let requests = id.map(|id| {
                    let mut request =
                        request(version, vec![of(version, "fetch", *id, partitions.clone())]);
                    change(&mut request);
                    request
                });
                case.ask_each(version, what, requests)
            };
        let all = || vec![from(0, 0), from(1, 0), from(2, 0)];
        ask("everything", all(), &|_| ())?;
        for offset in [1, 3, 5, 6, 7, -1, -2, i64::MAX] {
            ask(&format!("from {offset}"), vec![from(0, offset)], &|_| ())?;
        }
        ask(
            "wrong partitions",
            vec![from(3, 0), from(-1, 0), from(0, 5)],
            &|_| (),
        )?;
        ask("a partition twice", vec![from(0, 0), from(0, 5)], &|_| ())?;
        ask("no partitions", vec![], &|_| ())?;
        ask("a topic twice", vec![from(0, 5)], &|request| {
            let mut again = request.topics[0].clone();
            again.partitions = vec![from(1, 0)];
            request.topics.push(again);
        })?;
        ask("no topics", vec![], &|request| request.topics.clear())?;
        ask("too few bytes, some wait", vec![from(0, 6)], &|request| {
            (request.min_bytes, request.max_wait_ms) = (1, 30);
        })?;
        if version >= 4 {
            for level in [1, 2, -1] {
                ask(&format!("isolation {level}"), all(), &|request| {
                    request.isolation_level = level;
                })?;
            }
        }
        for id in [-2, -3, 0, 7] {
            ask(&format!("replica {id}"), vec![from(0, 5)], &|request| {
                *request = replica(version, request.clone(), id);
            })?;
        }
        if version >= 5 {
            let with = from(0, 5).with_log_start_offset(3);
            ask("a log start offset", vec![with], &|_| ())?;
        }
        if version >= 11 {
            ask("a rack", vec![from(0, 5)], &|request| {
                request.rack_id = text("r")
            })?;
        }
        if version >= 12 {
            ask("a cluster id", vec![from(0, 5)], &|request| {
                request.cluster_id = Some(text("other"));
            })?;
        }
        if version < 13 {
            let topics = |name: &str| vec![of(version, name, Uuid::nil(), vec![from(0, 0)])];
            for name in ["no-such", "a/b", "", "__consumer_offsets"] {
                let request = request(version, topics(name));
                case.ask(version, &format!("topic {name:?}"), request)?;
            }
        }
    }
    Ok(())
}

fn sizes(case: &mut Case<'_>) -> Result<()> {
    let id = fill(case, "fetch-sizes")?;
    for version in [0, 2, 3, 4, 10, 12, 16] {
        for partition_bytes in [0, 1, 100, 150, 250, 1000, -1, i32::MIN, i32::MAX] {
            for max_bytes in [0, 1, 150, 300, i32::MAX, -1] {
                if version < 3 && max_bytes != 0 {
                    continue;
                }
                let requests = id.map(|id| {
                    let partitions =
                        [2, 0, 1].map(|at| from(at, 0).with_partition_max_bytes(partition_bytes));
                    let topic = of(version, "fetch-sizes", *id, partitions.to_vec());
                    let mut request = request(version, vec![topic]);
                    if version >= 3 {
                        request.max_bytes = max_bytes;
                    }
                    request
                });
                let what = format!("{partition_bytes} of a partition, {max_bytes} in all");
                case.ask_each(version, &what, requests)?;
            }
        }
    }
    Ok(())
}

fn epochs(case: &mut Case<'_>) -> Result<()> {
    let id = fill(case, "fetch-epochs")?;
    for version in case
        .versions::<FetchRequest>()
        .filter(|version| *version >= 9)
    {
        for current in [-1, 0, 1, 9, -2] {
            for last in [-1, 0, 1, 5, -2] {
                if version < 12 && last != -1 {
                    continue;
                }
                let requests = id.map(|id| {
                    let partitions = [0, 2].map(|at| {
                        from(at, 2 - i64::from(at))
                            .with_current_leader_epoch(current)
                            .with_last_fetched_epoch(last)
                    });
                    let topic = of(version, "fetch-epochs", *id, partitions.to_vec());
                    request(version, vec![topic])
                });
                let what = format!("current epoch {current}, last fetched epoch {last}");
                case.ask_each(version, &what, requests)?;
            }
        }
    }
    Ok(())
}

fn sessions(case: &mut Case<'_>) -> Result<()> {
    let id = fill(case, "fetch-sessions")?;
    let name = "fetch-sessions";
    for version in case
        .versions::<FetchRequest>()
        .filter(|version| *version >= 7)
    {
        let topics = |id: &Uuid, partitions: Vec<FetchPartition>| match partitions.len() {
            0 => vec![],
            _ => vec![of(version, name, *id, partitions)],
        };
        let ask = |case: &mut Case<'_>,
                   what: &str,
                   session: &Both<i32>,
                   epoch: i32,
                   partitions: Vec<FetchPartition>| {
            let requests = id.zip(session).map(|(id, session)| {
                request(version, topics(id, partitions.clone()))
                    .with_session_id(*session)
                    .with_session_epoch(epoch)
            });
            case.ask_each(version, what, requests)
        };
        let none = Both::from(0);
        ask(case, "an incremental one without session", &none, 1, vec![])?;
        ask(case, "of an unknown session", &Both::from(4711), 1, vec![])?;
        ask(
            case,
            "full, of an unknown session",
            &Both::from(4711),
            0,
            vec![from(0, 3)],
        )?;
        ask(
            case,
            "close an unknown session",
            &Both::from(4711),
            -1,
            vec![from(0, 3)],
        )?;
        let opened = ask(
            case,
            "open",
            &none,
            0,
            vec![from(0, 3), from(1, 0), from(2, 0)],
        )?;
        let session = opened.map(|answer| answer.session_id);
        ask(case, "nothing new is asked", &session, 1, vec![])?;
        ask(case, "one moved on", &session, 2, vec![from(0, 6)])?;
        ask(case, "both moved on", &session, 3, vec![from(1, 4)])?;
        let more = produce(name, vec![(2, Batch::new(1).bytes())]);
        case.ask(9, "more", more)?;
        ask(case, "there is more", &session, 4, vec![])?;
        ask(case, "there is more, still", &session, 5, vec![from(9, 0)])?;
        ask(case, "and an unknown partition", &session, 6, vec![])?;
        ask(case, "a wrong epoch", &session, 9, vec![])?;
        ask(case, "a past epoch", &session, 2, vec![])?;
        let forget = id.zip(&session).map(|(id, session)| {
            let forgotten = ForgottenTopic::default().with_partitions(vec![2, 9, 5]);
            let forgotten = if version >= 13 {
                forgotten.with_topic_id(*id)
            } else {
                forgotten.with_topic(topic_name(name))
            };
            request(version, vec![])
                .with_session_id(*session)
                .with_session_epoch(7)
                .with_forgotten_topics_data(vec![forgotten])
        });
        case.ask_each(version, "forget", forget)?;
        ask(case, "out of range", &session, 8, vec![from(0, 99)])?;
        ask(case, "out of range, still", &session, 9, vec![])?;
        if version == 12 || version == 13 {
            // Names and ids must not be mixed in a session.
            let other = 25 - version;
            let requests = id.zip(&session).map(|(id, session)| {
                let topic = of(other, name, *id, vec![from(0, 3)]);
                request(other, vec![topic])
                    .with_session_id(*session)
                    .with_session_epoch(10)
            });
            case.ask_each(other, "names and ids mixed", requests)?;
        }
        ask(case, "close", &session, -1, vec![from(0, 3)])?;
        ask(case, "closed", &session, 10, vec![])?;
        let opened = ask(case, "open empty", &none, 0, vec![])?;
        let session = opened.map(|answer| answer.session_id);
        ask(case, "add to it", &session, 1, vec![from(0, 5)])?;
        ask(case, "full instead", &session, 0, vec![from(1, 0)])?;
        ask(case, "the replaced one", &session, 2, vec![])?;
        ask(case, "without session", &none, -1, vec![from(0, 5)])?;
    }
    Ok(())
}

fn by_id(case: &mut Case<'_>) -> Result<()> {
    let id = fill(case, "fetch-id")?;
    for version in case
        .versions::<FetchRequest>()
        .filter(|version| *version >= 13)
    {
        for (what, unknown) in [("unknown", Uuid::from_u128(77 << 64)), ("nil", Uuid::nil())] {
            let requests = id.map(|id| {
                let known = of(version, "", *id, vec![from(0, 5)]);
                let unknown = of(version, "", unknown, vec![from(0, 0), from(1, 0)]);
                request(version, vec![unknown, known])
            });
            case.ask_each(version, &format!("{what} id and a known one"), requests)?;
            let topic = of(version, "", unknown, vec![from(0, 0)]);
            let open = request(version, vec![topic]).with_session_epoch(0);
            let opened = case.ask(version, &format!("{what} id in a session"), open)?;
            let again = opened.map(|answer| {
                request(version, vec![])
                    .with_session_id(answer.session_id)
                    .with_session_epoch(1)
            });
            case.ask_each(version, &format!("{what} id in a session, again"), again)?;
        }
    }
    Ok(())
}

fn old_formats(case: &mut Case<'_>) -> Result<()> {
    topic(case, "fetch-old", 1, &[])?;
    topic(
        case,
        "fetch-old-refused",
        1,
        &[("message.downconversion.enable", "false")],
    )?;
    topic(case, "fetch-old-zstd", 1, &[("compression.type", "zstd")])?;
    topic(
        case,
        "fetch-old-time",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    )?;
    let mut headers = Record::new(0);
    headers.headers = vec![(b"h".to_vec(), Some(b"v".to_vec()))];
    let old = message_set(1, &[Message::new(0), Message::new(1)]);
    case.ask(2, "fill", produce("fetch-old", vec![(0, old.into())]))?;
    for batch in [
        Batch::new(3),
        Batch::of(&[headers]),
        Batch::new(2).packed(Codec::Gzip),
        Batch::new(2).packed(Codec::Snappy),
        Batch::new(2).packed(Codec::Lz4),
        Batch::new(2).producer(5, 0, 0),
    ] {
        case.ask(9, "fill", produce("fetch-old", vec![(0, batch.bytes())]))?;
    }
    for name in ["fetch-old-refused", "fetch-old-zstd", "fetch-old-time"] {
        case.ask(9, "fill", produce(name, vec![(0, Batch::new(2).bytes())]))?;
    }
    let zstd = Batch::new(2).packed(Codec::Zstd);
    case.ask(
        9,
        "fill",
        produce("fetch-old-refused", vec![(0, zstd.bytes())]),
    )?;
    for version in 0..=11 {
        for name in [
            "fetch-old",
            "fetch-old-refused",
            "fetch-old-zstd",
            "fetch-old-time",
        ] {
            for offset in [0, 1, 4, 6, 8] {
                let topic = of(version, name, Uuid::nil(), vec![from(0, offset)]);
                let what = format!("{name} from {offset}");
                case.ask(version, &what, request(version, vec![topic]))?;
            }
        }
        for bytes in [1, 100, 200, 300] {
            let partition = from(0, 0).with_partition_max_bytes(bytes);
            let topic = of(version, "fetch-old", Uuid::nil(), vec![partition]);
            case.ask(
                version,
                &format!("{bytes} bytes"),
                request(version, vec![topic]),
            )?;
        }
    }
    Ok(())
}

fn other(case: &mut Case<'_>) -> Result<()> {
    topic(case, "fetch-zstd", 1, &[])?;
    let zstd = Batch::new(2).packed(Codec::Zstd);
    case.ask(9, "fill", produce("fetch-zstd", vec![(0, zstd.bytes())]))?;
    for version in 0..=12 {
        let topic = of(version, "fetch-zstd", Uuid::nil(), vec![from(0, 0)]);
        case.ask(version, "zstd", request(version, vec![topic]))?;
    }
    Ok(())
}
