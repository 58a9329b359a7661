//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeLogDirs, AlterReplicaLogDirs.

use anyhow::Result;
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, BrokerId, DeleteRecordsRequest, DescribeLogDirsRequest,
    ListOffsetsRequest, OffsetForLeaderEpochRequest,
};
use kafka_protocol::protocol::StrBytes;
use protocol_tests::batches::{Batch, Record, TIME};
use protocol_tests::differential::{Case, Test};

use crate::make::{produce, topic, topic_name};

pub(crate) const CASES: &[Test] = &[
    ("list offsets", list_offsets),
    ("offset for leader epoch", leader_epochs),
    ("delete records", delete_records),
];

/// First of all cases: it compares the sizes of all partitions.
pub(crate) const LOG_DIRS: &[Test] = &[
    ("describe log dirs", log_dirs),
    ("alter replica log dirs", alter_log_dirs),
];

/// Batches at offsets 0, 3 and 6, of which the second has the greatest time.
fn fill(case: &mut Case<'_>, name: &str, configs: &[(&str, &str)]) -> Result<()> {
    topic(case, name, 2, configs)?;
    for start in [0, 2000, 1000] {
        let mut records: Vec<_> = (0..3).map(Record::new).collect();
        records[1].timestamp_delta = 500;
        let mut batch = Batch::of(&records);
        batch.base_timestamp = TIME + start;
        batch.max_timestamp = TIME + start + 500;
        case.ask(9, "fill", produce(name, vec![(0, batch.bytes())]))?;
    }
    Ok(())
}

fn list_offsets(case: &mut Case<'_>) -> Result<()> {
    fill(case, "offsets", &[])?;
    fill(
        case,
        "offsets-short",
        &[
            ("segment.bytes", "120"),
            ("message.timestamp.type", "LogAppendTime"),
        ],
    )?;
    let of = |partition: i32, timestamp: i64| {
        ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp)
            .with_current_leader_epoch(-1)
    };
    let request = |name: &str, partitions| {
        ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(topic_name(name))
                    .with_partitions(partitions),
            ])
    };
    for version in case.versions::<ListOffsetsRequest>() {
        for time in [
            -1,
            -2,
            -3,
            -4,
            -5,
            -6,
            i64::MIN,
            0,
            TIME,
            TIME + 1,
            TIME + 400,
            TIME + 501,
            TIME + 1_200,
            TIME + 1_600,
            TIME + 2_400,
            TIME + 2_501,
            i64::MAX,
        ] {
            for count in [1, 0, -1, 10] {
                if version > 0 && count != 1 {
                    continue;
                }
                let partitions = [0, 1, 2, -1].map(|at| {
                    let one = of(at, time);
                    if version == 0 {
                        one.with_max_num_offsets(count)
                    } else {
                        one
                    }
                });
                let what = format!("time {time}, {count} offsets");
                case.ask(version, &what, request("offsets", partitions.to_vec()))?;
            }
            let mut short = of(0, time);
            if version == 0 {
                short.max_num_offsets = 10;
            }
            // Offsets by times of now would differ by what the clock said.
            if time < TIME {
                let request = request("offsets-short", vec![short]);
                case.ask(version, &format!("time {time} of many segments"), request)?;
            }
        }
        for name in ["no-such", "a/b", ""] {
            case.ask(
                version,
                &format!("topic {name:?}"),
                request(name, vec![of(0, -1)]),
            )?;
        }
        let twice = vec![of(0, -1), of(0, -2), of(1, -1)];
        case.ask(version, "a partition twice", request("offsets", twice))?;
        let mut twice = request("offsets", vec![of(0, -1)]);
        twice
            .topics
            .extend(request("offsets", vec![of(1, -1), of(0, -2)]).topics);
        case.ask(version, "a topic twice", twice)?;
        case.ask(version, "no partitions", request("offsets", vec![]))?;
        let none = ListOffsetsRequest::default().with_replica_id(BrokerId(-1));
        case.ask(version, "no topics", none)?;
        for replica in [-2, -3, 5] {
            let request = request("offsets", vec![of(0, -1)]).with_replica_id(BrokerId(replica));
            case.ask(version, &format!("replica {replica}"), request)?;
        }
        if version >= 2 {
            for level in [1, 2, -1] {
                for time in [-1, -2, TIME, TIME + 9999] {
                    let request = request("offsets", vec![of(0, time)]).with_isolation_level(level);
                    case.ask(version, &format!("isolation {level} time {time}"), request)?;
                }
            }
        }
        if version >= 4 {
            for epoch in [0, 1, 5, -2] {
                let request = request("offsets", vec![of(0, -1).with_current_leader_epoch(epoch)]);
                case.ask(version, &format!("leader epoch {epoch}"), request)?;
            }
        }
    }
    Ok(())
}

