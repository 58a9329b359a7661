use proptest::prelude::*;

use super::*;

fn endpoint(listener: &str, security_protocol: i16, host: &str, port: i32) -> Endpoint {
    Endpoint {
        listener: listener.to_owned(),
        security_protocol,
        host: host.to_owned(),
        port,
    }
}

fn written(data: Bytes) -> String {
    String::from_utf8(data.to_vec()).expect("text")
}

/// As `zookeeper-shell` prints them in a cluster of Apache Kafka 3.9.
#[test]
fn nodes_are_written_with_the_keys_in_the_order_of_kafka() {
    let check = |data: Bytes, expected: &str| assert_eq!(written(data), expected);
    check(
        ControllerRegistration::encode(1, 1718000000000),
        r#"{"version":2,"brokerid":1,"timestamp":"1718000000000","kraftControllerEpoch":-1}"#,
    );
    let mut broker = BrokerRegistration::new(vec![endpoint("PLAINTEXT", 0, "h1", 9092)], None);
    check(
        broker.encode(1718000000000),
        r#"{"features":{},"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"endpoints":["PLAINTEXT://h1:9092"],"jmx_port":-1,"port":9092,"host":"h1","version":5,"timestamp":"1718000000000"}"#,
    );
    broker.endpoints = vec![endpoint("SECURE", 3, "::1", 9093)];
    broker.rack = Some("dc1".to_owned());
    check(
        broker.encode(1),
        r#"{"features":{},"listener_security_protocol_map":{"SECURE":"SASL_SSL"},"endpoints":["SECURE://[::1]:9093"],"rack":"dc1","jmx_port":-1,"port":-1,"host":null,"version":5,"timestamp":"1"}"#,
    );
    let mut topic = TopicAssignment {
        topic_id: parse_uuid("pJ5kLr2uTqWk7oXxkYx1Sg"),
        partitions: BTreeMap::new(),
    };
    for id in 0..12 {
        topic.partitions.entry(id).or_default().replicas = vec![1];
    }
    topic.partitions.entry(3).or_default().adding = vec![1];
    check(
        topic.encode(),
        r#"{"partitions":{"11":[1],"0":[1],"1":[1],"2":[1],"3":[1],"4":[1],"5":[1],"6":[1],"7":[1],"8":[1],"9":[1],"10":[1]},"topic_id":"pJ5kLr2uTqWk7oXxkYx1Sg","adding_replicas":{"3":[1]},"removing_replicas":{},"version":3}"#,
    );
    let mut state = PartitionState {
        leader: 1,
        leader_epoch: 3,
        controller_epoch: 7,
        isr: vec![1, 2],
        recovering: false,
    };
    check(
        state.encode(),
        r#"{"controller_epoch":7,"leader":1,"version":1,"leader_epoch":3,"isr":[1,2]}"#,
    );
    state.recovering = true;
    check(
        state.encode(),
        r#"{"controller_epoch":7,"leader":1,"version":1,"leader_recovery_state":1,"leader_epoch":3,"isr":[1,2]}"#,
    );
    check(encode_cluster_id("abc"), r#"{"version":"1","id":"abc"}"#);
    check(
        encode_config([("retention.ms", "1000")]),
        r#"{"version":1,"config":{"retention.ms":"1000"}}"#,
    );
    // The order that Java 17 gave these keys.
    let keys = [
        "zz",
        "a",
        "b",
        "c",
        "flush.ms",
        "max.message.bytes",
        "min.insync.replicas",
        "segment.ms",
        "retention.ms",
        "retention.bytes",
    ];
    let mut config: Vec<_> = keys.iter().map(|key| (*key, ())).collect();
    config.sort_unstable_by_key(|(key, ())| key.len());
    properties_order(&mut config);
    let order: Vec<_> = config.iter().map(|(key, ())| *key).collect();
    assert_eq!(order, keys);
    let change = ConfigChange {
        entity_type: "topics".to_owned(),
        entity: "t".to_owned(),
    };
    check(change.encode(), r#"{"version":2,"entity_path":"topics/t"}"#);
    let partition = TopicPartition::new("t", 0);
    check(
        encode_partitions([&partition]),
        r#"{"version":1,"partitions":[{"topic":"t","partition":0}]}"#,
    );
    check(
        encode_reassignments([(&partition, &[1, 2][..])]),
        r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,2]}]}"#,
    );
    check(
        encode_log_dir_event(1),
        r#"{"version":1,"broker":1,"event":1}"#,
    );
    let block = ProducerIdBlock {
        broker: 1,
        first: 0,
        last: 999,
    };
    check(
        block.encode(),
        r#"{"version":1,"broker":1,"block_start":"0","block_end":"999"}"#,
    );
    let feature = Feature {
        enabled: true,
        features: BTreeMap::new(),
    };
    check(
        feature.encode(),
        r#"{"features":{},"version":2,"status":1}"#,
    );
}

