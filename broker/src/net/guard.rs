//! The guard: walks a message before the codec decodes it.
//!
//! The codec reserves memory by counts that it reads from the wire; a failed reservation aborts the
//! process. So nothing untrusted reaches it before this walk, which allocates nothing, has seen
//! every field of it:
//!
//! G1. A count is no larger than the bytes left could hold, a length no larger than the bytes left.
//! G2. Null stands only where the message definition allows it.
//! G3. Varints fit 32 bits in five bytes; strings are UTF-8.
//! G4. A header has at most 64 tags, a body 1024 that the message does not define; a tag it defines
//!     is as long as its value.
//! G5. What the codec will allocate stays under 4 × the frame + 4 MiB for a request, 16 × + 4 MiB
//!     for a response. The constant lets a client ask for a hundred thousand topics of few letters.
//!
//! Bytes behind the last field are let through, as Kafka does.

mod fields;
mod layout;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use fields::Fields;
use layout::{Element, STRING_MEMORY, Step};

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Request = 0,
    Response = 1,
}

const MAX_HEADER_TAGS: u32 = 64;
const MAX_BODY_TAGS: u32 = 1024;
/// Memory of the map node that a struct's first unknown tag brings, and of each entry.
const TAG_NODE_MEMORY: usize = 512;
const TAG_MEMORY: usize = 40;
const SPARE_MEMORY: usize = 4 << 20;

/// What is wrong with a message; `at` counts bytes from the start of what was walked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no such API or version: key {key}, version {version}")]
    Unknown { key: i16, version: i16 },
    #[error("it ends at byte {at}, in the middle of a field")]
    Truncated { at: usize },
    #[error("a count of {count} at byte {at}, with {left} bytes left")]
    Count { at: usize, count: u64, left: usize },
    #[error("a length of {length} at byte {at}, with {left} bytes left")]
    Length { at: usize, length: u64, left: usize },
    #[error("null at byte {at}, where it is not allowed")]
    Null { at: usize },
    #[error("a length or count below -1 at byte {at}")]
    Negative { at: usize },
    #[error("a varint of more than 32 bits at byte {at}")]
    Varint { at: usize },
    #[error("a string at byte {at} that is not UTF-8")]
    Utf8 { at: usize },
    #[error("more than {limit} unknown tagged fields")]
    Tags { limit: u32 },
    #[error("tag {tag} at byte {at} is longer or shorter than its value")]
    Tag { at: usize, tag: u32 },
    #[error("decoding would take more than {limit} bytes of memory")]
    Memory { limit: usize },
}

/// A request's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
    /// Bytes of the header.
    pub len: usize,
}

/// The first two fields of a request, which say how to read the rest: API key and version.
pub fn peek(frame: &[u8]) -> Result<(i16, i16), Error> {
    let head = frame
        .first_chunk::<4>()
        .ok_or(Error::Truncated { at: frame.len() })?;
    Ok((
        i16::from_be_bytes([head[0], head[1]]),
        i16::from_be_bytes([head[2], head[3]]),
    ))
}

/// Reads a request header of version 0 (no client id), 1 or 2 (with a tag section).
pub fn request_header(frame: &[u8], header_version: i16) -> Result<RequestHeader<'_>, Error> {
    let mut reader = Reader::new(frame);
    reader.skip(4)?;
    let correlation_id = reader.i32()?;
    let mut client_id = None;
    if header_version >= 1 {
        // Not compact in any version.
        let at = reader.at;
        let length = reader.old_length()?;
        client_id = reader.text(at, length, true)?;
    }
    if header_version >= 2 {
        reader.skip_tags()?;
    }
    Ok(RequestHeader {
        correlation_id,
        client_id,
        len: reader.at,
    })
}

/// A response's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHeader {
    pub correlation_id: i32,
    /// Bytes of the header.
    pub len: usize,
}

pub fn response_header(frame: &[u8], header_version: i16) -> Result<ResponseHeader, Error> {
    let mut reader = Reader::new(frame);
    let correlation_id = reader.i32()?;
    if header_version >= 1 {
        reader.skip_tags()?;
    }
    Ok(ResponseHeader {
        correlation_id,
        len: reader.at,
    })
}

/// True when the message is in the table of layouts.
pub fn knows(direction: Direction, key: i16, version: i16) -> bool {
    layout::program(direction, key, version).is_some()
}

/// Walks the body of a message, the header apart. What passes may be decoded.
pub fn check(direction: Direction, key: i16, version: i16, body: &[u8]) -> Result<(), Error> {
    let program =
        layout::program(direction, key, version).ok_or(Error::Unknown { key, version })?;
    let factor = match direction {
        Direction::Request => fields::REQUEST_FACTOR,
        Direction::Response => 16,
    };
    let mut fields = Fields::new(body, program.flexible, factor);
    fields.charge(program.body.memory)?;
    walk(&mut fields, &program.body.steps)
}

