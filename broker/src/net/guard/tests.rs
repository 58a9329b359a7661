//! The guard against the codec: messages made from the layouts, whole, cut and damaged.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::layout::{self, Element, Step, Struct};
use super::*;

/// Writes a message that follows its layout.
struct Writer<'a> {
    out: Vec<u8>,
    random: &'a mut StdRng,
    flexible: bool,
    /// With tags: known ones at random, and one unknown now and then.
    tags: bool,
}

impl Writer<'_> {
    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// `None` is null.
    fn length(&mut self, length: Option<usize>, old_string: bool) {
        match (self.flexible, length) {
            (true, length) => self.varint(length.map_or(0, |length| length as u32 + 1)),
            (false, length) => {
                let length = length.map_or(-1, |length| length as i32);
                if old_string {
                    self.out.extend((length as i16).to_be_bytes());
                } else {
                    self.out.extend(length.to_be_bytes());
                }
            }
        }
    }

    fn is_null(&mut self, nullable: bool) -> bool {
        nullable && self.random.random_bool(0.2)
    }

    fn text(&mut self, nullable: bool) {
        if self.is_null(nullable) {
            return self.length(None, true);
        }
        let length = if self.random.random_bool(0.05) {
            200
        } else {
            self.random.random_range(0..6)
        };
        self.length(Some(length), true);
        for _ in 0..length {
            let byte = self.random.random_range(b'a'..=b'z');
            self.out.push(byte);
        }
    }

    fn data(&mut self, nullable: bool) {
        if self.is_null(nullable) {
            return self.length(None, false);
        }
        let length = self.random.random_range(0..20);
        self.length(Some(length), false);
        self.fixed(length);
    }

    fn fixed(&mut self, length: usize) {
        for _ in 0..length {
            // Booleans keep their value only as 0 and 1.
            let byte = self.random.random_range(0..2);
            self.out.push(byte);
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Skip(bytes) => self.fixed(*bytes),
                Step::Text { nullable } => self.text(*nullable),
                Step::Data { nullable } => self.data(*nullable),
                Step::Array { nullable, element } => self.array(*nullable, element),
                Step::Maybe(inner) => {
                    if self.is_null(true) {
                        self.out.push(0xff);
                    } else {
                        self.out.push(1);
                        self.steps(&inner.steps);
                    }
                }
                Step::Tags(known) => self.tag_section(known),
            }
        }
    }

    fn array(&mut self, nullable: bool, element: &Element) {
        if self.is_null(nullable) {
            return self.length(None, false);
        }
        let count = self.random.random_range(0..4);
        self.length(Some(count), false);
        for _ in 0..count {
            match element {
                Element::Fixed(bytes) => self.fixed(*bytes),
                Element::Text => self.text(false),
                Element::Data => self.data(false),
                Element::Struct(inner) => self.steps(&inner.steps),
            }
        }
    }

    fn tag_section(&mut self, known: &[(u32, Struct)]) {
        let mut values = Vec::new();
        if self.tags {
            let mut sorted: Vec<_> = known.iter().collect();
            sorted.sort_by_key(|(number, _)| *number);
            for (number, value) in sorted {
                if self.random.random_bool(0.5) {
                    let outer = std::mem::take(&mut self.out);
                    self.steps(&value.steps);
                    values.push((*number, std::mem::replace(&mut self.out, outer)));
                }
            }
            if self.random.random_bool(0.2) {
                values.push((1000, vec![7; 3]));
            }
        }
        self.varint(values.len() as u32);
        for (number, value) in values {
            self.varint(number);
            self.varint(value.len() as u32);
            self.out.extend(value);
        }
    }
}

/// A valid message, made by a type of the codec, both ways.
fn check_message<M: Decodable + Encodable + PartialEq + std::fmt::Debug>(
    direction: Direction,
    key: i16,
    version: i16,
    random: &mut StdRng,
) {
    let program = layout::program(direction, key, version).unwrap();
    for tags in [false, true] {
        let mut writer = Writer {
            out: Vec::new(),
            random: &mut *random,
            flexible: program.flexible,
            tags,
        };
        writer.steps(&program.body.steps);
        let bytes = Bytes::from(writer.out);
        let what = || format!("{direction:?} {key} v{version} tags={tags}: {bytes:02x?}");
        assert_eq!(check(direction, key, version, &bytes), Ok(()), "{}", what());
        let mut left = bytes.clone();
        let message = M::decode(&mut left, version).unwrap_or_else(|e| panic!("{e} {}", what()));
        assert!(left.is_empty(), "{} left of {}", left.len(), what());
        let mut again = BytesMut::new();
        message
            .encode(&mut again, version)
            .unwrap_or_else(|e| panic!("{e} {}", what()));
        assert_eq!(check(direction, key, version, &again), Ok(()), "{}", what());
        if !tags {
            assert_eq!(again, bytes, "{}", what());
        }
        let read = M::decode(&mut again.freeze(), version).unwrap();
        assert_eq!(read, message, "{}", what());

        // Cut short anywhere it is refused, but where only an end that nobody reads is missing.
        let cut = random.random_range(0..=bytes.len());
        agree::<M>(direction, key, version, bytes.slice(..cut));
        for _ in 0..4 {
            let mut damaged = bytes.to_vec();
            for _ in 0..random.random_range(1..4) {
                if !damaged.is_empty() {
                    let at = random.random_range(0..damaged.len());
                    damaged[at] = match random.random_range(0..4) {
                        0 => 0xff,
                        1 => 0x7f,
                        _ => random.random(),
                    };
                }
            }
            agree::<M>(direction, key, version, damaged.into());
        }
    }
}

