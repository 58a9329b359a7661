use super::*;
use crate::config::topic::CleanupPolicy;
use crate::record::build::{NewRecord, build_batch};
use crate::record::control::{EndTxn, end_txn_marker};
use crate::record::tests::{CODECS, GOLDEN, edited, golden_records, raw_batch, read_all, wrapped};
use bytes::Bytes;

const NOW: Millis = 1_000_000;

/// Version of the Produce request.
const V9: Option<i16> = Some(9);
const V2: Option<i16> = Some(2);
const COORDINATOR: Option<i16> = None;

fn run(
    bytes: impl AsRef<[u8]>,
    produce_version: Option<i16>,
    config: &LogConfig,
) -> Result<Option<Prepared<'static>>, Rejected> {
    let bytes = bytes.as_ref();
    let origin = match produce_version {
        None => Origin::Coordinator,
        Some(version) => {
            check_produce_version(version, bytes)?;
            Origin::Client
        }
    };
    let prepared = prepare(&TopicPartition::new("t", 0), bytes, origin, config, NOW)?;
    Ok(prepared.map(|prepared| Prepared {
        bytes: Cow::Owned(prepared.bytes.into_owned()),
        ..prepared
    }))
}

fn accepted(
    bytes: impl AsRef<[u8]>,
    version: Option<i16>,
    config: &LogConfig,
) -> Prepared<'static> {
    let prepared = run(bytes, version, config).unwrap().unwrap();
    let batch = Batch::parse(&prepared.bytes).unwrap();
    batch.ensure_valid().unwrap();
    assert_eq!(batch.header(), &prepared.header);
    assert_eq!(batch.header().size(), prepared.bytes.len());
    prepared
}

fn code(bytes: impl AsRef<[u8]>, version: Option<i16>, config: &LogConfig) -> ErrorCode {
    run(bytes, version, config).unwrap_err().code
}

fn compacted() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    }
}

fn append_time() -> LogConfig {
    LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    }
}

