//! Batches as bytes, without a copy: frames of any magic, and the view of a v2 batch.
//!
//! Every format starts alike: base offset int64 at 0 (magic 0 and 1: the offset of the message, for
//! a wrapper that of its last), length int32 at 8 (of what follows), magic int8 at 16. The v2 header
//! has 61 bytes: leader epoch int32 at 12, magic 16, CRC-32C uint32 at 17 (of everything from 21),
//! attributes int16 21, last offset delta int32 23, base timestamp int64 27, max timestamp int64 35,
//! producer id int64 43, producer epoch int16 51, base sequence int32 53, count int32 57, records
//! from 61. Base offset and leader epoch lie outside the CRC, so a leader patches them in place.
//! Sources: `DefaultRecordBatch`, `ByteBufferLogInputStream`, `FileLogInputStream`.

use std::borrow::Cow;

use bytes::BufMut;

use super::Error;
use super::compress::Codec;
use super::legacy;
use crate::config::topic::TimestampType;
use crate::types::{LeaderEpoch, Millis, Offset};

/// Bytes of a v2 batch header.
pub const HEADER_LEN: usize = 61;
/// Bytes from the start of a batch that [`parse_prefix`] needs: up to and with the magic.
pub const PREFIX_LEN: usize = 17;
/// Bytes before the length's first counted byte: base offset and length.
pub const LOG_OVERHEAD: usize = 12;
/// The smallest value of the length field (an empty magic-0 message).
const MIN_LENGTH: i32 = 14;

/// Positions of the fields a leader patches.
pub const LEADER_EPOCH_AT: usize = 12;
pub const CRC_AT: usize = 17;
pub const ATTRIBUTES_AT: usize = 21;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// The start of a batch of any magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Magic 2: offset of the first record. Magic 0 and 1: of the message, for a compressed wrapper
    /// of its last inner message.
    pub base_offset: Offset,
    /// Bytes of the whole batch, the 12 before its length included.
    pub size: usize,
    pub magic: i8,
}

/// Reads the start of a batch. `None` when there are fewer than [`PREFIX_LEN`] bytes and nothing
/// is wrong so far. What `size` promises may reach beyond the bytes given; 61 bytes at the same
/// place are then a [`BatchHeader`] when the magic is 2.
pub fn parse_prefix(bytes: &[u8]) -> Result<Option<Prefix>, Error> {
    let Some(start) = bytes.get(..LOG_OVERHEAD) else {
        return Ok(None);
    };
    let base_offset = get_i64(start, 0);
    let length = get_i32(start, 8);
    if length < MIN_LENGTH {
        return Err(Error::SizeTooSmall { size: length });
    }
    let Some(&magic) = bytes.get(PREFIX_LEN - 1) else {
        return Ok(None);
    };
    let magic = magic as i8;
    if !(0..=2).contains(&magic) {
        return Err(Error::InvalidMagic { magic });
    }
    Ok(Some(Prefix {
        base_offset,
        size: length as usize + LOG_OVERHEAD,
        magic,
    }))
}

/// The header fields of a v2 batch, copied out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after this field; the whole batch is 12 longer.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the first 61 bytes of a v2 batch; the records need not be there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let header = bytes.get(..HEADER_LEN).ok_or(Error::BelowOverhead {
            size: bytes.len(),
            overhead: HEADER_LEN,
        })?;
        let parsed = Self {
            base_offset: get_i64(header, 0),
            batch_length: get_i32(header, 8),
            partition_leader_epoch: get_i32(header, 12),
            magic: header[16] as i8,
            crc: get_i32(header, 17) as u32,
            attributes: get_i16(header, 21),
            last_offset_delta: get_i32(header, 23),
            base_timestamp: get_i64(header, 27),
            max_timestamp: get_i64(header, 35),
            producer_id: get_i64(header, 43),
            producer_epoch: get_i16(header, 51),
            base_sequence: get_i32(header, 53),
            record_count: get_i32(header, 57),
        };
        if parsed.magic != 2 {
            return Err(Error::InvalidMagic {
                magic: parsed.magic,
            });
        }
        if parsed.batch_length < (HEADER_LEN - LOG_OVERHEAD) as i32 {
            return Err(Error::BelowOverhead {
                size: usize::try_from(parsed.batch_length).map_or(0, |len| len + LOG_OVERHEAD),
                overhead: HEADER_LEN,
            });
        }
        Ok(parsed)
    }

    /// Writes the 61 bytes.
    pub fn put(&self, out: &mut impl BufMut) {
        out.put_i64(self.base_offset);
        out.put_i32(self.batch_length);
        out.put_i32(self.partition_leader_epoch);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        usize::try_from(self.batch_length).map_or(LOG_OVERHEAD, |length| length + LOG_OVERHEAD)
    }

    /// Ids 5–7 are an error.
    pub fn codec(&self) -> Result<Codec, Error> {
        Codec::from_id((self.attributes & CODEC_MASK) as u8)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When tombstones and markers of this batch may go (milliseconds), set by the cleaner.
    pub fn delete_horizon(&self) -> Option<Millis> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id > -1
    }

    /// Offset of the last record, inclusive; compaction keeps it. Saturates where a forged header
    /// would leave the range.
    pub fn last_offset(&self) -> Offset {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// −1 without a sequence; after 2 147 483 647 comes 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// Attribute bits of a batch we write.
pub(super) fn attributes(
    codec: Codec,
    timestamp_type: TimestampType,
    transactional: bool,
    control: bool,
    delete_horizon: bool,
) -> i16 {
    let mut bits = codec as i16;
    if timestamp_type == TimestampType::LogAppendTime {
        bits |= LOG_APPEND_TIME;
    }
    if transactional {
        bits |= TRANSACTIONAL;
    }
    if control {
        bits |= CONTROL;
    }
    if delete_horizon {
        bits |= DELETE_HORIZON;
    }
    bits
}

/// `sequence + increment` where 2 147 483 647 is followed by 0.
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    const MODULUS: i64 = 1 << 31;
    // A value below the modulus 2^31 fits.
    (i64::from(sequence) + i64::from(increment)).rem_euclid(MODULUS) as i32
}

