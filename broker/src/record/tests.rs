//! Batches written by Kafka's own client library, round trips through every codec, the second
//! opinion of kafka-protocol, and hostile bytes. `testdata/` holds what `MemoryRecordsBuilder` and
//! `RecordsUtil.downConvert` of Kafka 3.9.1 wrote for the five records of [`golden_records`].

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::batch::{
    ATTRIBUTES_AT, Batch, BatchHeader, BatchIter, CRC_AT, HEADER_LEN, increment_sequence,
    parse_prefix,
};
use super::build::{BatchBuilder, BatchOptions, NewRecord, build_batch};
use super::compress::{Codec, Compressor, Limits};
use super::downconvert::down_convert;
use super::legacy::{NewMessage, put_message};
use super::records::{Records, for_each_record};
use super::varint::put_varint;
use super::*;
use crate::config::topic::TimestampType;
use crate::types::{Millis, Offset};

pub(super) const CODECS: [Codec; 5] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::Lz4,
    Codec::Zstd,
];

/// A record copied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) offset: Offset,
    pub(super) record: NewRecord,
}

/// All records of a buffer of batches, CRCs checked.
pub(super) fn read_all(bytes: &[u8]) -> Result<Vec<Owned>, Error> {
    let mut all = Vec::new();
    let mut frames = BatchIter::new(bytes);
    for frame in &mut frames {
        let frame = frame?;
        frame.ensure_valid()?;
        for_each_record(&frame, &Limits::STORED, |record| {
            all.push(Owned {
                offset: record.offset,
                record: NewRecord {
                    timestamp: record.timestamp,
                    key: record.key.map(Bytes::copy_from_slice),
                    value: record.value.map(Bytes::copy_from_slice),
                    headers: record
                        .headers
                        .iter()
                        .map(|(key, value)| {
                            (
                                Bytes::copy_from_slice(key),
                                value.map(Bytes::copy_from_slice),
                            )
                        })
                        .collect(),
                },
            });
            Ok::<(), Error>(())
        })?;
    }
    assert!(frames.rest().is_empty());
    Ok(all)
}

/// Recomputes the CRC after `edit` changed a v2 batch.
pub(super) fn edited(batch: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    edit(&mut bytes);
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// A v2 batch of `count` records whose record section is `payload`, packed.
pub(super) fn raw_batch(codec: Codec, count: i32, payload: &[u8]) -> Bytes {
    let mut out = Compressor::new(codec, codec.default_level(), 2, vec![0; HEADER_LEN]).unwrap();
    out.write(payload).unwrap();
    let bytes = out.finish().unwrap();
    let header = BatchHeader {
        base_offset: 0,
        batch_length: (bytes.len() - 12) as i32,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: codec as i16,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: count,
    };
    edited(&bytes, |bytes| header.put(&mut &mut bytes[..HEADER_LEN]))
}

/// The five records that the files in `testdata/` hold.
pub(super) fn golden_records(magic: i8) -> Vec<Owned> {
    (0..5usize)
        .map(|i| Owned {
            offset: i as i64,
            record: NewRecord {
                timestamp: if magic == 0 { -1 } else { 1000 + i as i64 },
                key: (i != 1).then(|| Bytes::from(format!("key-{i}"))),
                value: (i != 2).then(|| Bytes::from(format!("value-{i}-{}", "x".repeat(20 * i)))),
                headers: if magic == 2 && i == 3 {
                    vec![("h".into(), Some("v".into())), ("n".into(), None)]
                } else {
                    Vec::new()
                },
            },
        })
        .collect()
}

macro_rules! golden {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("testdata/java-", $name, ".bin")).as_slice(),
        )
    };
}

/// Name (starting with `v<magic>`) and bytes of what the Java builder wrote.
pub(super) const GOLDEN: [(&str, &[u8]); 13] = [
    golden!("v0-none"),
    golden!("v0-gzip"),
    golden!("v0-snappy"),
    golden!("v0-lz4"),
    golden!("v1-none"),
    golden!("v1-gzip"),
    golden!("v1-snappy"),
    golden!("v1-lz4"),
    golden!("v2-none"),
    golden!("v2-gzip"),
    golden!("v2-snappy"),
    golden!("v2-lz4"),
    golden!("v2-zstd"),
];

