//! Walks the batch headers of a segment file without reading the records (`FileLogInputStream`).
//!
//! Every magic is walked: v2 batches, and v0/v1 entries, of which only the offset of the last
//! message is known without decompression. Layouts: contract §5.4. A walk ends where the bytes
//! left are too few for the batch they announce, and stops at a header that cannot be true.

use std::fs::File;
use std::path::Path;

use super::fs::{Fs, FsResult};
use crate::record::batch::{BatchHeader, HEADER_LEN};
use crate::types::{LeaderEpoch, Millis, Offset};

/// Bytes before the part that a batch's size counts: offset and size.
pub(super) const LOG_OVERHEAD: u64 = 12;
/// Bytes up to and including magic, at the same place in all formats.
const UP_TO_MAGIC: u64 = 17;
/// Smallest size field: a v0 entry without key and value.
const MIN_SIZE: i32 = 14;
/// Bytes of a v1 entry up to its timestamp, inclusive.
const V1_UP_TO_TIMESTAMP: usize = 26;
/// Bytes read at once: about one index interval.
pub(super) const WINDOW: usize = 4096;
/// Bytes read at once where all of them are looked at: what stays in a core's cache.
const WHOLE_WINDOW: usize = 256 * 1024;

/// One batch in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchAt {
    /// Byte position in the file.
    pub(super) position: u64,
    /// Bytes, all of them.
    pub(super) size: u64,
    pub(super) magic: i8,
    /// Of v0/v1 entries the same as `last_offset`.
    pub(super) base_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) max_timestamp: Millis,
    /// −1 for v0/v1.
    pub(super) leader_epoch: LeaderEpoch,
    /// The whole header of a v2 batch.
    pub(super) header: Option<BatchHeader>,
}

impl BatchAt {
    pub(super) fn end(&self) -> u64 {
        self.position + self.size
    }
}

/// `sequence − by`, where `i32::MAX` precedes 0.
pub(super) fn decrement_sequence(sequence: i32, by: i32) -> i32 {
    if sequence < by {
        i32::MAX - (by - sequence) + 1
    } else {
        sequence - by
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// What a step of the walk found.
#[derive(Debug)]
pub(super) enum Step {
    Batch(BatchAt),
    /// Too few bytes are left for one more batch.
    End,
    /// A header that cannot be true.
    Corrupt(String),
}

/// Reads the batch that starts with `bytes` (its first 61, fewer near the end) at `position` of a
/// file whose data end at `end`.
fn parse_batch(bytes: &[u8], position: u64, end: u64) -> Step {
    if bytes.len() < UP_TO_MAGIC as usize {
        return Step::End;
    }
    let offset = i64::from_be_bytes(array(bytes, 0));
    let size = i32::from_be_bytes(array(bytes, 8));
    let magic = bytes[16] as i8;
    if size < MIN_SIZE {
        return Step::Corrupt(format!(
            "Found record size {size} smaller than minimum record overhead ({MIN_SIZE}) at position {position}"
        ));
    }
    let total = size as u64 + LOG_OVERHEAD;
    if position + total > end {
        return Step::End;
    }
    if magic >= 2 {
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(problem) => {
                return Step::Corrupt(format!("Batch at position {position}: {problem}"));
            }
        };
        return Step::Batch(BatchAt {
            position,
            size: total,
            magic,
            base_offset: offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
            leader_epoch: header.partition_leader_epoch,
            header: Some(header),
        });
    }
    let max_timestamp = if magic == 1 && bytes.len() >= V1_UP_TO_TIMESTAMP {
        i64::from_be_bytes(array(bytes, 18))
    } else {
        -1
    };
    Step::Batch(BatchAt {
        position,
        size: total,
        magic,
        base_offset: offset,
        last_offset: offset,
        max_timestamp,
        leader_epoch: -1,
        header: None,
    })
}

/// Where a walk reads from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) fs: &'a Fs,
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
}

/// The walk. `end` is exclusive: bytes beyond it are not looked at.
pub(super) struct Walk<'a, W = [u8; WINDOW]> {
    source: Source<'a>,
    position: u64,
    end: u64,
    window: W,
    window_at: u64,
    window_len: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: Source<'a>, position: u64, end: u64) -> Self {
        Self::through([0; WINDOW], source, position, end)
    }
}

impl<'a> Walk<'a, Vec<u8>> {
    /// For a walk that looks at every byte.
    pub(super) fn whole(source: Source<'a>, position: u64, end: u64) -> Self {
        let window = usize::try_from(end - position)
            .map_or(WHOLE_WINDOW, |bytes| bytes.clamp(HEADER_LEN, WHOLE_WINDOW));
        Self::through(vec![0; window], source, position, end)
    }

