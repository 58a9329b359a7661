//! Fields of a message read where they stand, for hot paths that do without the codec.

use super::{Error, MAX_BODY_TAGS, Reader, SPARE_MEMORY};

/// Reads a request's body front to back under the rules of the walk. Nothing is allocated; what the
/// caller will is charged (G5).
pub struct Fields<'a> {
    reader: Reader<'a>,
    flexible: bool,
    unknown_tags: u32,
    memory: usize,
    memory_limit: usize,
}

impl<'a> Fields<'a> {
    /// `flexible`: the message's version has compact lengths and tag sections.
    pub fn new(body: &'a [u8], flexible: bool) -> Self {
        Self {
            reader: Reader::new(body),
            flexible,
            unknown_tags: 0,
            memory: 0,
            memory_limit: 4 * body.len() + SPARE_MEMORY,
        }
    }

    pub fn i16(&mut self) -> Result<i16, Error> {
        self.reader.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Error> {
        self.reader.i32()
    }

    pub fn text(&mut self) -> Result<&'a str, Error> {
        let at = self.reader.at;
        self.nullable_text()?.ok_or(Error::Null { at })
    }

    pub fn nullable_text(&mut self) -> Result<Option<&'a str>, Error> {
        let at = self.reader.at;
        let length = if self.flexible {
            self.reader.compact()?
        } else {
            self.reader.old_length()?
        };
        self.reader.text(at, length, true)
    }

    /// Bytes or records.
    pub fn nullable_data(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let at = self.reader.at;
        let length = self.length()?;
        let range = self.reader.data(at, length, true)?;
        Ok(range.map(|range| &self.reader.bytes[range]))
    }

    /// The number of elements of an array that may not be null; each takes at least `min_wire` bytes.
    pub fn count(&mut self, min_wire: usize) -> Result<usize, Error> {
        let at = self.reader.at;
        let count = self.length()?.ok_or(Error::Null { at })?;
        let left = self.reader.left();
        if count > (left / min_wire) as u64 {
            return Err(Error::Count { at, count, left });
        }
        Ok(count as usize)
    }

    /// A tag section none of whose tags the message defines; nothing in an older version.
    pub fn tags(&mut self) -> Result<(), Error> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.reader.varint()? {
            self.reader.varint()?;
            let at = self.reader.at;
            let length = self.reader.varint()?;
            self.reader.data(at, Some(length.into()), false)?;
            self.unknown_tags += 1;
            if self.unknown_tags > MAX_BODY_TAGS {
                return Err(Error::Tags {
                    limit: MAX_BODY_TAGS,
                });
            }
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

    fn length(&mut self) -> Result<Option<u64>, Error> {
        if self.flexible {
            self.reader.compact()
        } else {
            self.reader.plain()
        }
    }
}