fn batch_of(codec: Codec, records: &[(Option<&'static str>, Millis)]) -> Bytes {
    let records: Vec<NewRecord> = records
        .iter()
        .map(|(key, timestamp)| NewRecord {
            timestamp: *timestamp,
            key: key.map(Bytes::from),
            value: Some(Bytes::from_static(b"value")),
            headers: Vec::new(),
        })
        .collect();
    build_batch(
        &records,
        &BatchOptions {
            codec,
            ..BatchOptions::default()
        },
    )
}

fn simple(codec: Codec) -> Bytes {
    batch_of(codec, &[(Some("a"), 10), (Some("b"), 30), (Some("c"), 20)])
}

#[test]
fn batches_pass_untouched_whatever_the_codec() {
    for codec in CODECS {
        let bytes = simple(codec);
        let prepared = prepare(
            &TopicPartition::new("t", 0),
            &bytes,
            Origin::Client,
            &LogConfig::default(),
            NOW,
        )
        .unwrap()
        .unwrap();
        assert_eq!(*prepared.bytes, bytes[..], "{codec:?}");
        assert_eq!(
            prepared.bytes.as_ptr(),
            bytes.as_ptr(),
            "{codec:?}: no copy"
        );
        assert_eq!(prepared.log_append_time, -1);
    }
}

#[test]
fn a_batch_that_was_just_built_is_what_validation_would_make_of_it() {
    let uncompressed = LogConfig {
        compression_type: BrokerCompression::Uncompressed,
        ..LogConfig::default()
    };
    let small = LogConfig {
        max_message_bytes: 50,
        ..compacted()
    };
    let small_segment = LogConfig {
        segment_bytes: 50,
        ..compacted()
    };
    for codec in CODECS {
        let bytes = simple(codec);
        let header = *Batch::parse(&bytes).unwrap().header();
        for config in [&compacted(), &uncompressed, &append_time()] {
            let partition = TopicPartition::new("t", 0);
            let built = prepare_built(&partition, (&bytes, header), config, NOW).unwrap();
            let expected = accepted(&bytes, COORDINATOR, config);
            assert_eq!(built.bytes, expected.bytes, "{codec:?}");
            assert_eq!(built.header, expected.header);
            assert_eq!(built.log_append_time, expected.log_append_time);
        }
        for config in [&small, &small_segment] {
            let partition = TopicPartition::new("t", 0);
            let refused = prepare_built(&partition, (&bytes, header), config, NOW);
            let expected = run(&bytes, COORDINATOR, config).unwrap_err();
            assert_eq!(refused.unwrap_err(), expected, "{codec:?}");
        }
    }
}

#[test]
fn produce_v3_needs_exactly_one_batch_of_magic_2() {
    let config = LogConfig::default();
    let one = simple(Codec::None);
    let two = [&one[..], &one[..]].concat();
    for (bytes, text) in [
        (&b""[..], "at least one record batch"),
        (&one[..one.len() - 1], "at least one record batch"),
        (&two, "exactly one record batch"),
        (GOLDEN[4].1, "magic version 2"),
    ] {
        let rejected = run(bytes, V9, &config).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::InvalidRecord, "{text}");
        assert!(rejected.detail.contains(text), "{}", rejected.detail);
        assert_eq!(rejected.message, None);
    }
    let mut unknown_magic = one.to_vec();
    unknown_magic[16] = 3;
    assert_eq!(code(unknown_magic, V9, &config), ErrorCode::CorruptMessage);
}

#[test]
fn bytes_after_the_batch_are_dropped_when_they_are_no_batch() {
    let one = simple(Codec::None);
    let trailing = [&one[..], &[1, 2, 3]].concat();
    assert_eq!(
        *accepted(trailing, V9, &LogConfig::default()).bytes,
        one[..]
    );
}

#[test]
fn a_length_below_the_header_is_corrupt() {
    let mut bytes = simple(Codec::None).to_vec();
    bytes[8..12].copy_from_slice(&30i32.to_be_bytes());
    bytes.truncate(42);
    let config = LogConfig::default();
    assert_eq!(code(&bytes, V9, &config), ErrorCode::CorruptMessage);
    bytes[8..12].copy_from_slice(&(-5i32).to_be_bytes());
    assert_eq!(code(&bytes, V9, &config), ErrorCode::CorruptMessage);
}

#[test]
fn zstd_needs_produce_v7() {
    let config = LogConfig::default();
    let bytes = simple(Codec::Zstd);
    for version in 3..7 {
        assert_eq!(
            code(&bytes, Some(version), &config),
            ErrorCode::UnsupportedCompressionType
        );
    }
    accepted(bytes, Some(7), &config);
}

#[test]
fn codec_ids_5_to_7_are_invalid_records() {
    for id in 5..8 {
        let bytes = edited(&simple(Codec::None), |bytes| bytes[22] = id);
        assert_eq!(
            code(bytes, V9, &LogConfig::default()),
            ErrorCode::InvalidRecord
        );
    }
}

#[test]
fn base_offset_must_be_zero() {
    let bytes = edited(&simple(Codec::None), |bytes| bytes[7] = 1);
    let rejected = run(bytes, V9, &LogConfig::default()).unwrap_err();
    assert_eq!(rejected.code, ErrorCode::InvalidRecord);
    assert_eq!(
        rejected.detail,
        "The baseOffset of the record batch in the append to t-0 should be 0, but it is 1"
    );
}

#[test]
fn a_batch_of_exactly_max_message_bytes_fits() {
    let bytes = simple(Codec::None);
    let limit = |bytes: i32| LogConfig {
        max_message_bytes: bytes,
        ..LogConfig::default()
    };
    let size = bytes.len() as i32;
    accepted(&bytes, V9, &limit(size));
    assert_eq!(
        code(&bytes, V9, &limit(size - 1)),
        ErrorCode::MessageTooLarge
    );
}

#[test]
fn a_wrong_crc_is_corrupt_before_anything_is_unpacked() {
    for codec in CODECS {
        let mut bytes = simple(codec).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        // A compacted topic would look inside.
        assert_eq!(
            code(bytes, V9, &compacted()),
            ErrorCode::CorruptMessage,
            "{codec:?}"
        );
    }
}

#[test]
fn header_rules_of_client_batches() {
    let config = LogConfig::default();
    let good = simple(Codec::None);
    let put_i32 = |at: usize, value: i32| {
        edited(&good, |bytes| {
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes())
        })
    };
    let with_producer = edited(&good, |bytes| {
        bytes[43..51].copy_from_slice(&5i64.to_be_bytes());
    });
    for (bytes, text) in [
        (
            put_i32(23, -1),
            "Batch has an invalid offset range: [0, -1]",
        ),
        (put_i32(23, i32::MIN), "Batch has an invalid offset range"),
        (put_i32(57, 0), "Invalid reported count for record batch: 0"),
        (
            put_i32(57, -3),
            "Invalid reported count for record batch: -3",
        ),
        (
            put_i32(57, 4),
            "Inconsistent batch offset range [0, 2] and count of records 4",
        ),
        (put_i32(23, i32::MAX), "Inconsistent batch offset range"),
        (
            edited(&good, |bytes| bytes[22] |= 0x20),
            "Clients are not allowed to write control records",
        ),
        (
            with_producer,
            "Invalid sequence number -1 in record batch with producerId 5",
        ),
    ] {
        let rejected = run(bytes, V9, &config).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::InvalidRecord, "{text}");
        assert!(rejected.detail.starts_with(text), "{}", rejected.detail);
        assert!(rejected.detail.ends_with(" in topic partition t-0"));
    }
}

