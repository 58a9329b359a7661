//! Fetch without copying records: a response is encoded around stretches of segment files.
//!
//! [`placeholder`] stands for a region's bytes inside the message: a slice of one process-wide
//! anonymous mapping that nothing is ever written to and that no memory stands behind. The encode
//! buffer knows the mapping's addresses: it counts such a slice's length and copies nothing, and
//! what comes out is the bytes before, the region, the bytes after.
//!
//! R1. The n-th placeholder of a message in encoding order is the n-th region, of the same length.
//! R2. Nothing but the encode buffer looks at a placeholder's bytes (they are zeros).

use std::ops::Range;
use std::sync::OnceLock;

use bytes::buf::UninitSlice;
use bytes::{BufMut, Bytes};
use kafka_protocol::protocol::Encodable;
use kafka_protocol::protocol::buf::ByteBufMut;
use memmap2::MmapOptions;
use smallvec::SmallVec;

use super::Chunk;
use crate::log::FileRegion;

/// Address space of the mapping: what one response can hold at most.
const ARENA_BYTES: usize = i32::MAX as usize;

static ARENA: OnceLock<Bytes> = OnceLock::new();

/// Why a response could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Message(String),
    #[error("the response holds {placeholders} placeholders for {regions} file regions")]
    Count { placeholders: usize, regions: usize },
    #[error("placeholder {index} is {placeholder} bytes long, its file region {region}")]
    Length {
        index: usize,
        placeholder: usize,
        region: usize,
    },
}

/// Takes the address range. Called at start, so that a system that forbids it says so there.
pub fn prepare() -> std::io::Result<()> {
    if ARENA.get().is_none() {
        let arena = map()?;
        // Another thread may have been first; its range is as good.
        let _ = ARENA.set(arena);
    }
    Ok(())
}

fn map() -> std::io::Result<Bytes> {
    let mapping = MmapOptions::new()
        .len(ARENA_BYTES)
        .no_reserve_swap()
        .map_anon()?
        .make_read_only()?;
    Ok(Bytes::from_owner(mapping))
}

fn arena() -> &'static Bytes {
    ARENA.get_or_init(|| {
        map().expect("2 GiB of address space without memory behind it; ulimit -v forbids it")
    })
}

/// Stands for a file region of `len` bytes (at most 2³¹−1) in the `records` of a Fetch response.
pub fn placeholder(len: usize) -> Bytes {
    arena().slice(..len)
}

/// Encodes a response header (`header_version` 0, or 1 with an empty tag section) and `message`.
/// `regions` are what the placeholders in it stand for, in encoding order.
pub fn encode<M: Encodable>(
    correlation_id: i32,
    header_version: i16,
    message: &M,
    version: i16,
    regions: Vec<FileRegion>,
) -> Result<Vec<Chunk>, Error> {
    let mut buffer = RegionBuf::new();
    buffer.put_i32(correlation_id);
    if header_version >= 1 {
        buffer.put_u8(0);
    }
    message
        .encode(&mut buffer, version)
        .map_err(|error| Error::Message(error.to_string()))?;
    buffer.finish(regions)
}

/// Collects encoded bytes; a slice of the arena only leaves a mark.
struct RegionBuf {
    bytes: Vec<u8>,
    /// Position in `bytes`, length of the placeholder that was skipped there.
    marks: SmallVec<[(usize, usize); 4]>,
    skipped: usize,
    arena: Range<usize>,
}

impl RegionBuf {
    fn new() -> Self {
        // A process that never made a placeholder need not have a mapping.
        let arena = ARENA.get().map_or(0..0, |arena| {
            let start = arena.as_ptr() as usize;
            start..start + arena.len()
        });
        Self {
            bytes: Vec::with_capacity(256),
            marks: SmallVec::new(),
            skipped: 0,
            arena,
        }
    }

    fn finish(self, regions: Vec<FileRegion>) -> Result<Vec<Chunk>, Error> {
        if regions.len() != self.marks.len() {
            return Err(Error::Count {
                placeholders: self.marks.len(),
                regions: regions.len(),
            });
        }
        let mut bytes = Bytes::from(self.bytes);
        let mut taken = 0;
        let mut chunks = Vec::with_capacity(2 * regions.len() + 1);
        for (index, ((position, len), region)) in self.marks.iter().zip(regions).enumerate() {
            if region.len != *len {
                return Err(Error::Length {
                    index,
                    placeholder: *len,
                    region: region.len,
                });
            }
            let head = bytes.split_to(position - taken);
            taken = *position;
            if !head.is_empty() {
                chunks.push(Chunk::Bytes(head));
            }
            chunks.push(Chunk::File(region));
        }
        if !bytes.is_empty() {
            chunks.push(Chunk::Bytes(bytes));
        }
        Ok(chunks)
    }
}

