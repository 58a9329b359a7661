//! The records of a batch, one after the other, without an allocation per record.
//!
//! A v2 record: varint length (of what follows), int8 attributes, varlong timestamp delta, varint
//! offset delta, varint key length (−1: null) and key, varint value length (−1) and value, varint
//! header count, per header varint key length and key, varint value length (−1) and value.
//! Uncompressed batches are read in place; compressed ones through a [`Window`] that holds one
//! record at a time. Sources: `DefaultRecord`, `DefaultRecordBatch.RecordIterator`.

use std::io::Read;

use super::Error;
use super::batch::{Batch, Frame};
use super::compress::{Codec, Decompressor, Limits};
use super::legacy;
use super::varint::Cursor;
use crate::config::topic::TimestampType;
use crate::types::{Millis, Offset};

/// One record, borrowed from the batch or from the window it was unpacked into.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    pub offset: Offset,
    /// Under LogAppendTime the batch's max timestamp; −1 for magic 0.
    pub timestamp: Millis,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
    /// Bytes of the record as stored (unpacked), its length prefix included.
    pub size: usize,
}

/// The headers of a record; found well-formed when the record was read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    count: usize,
    cursor_start: &'a [u8],
}

impl<'a> Headers<'a> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key (UTF-8 by convention, not checked) and value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut cursor = Cursor::new(self.cursor_start);
        (0..self.count).map_while(move |_| {
            let key = cursor.varint_bytes()??;
            Some((key, cursor.varint_bytes()?))
        })
    }

    /// The encoded headers, without their count.
    pub(super) fn encoded(&self) -> &'a [u8] {
        self.cursor_start
    }
}

/// What the header gives to its records.
#[derive(Debug, Clone, Copy)]
struct Base {
    offset: Offset,
    timestamp: Millis,
    log_append_time: Option<Millis>,
}

/// Reads the body of a record (after its length).
#[inline(always)]
fn parse_record<'a>(
    body: &'a [u8],
    size: usize,
    base: &Base,
    index: i32,
) -> Result<RecordView<'a>, Error> {
    let broken = || Error::RecordStructure { index };
    let mut cursor = Cursor::new(body);
    cursor.u8().ok_or_else(broken)?;
    let timestamp_delta = cursor.varlong().ok_or_else(broken)?;
    let offset_delta = i64::from(cursor.varint().ok_or_else(broken)?);
    let key = cursor.varint_bytes().ok_or_else(broken)?;
    let value = cursor.varint_bytes().ok_or_else(broken)?;
    let header_count = cursor.varint().ok_or_else(broken)?;
    let encoded_headers = cursor.rest;
    // A header takes at least two bytes, so that a count beyond the bytes left is a lie.
    let count = usize::try_from(header_count)
        .ok()
        .filter(|&count| count <= encoded_headers.len())
        .ok_or(Error::HeaderCount {
            count: header_count,
            remaining: encoded_headers.len(),
        })?;
    for _ in 0..count {
        cursor.varint_bytes().flatten().ok_or_else(broken)?;
        cursor.varint_bytes().ok_or_else(broken)?;
    }
    if !cursor.rest.is_empty() {
        return Err(Error::RecordLength {
            expected: body.len(),
            read: body.len() - cursor.rest.len(),
        });
    }
    let offset = base
        .offset
        .checked_add(offset_delta)
        .ok_or(Error::OffsetOverflow {
            base: base.offset,
            delta: offset_delta,
        })?;
    let timestamp = match base.log_append_time {
        Some(time) => time,
        None => base
            .timestamp
            .checked_add(timestamp_delta)
            .ok_or(Error::TimestampOverflow {
                base: base.timestamp,
                delta: timestamp_delta,
            })?,
    };
    Ok(RecordView {
        offset,
        timestamp,
        key,
        value,
        headers: Headers {
            count,
            cursor_start: encoded_headers,
        },
        size,
    })
}

/// The records of one v2 batch in order: a lending iterator, since a record of a compressed batch
/// lives only until the next one is read.
pub struct Records<'a> {
    base: Base,
    count: i32,
    read: i32,
    source: Source<'a>,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Packed(Box<Window<Decompressor<'a>>>),
}

impl<'a> Records<'a> {
    #[inline]
    pub fn new(batch: &Batch<'a>, limits: &Limits) -> Result<Self, Error> {
        let header = batch.header();
        if header.record_count < 0 {
            return Err(Error::InvalidCount {
                count: header.record_count,
            });
        }
        let source = match header.codec()? {
            Codec::None => Source::Plain(batch.payload()),
            codec => Source::Packed(Box::new(Window::new(
                Decompressor::new(codec, batch.payload(), header.magic, limits)?,
                codec,
                limits,
            ))),
        };
        Ok(Self {
            base: Base {
                offset: header.base_offset,
                timestamp: header.base_timestamp,
                log_append_time: match header.timestamp_type() {
                    TimestampType::CreateTime => None,
                    TimestampType::LogAppendTime => Some(header.max_timestamp),
                },
            },
            count: header.record_count,
            read: 0,
            source,
        })
    }

