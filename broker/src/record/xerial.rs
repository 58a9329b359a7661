//! The snappy framing of snappy-java's `SnappyOutputStream`, which Kafka uses: magic
//! `82 "SNAPPY" 00`, int32 version 1, int32 compatible version 1, then chunks of int32 length and
//! one raw snappy block of up to 32 KiB. Streams may be concatenated (a new magic where a length is
//! due). Data without the magic is one raw block: some clients send that.

use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_LEN: usize = 16;
/// Plain bytes per chunk, as in Java.
const BLOCK: usize = 32 * 1024;
/// A three-byte copy yields at most 64 bytes: a block cannot grow by more than this.
const MAX_RATIO: usize = 22;

/// Unpacks. Memory: one block, which cannot exceed 22 times its packed size, nor the limit.
pub struct Reader<'a> {
    rest: &'a [u8],
    /// No magic: `rest` is one raw block.
    raw: bool,
    limit: u64,
    block: Vec<u8>,
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(compressed: &'a [u8], limit: u64) -> Self {
        let raw = !compressed.starts_with(&MAGIC);
        Self {
            rest: compressed,
            raw,
            limit,
            block: Vec::new(),
            position: 0,
        }
    }

    /// Unpacks the next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let packed = if self.raw {
            std::mem::take(&mut self.rest)
        } else {
            while self.rest.starts_with(&MAGIC) {
                self.rest = self.rest.get(HEADER_LEN..).ok_or_else(cut)?;
            }
            if self.rest.is_empty() {
                return Ok(false);
            }
            let (length, rest) = self.rest.split_at_checked(4).ok_or_else(cut)?;
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            let (packed, rest) = rest.split_at_checked(length as usize).ok_or_else(cut)?;
            self.rest = rest;
            packed
        };
        if packed.is_empty() {
            return Ok(!self.raw && !self.rest.is_empty());
        }
        let plain_len = snap::raw::decompress_len(packed).map_err(io::Error::other)?;
        if plain_len as u64 > self.limit || plain_len > packed.len().saturating_mul(MAX_RATIO) {
            return Err(io::Error::other(format!(
                "a block of {} bytes claims to hold {plain_len}",
                packed.len()
            )));
        }
        self.block.resize(plain_len, 0);
        snap::raw::Decoder::new()
            .decompress(packed, &mut self.block)
            .map_err(io::Error::other)?;
        self.position = 0;
        Ok(true)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the snappy stream is cut")
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            self.block.clear();
            self.position = 0;
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let len = buf.len().min(self.block.len() - self.position);
        buf[..len].copy_from_slice(&self.block[self.position..self.position + len]);
        self.position += len;
        Ok(len)
    }
}

/// Packs.
pub struct Writer {
    out: Vec<u8>,
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl Writer {
    pub(super) fn new(mut out: Vec<u8>) -> Self {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&1i32.to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
        Self {
            out,
            block: Vec::with_capacity(BLOCK),
            encoder: snap::raw::Encoder::new(),
        }
    }

    pub(super) fn written(&self) -> usize {
        self.out.len()
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.write_block()?;
        Ok(self.out)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length_at = self.out.len();
        let data_at = length_at + 4;
        self.out
            .resize(data_at + snap::raw::max_compress_len(self.block.len()), 0);
        let packed = self
            .encoder
            .compress(&self.block, &mut self.out[data_at..])
            .map_err(io::Error::other)?;
        // A block of 32 KiB packs to far less than 2 GiB.
        self.out[length_at..data_at].copy_from_slice(&(packed as u32).to_be_bytes());
        self.out.truncate(data_at + packed);
        self.block.clear();
        Ok(())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..len]);
        if self.block.len() == BLOCK {
            self.write_block()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_block()
    }
}
