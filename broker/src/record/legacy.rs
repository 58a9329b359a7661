//! Message sets of magic 0 and 1, which old segments hold and Produce v0–2 may bring.
//!
//! An entry: offset int64, size int32, then CRC-32 (of what follows it) uint32, magic int8,
//! attributes int8 (codec in bits 0–2, timestamp type in bit 3 of magic 1), magic 1 only: timestamp
//! int64; key length int32 (−1: null) and key, value length int32 (−1) and value. A compressed entry
//! is a wrapper whose value is a packed set: magic 0 keeps absolute offsets inside, magic 1 relative
//! ones, with the wrapper at the offset of the last. Wrappers do not nest (R4).
//! Sources: `LegacyRecord`, `AbstractLegacyRecordBatch`.

use super::Error;
use super::batch::{Frame, LOG_OVERHEAD};
use super::compress::{Codec, Decompressor, Limits};
use super::records::Window;
use super::varint::Cursor;
use crate::config::topic::TimestampType;
use crate::types::{Millis, Offset};

/// Bytes of an empty message after offset and size, by magic.
const OVERHEAD: [usize; 2] = [14, 22];
const CODEC_MASK: u8 = 0x07;
const LOG_APPEND_TIME: u8 = 0x08;

/// One message, alone, in a wrapper, or the wrapper itself.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub offset: Offset,
    pub magic: i8,
    pub attributes: u8,
    /// −1 for magic 0; under the wrapper's LogAppendTime the wrapper's.
    pub timestamp: Millis,
    pub crc: u32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads what follows offset and size.
    pub fn parse(offset: Offset, body: &'a [u8]) -> Result<Self, Error> {
        let below = |overhead| Error::BelowOverhead {
            size: body.len(),
            overhead,
        };
        let mut cursor = Cursor::new(body);
        let crc = cursor.i32().ok_or(below(OVERHEAD[0]))? as u32;
        let magic = cursor.u8().ok_or(below(OVERHEAD[0]))? as i8;
        let overhead = *usize::try_from(magic)
            .ok()
            .and_then(|magic| OVERHEAD.get(magic))
            .ok_or(Error::InvalidMagic { magic })?;
        if body.len() < overhead {
            return Err(below(overhead));
        }
        let attributes = cursor.u8().ok_or(below(overhead))?;
        let timestamp = if magic == 0 {
            -1
        } else {
            cursor.i64().ok_or(below(overhead))?
        };
        let cut = Error::RecordStructure { index: 0 };
        let key = cursor.i32_bytes().ok_or(cut.clone())?;
        let value = cursor.i32_bytes().ok_or(cut)?;
        Ok(Self {
            offset,
            magic,
            attributes,
            timestamp,
            crc,
            key,
            value,
            body,
        })
    }

    /// Compares the CRC-32.
    pub fn ensure_valid(&self) -> Result<(), Error> {
        check_crc(self.body)
    }

    pub fn codec(&self) -> Result<Codec, Error> {
        Codec::from_id(self.attributes & CODEC_MASK)
    }

    /// CreateTime for magic 0, which has no time.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.magic > 0 && self.attributes & LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Bytes, offset and size included.
    pub fn size(&self) -> usize {
        self.body.len() + LOG_OVERHEAD
    }
}

/// Compares the CRC-32 of what follows offset and size, whatever the fields of the message say.
pub fn check_crc(body: &[u8]) -> Result<(), Error> {
    let Some((stored, checked)) = body.split_first_chunk::<4>() else {
        return Err(Error::BelowOverhead {
            size: body.len(),
            overhead: OVERHEAD[0],
        });
    };
    let stored = u32::from_be_bytes(*stored);
    let computed = crc32fast::hash(checked);
    if computed == stored {
        Ok(())
    } else {
        Err(Error::CrcMismatch { stored, computed })
    }
}