#[test]
fn a_compacted_topic_needs_keys_and_names_the_records_without() {
    for codec in CODECS {
        let bytes = batch_of(
            codec,
            &[(Some("a"), 1), (None, 2), (Some("b"), 3), (None, 4)],
        );
        accepted(&bytes, V9, &LogConfig::default());
        let rejected = run(&bytes, V9, &compacted()).unwrap_err();
        let text = "Compacted topic cannot accept message without key in topic partition t-0";
        assert_eq!(rejected.code, ErrorCode::InvalidRecord, "{codec:?}");
        assert_eq!(
            rejected.record_errors,
            [(1, Some(text.to_owned())), (3, Some(text.to_owned()))]
        );
        assert_eq!(
            rejected.message.unwrap(),
            format!(
                "One or more records have been rejected due to 2 record errors in total, and only \
                 showing the first three errors at most: [RecordError(batchIndex=1, \
                 message='{text}'), RecordError(batchIndex=3, message='{text}')]"
            )
        );
    }
}

#[test]
fn timestamps_stay_within_the_topics_limits() {
    let config = LogConfig {
        message_timestamp_before_max_ms: 1000,
        message_timestamp_after_max_ms: 500,
        ..LogConfig::default()
    };
    for codec in CODECS {
        let fits = [(None, NOW - 1000), (None, NOW + 500), (None, -1)];
        accepted(batch_of(codec, &fits), V9, &config);
        let bytes = batch_of(codec, &[(None, NOW), (None, NOW - 1001), (None, NOW + 501)]);
        let rejected = run(bytes, V9, &config).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::InvalidTimestamp, "{codec:?}");
        assert_eq!(
            rejected.message.as_deref(),
            Some("One or more records have been rejected due to invalid timestamp")
        );
        assert_eq!(
            rejected.record_errors[0],
            (
                1,
                Some(
                    "Timestamp 998999 of message with offset 1 is out of range. The timestamp \
                     should be within [999000, 1000500]"
                        .to_owned()
                )
            )
        );
        assert_eq!(rejected.record_errors[1].0, 2);
    }
}

