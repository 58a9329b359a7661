//! CreateTopics, DeleteTopics, CreatePartitions.

use anyhow::Result;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest,
};
use protocol_tests::differential::{Case, Test};
use uuid::Uuid;

use crate::make::{create, metadata, new_topic, text, topic, topic_name};

pub(crate) const CASES: &[Test] = &[
    ("create topics", create_topics),
    ("create topics wrongly", create_wrongly),
    ("create topics, defaults and assignments", create_assigned),
    ("delete topics", delete_topics),
    ("create partitions", create_partitions),
    ("elect leaders", elect_leaders),
    ("reassign partitions", reassign),
];

fn create_topics(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<CreateTopicsRequest>() {
        let name = format!("create-{version}");
        let plain = || new_topic(&name, 2, &[("retention.ms", "1000")]);
        if version >= 1 {
            let request = create(vec![plain()]).with_validate_only(true);
            case.ask(version, "validate only", request)?;
        }
        case.ask(version, "a topic", create(vec![plain()]))?;
        case.ask(version, "the same again", create(vec![plain()]))?;
        if version >= 1 {
            let request = create(vec![plain()]).with_validate_only(true);
            case.ask(version, "the same, validate only", request)?;
        }
        let other = format!("create-{version}-b");
        let third = format!("create-{version}-c");
        let request = create(vec![
            new_topic(&other, 1, &[]),
            new_topic(&other, 2, &[]),
            new_topic(&third, 1, &[]),
        ]);
        case.ask(version, "one twice, one once", request)?;
        case.ask(version, "no topics", create(vec![]))?;
        let collides = name.replace('-', ".");
        let with_dots = create(vec![new_topic(&collides, 1, &[])]);
        case.ask(version, "with dots", with_dots)?;
        let collides = name.replace('-', "_");
        let with_underscores = create(vec![new_topic(&collides, 1, &[])]);
        case.ask(version, "with underscores", with_underscores)?;
        let late = format!("create-{version}-late");
        let request = create(vec![new_topic(&late, 1, &[])]).with_timeout_ms(0);
        case.ask(version, "no time", request)?;
        case.until(4, "the late topic", metadata(&[&late]).into(), |answer| {
            answer.topics.iter().all(|topic| topic.error_code == 0)
        })?;
    }
    Ok(())
}

fn create_wrongly(case: &mut Case<'_>) -> Result<()> {
    let long = "x".repeat(250);
    let just = "y".repeat(249);
    for version in case.versions::<CreateTopicsRequest>() {
        for name in ["", ".", "..", "a/b", "a b", "ä", &long] {
            let request = create(vec![new_topic(name, 1, &[])]);
            case.ask(version, &format!("the name {name:?}"), request)?;
        }
        let request = create(vec![new_topic(&just, 1, &[])]);
        let request = request.with_validate_only(version >= 1);
        case.ask(version, "a name of 249 letters", request)?;
        for name in [
            "__consumer_offsets",
            "__transaction_state",
            "__cluster_metadata",
        ] {
            let request = create(vec![new_topic(name, 1, &[])]).with_validate_only(version >= 1);
            if version >= 1 {
                case.ask(version, name, request)?;
            }
        }
        for partitions in [0, -1, -2] {
            let request = create(vec![new_topic("wrong", partitions, &[])]);
            let request = request.with_validate_only(version >= 1 && partitions == -1);
            if version > 0 || partitions != -1 {
                case.ask(version, &format!("{partitions} partitions"), request)?;
            }
        }
        for factor in [0, -2, 2, i16::MAX] {
            let topic = new_topic("wrong", 1, &[]).with_replication_factor(factor);
            case.ask(version, &format!("factor {factor}"), create(vec![topic]))?;
        }
        for (key, value) in [
            ("no.such.key", "1"),
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("retention.ms", ""),
            ("cleanup.policy", "burn"),
            ("cleanup.policy", "compact,burn"),
            ("compression.type", "zip"),
            ("segment.bytes", "1"),
            ("segment.bytes", "99999999999"),
            ("min.insync.replicas", "0"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "x"),
            ("preallocate", "maybe"),
            ("message.timestamp.type", "Now"),
            ("message.format.version", "9.9"),
            ("message.format.version", "2.8"),
            ("compression.gzip.level", "10"),
            ("compression.lz4.level", "0"),
            ("compression.zstd.level", "99"),
            ("remote.storage.enable", "true"),
            ("local.retention.ms", "5"),
            ("leader.replication.throttled.replicas", "x"),
            ("leader.replication.throttled.replicas", "0:0"),
            ("max.compaction.lag.ms", "0"),
        ] {
            if version >= 1 {
                let request = create(vec![new_topic("wrong", 1, &[(key, value)])]);
                let request = request.with_validate_only(true);
                case.ask(version, &format!("{key}={value}"), request)?;
            }
        }
        if version >= 1 {
            let null = CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(None);
            let topic = new_topic("wrong", 1, &[]).with_configs(vec![null]);
            let request = create(vec![topic]).with_validate_only(true);
            case.ask(version, "a null value", request)?;
            let request = create(vec![new_topic(
                "wrong",
                1,
                &[("retention.ms", "1"), ("retention.ms", "2")],
            )])
            .with_validate_only(true);
            case.ask(version, "a key twice", request)?;
            let request = create(vec![
                new_topic("wrong", 1, &[("retention.ms", "x"), ("segment.bytes", "y")]),
                new_topic("right", 1, &[]),
                new_topic("", 1, &[]),
            ])
            .with_validate_only(true);
            case.ask(version, "right and wrong", request)?;
        }
    }
    Ok(())
}