/// What the guard lets through the codec decodes, but for a tag that belongs to other versions of
/// the message: the codec refuses what Kafka skips.
fn agree<M: Decodable>(direction: Direction, key: i16, version: i16, bytes: Bytes) {
    if check(direction, key, version, &bytes).is_ok()
        && let Err(error) = M::decode(&mut bytes.clone(), version)
        && !error.to_string().contains("is not valid for version")
    {
        panic!("{direction:?} {key} v{version}: {error} {bytes:02x?}");
    }
}

fn check_api<R: Request + PartialEq + std::fmt::Debug>(random: &mut StdRng, seen: &mut Vec<i16>)
where
    R::Response: PartialEq + std::fmt::Debug,
{
    seen.push(R::KEY);
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        check_message::<R>(Direction::Request, R::KEY, version, random);
        check_message::<R::Response>(Direction::Response, R::KEY, version, random);
    }
}

macro_rules! check_apis {
    ($random:ident $seen:ident; $($request:ident $response:ident;)*) => {
        $(check_api::<$request>(&mut $random, &mut $seen);)*
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn guard_and_codec_agree_on_every_api_and_version(seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut seen = Vec::new();
        check_apis! { random seen;
            ProduceRequest ProduceResponse;
            FetchRequest FetchResponse;
            ListOffsetsRequest ListOffsetsResponse;
            MetadataRequest MetadataResponse;
            LeaderAndIsrRequest LeaderAndIsrResponse;
            StopReplicaRequest StopReplicaResponse;
            UpdateMetadataRequest UpdateMetadataResponse;
            ControlledShutdownRequest ControlledShutdownResponse;
            OffsetCommitRequest OffsetCommitResponse;
            OffsetFetchRequest OffsetFetchResponse;
            FindCoordinatorRequest FindCoordinatorResponse;
            JoinGroupRequest JoinGroupResponse;
            HeartbeatRequest HeartbeatResponse;
            LeaveGroupRequest LeaveGroupResponse;
            SyncGroupRequest SyncGroupResponse;
            DescribeGroupsRequest DescribeGroupsResponse;
            ListGroupsRequest ListGroupsResponse;
            SaslHandshakeRequest SaslHandshakeResponse;
            ApiVersionsRequest ApiVersionsResponse;
            CreateTopicsRequest CreateTopicsResponse;
            DeleteTopicsRequest DeleteTopicsResponse;
            DeleteRecordsRequest DeleteRecordsResponse;
            InitProducerIdRequest InitProducerIdResponse;
            OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
            AddPartitionsToTxnRequest AddPartitionsToTxnResponse;
            AddOffsetsToTxnRequest AddOffsetsToTxnResponse;
            EndTxnRequest EndTxnResponse;
            WriteTxnMarkersRequest WriteTxnMarkersResponse;
            TxnOffsetCommitRequest TxnOffsetCommitResponse;
            DescribeAclsRequest DescribeAclsResponse;
            CreateAclsRequest CreateAclsResponse;
            DeleteAclsRequest DeleteAclsResponse;
            DescribeConfigsRequest DescribeConfigsResponse;
            AlterConfigsRequest AlterConfigsResponse;
            AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse;
            DescribeLogDirsRequest DescribeLogDirsResponse;
            SaslAuthenticateRequest SaslAuthenticateResponse;
            CreatePartitionsRequest CreatePartitionsResponse;
            CreateDelegationTokenRequest CreateDelegationTokenResponse;
            RenewDelegationTokenRequest RenewDelegationTokenResponse;
            ExpireDelegationTokenRequest ExpireDelegationTokenResponse;
            DescribeDelegationTokenRequest DescribeDelegationTokenResponse;
            DeleteGroupsRequest DeleteGroupsResponse;
            ElectLeadersRequest ElectLeadersResponse;
            IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
            AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse;
            ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse;
            OffsetDeleteRequest OffsetDeleteResponse;
            DescribeClientQuotasRequest DescribeClientQuotasResponse;
            AlterClientQuotasRequest AlterClientQuotasResponse;
            DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse;
            AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse;
            AlterPartitionRequest AlterPartitionResponse;
            UpdateFeaturesRequest UpdateFeaturesResponse;
            EnvelopeRequest EnvelopeResponse;
            DescribeClusterRequest DescribeClusterResponse;
            DescribeProducersRequest DescribeProducersResponse;
            DescribeTransactionsRequest DescribeTransactionsResponse;
            ListTransactionsRequest ListTransactionsResponse;
            AllocateProducerIdsRequest AllocateProducerIdsResponse;
            ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse;
            ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse;
        }
        let rows: Vec<i16> = layout::rows()
            .filter(|row| row.direction == Direction::Request)
            .map(|row| row.key)
            .collect();
        prop_assert_eq!(seen, rows);
    }
}

#[test]
fn counts_are_compared_with_the_bytes_left() {
    // Metadata v1: four bytes that ask the codec for 154 GB.
    let bytes = [0x7f, 0xff, 0xff, 0xff];
    let error = check(Direction::Request, 3, 1, &bytes).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Count {
                count: 0x7fff_ffff,
                left: 0,
                ..
            }
        ),
        "{error}"
    );
    let error = check(Direction::Request, 3, 1, &[2, 0x62, 0x5a, 0]).unwrap_err();
    assert!(matches!(error, Error::Count { .. }), "{error}");
    // Null means all topics from v1 on, and nothing in v0.
    assert_eq!(check(Direction::Request, 3, 1, &[0xff; 4]), Ok(()));
    assert_eq!(
        check(Direction::Request, 3, 0, &[0xff; 4]),
        Err(Error::Null { at: 0 })
    );
}

