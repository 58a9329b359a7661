//! Responses on their way out: encoded by the codec, or written by hand on hot paths that do without
//! it. Records in the latter may be stretches of segment files, of which nothing is copied.

use bytes::Bytes;
use kafka_protocol::protocol::Encodable;

use super::Chunk;
use crate::log::FileRegion;

/// Encodes a response header (`header_version` 0, or 1 with an empty tag section) and `message`.
pub fn encode<M: Encodable>(
    correlation_id: i32,
    header_version: i16,
    message: &M,
    version: i16,
) -> anyhow::Result<Vec<Chunk>> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&correlation_id.to_be_bytes());
    if header_version >= 1 {
        bytes.push(0);
    }
    message.encode(&mut bytes, version)?;
    Ok(vec![Chunk::Bytes(bytes.into())])
}

/// A response in the making, header and body, front to back.
pub struct Out {
    bytes: Vec<u8>,
    flexible: bool,
    /// File regions and the positions in `bytes` they come before.
    regions: Vec<(usize, FileRegion)>,
}

impl Out {
    /// `flexible`: the message's version has compact lengths and tag sections. `capacity`: bytes, regions
    /// apart.
    pub fn new(flexible: bool, capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            flexible,
            regions: Vec::new(),
        }
    }

    pub fn i8(&mut self, value: i8) {
        self.bytes.push(value as u8);
    }

    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// The count of an array, or the length of bytes; `None` is null.
    pub fn length(&mut self, length: Option<usize>) {
        match (length, self.flexible) {
            (None, true) => self.varint(0),
            (None, false) => self.i32(-1),
            (Some(length), true) => self.varint(length + 1),
            (Some(length), false) => self.i32(length as i32),
        }
    }

    /// A string; of one that an old version cannot hold, what fits.
    pub fn text(&mut self, text: Option<&str>) {
        match (text, self.flexible) {
            (None, true) => self.varint(0),
            (None, false) => self.i16(-1),
            (Some(text), true) => {
                self.varint(text.len() + 1);
                self.raw(text.as_bytes());
            }
            (Some(text), false) => {
                let text = &text[..text.floor_char_boundary(i16::MAX as usize)];
                self.i16(text.len() as i16);
                self.raw(text.as_bytes());
            }
        }
    }

    /// Records that a file holds.
    pub fn region(&mut self, region: FileRegion) {
        self.length(Some(region.len));
        if region.len > 0 {
            self.regions.push((self.bytes.len(), region));
        }
    }

    pub fn no_tags(&mut self) {
        self.tags(0);
    }

    /// Begins a section of `count` tags, which [`Self::tag`] writes by ascending number; nothing in an
    /// older version.
    pub fn tags(&mut self, count: usize) {
        if self.flexible {
            self.varint(count);
        }
    }

    /// A tag whose value `write` appends.
    pub fn tag(&mut self, number: usize, write: impl FnOnce(&mut Self)) {
        let mut value = Self::new(true, 16);
        write(&mut value);
        self.varint(number);
        self.varint(value.bytes.len());
        self.bytes.append(&mut value.bytes);
    }

    /// Bytes so far, those of regions counted.
    pub fn len(&self) -> usize {
        let regions = self.regions.iter().map(|(_, region)| region.len);
        self.bytes.len() + regions.sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn finish(self) -> Vec<Chunk> {
        let mut bytes = Bytes::from(self.bytes);
        if self.regions.is_empty() {
            return vec![Chunk::Bytes(bytes)];
        }
        let mut chunks = Vec::with_capacity(2 * self.regions.len() + 1);
        let mut taken = 0;
        for (position, region) in self.regions {
            if position > taken {
                chunks.push(Chunk::Bytes(bytes.split_to(position - taken)));
                taken = position;
            }
            chunks.push(Chunk::File(region));
        }
        if !bytes.is_empty() {
            chunks.push(Chunk::Bytes(bytes));
        }
        chunks
    }
}