fn assigned(name: &str, replicas: &[(i32, &[i32])]) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(
            replicas
                .iter()
                .map(|(index, brokers)| {
                    CreatableReplicaAssignment::default()
                        .with_partition_index(*index)
                        .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
                })
                .collect(),
        )
}

fn create_assigned(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<CreateTopicsRequest>() {
        let name = format!("assigned-{version}");
        let good = assigned(&name, &[(0, &[0]), (1, &[0])]);
        case.ask(version, "two partitions", create(vec![good]))?;
        // Created, with the assignment that is named last.
        let name = format!("twice-{version}");
        let twice = assigned(&name, &[(0, &[0]), (0, &[0])]);
        case.ask(version, "a partition twice", create(vec![twice]))?;
        /// Partition and its replicas.
        type Assigned<'a> = (i32, &'a [i32]);
        let wrong: &[(&str, &[Assigned<'_>])] = &[
            ("a broker twice", &[(0, &[0, 0])]),
            ("no brokers", &[(0, &[])]),
            ("a gap", &[(0, &[0]), (2, &[0])]),
            ("not from 0", &[(1, &[0])]),
            ("factors that differ", &[(0, &[0]), (1, &[0, 1])]),
            ("a negative partition", &[(-1, &[0])]),
            ("a negative broker", &[(0, &[-1])]),
        ];
        for (what, replicas) in wrong {
            let name = format!("wrong-{version}-{}", what.replace(' ', "-"));
            let request = create(vec![assigned(&name, replicas)]).with_timeout_ms(10);
            case.ask(version, what, request)?;
        }
        // Accepted, and never there.
        let away = assigned(&format!("away-{version}"), &[(0, &[7])]);
        case.ask(
            version,
            "an unknown broker",
            create(vec![away]).with_timeout_ms(10),
        )?;
        let both = assigned("wrong", &[(0, &[0])]).with_num_partitions(1);
        case.ask(version, "partitions and assignments", create(vec![both]))?;
        let both = assigned("wrong", &[(0, &[0])]).with_replication_factor(1);
        case.ask(version, "factor and assignments", create(vec![both]))?;
        let defaults =
            new_topic(&format!("defaults-{version}"), -1, &[]).with_replication_factor(-1);
        case.ask(version, "defaults", create(vec![defaults]))?;
    }
    Ok(())
}

fn delete_topics(case: &mut Case<'_>) -> Result<()> {
    let request = DeleteTopicsRequest::default().with_timeout_ms(20_000);
    for version in case.versions::<DeleteTopicsRequest>() {
        let names: Vec<_> = (0..6).map(|at| format!("delete-{version}-{at}")).collect();
        let mut ids = Vec::new();
        for name in &names {
            ids.push(topic(case, name, 2, &[])?);
        }
        if version < 6 {
            let named = |names: &[&str]| {
                let names = names.iter().map(|name| topic_name(name)).collect();
                request.clone().with_topic_names(names)
            };
            case.ask(version, "one", named(&[&names[0]]))?;
            case.ask(version, "the same again", named(&[&names[0]]))?;
            case.ask(version, "one twice", named(&[&names[1], &names[1]]))?;
            case.ask(
                version,
                "right and wrong",
                named(&["no-such", &names[2], "a/b", ""]),
            )?;
            case.ask(version, "none", named(&[]))?;
            case.ask(version, "no time", named(&[&names[3]]).with_timeout_ms(0))?;
        } else {
            let by_name =
                |name: &str| DeleteTopicState::default().with_name(Some(topic_name(name)));
            let by_id = |id: Uuid| {
                DeleteTopicState::default()
                    .with_name(None)
                    .with_topic_id(id)
            };
            let states = |topics| request.clone().with_topics(topics);
            case.ask(version, "by name", states(vec![by_name(&names[0])]))?;
            case.ask(version, "by name again", states(vec![by_name(&names[0])]))?;
            let both = by_name(&names[1]);
            case.ask(version, "by name twice", states(vec![both.clone(), both]))?;
            let one = ids[2].map(|id| states(vec![by_id(*id)]));
            case.ask_each(version, "by id", one)?;
            let twice = ids[3].map(|id| states(vec![by_id(*id), by_id(*id)]));
            case.ask_each(version, "by id twice", twice)?;
            let mixed = ids[4].map(|id| states(vec![by_id(*id), by_name(&names[4])]));
            case.ask_each(version, "by id and by name", mixed)?;
            let both = ids[5].map(|id| states(vec![by_id(*id).with_name(Some(topic_name("x")))]));
            case.ask_each(version, "id and name at once", both)?;
            case.ask(version, "neither", states(vec![by_id(Uuid::nil())]))?;
            let unknown = states(vec![by_id(Uuid::from_u128(9 << 64)), by_name("no-such")]);
            case.ask(version, "unknown", unknown)?;
            case.ask(version, "none", states(vec![]))?;
        }
        // The last one may be deleted when its request is answered already.
        for (at, name) in names.iter().enumerate() {
            if version >= 6 || at != 3 {
                case.ask(9, &format!("what is left of topic {at}"), metadata(&[name]))?;
            }
        }
    }
    Ok(())
}

fn create_partitions(case: &mut Case<'_>) -> Result<()> {
    let to = |name: &str, count: i32| {
        CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None)
    };
    let request = |topics| {
        CreatePartitionsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(20_000)
    };
    for version in case.versions::<CreatePartitionsRequest>() {
        let name = format!("grow-{version}");
        topic(case, &name, 1, &[])?;
        let one = request(vec![to(&name, 2)]);
        case.ask(
            version,
            "validate only",
            one.clone().with_validate_only(true),
        )?;
        case.ask(version, "one more", one.clone())?;
        case.ask(version, "the same again", one)?;
        for count in [1, 0, -1] {
            case.ask(
                version,
                &format!("count {count}"),
                request(vec![to(&name, count)]),
            )?;
        }
        case.ask(version, "an unknown topic", request(vec![to("no-such", 3)]))?;
        case.ask(version, "a wrong name", request(vec![to("a/b", 3)]))?;
        let twice = request(vec![to(&name, 3), to(&name, 4), to("no-such", 2)]);
        case.ask(version, "a topic twice", twice)?;
        let internal = request(vec![to("__consumer_offsets", 1)]);
        case.ask(version, "an internal topic", internal)?;
        case.ask(version, "none", request(vec![]))?;
        let wrong: &[(&str, &[&[i32]])] = &[
            ("an unknown broker", &[&[7]]),
            ("a broker twice", &[&[0, 0]]),
            ("no brokers", &[&[]]),
            ("too many assignments", &[&[0], &[0]]),
            ("no assignments", &[]),
            ("factors that differ", &[&[0, 1]]),
        ];
        let with = |brokers: &[&[i32]]| {
            let assignments = brokers
                .iter()
                .map(|ids| {
                    CreatePartitionsAssignment::default()
                        .with_broker_ids(ids.iter().copied().map(BrokerId).collect())
                })
                .collect();
            request(vec![to(&name, 3).with_assignments(Some(assignments))])
        };
        for (what, brokers) in wrong {
            case.ask(version, what, with(brokers))?;
        }
        case.ask(version, "assigned", with(&[&[0]]))?;
        case.ask(
            version,
            "no time",
            request(vec![to(&name, 5)]).with_timeout_ms(0),
        )?;
    }
    Ok(())
}

