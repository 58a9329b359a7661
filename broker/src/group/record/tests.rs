use proptest::prelude::*;

use super::*;

impl Record {
    pub fn encode_key(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        self.put_key(&mut out).map(|()| out)
    }

    pub fn encode_value(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut out = Vec::new();
        let is_there = self.put_value(&mut out)?;
        Ok(is_there.then_some(out))
    }
}

fn round_trip(record: &Record) -> Record {
    let key = record.encode_key().unwrap();
    let value = record.encode_value().unwrap();
    Record::decode(Some(&key), value.as_deref()).unwrap()
}

fn committed(expire_timestamp: Option<i64>) -> Record {
    Record::Offset {
        group: "g".into(),
        partition: TopicPartition::new("t", 7),
        value: Some(OffsetAndMetadata {
            offset: 258,
            leader_epoch: None,
            metadata: "m".into(),
            commit_timestamp: 1,
            expire_timestamp,
        }),
    }
}

/// Bytes of the schema's fields, one line each, as Kafka 3.9 writes them.
fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn offset_commit_is_written_as_key_1_and_value_3() {
    let record = committed(None);
    let key = bytes(&[&[0, 1], &[0, 1], b"g", &[0, 1], b"t", &[0, 0, 0, 7]]);
    let value = bytes(&[
        &[0, 3],
        &[0, 0, 0, 0, 0, 0, 1, 2],
        &[0xff; 4],
        &[0, 1],
        b"m",
        &[0, 0, 0, 0, 0, 0, 0, 1],
    ]);
    assert_eq!(record.encode_key().unwrap(), key);
    assert_eq!(record.encode_value().unwrap().unwrap(), value);
    assert_eq!(Record::decode(Some(&key), Some(&value)).unwrap(), record);
}

#[test]
fn explicit_expiry_is_written_as_value_1() {
    let record = committed(Some(9));
    let value = bytes(&[
        &[0, 1],
        &[0, 0, 0, 0, 0, 0, 1, 2],
        &[0, 1],
        b"m",
        &[0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 0, 0, 0, 0, 9],
    ]);
    assert_eq!(record.encode_value().unwrap().unwrap(), value);
    assert_eq!(round_trip(&record), record);
}

#[test]
fn old_offset_versions_are_read() {
    let key_v0 = bytes(&[&[0, 0], &[0, 1], b"g", &[0, 1], b"t", &[0, 0, 0, 7]]);
    for version in [0u8, 2] {
        let value = bytes(&[
            &[0, version],
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 1],
            b"m",
            &[0, 0, 0, 0, 0, 0, 0, 1],
        ]);
        assert_eq!(
            Record::decode(Some(&key_v0), Some(&value)).unwrap(),
            committed(None),
            "version {version}"
        );
    }
    let flexible = bytes(&[
        &[0, 4],
        &[0, 0, 0, 0, 0, 0, 1, 2],
        &[0xff; 4],
        &[2],
        b"m",
        &[0, 0, 0, 0, 0, 0, 0, 1],
        // One tagged field of a later Kafka: tag 5, two bytes.
        &[1, 5, 2, 0xaa, 0xbb],
    ]);
    assert_eq!(
        Record::decode(Some(&key_v0), Some(&flexible)).unwrap(),
        committed(None)
    );
}

fn group() -> Record {
    Record::Group {
        group: "g".into(),
        value: Some(GroupValue {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: Some("m-1".into()),
            current_state_timestamp: 3,
            members: vec![MemberValue {
                member_id: "m-1".into(),
                instance_id: None,
                client_id: "c".into(),
                client_host: "/1.2.3.4".into(),
                rebalance_timeout_ms: 300_000,
                session_timeout_ms: 45_000,
                subscription: Bytes::from_static(&[1, 2]),
                assignment: Bytes::from_static(&[3]),
            }],
        }),
    }
}

#[test]
fn group_metadata_is_written_as_key_2_and_value_3() {
    let record = group();
    let value = bytes(&[
        &[0, 3],
        &[0, 8],
        b"consumer",
        &[0, 0, 0, 5],
        &[0, 5],
        b"range",
        &[0, 3],
        b"m-1",
        &[0, 0, 0, 0, 0, 0, 0, 3],
        &[0, 0, 0, 1],
        &[0, 3],
        b"m-1",
        &[0xff, 0xff],
        &[0, 1],
        b"c",
        &[0, 8],
        b"/1.2.3.4",
        &[0, 4, 0x93, 0xe0],
        &[0, 0, 0xaf, 0xc8],
        &[0, 0, 0, 2, 1, 2],
        &[0, 0, 0, 1, 3],
    ]);
    assert_eq!(
        record.encode_key().unwrap(),
        bytes(&[&[0, 2], &[0, 1], b"g"])
    );
    assert_eq!(record.encode_value().unwrap().unwrap(), value);
    assert_eq!(round_trip(&record), record);
}