fn leader_epochs(case: &mut Case<'_>) -> Result<()> {
    fill(case, "epochs", &[])?;
    let of = |partition: i32, epoch: i32, current: i32| {
        OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_leader_epoch(epoch)
            .with_current_leader_epoch(current)
    };
    for version in case.versions::<OffsetForLeaderEpochRequest>() {
        let request = |name: &str, partitions: Vec<OffsetForLeaderPartition>| {
            OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(if version >= 3 { -1 } else { -2 }))
                .with_topics(vec![
                    OffsetForLeaderTopic::default()
                        .with_topic(topic_name(name))
                        .with_partitions(partitions),
                ])
        };
        for epoch in [0, 1, -1, -2, i32::MAX] {
            let partitions = [0, 1, 2].map(|at| of(at, epoch, -1)).to_vec();
            case.ask(
                version,
                &format!("epoch {epoch}"),
                request("epochs", partitions),
            )?;
        }
        case.ask(
            version,
            "an unknown topic",
            request("no-such", vec![of(0, 0, -1)]),
        )?;
        let twice = request("epochs", vec![of(0, 0, -1), of(0, 5, -1)]);
        case.ask(version, "a partition twice", twice)?;
        case.ask(version, "none", request("epochs", vec![]))?;
        if version >= 2 {
            for current in [0, 1, 7, -2] {
                let request = request("epochs", vec![of(0, 0, current)]);
                case.ask(version, &format!("current epoch {current}"), request)?;
            }
        }
        if version >= 3 {
            for replica in [-2, 1] {
                let request =
                    request("epochs", vec![of(0, 0, -1)]).with_replica_id(BrokerId(replica));
                case.ask(version, &format!("replica {replica}"), request)?;
            }
        }
    }
    Ok(())
}

fn delete_records(case: &mut Case<'_>) -> Result<()> {
    let request = |name: &str, partitions: &[(i32, i64)]| {
        DeleteRecordsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![
                DeleteRecordsTopic::default()
                    .with_name(topic_name(name))
                    .with_partitions(
                        partitions
                            .iter()
                            .map(|(index, offset)| {
                                DeleteRecordsPartition::default()
                                    .with_partition_index(*index)
                                    .with_offset(*offset)
                            })
                            .collect(),
                    ),
            ])
    };
    topic(case, "delete-compact", 1, &[("cleanup.policy", "compact")])?;
    topic(
        case,
        "delete-both",
        1,
        &[("cleanup.policy", "compact,delete")],
    )?;
    for version in case.versions::<DeleteRecordsRequest>() {
        let name = format!("delete-records-{version}");
        fill(case, &name, &[])?;
        for offset in [0, 2, 1, 10, -2, i64::MAX, 4, -1] {
            let request = request(&name, &[(0, offset), (1, 0)]);
            case.ask(version, &format!("to {offset}"), request)?;
        }
        case.ask(
            version,
            "wrong partitions",
            request(&name, &[(2, 0), (-1, 0)]),
        )?;
        case.ask(version, "an unknown topic", request("no-such", &[(0, 0)]))?;
        case.ask(
            version,
            "an internal topic",
            request("__consumer_offsets", &[(0, 0)]),
        )?;
        case.ask(
            version,
            "a compacted topic",
            request("delete-compact", &[(0, 0)]),
        )?;
        case.ask(
            version,
            "compacted and deleted",
            request("delete-both", &[(0, 0)]),
        )?;
        case.ask(
            version,
            "a partition twice",
            request(&name, &[(0, 5), (0, 6)]),
        )?;
        let none = DeleteRecordsRequest::default().with_timeout_ms(1000);
        case.ask(version, "none", none)?;
        case.ask(version, "no partitions", request(&name, &[]))?;
    }
    Ok(())
}