#[test]
fn an_invalid_timestamp_decides_the_code_over_a_missing_key() {
    let config = LogConfig {
        message_timestamp_before_max_ms: 1000,
        ..compacted()
    };
    let bytes = batch_of(Codec::None, &[(None, NOW), (Some("k"), 5)]);
    let rejected = run(bytes, V9, &config).unwrap_err();
    assert_eq!(rejected.code, ErrorCode::InvalidTimestamp);
    assert_eq!(rejected.record_errors.len(), 2);
}

#[test]
fn log_append_time_sets_bit_time_and_crc() {
    for codec in CODECS {
        let prepared = accepted(simple(codec), V9, &append_time());
        assert_eq!(prepared.log_append_time, NOW, "{codec:?}");
        assert_eq!(prepared.header.max_timestamp, NOW);
        assert_eq!(
            prepared.header.timestamp_type(),
            TimestampType::LogAppendTime
        );
        assert_eq!(prepared.header.codec(), Ok(codec));
        assert_eq!(prepared.header.base_timestamp, 10);
    }
}

/// Kafka refuses the flag on a LogAppendTime topic and takes it, cleared, on a CreateTime one.
#[test]
fn a_producer_that_sets_log_append_time() {
    for codec in CODECS {
        let flagged = edited(&simple(codec), |bytes| bytes[22] |= 0x08);
        let prepared = accepted(&flagged, V9, &LogConfig::default());
        assert_eq!(prepared.header.timestamp_type(), TimestampType::CreateTime);
        assert_eq!(prepared.header.max_timestamp, 30);
        let rejected = run(&flagged, V9, &append_time()).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::InvalidTimestamp, "{codec:?}");
        let (name, key) = match codec {
            Codec::None => ("DefaultRecord", "key=1 bytes"),
            _ => ("PartialDefaultRecord", "key=1 bytes"),
        };
        assert_eq!(
            rejected.record_errors[1].1.as_deref().unwrap(),
            format!(
                "Invalid timestamp type in message {name}(offset=1, timestamp=30, {key}, value=5 \
                 bytes). Producer should not set timestamp type to LogAppendTime."
            )
        );
    }
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    for codec in CODECS {
        let bytes = edited(&simple(codec), |bytes| {
            bytes[35..43].copy_from_slice(&Millis::MAX.to_be_bytes());
        });
        let prepared = accepted(bytes, V9, &LogConfig::default());
        assert_eq!(prepared.header.max_timestamp, 30, "{codec:?}");
    }
}

/// H15.
#[test]
fn offsets_inside_an_uncompressed_batch_are_consecutive() {
    let good = simple(Codec::None);
    // The offset delta follows length, attributes and a one-byte timestamp delta.
    let bytes = edited(&good, |bytes| bytes[64] = 0x0a);
    let rejected = run(bytes, V9, &LogConfig::default()).unwrap_err();
    assert_eq!(rejected.code, ErrorCode::InvalidRecord);
    assert_eq!(rejected.record_errors[0].0, 0);
}

fn gap_batch(codec: Codec) -> Bytes {
    // Two records with offset deltas 0 and 5: length 7, attributes, time, delta, key "k", no value,
    // no headers.
    let payload = [[14, 0, 0, 0, 2, b'k', 1, 0], [14, 0, 0, 10, 2, b'k', 1, 0]].concat();
    raw_batch(codec, 2, &payload)
}

#[test]
fn offsets_inside_a_compressed_batch_are_written_anew_when_seen() {
    for codec in &CODECS[1..] {
        let prepared = accepted(gap_batch(*codec), V9, &compacted());
        let offsets: Vec<i64> = read_all(&prepared.bytes)
            .unwrap()
            .iter()
            .map(|o| o.offset)
            .collect();
        assert_eq!(offsets, [0, 1], "{codec:?}");
        assert_eq!(prepared.header.codec(), Ok(*codec));
    }
}