/// A whole v2 batch in memory, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    header: BatchHeader,
}

impl<'a> Batch<'a> {
    /// Views the batch at the start of `bytes`; more may follow it. The CRC is not checked.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let header = BatchHeader::parse(bytes)?;
        let bytes = bytes.get(..header.size()).ok_or(Error::RecordCut {
            expected: header.size() as i64,
            remaining: bytes.len(),
        })?;
        Ok(Self { bytes, header })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, compressed or not, after the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    pub fn computed_crc(&self) -> u32 {
        crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..])
    }

    /// Compares the CRC-32C.
    pub fn ensure_valid(&self) -> Result<(), Error> {
        let computed = self.computed_crc();
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(Error::CrcMismatch {
                stored: self.header.crc,
                computed,
            })
        }
    }
}

/// One batch of any magic within a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub prefix: Prefix,
    /// The whole batch, `prefix.size` bytes.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The v2 batch, or an error for the older formats.
    pub fn batch(&self) -> Result<Batch<'a>, Error> {
        Batch::parse(self.bytes)
    }

    /// The message or wrapper, for magic 0 and 1.
    pub fn message(&self) -> Result<legacy::Message<'a>, Error> {
        legacy::Message::parse(self.prefix.base_offset, &self.bytes[LOG_OVERHEAD..])
    }

    /// Checks size and CRC (CRC-32C for v2, CRC-32 before); the batch, when it is of v2.
    #[inline(always)]
    pub fn valid_batch(&self) -> Result<Option<Batch<'a>>, Error> {
        if self.prefix.magic == 2 {
            let batch = self.batch()?;
            batch.ensure_valid()?;
            Ok(Some(batch))
        } else {
            legacy::check_crc(&self.bytes[LOG_OVERHEAD..])?;
            Ok(None)
        }
    }

    /// [`Self::valid_batch`] without the batch.
    pub fn ensure_valid(&self) -> Result<(), Error> {
        self.valid_batch().map(drop)
    }

    /// Offset of the last record, inclusive.
    pub fn last_offset(&self) -> Result<Offset, Error> {
        if self.prefix.magic == 2 {
            let header = BatchHeader::parse(self.bytes)?;
            let delta = i64::from(header.last_offset_delta);
            header
                .base_offset
                .checked_add(delta)
                .ok_or(Error::OffsetOverflow {
                    base: header.base_offset,
                    delta,
                })
        } else {
            Ok(self.prefix.base_offset)
        }
    }

    /// −1 for magic 0.
    pub fn max_timestamp(&self) -> Result<Millis, Error> {
        if self.prefix.magic == 2 {
            Ok(BatchHeader::parse(self.bytes)?.max_timestamp)
        } else {
            Ok(self.message()?.timestamp)
        }
    }

    /// −1 before v2.
    pub fn leader_epoch(&self) -> Result<LeaderEpoch, Error> {
        if self.prefix.magic == 2 {
            Ok(BatchHeader::parse(self.bytes)?.partition_leader_epoch)
        } else {
            Ok(-1)
        }
    }

    pub fn codec(&self) -> Result<Codec, Error> {
        if self.prefix.magic == 2 {
            BatchHeader::parse(self.bytes)?.codec()
        } else {
            self.message()?.codec()
        }
    }
}

/// Cuts a buffer into consecutive batches of any magic. Ends before a batch that is not whole
/// (see [`BatchIter::rest`]); after an error it yields nothing more.
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    rest: &'a [u8],
}

impl<'a> BatchIter<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not yielded: empty, a partial batch, or what an error was about.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<Frame<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let prefix = match parse_prefix(self.rest) {
            Ok(prefix) => prefix?,
            Err(error) => {
                self.rest = &[];
                return Some(Err(error));
            }
        };
        let (bytes, rest) = self.rest.split_at_checked(prefix.size)?;
        self.rest = rest;
        Some(Ok(Frame { prefix, bytes }))
    }
}

/// A copy of `batch` with another timestamp type and max timestamp, CRC computed anew; the batch
/// itself when nothing changes.
pub fn with_max_timestamp<'a>(
    batch: &'a [u8],
    header: &BatchHeader,
    timestamp_type: TimestampType,
    max_timestamp: Millis,
) -> (Cow<'a, [u8]>, BatchHeader) {
    if header.timestamp_type() == timestamp_type && header.max_timestamp == max_timestamp {
        return (Cow::Borrowed(batch), *header);
    }
    let mut patched = *header;
    patched.max_timestamp = max_timestamp;
    let kept = CODEC_MASK | TRANSACTIONAL | CONTROL | DELETE_HORIZON;
    patched.attributes = (header.attributes & kept)
        | match timestamp_type {
            TimestampType::CreateTime => 0,
            TimestampType::LogAppendTime => LOG_APPEND_TIME,
        };
    let mut bytes = Vec::with_capacity(batch.len());
    patched.put(&mut bytes);
    bytes.extend_from_slice(&batch[HEADER_LEN..]);
    patched.crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&patched.crc.to_be_bytes());
    (Cow::Owned(bytes), patched)
}

// The callers give slices that hold the field: a header of 61 bytes or a start of 12.
fn get_i16(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn get_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn get_i64(bytes: &[u8], at: usize) -> i64 {
    (i64::from(get_i32(bytes, at)) << 32) | i64::from(get_i32(bytes, at + 4) as u32)
}