#[test]
fn older_versions_and_unknown_keys_are_read() {
    let decode = |text: &str| BrokerRegistration::decode(text.as_bytes()).expect(text);
    let v1 = decode(r#"{"version":1,"host":"h","port":9092,"jmx_port":9999,"timestamp":"2"}"#);
    assert_eq!(v1.endpoints, [endpoint("PLAINTEXT", 0, "h", 9092)]);
    let v2 = decode(
        r#"{"version":2,"host":"h","port":1,"jmx_port":-1,"timestamp":"2","endpoints":["PLAINTEXT://h:1","ssl://[::1]:2"]}"#,
    );
    assert_eq!(
        v2.endpoints,
        [
            endpoint("PLAINTEXT", 0, "h", 1),
            endpoint("SSL", 1, "::1", 2)
        ]
    );
    let v5 = decode(
        r#"{"version":5,"x":[],"jmx_port":-1,"rack":null,"endpoints":["CLIENT://h:1"],"listener_security_protocol_map":{"CLIENT":"SASL_SSL"},"features":{"f":{"min_version":1,"max_version":3}}} trailing"#,
    );
    assert_eq!((v5.endpoints[0].security_protocol, v5.rack), (3, None));
    assert_eq!(v5.features["f"]["max_version"], 3);
    let topic = TopicAssignment::decode(br#"{"version":1,"partitions":{"0":[1,2]}}"#);
    let topic = topic.expect("version 1");
    assert_eq!(
        (topic.topic_id, &topic.partitions[&0].replicas[..]),
        (None, &[1, 2][..])
    );
    let controller = ControllerRegistration::decode(br#"{"brokerid":3}"#).expect("version 1");
    assert_eq!((controller.broker, controller.kraft_epoch), (3, None));
    let change = br#"{"version":1,"entity_type":"topics","entity_name":"t"}"#;
    assert_eq!(ConfigChange::decode(change).expect("version 1").entity, "t");
    assert_eq!(ProducerIdBlock::decode(b""), Ok(None));
    assert_eq!(decode_config(b""), Ok(BTreeMap::new()));
    let feature = br#"{"version":1,"status":1,"features":{"f":{"min_version_level":1,"max_version_level":2}}}"#;
    assert_eq!(
        Feature::decode(feature).expect("version 1").features["f"],
        2
    );
}

#[test]
fn bad_content_says_what_is_wrong() {
    let check = |result: Result<(), DataError>, expected: &str| {
        assert_eq!(result.expect_err(expected).to_string(), expected);
    };
    let state = |text: &[u8]| PartitionState::decode(text).map(drop);
    check(state(b""), "not JSON: it is empty");
    check(state(b"[1]"), "the content is not an object, but [1]");
    check(state(br#"{"leader":1}"#), "key `leader_epoch` is missing");
    check(
        state(br#"{"leader":3000000000}"#),
        "leader is not a number of 32 bits, but 3000000000",
    );
    check(
        state(br#"{"leader":"1"}"#),
        r#"leader is not a number of 32 bits, but "1""#,
    );
    let broker = |text: &[u8]| BrokerRegistration::decode(text).map(drop);
    check(
        broker(br#"{"version":0,"jmx_port":1}"#),
        "version 0 is not supported",
    );
    check(
        broker(br#"{"version":4,"jmx_port":1,"endpoints":["A://h:1"],"listener_security_protocol_map":{}}"#),
        "an endpoint is not of a listener with a security protocol, but A://h:1",
    );
    check(
        TopicAssignment::decode(br#"{"partitions":{"x":[1]}}"#).map(drop),
        "a partition is not a number, but x",
    );
    check(
        TopicAssignment::decode(br#"{"topic_id":"x"}"#).map(drop),
        "topic_id is not a topic id, but x",
    );
    check(
        decode_controller_epoch(b"seven").map(drop),
        "the controller epoch is not a number, but seven",
    );
    let deep = vec![b'['; 100_000];
    assert!(state(&deep).is_err());
}

proptest! {
    #[test]
    fn topics_and_states_read_what_they_wrote(
        partitions in prop::collection::btree_map(0..2000i32, (prop::collection::vec(0..9i32, 1..4), prop::collection::vec(0..9i32, 0..2)), 0..40),
        leader in -1..5i32, epoch: i32, recovering: bool,
    ) {
        let partitions = partitions
            .into_iter()
            .map(|(id, (replicas, adding))| (id, PartitionReplicas { replicas, adding, removing: Vec::new() }))
            .collect();
        let topic = TopicAssignment { topic_id: Some(Uuid::from_u128(7)), partitions };
        prop_assert_eq!(TopicAssignment::decode(&topic.encode()), Ok(topic));
        let state = PartitionState { leader, leader_epoch: epoch, controller_epoch: epoch, isr: vec![leader], recovering };
        prop_assert_eq!(PartitionState::decode(&state.encode()), Ok(state));
    }

    #[test]
    fn no_content_panics(data in prop::collection::vec(any::<u8>(), 0..80), text in "\\{(\"(version|partitions|features|endpoints|leader|isr)\":(1|\"a\"|\\[1\\]|\\{\"0\":\\[\\]\\}),?){0,6}\\}") {
        for data in [&data[..], text.as_bytes()] {
            let _ = BrokerRegistration::decode(data);
            let _ = TopicAssignment::decode(data);
            let _ = PartitionState::decode(data);
            let _ = Feature::decode(data);
            let _ = ConfigChange::decode(data);
            let _ = decode_config(data);
            let _ = decode_partitions(data);
            let _ = decode_reassignments(data);
            let _ = ProducerIdBlock::decode(data);
            let _ = ControllerRegistration::decode(data);
        }
    }
}