const GOLDEN_DOWN: [(&str, &[u8]); 8] = [
    golden!("down0-none"),
    golden!("down0-gzip"),
    golden!("down0-snappy"),
    golden!("down0-lz4"),
    golden!("down1-none"),
    golden!("down1-gzip"),
    golden!("down1-snappy"),
    golden!("down1-lz4"),
];

#[test]
fn batches_of_the_java_client_read_back() {
    for (name, bytes) in GOLDEN {
        let magic = name[1..2].parse().unwrap();
        assert_eq!(read_all(bytes).unwrap(), golden_records(magic), "{name}");
    }
}

#[test]
fn an_uncompressed_batch_equals_the_java_clients_byte_for_byte() {
    let records: Vec<NewRecord> = golden_records(2).into_iter().map(|o| o.record).collect();
    let ours = build_batch(&records, &BatchOptions::default());
    let (_, java) = GOLDEN[8];
    assert_eq!(ours, java);
}

#[test]
fn down_conversion_equals_the_java_brokers() {
    for (name, expected) in GOLDEN_DOWN {
        let to_magic = name[4..5].parse().unwrap();
        let codec = &name[6..];
        let (_, source) = GOLDEN
            .iter()
            .find(|(source, _)| *source == format!("v2-{codec}"))
            .unwrap();
        let ours = down_convert(source, to_magic, 0).unwrap();
        if codec == "none" {
            assert_eq!(ours, expected, "{name}");
        }
        assert_eq!(
            read_all(&ours).unwrap(),
            read_all(expected).unwrap(),
            "{name}"
        );
        // The wrapper itself: offset, timestamp, attributes.
        let frame = |bytes: &'static [u8]| BatchIter::new(bytes).next().unwrap().unwrap();
        let ours = BatchIter::new(&ours)
            .next()
            .unwrap()
            .unwrap()
            .message()
            .map(|m| (m.offset, m.timestamp, m.attributes, m.key.map(<[u8]>::len)));
        let java = frame(expected)
            .message()
            .map(|m| (m.offset, m.timestamp, m.attributes, m.key.map(<[u8]>::len)));
        assert_eq!(ours, java, "{name}");
    }
}

#[test]
fn magic_0_lz4_carries_javas_broken_header_checksum() {
    let (_, lz4) = GOLDEN[11];
    let ours = down_convert(lz4, 0, 0).unwrap();
    let value = |bytes: &[u8]| {
        let frame = BatchIter::new(bytes).next().unwrap().unwrap();
        frame.message().unwrap().value.unwrap()[..7].to_vec()
    };
    let (_, java) = GOLDEN_DOWN[3];
    assert_eq!(value(&ours), value(java));
}

#[test]
fn down_conversion_drops_control_batches_and_refuses_zstd() {
    let marker = control::end_txn_marker(1, 0, control::EndTxn::Commit, 0, 5);
    assert_eq!(down_convert(&marker, 1, 0), Ok(Vec::new()));
    let (_, zstd) = GOLDEN[12];
    assert_eq!(down_convert(zstd, 1, 0), Err(Error::ZstdDownConversion));
}

#[test]
fn down_conversion_starts_at_the_fetch_offset_only_when_uncompressed() {
    let (_, none) = GOLDEN[8];
    let (_, gzip) = GOLDEN[9];
    assert_eq!(
        read_all(&down_convert(none, 1, 3).unwrap()).unwrap().len(),
        2
    );
    assert_eq!(
        read_all(&down_convert(gzip, 1, 3).unwrap()).unwrap().len(),
        5
    );
}

#[test]
fn down_conversion_keeps_older_batches_and_drops_a_partial_one() {
    let (_, v0) = GOLDEN[0];
    let (_, v2) = GOLDEN[8];
    let mut bytes = v0.to_vec();
    bytes.extend_from_slice(&v2[..v2.len() - 1]);
    assert_eq!(down_convert(&bytes, 1, 0).unwrap(), v0);
}

