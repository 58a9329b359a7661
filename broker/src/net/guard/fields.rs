//! Fields of a message, read where they stand: by the walk, and by hot paths that do without the codec.
//!
//! What reads one field is inlined: to hand a `Result` of this size to the caller through memory, field
//! by field, took longer than to read them.

use super::{Error, MAX_BODY_TAGS, Reader, SPARE_MEMORY, TAG_MEMORY, TAG_NODE_MEMORY};
use crate::types::Uuid;

/// What a request may take in memory, by its size (G5).
pub(super) const REQUEST_FACTOR: usize = 4;

/// Reads a body front to back and keeps G1 to G4. Nothing is allocated; what the caller will is
/// charged (G5).
pub struct Fields<'a> {
    reader: Reader<'a>,
    flexible: bool,
    unknown_tags: u32,
    memory: usize,
    memory_limit: usize,
}

impl<'a> Fields<'a> {
    /// `flexible`: the message's version has compact lengths and tag sections.
    pub fn of_request(body: &'a [u8], flexible: bool) -> Self {
        Self::new(body, flexible, REQUEST_FACTOR)
    }

    pub(super) fn new(body: &'a [u8], flexible: bool, memory_factor: usize) -> Self {
        Self {
            reader: Reader::new(body),
            flexible,
            unknown_tags: 0,
            memory: 0,
            memory_limit: memory_factor * body.len() + SPARE_MEMORY,
        }
    }

    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    pub fn i8(&mut self) -> Result<i8, Error> {
        self.reader.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Error> {
        self.reader.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Error> {
        self.reader.i32()
    }

    pub fn i64(&mut self) -> Result<i64, Error> {
        self.reader.array().map(i64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, Error> {
        self.reader.array().map(Uuid::from_bytes)
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), Error> {
        self.reader.skip(bytes)
    }

    #[inline(always)]
    pub fn text(&mut self) -> Result<&'a str, Error> {
        Ok(self.string(false)?.unwrap_or_default())
    }

    #[inline(always)]
    pub fn nullable_text(&mut self) -> Result<Option<&'a str>, Error> {
        self.string(true)
    }

    /// Keeps G3.
    #[inline(always)]
    pub(super) fn string(&mut self, nullable: bool) -> Result<Option<&'a str>, Error> {
        let at = self.reader.at;
        let length = if self.flexible {
            self.reader.compact()?
        } else {
            self.reader.old_length()?
        };
        self.reader.text(at, length, nullable)
    }

    /// Bytes or records that may be null.
    #[inline(always)]
    pub fn nullable_data(&mut self) -> Result<Option<&'a [u8]>, Error> {
        self.data(true)
    }

    #[inline(always)]
    pub(super) fn data(&mut self, nullable: bool) -> Result<Option<&'a [u8]>, Error> {
        let at = self.reader.at;
        let length = self.length()?;
        let range = self.reader.data(at, length, nullable)?;
        Ok(range.map(|range| &self.reader.bytes[range]))
    }

    /// Whether a struct that may be null follows.
    pub(super) fn is_there(&mut self) -> Result<bool, Error> {
        // The codec takes any other byte than 1 for null; Java any that is negative.
        let at = self.reader.at;
        match self.reader.u8()? {
            1 => Ok(true),
            0xff => Ok(false),
            _ => Err(Error::Null { at }),
        }
    }

    /// The number of elements of an array that may not be null; each takes at least `min_wire` bytes.
    #[inline(always)]
    pub fn count(&mut self, min_wire: usize) -> Result<usize, Error> {
        Ok(self.nullable_count(false, min_wire)?.unwrap_or_default())
    }

    /// Keeps G1; with it the product of a count and a size cannot overflow.
    #[inline(always)]
    pub(super) fn nullable_count(
        &mut self,
        nullable: bool,
        min_wire: usize,
    ) -> Result<Option<usize>, Error> {
        let at = self.reader.at;
        let count = match self.length()? {
            Some(count) => count,
            None if nullable => return Ok(None),
            None => return Err(Error::Null { at }),
        };
        let left = self.reader.left();
        if count > (left / min_wire) as u64 {
            return Err(Error::Count { at, count, left });
        }
        Ok(Some(count as usize))
    }

    /// A tag section none of whose tags the message defines.
    #[inline(always)]
    pub fn no_tags(&mut self) -> Result<(), Error> {
        if !self.flexible {
            return Ok(());
        }
        match self.reader.varint()? {
            0 => Ok(()),
            count => self.each_tag(count, |_, _| Ok(false)),
        }
    }

    /// A tag section; nothing in an older version. `known` reads the value of a tag that the message
    /// defines, and answers false, having read nothing, for any other. Keeps G4.
    pub fn tags(
        &mut self,
        known: impl FnMut(&mut Self, u32) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if !self.flexible {
            return Ok(());
        }
        match self.reader.varint()? {
            0 => Ok(()),
            count => self.each_tag(count, known),
        }
    }

    fn each_tag(
        &mut self,
        count: u32,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut unknown = 0;
        for _ in 0..count {
            let at = self.reader.at;
            let tag = self.reader.varint()?;
            let length_at = self.reader.at;
            let length = self.reader.varint()?;
            let start = self.reader.at;
            self.reader.data(length_at, Some(length.into()), false)?;
            let end = self.reader.at;
            self.reader.at = start;
            if known(self, tag)? {
                if self.reader.at != end {
                    return Err(Error::Tag { at, tag });
                }
                continue;
            }
            self.reader.at = end;
            unknown += 1;
            self.unknown_tags += 1;
            if self.unknown_tags > MAX_BODY_TAGS {
                return Err(Error::Tags {
                    limit: MAX_BODY_TAGS,
                });
            }
        }
        if unknown > 0 {
            self.charge(TAG_NODE_MEMORY + unknown * TAG_MEMORY)?;
        }
        Ok(())
    }

    /// Keeps G5.
    pub fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.memory_limit {
            return Err(Error::Memory {
                limit: self.memory_limit,
            });
        }
        Ok(())
    }

    #[inline(always)]
    fn length(&mut self) -> Result<Option<u64>, Error> {
        if self.flexible {
            self.reader.compact()
        } else {
            self.reader.plain()
        }
    }
}