fn log_dirs(case: &mut Case<'_>) -> Result<()> {
    fill(case, "log-dirs", &[])?;
    let of = |name: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default()
            .with_topic(topic_name(name))
            .with_partitions(partitions.to_vec())
    };
    for version in case.versions::<DescribeLogDirsRequest>() {
        let request = |topics| DescribeLogDirsRequest::default().with_topics(Some(topics));
        case.ask(version, "a topic", request(vec![of("log-dirs", &[0, 1])]))?;
        case.ask(version, "a partition", request(vec![of("log-dirs", &[1])]))?;
        let wrong = vec![of("log-dirs", &[0, 7]), of("no-such", &[0])];
        case.ask(version, "right and wrong", request(wrong))?;
        case.ask(version, "none", request(vec![]))?;
        let twice = vec![of("log-dirs", &[0, 0]), of("log-dirs", &[0])];
        case.ask(version, "twice", request(twice))?;
        let all = DescribeLogDirsRequest::default().with_topics(None);
        case.ask(version, "all", all)?;
    }
    Ok(())
}

fn alter_log_dirs(case: &mut Case<'_>) -> Result<()> {
    topic(case, "log-dirs-moved", 2, &[])?;
    let described = case.ask(
        1,
        "where they are",
        DescribeLogDirsRequest::default().with_topics(None),
    )?;
    let own = described.map(|answer| answer.results[0].log_dir.clone());
    let one = |path: &StrBytes, topics: &[(&str, &[i32])]| {
        let topics = topics.iter().map(|(name, partitions)| {
            AlterReplicaLogDirTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions.to_vec())
        });
        AlterReplicaLogDir::default()
            .with_path(path.clone())
            .with_topics(topics.collect())
    };
    // As long as a copy's folder may be, and longer: the name comes first.
    let (longest, too_long) = ("x".repeat(213), "x".repeat(214));
    let nowhere = StrBytes::from_static_str("/no/such/dir");
    for version in case.versions::<AlterReplicaLogDirsRequest>() {
        let request = |dirs| AlterReplicaLogDirsRequest::default().with_dirs(dirs);
        let mut ask = |what: &str, topic: &str, partitions: &[i32]| {
            let there = own.map(|own| request(vec![one(own, &[(topic, partitions)])]));
            case.ask_each(version, what, there)?;
            let elsewhere = request(vec![one(&nowhere, &[(topic, partitions)])]);
            case.ask(version, &format!("{what}, unknown dir"), elsewhere)?;
            anyhow::Ok(())
        };
        ask("where it is", "log-dirs-moved", &[0])?;
        ask("unknown partition", "log-dirs-moved", &[7])?;
        ask("partition -1", "log-dirs-moved", &[-1])?;
        ask("unknown topic", "no-such", &[0])?;
        ask("longest name", &longest, &[0])?;
        ask("name too long", &too_long, &[0])?;
        ask("no name", "", &[0])?;
        ask("no partitions", "log-dirs-moved", &[])?;
        case.ask(version, "none", request(vec![]))?;
        let slash = own.map(|own| {
            let path = StrBytes::from_string(format!("{own}/"));
            request(vec![one(&path, &[("log-dirs-moved", &[0])])])
        });
        case.ask_each(version, "a slash at the end", slash)?;
        let twice = own.map(|own| {
            request(vec![
                one(&nowhere, &[("log-dirs-moved", &[0])]),
                one(own, &[("log-dirs-moved", &[0])]),
            ])
        });
        case.ask_each(version, "twice, the last is right", twice)?;
        let relative = StrBytes::from_static_str("data");
        let relative = request(vec![one(&relative, &[("log-dirs-moved", &[0])])]);
        case.ask(version, "a relative path", relative)?;
    }
    Ok(())
}
