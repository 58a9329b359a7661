//! Frames: a four-byte big-endian length, then that many bytes (`NetworkReceive`).
//!
//! F1. A length is compared with the limit before a byte of the body is taken in.
//! F2. Memory grows by what arrived, never by what the length claims.
//!
//! Requests are read where they lie in a [`Buffer`]. Responses, of which a client keeps parts, share
//! their memory instead ([`split`]).

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length prefix.
pub const PREFIX: usize = 4;

/// The first read of a connection takes this much.
const FIRST_READ: usize = 4 * 1024;
/// The most that is read beyond a frame.
const AHEAD_MAX: usize = 64 * 1024;
/// The largest step a buffer grows by.
const MAX_STEP: usize = 1024 * 1024;

/// A length no peer that speaks Kafka sends us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Invalid receive (size = {size} larger than {limit}){hint}")]
    TooLarge {
        size: i32,
        limit: usize,
        hint: &'static str,
    },
    #[error("Invalid receive (size = {size})")]
    Negative { size: i32 },
}

/// Takes the next whole frame off the buffer, without its length and without a copy.
pub fn split(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, Error> {
    let Some(length) = peek_length(buffer, limit)? else {
        return Ok(None);
    };
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The length of the frame at the head of the buffer, once its prefix is there.
fn peek_length(buffer: &[u8], limit: usize) -> Result<Option<usize>, Error> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let size = i32::from_be_bytes(*prefix);
    let Ok(length) = usize::try_from(size) else {
        return Err(Error::Negative { size });
    };
    if length > limit {
        return Err(Error::TooLarge {
            size,
            limit,
            hint: hint(*prefix),
        });
    }
    Ok(Some(length))
}

/// Makes room in a buffer of [`split`] for the next read; see [`room`].
pub fn reserve(buffer: &mut BytesMut, largest: usize, limit: usize) {
    let wanted = room(buffer, largest, 0, limit);
    if buffer.capacity() - buffer.len() < wanted {
        buffer.reserve(wanted.max(FIRST_READ));
    }
}

/// What has arrived and is not taken yet.
#[derive(Debug, Default)]
pub struct Buffer {
    pub bytes: Vec<u8>,
    /// Where the first frame begins that is not taken.
    start: usize,
}

impl Buffer {
    /// Takes the next whole frame, without its length: it lies there in `bytes` until
    /// [`Self::reserve`].
    pub fn split(&mut self, limit: usize) -> Result<Option<Range<usize>>, Error> {
        let Some(length) = peek_length(self.left(), limit)? else {
            return Ok(None);
        };
        let from = self.start + PREFIX;
        if self.bytes.len() - from < length {
            return Ok(None);
        }
        self.start = from + length;
        Ok(Some(from..self.start))
    }

    /// What is not taken yet.
    pub fn left(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether a read has filled it.
    pub fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Forgets what was taken, and makes room for the next read; see [`room`].
    pub fn reserve(&mut self, largest: usize, ahead: usize, limit: usize) {
        if self.left().is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
        let wanted = room(self.left(), largest, ahead, limit);
        if self.bytes.capacity() - self.bytes.len() >= wanted {
            return;
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.capacity() - self.bytes.len() < wanted {
            self.bytes.reserve(wanted.max(FIRST_READ));
        }
    }
}

/// The room for the next read behind `buffer`. `largest` is the largest frame this peer has sent so
/// far: what it has filled once it may have again at once. `ahead` is what it has sent at once beyond
/// that: room for further small frames, so that those that wait in the socket are read together.
fn room(buffer: &[u8], largest: usize, ahead: usize, limit: usize) -> usize {
    let arrived = buffer.len();
    let earned = (3 * arrived)
        .max(largest)
        .max(ahead)
        .clamp(FIRST_READ, MAX_STEP);
    match peek_length(buffer, limit) {
        Ok(Some(length)) => {
            let missing = (PREFIX + length).saturating_sub(arrived);
            // Beyond a large frame there is little to save, and growing would copy it.
            let ahead = if length <= AHEAD_MAX { ahead } else { 0 };
            (missing + ahead).clamp(1, earned)
        }
        Ok(None) | Err(_) => earned,
    }
}

/// The `ahead` of [`room`] after a read: twice as much once one was cut by the end of the buffer.
pub fn look_ahead(ahead: usize, buffer: &Buffer) -> usize {
    if !buffer.is_full() {
        return ahead;
    }
    ahead.max(buffer.left().len().min(AHEAD_MAX / 2) * 2)
}

/// What else the first four bytes may be, for the log.
fn hint(prefix: [u8; PREFIX]) -> &'static str {
    match &prefix {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"DELE" | b"PRI " => {
            "; this looks like HTTP: is the port meant for another service?"
        }
        [0x16, 0x03, ..] => {
            "; this looks like TLS: the listener is not SSL, check security.protocol of the client"
        }
        b"SSH-" => "; this looks like SSH",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &[u8]) -> Buffer {
        Buffer {
            bytes: bytes.to_vec(),
            start: 0,
        }
    }

    fn split(buffer: &mut Buffer, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let frame = buffer.split(limit)?;
        Ok(frame.map(|frame| buffer.bytes[frame].to_vec()))
    }

    #[test]
    fn splits_whole_frames_and_leaves_the_rest() {
        let mut buffer = buffer(b"\0\0\0\x02ab\0\0\0\x03cd");
        assert_eq!(split(&mut buffer, 10), Ok(Some(b"ab".to_vec())));
        assert_eq!(split(&mut buffer, 10), Ok(None));
        buffer.reserve(0, 0, 10);
        buffer.bytes.extend_from_slice(b"e");
        assert_eq!(split(&mut buffer, 10), Ok(Some(b"cde".to_vec())));
        assert_eq!(split(&mut buffer, 10), Ok(None));
        assert!(buffer.left().is_empty());
    }

    #[test]
    fn a_client_shares_the_memory_of_whole_frames_and_leaves_the_rest() {
        let mut bytes = BytesMut::from(b"\0\0\0\x02ab\0\0\0\x03cd".as_slice());
        let mut split = || super::split(&mut bytes, 10).unwrap();
        assert_eq!(split().as_deref(), Some(b"ab".as_slice()));
        assert_eq!(split(), None);
        reserve(&mut bytes, 0, 10);
        bytes.extend_from_slice(b"e");
        let frame = super::split(&mut bytes, 10).unwrap();
        assert_eq!(frame.as_deref(), Some(b"cde".as_slice()));
        assert!(bytes.is_empty());
    }

    #[test]
    fn refuses_lengths_over_the_limit_and_says_what_they_look_like() {
        assert_eq!(
            split(&mut buffer(&[0xff; 4]), 10),
            Err(Error::Negative { size: -1 })
        );
        let http = split(&mut buffer(b"GET / HTTP/1.1"), 104_857_600).unwrap_err();
        assert!(http.to_string().contains("looks like HTTP"), "{http}");
        let tls = split(&mut buffer(&[0x16, 3, 1, 0, 0xa5]), 104_857_600).unwrap_err();
        assert!(tls.to_string().contains("looks like TLS"), "{tls}");
        assert!(split(&mut buffer(&[0, 0, 0, 11]), 10).is_err());
        assert_eq!(split(&mut buffer(&[0, 0, 0, 10]), 10), Ok(None));
    }

    /// Keeps F2.
    #[test]
    fn a_claim_alone_reserves_one_small_buffer() {
        let mut buffer = buffer(&104_857_600_i32.to_be_bytes());
        buffer.reserve(0, 0, 104_857_600);
        let capacity = buffer.bytes.capacity();
        assert!(capacity <= 2 * FIRST_READ, "{capacity}");
    }

    #[test]
    fn a_buffer_grows_with_what_arrived() {
        let mut buffer = buffer(&10_000_000_i32.to_be_bytes());
        let mut reads = 0;
        while buffer.bytes.len() < 10_000_004 {
            buffer.reserve(0, 0, 104_857_600);
            let bytes = &mut buffer.bytes;
            let room = bytes.capacity() - bytes.len();
            assert!(room > 0);
            assert!(room <= (4 * bytes.len()).clamp(2 * FIRST_READ, 2 * 10_000_004));
            let take = room.min(10_000_004 - bytes.len());
            bytes.resize(bytes.len() + take, 0);
            reads += 1;
        }
        assert!(reads < 30, "{reads}");
    }

    #[test]
    fn small_frames_that_wait_together_are_read_together() {
        let frame = [&16_384_i32.to_be_bytes()[..], &[7; 16_384]].concat();
        let sent = frame.repeat(64);
        let (mut buffer, mut largest, mut ahead) = (Buffer::default(), 0, 0);
        let (mut taken, mut reads, mut frames) = (0, 0, 0);
        while taken < sent.len() {
            buffer.reserve(largest, ahead, 104_857_600);
            let room = buffer.bytes.capacity() - buffer.bytes.len();
            let read = room.min(sent.len() - taken);
            assert!(room <= 2 * AHEAD_MAX + FIRST_READ, "{room}");
            buffer.bytes.extend_from_slice(&sent[taken..taken + read]);
            taken += read;
            reads += 1;
            ahead = look_ahead(ahead, &buffer);
            while let Some(frame) = split(&mut buffer, 104_857_600).unwrap() {
                assert!(frame.iter().all(|byte| *byte == 7));
                largest = largest.max(PREFIX + frame.len());
                frames += 1;
            }
        }
        assert_eq!(frames, 64);
        assert!(reads <= 30, "{reads}");
    }

    /// Who sends one frame at a time is never given more than that.
    #[test]
    fn a_read_that_ends_before_the_buffer_earns_nothing() {
        let after = |read: usize, room: usize| {
            let mut bytes = Vec::with_capacity(room);
            bytes.resize(read, 0);
            Buffer { bytes, start: 0 }
        };
        assert_eq!(look_ahead(0, &after(100, 4096)), 0);
        assert_eq!(look_ahead(8192, &after(100, 4096)), 8192);
        assert_eq!(look_ahead(0, &after(1 << 20, 1 << 20)), AHEAD_MAX);
    }
}