fn elect_leaders(case: &mut Case<'_>) -> Result<()> {
    topic(case, "elect", 2, &[])?;
    let of = |name: &str, partitions: &[i32]| {
        TopicPartitions::default()
            .with_topic(topic_name(name))
            .with_partitions(partitions.to_vec())
    };
    for version in case.versions::<ElectLeadersRequest>() {
        for kind in [0, 1] {
            if version == 0 && kind != 0 {
                continue;
            }
            let request = |topics| {
                ElectLeadersRequest::default()
                    .with_election_type(kind)
                    .with_timeout_ms(10_000)
                    .with_topic_partitions(topics)
            };
            let asks = [
                ("two partitions", Some(vec![of("elect", &[0, 1])])),
                (
                    "wrong partitions",
                    Some(vec![of("elect", &[0, 7, -1]), of("no-such", &[0])]),
                ),
                (
                    "a partition twice",
                    Some(vec![of("elect", &[0, 0]), of("elect", &[0])]),
                ),
                ("none", Some(vec![])),
                ("no partitions", Some(vec![of("elect", &[])])),
                ("all", None),
            ];
            for (what, topics) in asks {
                case.ask(version, &format!("{what}, type {kind}"), request(topics))?;
            }
        }
    }
    Ok(())
}

fn reassign(case: &mut Case<'_>) -> Result<()> {
    topic(case, "reassign", 2, &[])?;
    let to = |index: i32, replicas: Option<&[i32]>| {
        ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas.map(|brokers| brokers.iter().copied().map(BrokerId).collect()))
    };
    let request = |name: &str, partitions| {
        AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![
                ReassignableTopic::default()
                    .with_name(topic_name(name))
                    .with_partitions(partitions),
            ])
    };
    for version in case.versions::<AlterPartitionReassignmentsRequest>() {
        let asks = [
            ("to where it is", vec![to(0, Some(&[0]))]),
            ("nothing to cancel", vec![to(0, None), to(1, None)]),
            ("to an unknown broker", vec![to(0, Some(&[7]))]),
            ("to a broker twice", vec![to(0, Some(&[0, 0]))]),
            ("to a negative broker", vec![to(0, Some(&[-1]))]),
            ("to no brokers", vec![to(0, Some(&[]))]),
            (
                "an unknown partition",
                vec![to(7, Some(&[0])), to(-1, Some(&[0]))],
            ),
            ("cancel an unknown partition", vec![to(7, None)]),
            (
                "right and wrong",
                vec![to(0, Some(&[0])), to(1, Some(&[7]))],
            ),
            ("no partitions", vec![]),
        ];
        for (what, partitions) in asks {
            case.ask(version, what, request("reassign", partitions))?;
        }
        case.ask(
            version,
            "an unknown topic",
            request("no-such", vec![to(0, Some(&[0]))]),
        )?;
        case.ask(
            version,
            "cancel an unknown topic",
            request("no-such", vec![to(0, None)]),
        )?;
        let none = AlterPartitionReassignmentsRequest::default().with_timeout_ms(10_000);
        case.ask(version, "none", none)?;
    }
    for version in case.versions::<ListPartitionReassignmentsRequest>() {
        let of = |name: &str, partitions: &[i32]| {
            ListPartitionReassignmentsTopics::default()
                .with_name(topic_name(name))
                .with_partition_indexes(partitions.to_vec())
        };
        for (what, topics) in [
            ("all", None),
            ("none", Some(vec![])),
            ("a topic", Some(vec![of("reassign", &[0, 1])])),
            (
                "unknown ones",
                Some(vec![of("reassign", &[9]), of("no-such", &[0])]),
            ),
        ] {
            let request = ListPartitionReassignmentsRequest::default()
                .with_timeout_ms(10_000)
                .with_topics(topics);
            case.ask(version, what, request)?;
        }
    }
    Ok(())
}