// SAFETY: `remaining_mut`, `chunk_mut` and `advance_mut` are those of the `Vec` inside, whose
// implementation keeps the trait's contract, and hand over exactly what was asked of them. The only
// methods that differ append to that same `Vec`, or leave the buffer as it is; a caller of them may
// rely on nothing that concerns memory safety.
#[expect(
    unsafe_code,
    reason = "`BufMut` is an unsafe trait; this is a delegate to `Vec`"
)]
unsafe impl BufMut for RegionBuf {
    fn remaining_mut(&self) -> usize {
        self.bytes.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller initialised `count` bytes of `chunk_mut`, which is that of `bytes`.
        unsafe { self.bytes.advance_mut(count) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.bytes.chunk_mut()
    }

    fn put_u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn put_i8(&mut self, value: i8) {
        self.bytes.push(value as u8);
    }

    fn put_i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn put_slice(&mut self, src: &[u8]) {
        let start = src.as_ptr() as usize;
        if self.arena.contains(&start) && !src.is_empty() {
            self.marks.push((self.bytes.len(), src.len()));
            self.skipped += src.len();
        } else {
            self.bytes.extend_from_slice(src);
        }
    }
}

impl ByteBufMut for RegionBuf {
    fn offset(&self) -> usize {
        self.bytes.len() + self.skipped
    }

    fn seek(&mut self, offset: usize) {
        debug_assert_eq!(self.skipped, 0, "messages are encoded front to back");
        self.bytes.resize(offset, 0);
    }

    fn range(&mut self, range: Range<usize>) -> &mut [u8] {
        debug_assert_eq!(self.skipped, 0, "messages are encoded front to back");
        &mut self.bytes[range]
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;
    use std::sync::Arc;

    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::{FetchResponse, TopicName};
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn fetch_response(version: i16, records: &[Bytes]) -> FetchResponse {
        let partitions = records
            .iter()
            .enumerate()
            .map(|(index, records)| {
                PartitionData::default()
                    .with_partition_index(index as i32)
                    .with_high_watermark(7)
                    .with_records(Some(records.clone()))
            })
            .collect();
        let mut topic = FetchableTopicResponse::default().with_partitions(partitions);
        if version < 13 {
            topic = topic.with_topic(TopicName(StrBytes::from_static_str("orders")));
        } else {
            topic = topic.with_topic_id(uuid::Uuid::from_u128(5));
        }
        FetchResponse::default().with_responses(vec![topic])
    }

    fn flatten(chunks: &[Chunk]) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            match chunk {
                Chunk::Bytes(bytes) => out.extend_from_slice(bytes),
                Chunk::File(region) => {
                    let mut bytes = vec![0; region.len];
                    region
                        .file
                        .read_exact_at(&mut bytes, region.position)
                        .unwrap();
                    out.extend_from_slice(&bytes);
                }
            }
        }
        out
    }

    #[test]
    fn bytes_equal_the_plain_encoding_in_every_shape_of_fetch() {
        let content: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        for lens in [vec![0], vec![1], vec![20_000, 0, 127, 128, 3], vec![9; 500]] {
            let mut position = 0;
            let mut plain = Vec::new();
            let mut placed = Vec::new();
            let mut regions = Vec::new();
            for len in lens {
                plain.push(Bytes::copy_from_slice(&content[position..position + len]));
                placed.push(placeholder(len));
                if len > 0 {
                    regions.push(FileRegion {
                        file: Arc::clone(&file),
                        position: position as u64,
                        len,
                    });
                }
                position += len;
            }
            for version in [0, 4, 11, 12, 17] {
                let header_version = i16::from(version >= 12);
                let expected = encode(
                    77,
                    header_version,
                    &fetch_response(version, &plain),
                    version,
                    Vec::new(),
                )
                .unwrap();
                let split = encode(
                    77,
                    header_version,
                    &fetch_response(version, &placed),
                    version,
                    regions.clone(),
                )
                .unwrap();
                assert_eq!(expected.len(), 1);
                assert_eq!(flatten(&split), flatten(&expected), "version {version}");
                let mut oracle = vec![0, 0, 0, 77];
                oracle.extend(std::iter::repeat_n(0, header_version as usize));
                fetch_response(version, &plain)
                    .encode(&mut oracle, version)
                    .unwrap();
                assert_eq!(flatten(&split), oracle, "version {version}");
            }
        }
    }

    #[test]
    fn regions_that_do_not_match_the_placeholders_are_an_error() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let region = FileRegion {
            file,
            position: 0,
            len: 4,
        };
        let response = fetch_response(4, &[placeholder(5)]);
        assert!(matches!(
            encode(1, 0, &response, 4, vec![region]),
            Err(Error::Length { .. })
        ));
        assert!(matches!(
            encode(1, 0, &response, 4, Vec::new()),
            Err(Error::Count { .. })
        ));
    }
}