fn record_strategy() -> impl Strategy<Value = NewRecord> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    (
        -1i64..i64::from(i32::MAX),
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..3),
    )
        .prop_map(|(timestamp, key, value, headers)| NewRecord {
            timestamp,
            key,
            value,
            headers,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_built_reads_back(
        records in proptest::collection::vec(record_strategy(), 1..40),
        transactional: bool,
    ) {
        for codec in CODECS {
            let options = BatchOptions { codec, transactional, ..BatchOptions::default() };
            let bytes = build_batch(&records, &options);
            let header = BatchHeader::parse(&bytes).unwrap();
            prop_assert_eq!(header.size(), bytes.len());
            prop_assert_eq!(header.codec(), Ok(codec));
            prop_assert_eq!(header.is_transactional(), transactional);
            prop_assert_eq!(header.last_offset(), records.len() as i64 - 1);
            prop_assert_eq!(
                header.max_timestamp,
                records.iter().map(|r| r.timestamp).max().unwrap()
            );
            let read = read_all(&bytes).unwrap();
            prop_assert!(read.iter().zip(0..).all(|(owned, i)| owned.offset == i));
            let read: Vec<NewRecord> = read.into_iter().map(|owned| owned.record).collect();
            prop_assert_eq!(&read, &records);
        }
    }

    #[test]
    fn kafka_protocol_reads_what_we_build(
        records in proptest::collection::vec(record_strategy(), 1..20),
    ) {
        // Its headers are a map of UTF-8 strings: ours go without.
        let records: Vec<NewRecord> = records
            .into_iter()
            .map(|record| NewRecord { headers: Vec::new(), ..record })
            .collect();
        let bytes = build_batch(&records, &BatchOptions::default());
        let decoded =
            kafka_protocol::records::RecordBatchDecoder::decode(&mut bytes.clone()).unwrap();
        prop_assert_eq!(decoded.records.len(), records.len());
        for ((theirs, ours), offset) in decoded.records.iter().zip(&records).zip(0..) {
            prop_assert_eq!(theirs.offset, offset);
            prop_assert_eq!(theirs.timestamp, ours.timestamp);
            prop_assert_eq!(&theirs.key, &ours.key);
            prop_assert_eq!(&theirs.value, &ours.value);
        }
    }

    #[test]
    fn no_bytes_make_the_readers_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        magic in 0u8..3,
    ) {
        // A plausible start, so that the inside is reached.
        if bytes.len() > 16 {
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = magic;
        }
        for frame in BatchIter::new(&bytes).flatten() {
            let _ = for_each_record(&frame, &Limits::CLIENT, |_| Ok::<(), Error>(()));
        }
        let _ = down_convert(&bytes, 1, 0);
    }

    #[test]
    fn no_changed_byte_makes_the_readers_panic(
        at in 0usize..400,
        byte: u8,
    ) {
        for (_, golden) in GOLDEN {
            let mut bytes = golden.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            for frame in BatchIter::new(&bytes).flatten() {
                let _ = for_each_record(&frame, &Limits::CLIENT, |_| Ok::<(), Error>(()));
            }
            let _ = down_convert(&bytes, 0, 0);
        }
    }
}

#[test]
fn kafka_protocols_batches_read_back() {
    use kafka_protocol::records::{
        Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };
    let records: Vec<Record> = (0..3)
        .map(|i| Record {
            transactional: false,
            control: false,
            partition_leader_epoch: 4,
            producer_id: 9,
            producer_epoch: 1,
            timestamp_type: TimestampType::Creation,
            offset: i,
            sequence: i as i32,
            timestamp: 50 - i,
            key: Some(Bytes::from(format!("k{i}"))),
            value: None,
            headers: Default::default(),
        })
        .collect();
    for version in [0, 1, 2] {
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions {
            version,
            compression: Compression::None,
        };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        let read = read_all(&out).unwrap();
        assert_eq!(read.len(), 3, "magic {version}");
        for (ours, theirs) in read.iter().zip(&records) {
            // It writes offset 0 for every message of the old formats.
            if version == 2 {
                assert_eq!(ours.offset, theirs.offset);
            }
            assert_eq!(ours.record.key, theirs.key);
            if version > 0 {
                assert_eq!(ours.record.timestamp, theirs.timestamp);
            }
        }
    }
}

#[test]
fn prefix_needs_17_bytes_and_a_plausible_length() {
    let (_, batch) = GOLDEN[8];
    for len in 0..17 {
        assert_eq!(parse_prefix(&batch[..len]), Ok(None));
    }
    let prefix = parse_prefix(&batch[..17]).unwrap().unwrap();
    assert_eq!((prefix.magic, prefix.size), (2, batch.len()));
    let mut bad = batch.to_vec();
    bad[8..12].copy_from_slice(&13i32.to_be_bytes());
    assert_eq!(parse_prefix(&bad), Err(Error::SizeTooSmall { size: 13 }));
    bad[8..12].copy_from_slice(&(-1i32).to_be_bytes());
    assert_eq!(parse_prefix(&bad), Err(Error::SizeTooSmall { size: -1 }));
    let mut bad = batch.to_vec();
    bad[16] = 3;
    assert_eq!(parse_prefix(&bad), Err(Error::InvalidMagic { magic: 3 }));
}