#[test]
fn group_metadata_version_0_takes_the_session_timeout_for_the_rebalance_timeout() {
    let value = bytes(&[
        &[0, 0],
        &[0, 8],
        b"consumer",
        &[0, 0, 0, 5],
        &[0, 5],
        b"range",
        &[0, 3],
        b"m-1",
        &[0, 0, 0, 1],
        &[0, 3],
        b"m-1",
        &[0, 1],
        b"c",
        &[0, 8],
        b"/1.2.3.4",
        &[0, 0, 0xaf, 0xc8],
        &[0, 0, 0, 2, 1, 2],
        &[0, 0, 0, 1, 3],
    ]);
    let key = group().encode_key().unwrap();
    let Record::Group {
        value: Some(value), ..
    } = Record::decode(Some(&key), Some(&value)).unwrap()
    else {
        panic!("a group record");
    };
    assert_eq!(value.members[0].rebalance_timeout_ms, 45_000);
    assert_eq!(value.current_state_timestamp, -1);
}

#[test]
fn records_of_other_coordinators_are_unknown_not_errors() {
    for version in 3i16..=15 {
        let key = version.to_be_bytes();
        assert_eq!(
            Record::decode(Some(&key), Some(b"anything")).unwrap(),
            Record::Unknown {
                key_version: version
            }
        );
    }
}

#[test]
fn tombstones_round_trip() {
    let record = Record::Offset {
        group: "g".into(),
        partition: TopicPartition::new("t", 0),
        value: None,
    };
    assert_eq!(round_trip(&record), record);
    let record = Record::Group {
        group: "g".into(),
        value: None,
    };
    assert_eq!(round_trip(&record), record);
}

#[test]
fn what_does_not_fit_is_refused() {
    let long = "x".repeat(32_768);
    let record = Record::Group {
        group: long.into(),
        value: None,
    };
    let error = record.encode_key().unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordListTooLarge);
}

#[test]
fn a_huge_member_count_allocates_nothing() {
    let value = bytes(&[
        &[0, 3],
        &[0, 0],
        &[0, 0, 0, 1],
        &[0xff, 0xff],
        &[0xff, 0xff],
        &[0; 8],
        &[0x7f, 0xff, 0xff, 0xff],
    ]);
    assert!(matches!(decode_group(&value), Err(Error::Truncated { .. })));
}

#[test]
fn subscriptions_of_every_version_begin_alike() {
    let metadata = bytes(&[&[0, 3], &[0, 0, 0, 1], &[0, 1], b"t", &[0xff; 4], &[9, 9]]);
    assert_eq!(subscribed_topics(&metadata).unwrap(), vec!["t".to_owned()]);
    assert!(subscribed_topics(&[0]).is_err());
    assert!(subscribed_topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err());
}

prop_compose! {
    fn any_member()(
        member_id in ".{0,12}", instance_id in proptest::option::of(".{0,8}"),
        client_id in ".{0,8}", client_host in ".{0,8}",
        rebalance_timeout_ms: i32, session_timeout_ms: i32,
        subscription in proptest::collection::vec(any::<u8>(), 0..20),
        assignment in proptest::collection::vec(any::<u8>(), 0..20),
    ) -> MemberValue {
        MemberValue {
            member_id, instance_id, client_id, client_host, rebalance_timeout_ms,
            session_timeout_ms, subscription: subscription.into(), assignment: assignment.into(),
        }
    }
}

proptest! {
    #[test]
    fn any_group_round_trips(
        group in ".{0,20}", protocol_type in ".{0,10}", generation: i32,
        protocol in proptest::option::of(".{0,8}"), leader in proptest::option::of(".{0,8}"),
        current_state_timestamp: i64,
        members in proptest::collection::vec(any_member(), 0..4),
    ) {
        let record = Record::Group { group: group.into(), value: Some(GroupValue {
            protocol_type, generation, protocol, leader, current_state_timestamp, members,
        })};
        prop_assert_eq!(round_trip(&record), record);
    }

    #[test]
    fn any_offset_round_trips(
        group in ".{0,20}", topic in ".{0,10}", partition: i32, offset: i64,
        epoch in proptest::option::of(0i32..), metadata in ".{0,20}", commit_timestamp: i64,
    ) {
        let record = Record::Offset {
            group: group.into(), partition: TopicPartition::new(topic, partition),
            value: Some(OffsetAndMetadata {
                offset, leader_epoch: epoch, metadata: metadata.into(), commit_timestamp,
                expire_timestamp: None,
            }),
        };
        prop_assert_eq!(round_trip(&record), record);
    }

    /// Whatever is in the topic, decoding ends with a record or a typed error.
    #[test]
    fn hostile_bytes_never_panic(
        version in 0u8..6, key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..80), value_version in 0u8..6,
    ) {
        let mut whole_key = vec![0, version];
        whole_key.extend(key);
        let mut whole_value = vec![0, value_version];
        whole_value.extend(value);
        let _ = Record::decode(Some(&whole_key), Some(&whole_value));
        let _ = subscribed_topics(&whole_value);
    }

    /// Every cut of a good record is an error, not something else.
    #[test]
    fn torn_values_are_errors(cut in 0usize..60) {
        let value = group().encode_value().unwrap().unwrap();
        let key = group().encode_key().unwrap();
        let cut = cut.min(value.len() - 1);
        prop_assert!(Record::decode(Some(&key), Some(&value[..cut])).is_err());
    }
}
