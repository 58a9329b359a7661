//! Builds v2 batches: coordinators' records, recompression, up-conversion, the cleaner's copies.
//! Source: `MemoryRecordsBuilder`. Layout: see [`super::batch`] and [`super::records`].

use bytes::Bytes;

use super::Error;
use super::batch::{self, ATTRIBUTES_AT, BatchHeader, HEADER_LEN, LOG_OVERHEAD};
use super::compress::{Codec, Compressor};
use super::records::Headers;
use super::varint::{put_varint, put_varlong, varint_len, varlong_len};
use crate::config::topic::TimestampType;
use crate::types::{LeaderEpoch, Millis, Offset, ProducerEpoch, ProducerId};

/// Bytes that a batch of one small record takes, such as a committed offset.
const SMALL_BATCH: usize = 256;

/// One record to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Milliseconds since the epoch; −1 for none.
    pub timestamp: Millis,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What the header says beside the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    pub codec: Codec,
    /// −1 for none.
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub transactional: bool,
    pub control: bool,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
        }
    }
}

/// Encodes one v2 batch with base offset 0, offset deltas 0..n−1 and leader epoch −1.
/// `records` must not be empty, their timestamps ≥ −1 and what a clock may show: they are ours, not
/// a client's (for those take [`BatchBuilder`], which answers errors).
pub fn build_batch(records: &[NewRecord], options: &BatchOptions) -> Bytes {
    assert!(!records.is_empty(), "a batch needs a record");
    let build = || {
        let mut builder = BatchBuilder::new(options)?;
        for record in records {
            builder.append(record)?;
        }
        builder.finish()
    };
    let (bytes, _) = build().expect("own records: default level, timestamps of our clock");
    bytes.into()
}

/// Writes one v2 batch record by record.
pub struct BatchBuilder {
    options: BatchOptions,
    out: Compressor,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    log_append_time: Option<Millis>,
    delete_horizon: Option<Millis>,
    last_offset_delta: Option<i32>,
    base_timestamp: Option<Millis>,
    max_timestamp: Millis,
    count: i32,
    next_delta: i32,
    /// One encoded record that is still to be packed, reused.
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// With the codec's default level.
    pub fn new(options: &BatchOptions) -> Result<Self, Error> {
        Self::with_level(options, options.codec.default_level())
    }

    /// `level` as in `compression.<codec>.level`.
    pub fn with_level(options: &BatchOptions, level: i32) -> Result<Self, Error> {
        let mut header = Vec::with_capacity(SMALL_BATCH);
        header.resize(HEADER_LEN, 0);
        Ok(Self {
            options: *options,
            out: Compressor::new(options.codec, level, 2, header)?,
            base_offset: 0,
            leader_epoch: -1,
            log_append_time: None,
            delete_horizon: None,
            last_offset_delta: None,
            base_timestamp: None,
            max_timestamp: -1,
            count: 0,
            next_delta: 0,
            scratch: Vec::new(),
        })
    }

    /// Marks the batch as LogAppendTime with this max timestamp; records keep their own times.
    pub fn log_append_time(mut self, time: Millis) -> Self {
        self.log_append_time = Some(time);
        self
    }

    /// Offset and epoch of a batch whose place in the log is known (the cleaner's).
    pub fn placed_at(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        self.base_offset = base_offset;
        self.leader_epoch = leader_epoch;
        self
    }

