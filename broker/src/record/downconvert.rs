//! Down-conversion for Fetch v0–3: batches to message sets of magic 0 or 1.
//!
//! Offsets stay; control batches and headers are dropped; a compressed batch becomes one wrapper of
//! the same codec, an uncompressed one a message per record. zstd has no place in the old formats.
//! Source: `RecordsUtil.downConvert`, `MemoryRecordsBuilder`.

use super::Error;
use super::batch::{BatchIter, Frame};
use super::compress::{Codec, Compressor, Limits};
use super::legacy::{NewMessage, put_message};
use super::records::for_each_record;
use crate::config::topic::TimestampType;
use crate::types::{Millis, Offset};

/// Converts the whole batches in `records` to `to_magic` (0 or 1); a partial one at the end is
/// dropped, older batches are copied as they are. Of uncompressed batches, records before
/// `first_offset` (the fetch offset) are left out: some versions of librdkafka rely on it.
/// The answer may be empty although the input is not (control batches only, or a cut batch).
pub fn down_convert(records: &[u8], to_magic: i8, first_offset: Offset) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(records.len());
    for frame in BatchIter::new(records) {
        let frame = frame?;
        if frame.prefix.magic == 2 && frame.batch()?.header().is_control() {
            continue;
        }
        let codec = frame.codec()?;
        if codec == Codec::Zstd {
            return Err(Error::ZstdDownConversion);
        }
        if frame.prefix.magic <= to_magic {
            out.extend_from_slice(frame.bytes);
        } else if codec == Codec::None {
            convert_plain(&frame, to_magic, first_offset, &mut out)?;
        } else {
            convert_packed(&frame, codec, to_magic, &mut out)?;
        }
    }
    Ok(out)
}

fn timestamp_type(frame: &Frame<'_>) -> Result<TimestampType, Error> {
    if frame.prefix.magic == 2 {
        Ok(frame.batch()?.header().timestamp_type())
    } else {
        Ok(frame.message()?.timestamp_type())
    }
}

fn convert_plain(
    frame: &Frame<'_>,
    to_magic: i8,
    first_offset: Offset,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let timestamp_type = timestamp_type(frame)?;
    for_each_record(frame, &Limits::STORED, |record| {
        if record.offset >= first_offset {
            put_message(
                out,
                to_magic,
                &NewMessage {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    timestamp_type,
                    codec: Codec::None,
                    key: record.key,
                    value: record.value,
                },
            );
        }
        Ok(())
    })
}

fn convert_packed(
    frame: &Frame<'_>,
    codec: Codec,
    to_magic: i8,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let timestamp_type = timestamp_type(frame)?;
    let mut inner = Compressor::new(codec, codec.default_level(), to_magic, Vec::new())?;
    let mut message = Vec::new();
    let mut first_and_last: Option<(Offset, Offset)> = None;
    let mut max_timestamp: Millis = -1;
    for_each_record(frame, &Limits::STORED, |record| {
        let first = first_and_last.map_or(record.offset, |(first, _)| first);
        first_and_last = Some((first, record.offset));
        max_timestamp = max_timestamp.max(record.timestamp);
        message.clear();
        put_message(
            &mut message,
            to_magic,
            &NewMessage {
                offset: if to_magic > 0 {
                    record.offset - first
                } else {
                    record.offset
                },
                timestamp: record.timestamp,
                timestamp_type,
                codec: Codec::None,
                key: record.key,
                value: record.value,
            },
        );
        inner.write(&message)
    })?;
    let Some((_, last)) = first_and_last else {
        return Ok(());
    };
    let packed = inner.finish()?;
    put_message(
        out,
        to_magic,
        &NewMessage {
            offset: last,
            timestamp: max_timestamp,
            timestamp_type,
            codec,
            key: None,
            value: Some(&packed),
        },
    );
    Ok(())
}