    /// Checks the CRC of a batch, the last one that [`Self::next`] found. False also for bytes that
    /// are gone.
    pub(super) fn crc_is_right(&mut self, batch: &BatchAt) -> FsResult<bool> {
        let stored = match &batch.header {
            Some(header) => header.crc,
            None => match self.bytes_at(batch.position + 12, 4)?.first_chunk() {
                Some(stored) => u32::from_be_bytes(*stored),
                None => return Ok(false),
            },
        };
        let mut position = batch.position + if batch.magic >= 2 { 21 } else { 16 };
        let mut crc32c = 0;
        let mut crc32 = crc32fast::Hasher::new();
        while position < batch.end() {
            let piece = self.piece_at(position, batch.end() - position)?;
            if piece.is_empty() {
                return Ok(false);
            }
            if batch.magic >= 2 {
                crc32c = crc32c::crc32c_append(crc32c, piece);
            } else {
                crc32.update(piece);
            }
            position += piece.len() as u64;
        }
        Ok(stored
            == if batch.magic >= 2 {
                crc32c
            } else {
                crc32.finalize()
            })
    }

    /// What the window has from `position` on, or else what it has then; at most `want` bytes.
    fn piece_at(&mut self, position: u64, want: u64) -> FsResult<&[u8]> {
        let window_end = self.window_at + self.window_len as u64;
        let have = if (self.window_at..window_end).contains(&position) {
            window_end - position
        } else {
            self.window.len() as u64
        };
        self.bytes_at(position, want.min(have) as usize)
    }
}

impl<'a, W: AsRef<[u8]> + AsMut<[u8]>> Walk<'a, W> {
    fn through(window: W, source: Source<'a>, position: u64, end: u64) -> Self {
        Self {
            source,
            position,
            end,
            window,
            window_at: 0,
            window_len: 0,
        }
    }

    /// Up to `want` bytes (no more than the window has room for); fewer at the file's end.
    fn bytes_at(&mut self, position: u64, want: usize) -> FsResult<&[u8]> {
        let have_from = position
            .checked_sub(self.window_at)
            .map(|skip| skip as usize)
            .filter(|&skip| skip + want <= self.window_len);
        let from = match have_from {
            Some(from) => from,
            None => {
                let window = self.window.as_mut();
                let len = (self.end - position).min(window.len() as u64) as usize;
                self.window_len = self.source.fs.read_at(
                    self.source.file,
                    self.source.path,
                    &mut window[..len],
                    position,
                )?;
                self.window_at = position;
                0
            }
        };
        let to = (from + want).min(self.window_len);
        Ok(&self.window.as_ref()[from..to])
    }

    pub(super) fn next(&mut self) -> FsResult<Step> {
        // Kafka wants more than a header's start: a batch is never as small as that.
        if self.position + UP_TO_MAGIC >= self.end {
            return Ok(Step::End);
        }
        let (position, end) = (self.position, self.end);
        let bytes = self.bytes_at(position, HEADER_LEN)?;
        if bytes.len() < UP_TO_MAGIC as usize {
            return Ok(Step::End);
        }
        let step = parse_batch(bytes, position, end);
        if let Step::Batch(batch) = &step {
            self.position = batch.end();
        }
        Ok(step)
    }
}

/// The batch that begins at `position`, if one does.
pub(super) fn batch_at(source: Source<'_>, position: u64, end: u64) -> FsResult<Option<BatchAt>> {
    let mut header = [0; HEADER_LEN];
    let read = source
        .fs
        .read_at(source.file, source.path, &mut header, position)?;
    Ok(match parse_batch(&header[..read], position, end) {
        Step::Batch(batch) => Some(batch),
        Step::End | Step::Corrupt(_) => None,
    })
}

/// Walks the batches of a Fetch response: batch and its bytes. A partial batch ends it.
pub(super) struct SliceWalk<'a> {
    bytes: &'a [u8],
    position: u64,
}

impl<'a> SliceWalk<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn crc_is_right(batch: &BatchAt, bytes: &[u8]) -> bool {
        match &batch.header {
            Some(header) => header.crc == crc32c::crc32c(&bytes[21..]),
            None => u32::from_be_bytes(array(bytes, 12)) == crc32fast::hash(&bytes[16..]),
        }
    }
}

impl<'a> Iterator for SliceWalk<'a> {
    type Item = Result<(BatchAt, &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position as usize..];
        match parse_batch(rest, self.position, self.bytes.len() as u64) {
            Step::End => None,
            Step::Corrupt(problem) => Some(Err(problem)),
            Step::Batch(batch) => {
                self.position = batch.end();
                Some(Ok((batch, &rest[..batch.size as usize])))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch::increment_sequence;

    #[test]
    fn sequences_wrap_before_zero() {
        assert_eq!(decrement_sequence(0, 1), i32::MAX);
        for sequence in [0, 5, i32::MAX] {
            assert_eq!(
                decrement_sequence(increment_sequence(sequence, 7), 7),
                sequence
            );
        }
    }
}