#[test]
fn frames_of_all_formats_follow_each_other() {
    let bytes: Vec<u8> = [0, 5, 8]
        .iter()
        .flat_map(|&i| GOLDEN[i].1)
        .copied()
        .collect();
    let mut iter = BatchIter::new(&bytes);
    let magics: Vec<i8> = (&mut iter)
        .map(|frame| frame.unwrap().prefix.magic)
        .collect();
    assert_eq!(magics, [0, 0, 0, 0, 0, 1, 2]);
    assert!(iter.rest().is_empty());
    let mut cut = BatchIter::new(&bytes[..bytes.len() - 1]);
    assert_eq!((&mut cut).count(), 6);
    assert_eq!(cut.rest().len(), GOLDEN[8].1.len() - 1);
}

#[test]
fn frame_accessors_agree_with_the_records() {
    for (name, bytes) in GOLDEN {
        let last = BatchIter::new(bytes).last().unwrap().unwrap();
        assert_eq!(last.last_offset(), Ok(4), "{name}");
        let max = if name.starts_with("v0") { -1 } else { 1004 };
        assert_eq!(last.max_timestamp(), Ok(max), "{name}");
        assert_eq!(last.leader_epoch(), Ok(-1), "{name}");
    }
}

#[test]
fn sequences_wrap_after_the_largest() {
    assert_eq!(increment_sequence(0, 4), 4);
    assert_eq!(increment_sequence(i32::MAX, 1), 0);
    assert_eq!(increment_sequence(i32::MAX - 1, 3), 1);
}

#[test]
fn log_append_time_is_the_time_of_every_record() {
    let options = BatchOptions::default();
    let mut builder = BatchBuilder::new(&options).unwrap().log_append_time(99);
    for owned in golden_records(2) {
        builder.append(&owned.record).unwrap();
    }
    let (bytes, header) = builder.finish().unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    let times: Vec<Millis> = read_all(&bytes)
        .unwrap()
        .iter()
        .map(|o| o.record.timestamp)
        .collect();
    assert_eq!(times, [99; 5]);
}

#[test]
fn a_cleaned_batch_keeps_its_offsets_and_horizon() {
    let mut builder = BatchBuilder::new(&BatchOptions::default())
        .unwrap()
        .placed_at(100, 7)
        .last_offset_delta(9)
        .delete_horizon(5000);
    builder
        .append_at(3, 1234, Some(b"k"), None, &Default::default())
        .unwrap();
    let (bytes, header) = builder.finish().unwrap();
    assert_eq!(header.delete_horizon(), Some(5000));
    assert_eq!(
        (header.last_offset(), header.partition_leader_epoch),
        (109, 7)
    );
    let read = read_all(&bytes).unwrap();
    assert_eq!((read[0].offset, read[0].record.timestamp), (103, 1234));
}

fn first_error(batch: &[u8]) -> Error {
    let batch = Batch::parse(batch).unwrap();
    let read = || {
        let mut records = Records::new(&batch, &Limits::CLIENT)?;
        while records.next()?.is_some() {}
        Ok(())
    };
    read().unwrap_err()
}

/// The body of a record with these header fields, without its length.
fn record_body(timestamp_delta: i64, offset_delta: i32, headers: i32) -> Vec<u8> {
    let mut body = vec![0];
    varint::put_varlong(&mut body, timestamp_delta);
    put_varint(&mut body, offset_delta);
    put_varint(&mut body, -1);
    put_varint(&mut body, -1);
    put_varint(&mut body, headers);
    body
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    put_varint(&mut record, body.len() as i32);
    record.extend_from_slice(body);
    record
}

