//! The codecs of record batches, bounded against bombs.
//!
//! Reading: gzip and zstd are standard streams, lz4 is the frame format, snappy is the framing of
//! `SnappyOutputStream` (see `xerial`) or one raw block. A [`Decompressor`] is an `io::Read` with
//! fixed memory; [`super::records::Window`] counts what comes out of it. Writing matches what Java's
//! producer writes: 64 KiB lz4 blocks, 32 KiB snappy blocks. Source: `org.apache.kafka.common.compress`.

use std::io::{self, Read, Write};

use super::Error;
use super::lz4_frame;
use super::xerial;

/// Bits 0–2 of a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// The codec of an id; 5–7 are an error.
    pub fn from_id(id: u8) -> Result<Self, Error> {
        match id {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            id => Err(Error::UnknownCodec { id }),
        }
    }

    /// Kafka's name, as `compression.type` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The level Kafka uses where none is configured; 9 means lz4's fast mode there.
    pub fn default_level(self) -> i32 {
        match self {
            Self::None | Self::Snappy => 0,
            Self::Gzip => -1,
            Self::Lz4 => 9,
            Self::Zstd => 3,
        }
    }
}

/// What unpacking may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one record, unpacked.
    pub record_bytes: u64,
    /// Bytes of all records of a batch, unpacked.
    pub batch_bytes: u64,
    /// Base-2 logarithm of the largest zstd window, which the decoder holds in memory.
    pub zstd_window_log: u32,
}

impl Limits {
    /// For bytes a client sent: a record ≤ `socket.request.max.bytes`' default of 100 MiB, 1 GiB per
    /// batch, an 8 MiB window.
    pub const CLIENT: Self = Self {
        record_bytes: 104_857_600,
        batch_bytes: 1 << 30,
        zstd_window_log: 23,
    };

    /// For bytes in our log: whatever a batch of 2 GiB may reasonably hold, since a batch that was
    /// stored without a look inside must stay readable. Windows up to zstd's own default of 128 MiB.
    pub const STORED: Self = Self {
        record_bytes: i32::MAX as u64,
        batch_bytes: 16 << 30,
        zstd_window_log: 27,
    };
}

/// Unpacks a stream of one codec.
pub enum Decompressor<'a> {
    Gzip(flate2::bufread::MultiGzDecoder<&'a [u8]>),
    Snappy(xerial::Reader<'a>),
    Lz4(lz4::Decoder<io::Chain<io::Cursor<Vec<u8>>, &'a [u8]>>),
    Zstd(zstd::stream::read::Decoder<'static, &'a [u8]>),
    Plain(&'a [u8]),
}

impl<'a> Decompressor<'a> {
    /// `magic` of the batch: magic 0 has a wrong checksum in lz4's frame header, which is ignored.
    pub fn new(
        codec: Codec,
        compressed: &'a [u8],
        magic: i8,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Decompress {
            codec: codec.name(),
            reason: error.to_string(),
        };
        Ok(match codec {
            Codec::None => Self::Plain(compressed),
            Codec::Gzip => Self::Gzip(flate2::bufread::MultiGzDecoder::new(compressed)),
            Codec::Snappy => Self::Snappy(xerial::Reader::new(compressed, limits.record_bytes)),
            Codec::Lz4 => {
                let (head, rest) = if magic == 0 {
                    lz4_frame::mend_header(compressed)
                } else {
                    (Vec::new(), compressed)
                };
                let chained = io::Cursor::new(head).chain(rest);
                Self::Lz4(lz4::Decoder::new(chained).map_err(failed)?)
            }
            Codec::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(compressed).map_err(failed)?;
                decoder
                    .window_log_max(limits.zstd_window_log)
                    .map_err(failed)?;
                Self::Zstd(decoder)
            }
        })
    }
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buf),
            Self::Snappy(decoder) => decoder.read(buf),
            Self::Lz4(decoder) => decoder.read(buf),
            Self::Zstd(decoder) => decoder.read(buf),
            Self::Plain(rest) => rest.read(buf),
        }
    }
}

/// Packs a stream of one codec behind what the vector holds already.
pub enum Compressor {
    Plain(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Snappy(Box<xerial::Writer>),
    /// With the position of the frame when it must carry magic 0's wrong header checksum.
    Lz4(lz4::Encoder<Vec<u8>>, Option<usize>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    /// `level` in Kafka's terms (`compression.<codec>.level`); snappy has none.
    pub fn new(codec: Codec, level: i32, magic: i8, out: Vec<u8>) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Compress {
            codec: codec.name(),
            reason: error.to_string(),
        };
        Ok(match codec {
            Codec::None => Self::Plain(out),
            Codec::Gzip => {
                let level = match u32::try_from(level) {
                    Ok(level) => flate2::Compression::new(level.min(9)),
                    Err(_) => flate2::Compression::default(),
                };
                Self::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            Codec::Snappy => Self::Snappy(Box::new(xerial::Writer::new(out))),
            Codec::Lz4 => {
                let start = out.len();
                // Java takes lz4's fast compressor for level 9 and the high one for any other.
                let level = if level == Codec::Lz4.default_level() {
                    0
                } else {
                    level.clamp(3, 12) as u32
                };
                let encoder = lz4::EncoderBuilder::new()
                    .block_size(lz4::BlockSize::Max64KB)
                    .block_mode(lz4::BlockMode::Independent)
                    .checksum(lz4::ContentChecksum::NoChecksum)
                    .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
                    .level(level)
                    .build(out)
                    .map_err(failed)?;
                Self::Lz4(encoder, (magic == 0).then_some(start))
            }
            Codec::Zstd => {
                Self::Zstd(zstd::stream::write::Encoder::new(out, level).map_err(failed)?)
            }
        })
    }

    /// Bytes written out so far; codecs hold some back until [`Compressor::finish`].
    pub fn written(&self) -> usize {
        match self {
            Self::Plain(out) => out.len(),
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::Snappy(encoder) => encoder.written(),
            Self::Lz4(encoder, _) => encoder.writer().len(),
            Self::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let codec = self.codec();
        match self {
            Self::Plain(out) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Snappy(encoder) => encoder.write_all(bytes),
            Self::Lz4(encoder, _) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
        .map_err(|error| Error::Compress {
            codec: codec.name(),
            reason: error.to_string(),
        })
    }

    /// Ends the stream; the vector with everything.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let codec = self.codec();
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Snappy(encoder) => encoder.finish(),
            Self::Lz4(encoder, broken_header_at) => {
                let (mut out, ended) = encoder.finish();
                ended.map(|()| {
                    if let Some(start) = broken_header_at {
                        lz4_frame::break_header(&mut out[start..]);
                    }
                    out
                })
            }
            Self::Zstd(encoder) => encoder.finish(),
        }
        .map_err(|error| Error::Compress {
            codec: codec.name(),
            reason: error.to_string(),
        })
    }

    fn codec(&self) -> Codec {
        match self {
            Self::Plain(_) => Codec::None,
            Self::Gzip(_) => Codec::Gzip,
            Self::Snappy(_) => Codec::Snappy,
            Self::Lz4(..) => Codec::Lz4,
            Self::Zstd(_) => Codec::Zstd,
        }
    }
}