#[test]
fn a_broken_record_refuses_the_batch() {
    let payload = [14, 0, 0, 0, 2, b'k', 1, 2];
    for codec in CODECS {
        let bytes = raw_batch(codec, 1, &payload);
        assert_eq!(
            code(bytes, V9, &compacted()),
            ErrorCode::InvalidRecord,
            "{codec:?}"
        );
    }
}

#[test]
fn the_topics_codec_replaces_the_producers() {
    let targets = [
        (BrokerCompression::Uncompressed, Codec::None),
        (BrokerCompression::Gzip, Codec::Gzip),
        (BrokerCompression::Snappy, Codec::Snappy),
        (BrokerCompression::Lz4, Codec::Lz4),
        (BrokerCompression::Zstd, Codec::Zstd),
    ];
    let expected: Vec<_> = golden_records(2);
    for (_, source) in &GOLDEN[8..] {
        for (compression_type, codec) in targets {
            let config = LogConfig {
                compression_type,
                ..LogConfig::default()
            };
            let prepared = accepted(source, V9, &config);
            assert_eq!(prepared.header.codec(), Ok(codec));
            assert_eq!(read_all(&prepared.bytes).unwrap(), expected);
            assert_eq!(prepared.header.max_timestamp, 1004);
        }
    }
}

#[test]
fn recompression_keeps_the_producer_and_the_transaction() {
    let config = LogConfig {
        compression_type: BrokerCompression::Lz4,
        ..append_time()
    };
    let record = NewRecord {
        timestamp: 5,
        ..NewRecord::default()
    };
    let options = BatchOptions {
        producer_id: 77,
        producer_epoch: 3,
        base_sequence: 12,
        transactional: true,
        ..BatchOptions::default()
    };
    let header = accepted(build_batch(&[record], &options), V9, &config).header;
    assert_eq!(
        (
            header.producer_id,
            header.producer_epoch,
            header.base_sequence
        ),
        (77, 3, 12)
    );
    assert!(header.is_transactional() && !header.is_control());
    assert_eq!(header.max_timestamp, NOW);
    assert_eq!(header.base_timestamp, 5);
}

#[test]
fn the_size_after_recompression_counts() {
    let record = NewRecord {
        timestamp: 5,
        value: Some(Bytes::from(vec![7; 10_000])),
        ..NewRecord::default()
    };
    let options = BatchOptions {
        codec: Codec::Zstd,
        ..BatchOptions::default()
    };
    let bytes = build_batch(&[record], &options);
    let config = LogConfig {
        compression_type: BrokerCompression::Uncompressed,
        max_message_bytes: 5000,
        ..LogConfig::default()
    };
    assert_eq!(code(bytes, V9, &config), ErrorCode::MessageTooLarge);
}

#[test]
fn a_batch_must_fit_a_segment() {
    let bytes = simple(Codec::None);
    let config = LogConfig {
        segment_bytes: bytes.len() as i32 - 1,
        ..LogConfig::default()
    };
    assert_eq!(code(bytes, V9, &config), ErrorCode::RecordListTooLarge);
}

#[test]
fn a_coordinators_marker_passes_uncompressed_whatever_the_topic_says() {
    let marker = end_txn_marker(4, 1, EndTxn::Commit, 0, 9);
    let config = LogConfig {
        compression_type: BrokerCompression::Zstd,
        ..compacted()
    };
    let prepared = accepted(&marker, COORDINATOR, &config);
    assert_eq!(*prepared.bytes, marker[..]);
    assert_eq!(code(&marker, V9, &config), ErrorCode::InvalidRecord);
}