    /// Keeps the last offset of a batch that lost records.
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = Some(delta);
        self
    }

    /// Puts a delete horizon in place of the base timestamp; set it before the first record.
    pub fn delete_horizon(mut self, horizon: Millis) -> Self {
        self.delete_horizon = Some(horizon);
        self.base_timestamp = Some(horizon);
        self
    }

    /// Adds a record at the next offset.
    pub fn append(&mut self, record: &NewRecord) -> Result<(), Error> {
        let mut headers = Vec::new();
        for (key, value) in &record.headers {
            put_bytes(&mut headers, Some(key));
            put_bytes(&mut headers, value.as_deref());
        }
        self.append_encoded(
            self.next_delta,
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            record.headers.len(),
            &headers,
        )
    }

    /// Adds a record without headers at the next offset.
    pub fn append_bare(
        &mut self,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.append_encoded(self.next_delta, timestamp, key, value, 0, &[])
    }

    /// Adds a record read from another batch at the next offset.
    pub fn append_view(
        &mut self,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
    ) -> Result<(), Error> {
        self.append_at(self.next_delta, timestamp, key, value, headers)
    }

    /// Adds a record at an offset delta, which must grow from record to record.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
    ) -> Result<(), Error> {
        self.append_encoded(
            offset_delta,
            timestamp,
            key,
            value,
            headers.len(),
            headers.encoded(),
        )
    }

    fn append_encoded(
        &mut self,
        offset_delta: i32,
        timestamp: Millis,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        header_count: usize,
        headers: &[u8],
    ) -> Result<(), Error> {
        debug_assert!(offset_delta >= self.next_delta);
        if timestamp < -1 {
            return Err(Error::NegativeTimestamp { timestamp });
        }
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp
            .checked_sub(base)
            .ok_or(Error::TimestampOverflow {
                base,
                delta: timestamp,
            })?;
        let header_count = i32::try_from(header_count).unwrap_or(i32::MAX);
        let body = 1
            + varlong_len(timestamp_delta)
            + varint_len(offset_delta)
            + bytes_len(key)
            + bytes_len(value)
            + varint_len(header_count)
            + headers.len();
        let length = i32::try_from(body).map_err(|_| Error::RecordTooLarge {
            size: body as u64,
            limit: i32::MAX as u64,
        })?;
        let out = match &mut self.out {
            Compressor::Plain(out) => out,
            _ => {
                self.scratch.clear();
                &mut self.scratch
            }
        };
        // With its length before it.
        out.reserve(body + varint_len(length));
        put_varint(out, length);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_bytes(out, key);
        put_bytes(out, value);
        put_varint(out, header_count);
        out.extend_from_slice(headers);
        if !matches!(self.out, Compressor::Plain(_)) {
            self.out.write(&self.scratch)?;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        self.next_delta = offset_delta.saturating_add(1);
        Ok(())
    }

    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes written so far, header included; a codec may still hold some back.
    pub fn written(&self) -> usize {
        self.out.written()
    }

    /// Ends the batch. Without a record it is an empty batch, as the cleaner leaves to keep a
    /// producer's last sequence.
    pub fn finish(self) -> Result<(Vec<u8>, BatchHeader), Error> {
        let mut bytes = self.out.finish()?;
        let size = bytes.len() as u64;
        let batch_length =
            i32::try_from(bytes.len() - LOG_OVERHEAD).map_err(|_| Error::RecordTooLarge {
                size,
                limit: i32::MAX as u64,
            })?;
        let timestamp_type = match self.log_append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            batch_length,
            partition_leader_epoch: self.leader_epoch,
            magic: 2,
            crc: 0,
            attributes: batch::attributes(
                self.options.codec,
                timestamp_type,
                self.options.transactional,
                self.options.control,
                self.delete_horizon.is_some(),
            ),
            last_offset_delta: self
                .last_offset_delta
                .unwrap_or_else(|| (self.next_delta - 1).max(0)),
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.log_append_time.unwrap_or(self.max_timestamp),
            producer_id: self.options.producer_id,
            producer_epoch: self.options.producer_epoch,
            base_sequence: self.options.base_sequence,
            record_count: self.count,
        };
        header.put(&mut &mut bytes[..HEADER_LEN]);
        header.crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[batch::CRC_AT..ATTRIBUTES_AT].copy_from_slice(&header.crc.to_be_bytes());
        Ok((bytes, header))
    }
}

fn bytes_len(field: Option<&[u8]>) -> usize {
    match field {
        Some(bytes) => varint_len(i32::try_from(bytes.len()).unwrap_or(i32::MAX)) + bytes.len(),
        None => 1,
    }
}

/// Lengths beyond an int32 make the record too large, which the caller finds first.
fn put_bytes(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            put_varint(out, i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}