/// Calls `each` with the messages of a frame of magic 0 or 1: itself, or those it wraps, with
/// absolute offsets. Inner CRCs are not checked here.
pub fn for_each_message<E: From<Error>>(
    frame: &Frame<'_>,
    limits: &Limits,
    mut each: impl FnMut(Message<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let wrapper = frame.message()?;
    let codec = wrapper.codec()?;
    if codec == Codec::None {
        return each(wrapper);
    }
    if codec == Codec::Zstd {
        return Err(Error::UnknownCodec { id: codec as u8 }.into());
    }
    // Relative offsets count from a base that only the last inner message tells: look for it first.
    // Unpacking twice costs time and no memory.
    let mut last_inner = None;
    for_each_inner(&wrapper, codec, limits, |message| {
        last_inner = Some(message.offset);
        Ok::<(), Error>(())
    })?;
    let last_inner = last_inner.ok_or(Error::EmptyWrapper)?;
    let base = if wrapper.magic == 0 || wrapper.offset == 0 {
        // Some versions of librdkafka produce wrappers with offset 0.
        0
    } else if wrapper.offset < last_inner {
        return Err(Error::WrapperOffset {
            wrapper: wrapper.offset,
            inner: last_inner,
        }
        .into());
    } else {
        wrapper
            .offset
            .checked_sub(last_inner)
            .ok_or(Error::OffsetOverflow {
                base: wrapper.offset,
                delta: last_inner,
            })?
    };
    for_each_inner(&wrapper, codec, limits, |mut message| {
        message.offset = base
            .checked_add(message.offset)
            .ok_or(Error::OffsetOverflow {
                base,
                delta: message.offset,
            })?;
        each(message)
    })
}

/// The inner messages with their offsets as written. A set cut short ends before the cut message.
fn for_each_inner<E: From<Error>>(
    wrapper: &Message<'_>,
    codec: Codec,
    limits: &Limits,
    mut each: impl FnMut(Message<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let packed = wrapper.value.ok_or(Error::NullWrapper {
        magic: wrapper.magic,
    })?;
    let stream = Decompressor::new(codec, packed, wrapper.magic, limits)?;
    let mut window = Window::new(stream, codec, limits);
    while window.fill(LOG_OVERHEAD)? {
        let mut start = Cursor::new(window.take(LOG_OVERHEAD)?);
        let (offset, size) = (start.i64(), start.i32());
        let (Some(offset), Some(size)) = (offset, size) else {
            break;
        };
        let len = usize::try_from(size)
            .ok()
            .filter(|&len| len >= OVERHEAD[0])
            .ok_or(Error::SizeTooSmall { size })?;
        if !window.fill(len)? {
            break;
        }
        let mut message =
            Message::parse(offset, window.take(len)?).map_err(|error| match error {
                Error::InvalidMagic { magic } => Error::InnerMagic {
                    magic,
                    wrapper: wrapper.magic,
                },
                other => other,
            })?;
        if message.codec()? != Codec::None {
            return Err(Error::NestedWrapper.into());
        }
        if message.magic > 0 && wrapper.timestamp_type() == TimestampType::LogAppendTime {
            message.timestamp = wrapper.timestamp;
        }
        each(message)?;
    }
    Ok(())
}

/// What [`put_message`] writes.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    pub offset: Offset,
    /// Ignored for magic 0.
    pub timestamp: Millis,
    pub timestamp_type: TimestampType,
    /// Of the value, when it is a packed set.
    pub codec: Codec,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Appends one message of magic 0 or 1.
pub fn put_message(out: &mut Vec<u8>, magic: i8, message: &NewMessage<'_>) {
    out.extend_from_slice(&message.offset.to_be_bytes());
    let size_at = out.len();
    out.extend_from_slice(&[0; 8]);
    let checked_from = out.len();
    out.push(magic as u8);
    let mut attributes = message.codec as u8;
    if magic > 0 && message.timestamp_type == TimestampType::LogAppendTime {
        attributes |= LOG_APPEND_TIME;
    }
    out.push(attributes);
    if magic > 0 {
        out.extend_from_slice(&message.timestamp.to_be_bytes());
    }
    for field in [message.key, message.value] {
        match field {
            // A field comes out of a batch, whose length is an int32.
            Some(bytes) => {
                out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
    let crc = crc32fast::hash(&out[checked_from..]);
    let size = (out.len() - size_at - 4) as i32;
    out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
    out[size_at + 4..checked_from].copy_from_slice(&crc.to_be_bytes());
}