#[test]
fn elements_that_cost_more_memory_than_bytes_are_bounded() {
    let names = |count: usize| {
        let mut bytes = (count as i32).to_be_bytes().to_vec();
        bytes.extend(std::iter::repeat_n([0, 1, b'a'], count).flatten());
        bytes
    };
    assert_eq!(check(Direction::Request, 3, 1, &names(50_000)), Ok(()));
    let error = check(Direction::Request, 3, 1, &names(500_000)).unwrap_err();
    assert!(matches!(error, Error::Memory { .. }), "{error}");
}

#[test]
fn varints_of_more_than_32_bits_are_refused() {
    for bytes in [
        &[0xff, 0xff, 0xff, 0xff, 0x1f][..],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 1],
    ] {
        assert_eq!(
            check(Direction::Request, 3, 12, bytes),
            Err(Error::Varint { at: 0 })
        );
    }
}

#[test]
fn strings_are_utf_8() {
    let bytes = [0, 0, 0, 1, 0, 1, 0xc3];
    assert_eq!(
        check(Direction::Request, 3, 1, &bytes),
        Err(Error::Utf8 { at: 4 })
    );
}

#[test]
fn tags_are_counted() {
    let header = |tags: u8| {
        let mut bytes = vec![0, 3, 0, 9, 0, 0, 0, 7, 0xff, 0xff, tags];
        bytes.extend((0..tags).flat_map(|tag| [tag, 0]));
        bytes
    };
    assert_eq!(request_header(&header(64), 2).unwrap().len, 11 + 128);
    assert_eq!(
        request_header(&header(65), 2),
        Err(Error::Tags { limit: 64 })
    );
    // ApiVersions v3: two names, then tags.
    let body = |tags: u32| {
        let mut bytes = vec![
            2,
            b'a',
            2,
            b'b',
            0x80 | (tags & 0x7f) as u8,
            (tags >> 7) as u8,
        ];
        bytes.extend((0..tags).flat_map(|tag| [0x80 | (tag & 0x7f) as u8, (tag >> 7) as u8, 0]));
        bytes
    };
    assert_eq!(check(Direction::Request, 18, 3, &body(1024)), Ok(()));
    assert_eq!(
        check(Direction::Request, 18, 3, &body(1025)),
        Err(Error::Tags { limit: 1024 })
    );
}

#[test]
fn bytes_behind_the_last_field_are_let_through() {
    assert_eq!(check(Direction::Request, 18, 0, b"more"), Ok(()));
}

#[test]
fn a_request_header_gives_the_client_id_and_its_length() {
    let frame = [0, 3, 0, 1, 0, 0, 0, 9, 0, 2, b'i', b'd', 1, 2];
    let header = request_header(&frame, 1).unwrap();
    assert_eq!(header.correlation_id, 9);
    assert_eq!(header.client_id, Some("id"));
    assert_eq!(header.len, 12);
    assert_eq!(request_header(&frame, 0).unwrap().len, 8);
    assert_eq!(peek(&frame), Ok((3, 1)));
    assert!(request_header(&frame[..9], 1).is_err());
}