#[test]
fn an_empty_set_of_an_old_client_is_nothing_to_append() {
    for version in 0..3 {
        let origin = Some(version);
        assert!(run(b"", origin, &LogConfig::default()).unwrap().is_none());
        // A message cut short is no message.
        let (_, v0) = GOLDEN[1];
        let cut = &v0[..v0.len() - 1];
        assert!(run(cut, origin, &LogConfig::default()).unwrap().is_none());
    }
}

#[test]
fn old_message_sets_become_one_batch() {
    for (name, bytes) in &GOLDEN[..8] {
        let magic = i8::from(name.starts_with("v1"));
        for compression_type in [BrokerCompression::Producer, BrokerCompression::Snappy] {
            let config = LogConfig {
                compression_type,
                ..LogConfig::default()
            };
            let prepared = accepted(bytes, V2, &config);
            assert_eq!(
                read_all(&prepared.bytes).unwrap(),
                golden_records(magic),
                "{name}"
            );
            let max = if magic == 0 { -1 } else { 1004 };
            assert_eq!(prepared.header.max_timestamp, max, "{name}");
            let codec = match compression_type {
                BrokerCompression::Producer => &name[3..],
                _ => "snappy",
            };
            assert_eq!(prepared.header.codec().unwrap().name(), codec, "{name}");
        }
    }
}

#[test]
fn old_sets_obey_the_record_rules() {
    for (name, bytes) in &GOLDEN[..8] {
        let rejected = run(bytes, V2, &compacted()).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::InvalidRecord, "{name}");
        let prepared = accepted(bytes, V2, &append_time());
        assert_eq!(prepared.header.max_timestamp, NOW, "{name}");
    }
}

#[test]
fn two_compressed_wrappers_or_mixed_formats_are_refused() {
    let config = LogConfig::default();
    let twice = [GOLDEN[5].1, GOLDEN[5].1].concat();
    assert_eq!(code(twice, V2, &config), ErrorCode::InvalidRecord);
    let mixed = [GOLDEN[0].1, GOLDEN[4].1].concat();
    assert_eq!(code(mixed, V2, &config), ErrorCode::InvalidRecord);
}

/// H21.
#[test]
fn nested_wrappers_and_wrapped_batches_are_invalid_records() {
    let config = LogConfig::default();
    let (_, plain) = GOLDEN[4];
    assert_eq!(
        code(wrapped(&wrapped(plain, 1), 1), V2, &config),
        ErrorCode::InvalidRecord
    );
    assert_eq!(
        code(wrapped(GOLDEN[8].1, 1), V2, &config),
        ErrorCode::InvalidRecord
    );
    // Magic 0 inside magic 1.
    assert_eq!(
        code(wrapped(GOLDEN[0].1, 1), V2, &config),
        ErrorCode::InvalidRecord
    );
}

#[test]
fn a_wrong_inner_crc_is_corrupt() {
    let (_, plain) = GOLDEN[4];
    let mut inner = plain.to_vec();
    inner[12] ^= 1;
    assert_eq!(
        code(wrapped(&inner, 1), V2, &LogConfig::default()),
        ErrorCode::CorruptMessage
    );
}

/// H20: a bomb under a topic that must look inside.
#[test]
fn a_bomb_is_too_large() {
    let mut payload = Vec::new();
    crate::record::varint::put_varint(&mut payload, 200 << 20);
    payload.resize(1 << 20, 0);
    for codec in &CODECS[1..] {
        let bytes = raw_batch(*codec, 1, &payload);
        assert_eq!(
            code(bytes, V9, &compacted()),
            ErrorCode::MessageTooLarge,
            "{codec:?}"
        );
    }
}

#[test]
fn the_crc_of_an_old_message_decides_before_its_fields() {
    let (_, v0) = GOLDEN[1];
    let mut bytes = v0.to_vec();
    // A codec that does not exist.
    bytes[17] = 7;
    let code = code(&bytes, V2, &LogConfig::default());
    assert_eq!(code, ErrorCode::CorruptMessage);
}
