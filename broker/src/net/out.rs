//! Responses on their way out: encoded by the codec, or written by hand on hot paths that do without
//! it. Records in the latter may be stretches of segment files, of which nothing is copied.

use std::cell::Cell;

use kafka_protocol::protocol::Encodable;
use smallvec::SmallVec;

use crate::log::FileRegion;

/// The most that a worker keeps of a response for the next one, in bytes.
const SPARE_MAX: usize = 4 * 1024;

thread_local! {
    /// The memory of a response that has gone into the buffer of its connection.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Room for `capacity` bytes, with luck that of an earlier response.
fn memory(capacity: usize) -> Vec<u8> {
    let mut bytes = SPARE.take();
    bytes.reserve(capacity);
    bytes
}

/// Header and body of a response, without the length prefix: bytes, and stretches of files that stand
/// between them and leave by `sendfile`.
#[derive(Debug, Default)]
pub struct Response {
    bytes: Vec<u8>,
    /// File regions and the positions in `bytes` they come before.
    regions: SmallVec<[(usize, FileRegion); 1]>,
}

/// A piece of a response.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Bytes(&'a [u8]),
    File(&'a FileRegion),
}

impl From<Vec<u8>> for Response {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            regions: SmallVec::new(),
        }
    }
}

impl Response {
    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        let regions = self.regions.iter().map(|(_, region)| region.len);
        self.bytes.len() + regions.sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything, unless files hold some of it.
    pub(super) fn only_bytes(&self) -> Option<&[u8]> {
        self.regions.is_empty().then_some(&self.bytes)
    }

    /// Leaves the memory to the next response of this thread.
    pub(super) fn recycle(mut self) {
        if self.bytes.capacity() <= SPARE_MAX {
            self.bytes.clear();
            SPARE.set(self.bytes);
        }
    }

    /// In the order in which they are sent; bytes may be empty.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut taken = 0;
        let stretches = self.regions.iter().flat_map(move |(position, region)| {
            let before = &self.bytes[taken..*position];
            taken = *position;
            [Piece::Bytes(before), Piece::File(region)]
        });
        let last = self.regions.last().map_or(0, |(position, _)| *position);
        stretches.chain([Piece::Bytes(&self.bytes[last..])])
    }

    /// Everything as the peer gets it.
    #[cfg(test)]
    pub(crate) fn read(&self) -> bytes::Bytes {
        use std::os::unix::fs::FileExt as _;

        let mut all = Vec::new();
        for piece in self.pieces() {
            match piece {
                Piece::Bytes(bytes) => all.extend_from_slice(bytes),
                Piece::File(region) => {
                    let start = all.len();
                    all.resize(start + region.len, 0);
                    region
                        .file
                        .read_exact_at(&mut all[start..], region.position)
                        .unwrap();
                }
            }
        }
        all.into()
    }
}

/// Encodes a response header (`header_version` 0, or 1 with an empty tag section) and `message`.
pub fn encode<M: Encodable>(
    correlation_id: i32,
    header_version: i16,
    message: &M,
    version: i16,
) -> anyhow::Result<Response> {
    let mut bytes = memory(256);
    bytes.extend_from_slice(&correlation_id.to_be_bytes());
    if header_version >= 1 {
        bytes.push(0);
    }
    message.encode(&mut bytes, version)?;
    Ok(bytes.into())
}

/// A response in the making, header and body, front to back.
pub struct Out {
    response: Response,
    flexible: bool,
}

impl Out {
    /// `flexible`: the message's version has compact lengths and tag sections. `capacity`: bytes, regions
    /// apart.
    pub fn new(flexible: bool, capacity: usize) -> Self {
        Self {
            response: memory(capacity).into(),
            flexible,
        }
    }

    pub fn i8(&mut self, value: i8) {
        self.response.bytes.push(value as u8);
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
        self.response.bytes.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.response.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.response.bytes.push(value as u8);
    }

    /// The count of an array, or the length of bytes; `None` is null.
    #[inline(always)]
    pub fn length(&mut self, length: Option<usize>) {
        match (length, self.flexible) {
            (None, true) => self.varint(0),
            (None, false) => self.i32(-1),
            (Some(length), true) => self.varint(length + 1),
            (Some(length), false) => self.i32(length as i32),
        }
    }

    /// A string; of one that an old version cannot hold, what fits.
    #[inline(always)]
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
            self.response
                .regions
                .push((self.response.bytes.len(), region));
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
        let mut value = Self {
            response: Vec::with_capacity(16).into(),
            flexible: true,
        };
        write(&mut value);
        self.varint(number);
        self.varint(value.response.bytes.len());
        self.response.bytes.append(&mut value.response.bytes);
    }

    /// Bytes so far, those of regions counted.
    pub fn len(&self) -> usize {
        self.response.len()
    }

    pub fn is_empty(&self) -> bool {
        self.response.is_empty()
    }

    pub fn finish(self) -> Response {
        self.response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_response_has_the_memory_of_the_last_unless_it_is_large() {
        let mut out = Out::new(true, 100);
        out.raw(b"of the last");
        let response = out.finish();
        let memory = response.bytes.as_ptr();
        response.recycle();
        let mut out = Out::new(true, 50);
        out.raw(b"next");
        let next = out.finish();
        assert_eq!(next.bytes.as_ptr(), memory);
        assert_eq!(next.only_bytes(), Some(b"next".as_slice()));
        Response::from(vec![0; SPARE_MAX + 1]).recycle();
        assert_eq!(SPARE.take().capacity(), 0);
    }
}