/// H15–H18: each payload is refused plain and packed.
#[test]
fn broken_records_are_refused_whatever_the_codec() {
    let good = with_length(&record_body(0, 0, 0));
    let mut too_long = record_body(0, 0, 0);
    too_long.push(0);
    let two = [good.clone(), good.clone()].concat();
    type Expected = fn(&Error) -> bool;
    let cases: [(&str, i32, Vec<u8>, Expected); 10] = [
        ("fewer records than declared", 2, good.clone(), |e| {
            matches!(e, Error::PrematureEnd { read: 1, count: 2 })
        }),
        ("2^31 records declared", i32::MAX, good.clone(), |e| {
            matches!(e, Error::PrematureEnd { read: 1, .. })
        }),
        ("more records than declared", 1, two, |e| {
            matches!(e, Error::RecordsRemaining { count: 1 })
        }),
        (
            "header count beyond the record",
            1,
            with_length(&record_body(0, 0, i32::MAX)),
            |e| {
                matches!(
                    e,
                    Error::HeaderCount {
                        count: i32::MAX,
                        remaining: 0
                    }
                )
            },
        ),
        (
            "negative header count",
            1,
            with_length(&record_body(0, 0, -1)),
            |e| matches!(e, Error::HeaderCount { count: -1, .. }),
        ),
        (
            "record longer than its fields",
            1,
            with_length(&too_long),
            |e| matches!(e, Error::RecordLength { .. }),
        ),
        ("record cut", 1, good[..good.len() - 1].to_vec(), |e| {
            matches!(e, Error::RecordCut { .. })
        }),
        ("record of negative length", 1, vec![1], |e| {
            matches!(e, Error::RecordCut { expected: -1, .. })
        }),
        ("empty record", 1, vec![0], |e| {
            matches!(e, Error::RecordStructure { index: 0 })
        }),
        ("endless varint", 1, vec![0xff; 6], |e| {
            matches!(e, Error::RecordStructure { index: 0 })
        }),
    ];
    for (name, count, payload, expected) in cases {
        for codec in CODECS {
            let error = first_error(&raw_batch(codec, count, &payload));
            assert!(expected(&error), "{name}, {codec:?}: {error:?}");
        }
    }
}

#[test]
fn overflowing_deltas_are_refused() {
    let payload = with_length(&record_body(i64::MAX, 1, 0));
    let batch = edited(&raw_batch(Codec::None, 1, &payload), |bytes| {
        bytes[27..35].copy_from_slice(&1i64.to_be_bytes());
    });
    assert!(matches!(
        first_error(&batch),
        Error::TimestampOverflow { .. }
    ));
    let payload = with_length(&record_body(0, 1, 0));
    let batch = edited(&raw_batch(Codec::None, 1, &payload), |bytes| {
        bytes[..8].copy_from_slice(&i64::MAX.to_be_bytes());
    });
    assert!(matches!(first_error(&batch), Error::OffsetOverflow { .. }));
}

#[test]
fn codec_ids_5_to_7_are_refused() {
    for id in 5..8u8 {
        let batch = edited(&raw_batch(Codec::None, 1, &[]), |bytes| bytes[22] = id);
        assert_eq!(first_error(&batch), Error::UnknownCodec { id });
    }
}

/// H20: a packed record that claims more than the limit is refused before it is unpacked.
#[test]
fn a_record_beyond_the_limit_is_refused_early() {
    let mut payload = Vec::new();
    put_varint(&mut payload, 200 << 20);
    payload.resize(1 << 20, 0);
    for codec in &CODECS[1..] {
        let error = first_error(&raw_batch(*codec, 1, &payload));
        assert!(
            matches!(error, Error::RecordTooLarge { .. }),
            "{codec:?}: {error:?}"
        );
    }
}

/// H20: memory follows the bytes that arrive, not the length that is claimed (R1).
#[test]
fn a_claimed_length_reserves_nothing() {
    let mut payload = Vec::new();
    put_varint(&mut payload, 90 << 20);
    payload.resize(100, 0);
    for codec in &CODECS[1..] {
        let bytes = raw_batch(*codec, 1, &payload);
        let batch = Batch::parse(&bytes).unwrap();
        let mut records = Records::new(&batch, &Limits::CLIENT).unwrap();
        let error = records.next().unwrap_err();
        assert!(
            matches!(error, Error::RecordCut { .. }),
            "{codec:?}: {error:?}"
        );
        assert!(records.window_capacity() <= 32 * 1024, "{codec:?}");
    }
}