/// Bytes and a position in them.
#[derive(Debug, Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn skip(&mut self, count: usize) -> Result<(), Error> {
        if count > self.left() {
            return Err(Error::Truncated {
                at: self.bytes.len(),
            });
        }
        self.at += count;
        Ok(())
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = self.bytes[self.at..]
            .first_chunk::<N>()
            .ok_or(Error::Truncated {
                at: self.bytes.len(),
            })?;
        self.at += N;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    fn i32(&mut self) -> Result<i32, Error> {
        self.array().map(i32::from_be_bytes)
    }

    /// Nearly all are of one or two bytes.
    #[inline(always)]
    fn varint(&mut self) -> Result<u32, Error> {
        match self.bytes[self.at..] {
            [byte, ..] if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            [first, second, ..] if second < 0x80 => {
                self.at += 2;
                Ok(u32::from(first & 0x7f) | u32::from(second) << 7)
            }
            _ => self.long_varint(),
        }
    }

    /// Keeps G3.
    fn long_varint(&mut self) -> Result<u32, Error> {
        let at = self.at;
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Varint { at })
    }

    /// A length or a count as a varint, one more than it says; 0 is null.
    #[inline(always)]
    fn compact(&mut self) -> Result<Option<u64>, Error> {
        Ok(self.varint()?.checked_sub(1).map(u64::from))
    }

    /// A length or a count as an integer; −1 is null.
    fn plain(&mut self) -> Result<Option<u64>, Error> {
        let at = self.at;
        signed(at, self.i32()?.into())
    }

    /// A string's length as a short integer; −1 is null.
    fn old_length(&mut self) -> Result<Option<u64>, Error> {
        let at = self.at;
        signed(at, i16::from_be_bytes(self.array()?).into())
    }

    #[inline(always)]
    fn text(
        &mut self,
        at: usize,
        length: Option<u64>,
        nullable: bool,
    ) -> Result<Option<&'a str>, Error> {
        let Some(range) = self.data(at, length, nullable)? else {
            return Ok(None);
        };
        match std::str::from_utf8(&self.bytes[range]) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::Utf8 { at }),
        }
    }

    #[inline(always)]
    fn data(
        &mut self,
        at: usize,
        length: Option<u64>,
        nullable: bool,
    ) -> Result<Option<Range<usize>>, Error> {
        match length {
            None if nullable => Ok(None),
            None => Err(Error::Null { at }),
            Some(length) if length > self.left() as u64 => Err(Error::Length {
                at,
                length,
                left: self.left(),
            }),
            Some(length) => {
                let start = self.at;
                // Not larger than what is left of a slice.
                self.at += length as usize;
                Ok(Some(start..self.at))
            }
        }
    }

    /// A header's tag section: none of its tags is known to us.
    #[inline(always)]
    fn skip_tags(&mut self) -> Result<(), Error> {
        match self.varint()? {
            0 => Ok(()),
            count => self.skip_each_tag(count),
        }
    }

    fn skip_each_tag(&mut self, count: u32) -> Result<(), Error> {
        if count > MAX_HEADER_TAGS {
            return Err(Error::Tags {
                limit: MAX_HEADER_TAGS,
            });
        }
        for _ in 0..count {
            self.varint()?;
            let at = self.at;
            let length = self.varint()?;
            self.data(at, Some(length.into()), false)?;
        }
        Ok(())
    }
}

fn signed(at: usize, value: i64) -> Result<Option<u64>, Error> {
    match value {
        // Kafka takes any negative number for null; nobody sends another one, and the codec refuses it.
        ..-1 => Err(Error::Negative { at }),
        value => Ok(u64::try_from(value).ok()),
    }
}

/// Walks what `steps` describe.
fn walk(fields: &mut Fields<'_>, steps: &[Step]) -> Result<(), Error> {
    for step in steps {
        match step {
            Step::Skip(bytes) => fields.skip(*bytes)?,
            Step::Text { nullable } => {
                fields.string(*nullable)?;
            }
            Step::Data { nullable } => {
                fields.data(*nullable)?;
            }
            Step::Array { nullable, element } => walk_array(fields, *nullable, element)?,
            Step::Maybe(inner) => {
                if fields.is_there()? {
                    walk(fields, &inner.steps)?;
                }
            }
            Step::Tags(known) => fields.tags(|fields, tag| {
                match known.iter().find(|(number, _)| *number == tag) {
                    Some((_, value)) => walk(fields, &value.steps).map(|()| true),
                    None => Ok(false),
                }
            })?,
        }
    }
    Ok(())
}

fn walk_array(fields: &mut Fields<'_>, nullable: bool, element: &Element) -> Result<(), Error> {
    let old = |bytes| if fields.is_flexible() { 1 } else { bytes };
    let (min_wire, memory) = match element {
        Element::Fixed(bytes) => (*bytes, *bytes),
        Element::Text => (old(2), STRING_MEMORY),
        Element::Data => (old(4), STRING_MEMORY),
        Element::Struct(inner) => (inner.min_wire.max(1), inner.memory),
    };
    let Some(count) = fields.nullable_count(nullable, min_wire)? else {
        return Ok(());
    };
    fields.charge(count * memory)?;
    match element {
        Element::Fixed(bytes) => fields.skip(count * bytes),
        Element::Text => (0..count).try_for_each(|_| fields.string(false).map(drop)),
        Element::Data => (0..count).try_for_each(|_| fields.data(false).map(drop)),
        Element::Struct(inner) => match inner.steps.as_slice() {
            [Step::Skip(bytes)] => fields.skip(count * bytes),
            steps => (0..count).try_for_each(|_| walk(fields, steps)),
        },
    }
}
