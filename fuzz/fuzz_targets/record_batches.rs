//! Bytes of a Produce request's partition: nothing may panic, hang or reserve memory by a number it
//! read, and what is accepted must be one whole, valid batch.
//!
//! `cargo +nightly fuzz run record_batches -- -max_len=4096`; seeds: `broker/src/record/testdata`.
//! The first byte picks version and topic settings. CRCs and lengths of the rest are put right, so
//! that mutations reach what lies behind them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla::config::topic::{BrokerCompression, CleanupPolicy, LogConfig, TimestampType};
use ottla::record::Error;
use ottla::record::batch::{Batch, BatchIter};
use ottla::record::compress::Limits;
use ottla::record::downconvert::down_convert;
use ottla::record::records::{Records, for_each_record};
use ottla::record::validate::{Origin, check_produce_version, prepare};
use ottla::types::TopicPartition;

fn config(choice: u8) -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: true,
            compact: choice & 1 != 0,
        },
        message_timestamp_type: if choice & 2 != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        },
        message_timestamp_before_max_ms: if choice & 4 != 0 { 1000 } else { i64::MAX },
        compression_type: match choice >> 3 & 7 {
            0 => BrokerCompression::Uncompressed,
            1 => BrokerCompression::Gzip,
            2 => BrokerCompression::Snappy,
            3 => BrokerCompression::Lz4,
            4 => BrokerCompression::Zstd,
            _ => BrokerCompression::Producer,
        },
        ..LogConfig::default()
    }
}

/// Makes the first batch fill the buffer and puts its CRC right.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < 26 {
        return;
    }
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    if bytes[16] == 2 {
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    } else {
        let crc = crc32(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_be_bytes());
    }
}

fn crc_reflected(bytes: &[u8], polynomial: u32) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (polynomial & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_reflected(bytes, 0x82f6_3b78)
}

fn crc32(bytes: &[u8]) -> u32 {
    crc_reflected(bytes, 0xedb8_8320)
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let mut bytes = rest.to_vec();
    if choice & 0x80 == 0 {
        mend(&mut bytes);
    }
    let mut frames = BatchIter::new(&bytes);
    for frame in (&mut frames).flatten() {
        let _ = frame.last_offset();
        let _ = frame.max_timestamp();
        let _ = for_each_record(&frame, &Limits::CLIENT, |record| {
            assert_eq!(record.headers.iter().count(), record.headers.len());
            Ok::<(), Error>(())
        });
    }
    let _ = down_convert(&bytes, 0, 0);
    let _ = down_convert(&bytes, 1, 0);

    let version = if choice & 0x40 != 0 { 2 } else { 9 };
    if check_produce_version(version, &bytes).is_err() {
        return;
    }
    let topic = TopicPartition::new("fuzz", 0);
    if let Ok(Some(prepared)) = prepare(&topic, Bytes::from(bytes), Origin::Client, &config(choice), 5_000) {
        let batch = Batch::parse(&prepared.bytes).expect("an accepted batch is whole");
        batch.ensure_valid().expect("an accepted batch has its CRC");
        assert_eq!(batch.header(), &prepared.header);
        assert_eq!(batch.header().size(), prepared.bytes.len());
        if batch.header().codec() == Ok(ottla::record::compress::Codec::None) {
            let mut records = Records::new(&batch, &Limits::STORED).expect("a known codec");
            let mut expected = 0;
            while let Some(record) = records.next().expect("an accepted plain batch reads") {
                assert_eq!(record.offset, expected);
                expected += 1;
            }
            assert_eq!(expected, i64::from(batch.header().record_count));
        }
    }
});