    /// The next record; `None` after the declared count, when nothing is left over.
    #[expect(
        clippy::should_implement_trait,
        reason = "a lending iterator cannot be an Iterator"
    )]
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<RecordView<'_>>, Error> {
        let Self {
            base,
            count,
            read,
            source,
        } = self;
        let (count, index) = (*count, *read);
        if index == count {
            let left_over = match source {
                Source::Plain(rest) => !rest.is_empty(),
                Source::Packed(window) => window.fill(1)?,
            };
            return if left_over {
                Err(Error::RecordsRemaining { count })
            } else {
                Ok(None)
            };
        }
        *read += 1;
        match source {
            Source::Plain(rest) => {
                if rest.is_empty() {
                    return Err(Error::PrematureEnd { read: index, count });
                }
                let mut cursor = Cursor::new(rest);
                let length = cursor.varint().ok_or(Error::RecordStructure { index })?;
                let body = usize::try_from(length)
                    .ok()
                    .and_then(|length| cursor.take(length))
                    .ok_or(Error::RecordCut {
                        expected: i64::from(length),
                        remaining: cursor.rest.len(),
                    })?;
                let size = rest.len() - cursor.rest.len();
                *rest = cursor.rest;
                parse_record(body, size, base, index).map(Some)
            }
            Source::Packed(window) => unpacked(window, base, index, count).map(Some),
        }
    }
}

fn unpacked<'w>(
    window: &'w mut Window<Decompressor<'_>>,
    base: &Base,
    index: i32,
    count: i32,
) -> Result<RecordView<'w>, Error> {
    if !window.fill(1)? {
        return Err(Error::PrematureEnd { read: index, count });
    }
    let (length, prefix) = window.peek_varint(index)?;
    let length = usize::try_from(length).map_err(|_| Error::RecordCut {
        expected: i64::from(length),
        remaining: 0,
    })?;
    let size = prefix + length;
    let record = window.take(size)?;
    parse_record(&record[prefix..], size, base, index)
}

/// A stream seen through a buffer that grows only as bytes arrive (R1) and counts them.
pub struct Window<R> {
    stream: R,
    codec: Codec,
    limits: Limits,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that came out of the stream.
    total: u64,
}

/// The buffer to begin with, in bytes.
const WINDOW: usize = 16 * 1024;

impl<R: Read> Window<R> {
    pub(super) fn new(stream: R, codec: Codec, limits: &Limits) -> Self {
        Self {
            stream,
            codec,
            limits: *limits,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            total: 0,
        }
    }

    /// Makes at least `len` bytes available; false when the stream ends before. Larger than the
    /// record limit is an error.
    pub(super) fn fill(&mut self, len: usize) -> Result<bool, Error> {
        if self.end - self.start >= len {
            return Ok(true);
        }
        if len as u64 > self.limits.record_bytes {
            return Err(Error::RecordTooLarge {
                size: len as u64,
                limit: self.limits.record_bytes,
            });
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end < len {
            if self.end == self.buffer.len() {
                let grown = (self.buffer.len() * 2).max(WINDOW);
                self.buffer.resize(grown, 0);
            }
            let read = match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::Decompress {
                        codec: self.codec.name(),
                        reason: error.to_string(),
                    });
                }
            };
            if read == 0 {
                return Ok(false);
            }
            self.end += read;
            self.total += read as u64;
            if self.total > self.limits.batch_bytes {
                return Err(Error::BatchTooLarge {
                    limit: self.limits.batch_bytes,
                });
            }
        }
        Ok(true)
    }

    /// Takes exactly `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        if !self.fill(len)? {
            return Err(Error::RecordCut {
                expected: len as i64,
                remaining: self.end - self.start,
            });
        }
        let taken = &self.buffer[self.start..self.start + len];
        self.start += len;
        Ok(taken)
    }

    /// The varint at the front and its length in bytes, left in place.
    fn peek_varint(&mut self, index: i32) -> Result<(i32, usize), Error> {
        for len in 1..=5 {
            if !self.fill(len)? {
                break;
            }
            let bytes = &self.buffer[self.start..self.start + len];
            if let Some(value) = Cursor::new(bytes).varint() {
                return Ok((value, len));
            }
        }
        Err(Error::RecordStructure { index })
    }

    /// Bytes the buffer holds now.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
impl Records<'_> {
    pub(super) fn window_capacity(&self) -> usize {
        match &self.source {
            Source::Plain(_) => 0,
            Source::Packed(window) => window.capacity(),
        }
    }
}

/// Calls `each` with every record of a batch of any magic, in offset order, control records too.
/// Stops at the first error, of a record or of `each`.
pub fn for_each_record<E: From<Error>>(
    frame: &Frame<'_>,
    limits: &Limits,
    mut each: impl FnMut(RecordView<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if frame.prefix.magic < 2 {
        return legacy::for_each_message(frame, limits, |message| {
            each(RecordView {
                offset: message.offset,
                timestamp: message.timestamp,
                key: message.key,
                value: message.value,
                headers: Headers::default(),
                size: message.size(),
            })
        });
    }
    let mut records = Records::new(&frame.batch()?, limits)?;
    while let Some(record) = records.next()? {
        each(record)?;
    }
    Ok(())
}