/// H20: a batch that unpacks to more than the limit stops there, in a small window.
#[test]
fn a_bomb_of_small_records_stops_at_the_batch_limit() {
    let record = with_length(
        &[
            &record_body(0, 0, 0)[..3],
            &[0x80, 0x20],
            &[0; 2048],
            &[1, 0],
        ]
        .concat(),
    );
    let payload = record.repeat(4096);
    let limits = Limits {
        batch_bytes: 1 << 20,
        ..Limits::CLIENT
    };
    for codec in &CODECS[1..] {
        let bytes = raw_batch(*codec, 4096, &payload);
        assert!(bytes.len() < payload.len() / 10, "{codec:?} packs");
        let batch = Batch::parse(&bytes).unwrap();
        let mut records = Records::new(&batch, &limits).unwrap();
        let mut read = 0;
        let error = loop {
            match records.next() {
                Ok(Some(_)) => read += 1,
                Ok(None) => panic!("{codec:?}: no error"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::BatchTooLarge { limit: 1 << 20 }, "{codec:?}");
        assert!(read < 600, "{codec:?}: {read}");
        assert!(records.window_capacity() <= 32 * 1024, "{codec:?}");
    }
}

/// H20: a snappy block that claims 4 GiB in a few bytes.
#[test]
fn a_snappy_block_cannot_claim_more_than_snappy_can_pack() {
    let mut claim = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    claim.resize(66, 0);
    let plain = raw_batch(Codec::None, 1, &claim);
    let batch = edited(&plain, |bytes| bytes[22] = Codec::Snappy as u8);
    assert!(matches!(first_error(&batch), Error::Decompress { .. }));
}

#[test]
fn snappy_without_framing_is_read() {
    let payload = with_length(&record_body(0, 0, 0));
    let packed = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
    let batch = edited(&raw_batch(Codec::None, 1, &packed), |bytes| {
        bytes[22] = Codec::Snappy as u8;
    });
    assert_eq!(read_all(&batch).unwrap().len(), 1);
}

/// H20: a window beyond 8 MiB is refused to clients; what is stored stays readable.
#[test]
fn a_large_zstd_window_is_refused_to_clients_only() {
    let payload = with_length(&record_body(0, 0, 0));
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(25).unwrap();
    std::io::Write::write_all(&mut encoder, &payload).unwrap();
    let packed = encoder.finish().unwrap();
    let batch = edited(&raw_batch(Codec::None, 1, &packed), |bytes| {
        bytes[22] = Codec::Zstd as u8;
    });
    assert!(matches!(first_error(&batch), Error::Decompress { .. }));
    assert_eq!(read_all(&batch).unwrap().len(), 1);
}

fn message(value: &[u8], codec: Codec, magic: i8) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(
        &mut out,
        magic,
        &NewMessage {
            offset: 0,
            timestamp: 0,
            timestamp_type: TimestampType::CreateTime,
            codec,
            key: None,
            value: Some(value),
        },
    );
    out
}

pub(super) fn wrapped(inner: &[u8], magic: i8) -> Vec<u8> {
    let mut packed = Compressor::new(Codec::Gzip, -1, magic, Vec::new()).unwrap();
    packed.write(inner).unwrap();
    message(&packed.finish().unwrap(), Codec::Gzip, magic)
}

/// H21: wrappers nest once.
#[test]
fn nested_wrappers_are_refused_without_recursion() {
    for magic in [0, 1] {
        let mut bytes = message(b"v", Codec::None, magic);
        for _ in 0..3 {
            bytes = wrapped(&bytes, magic);
        }
        assert_eq!(read_all(&bytes), Err(Error::NestedWrapper));
    }
}

/// H21: a v2 batch inside a wrapper.
#[test]
fn a_v2_batch_in_a_wrapper_is_refused() {
    let (_, v2) = GOLDEN[8];
    let bytes = wrapped(v2, 1);
    assert!(matches!(
        read_all(&bytes),
        Err(Error::InnerMagic {
            magic: 2,
            wrapper: 1
        })
    ));
}

#[test]
fn an_empty_wrapper_is_refused() {
    assert_eq!(read_all(&wrapped(&[], 1)), Err(Error::EmptyWrapper));
}

#[test]
fn a_v1_wrapper_below_its_last_inner_offset_is_refused() {
    let (_, gzip) = GOLDEN[5];
    let mut bytes = gzip.to_vec();
    bytes[..8].copy_from_slice(&3i64.to_be_bytes());
    assert_eq!(
        read_all(&bytes),
        Err(Error::WrapperOffset {
            wrapper: 3,
            inner: 4
        })
    );
    // Some versions of librdkafka write 0.
    bytes[..8].copy_from_slice(&0i64.to_be_bytes());
    assert_eq!(read_all(&bytes).unwrap(), golden_records(1));
    bytes[..8].copy_from_slice(&104i64.to_be_bytes());
    assert_eq!(read_all(&bytes).unwrap()[0].offset, 100);
}
