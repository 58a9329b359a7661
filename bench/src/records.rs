//! Record batches of magic 2 for the generator, and a walk over what comes back. Written apart from
//! the broker's own code on purpose: a mistake there must not be met by the same mistake here.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

pub const HEADER: usize = 61;
/// Bytes before the first one that the length counts.
const OVERHEAD: usize = 12;
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// The first byte the CRC covers.
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const PRODUCER_ID_AT: usize = 43;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// A batch as a producer sends it: base offset 0.
#[derive(Debug, Clone)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub records: u32,
    pub crc: u32,
}

impl Batch {
    /// A batch of as many records of `record_bytes` as fit into `batch_bytes` before compression, and
    /// at least one. Batches of other seeds have other contents.
    pub fn filled(
        batch_bytes: usize,
        record_bytes: usize,
        codec: Codec,
        seed: u64,
    ) -> Result<Self> {
        let mut text = Text(seed);
        let mut payload = Vec::with_capacity(batch_bytes + record_bytes);
        let mut records = 0;
        loop {
            let before = payload.len();
            put_record(&mut payload, records, &text.take(record_bytes));
            if records > 0 && HEADER + payload.len() > batch_bytes {
                payload.truncate(before);
                break;
            }
            records += 1;
            if HEADER + payload.len() >= batch_bytes {
                break;
            }
        }
        Self::of(&compress(codec, &payload)?, records, codec)
    }

    fn of(payload: &[u8], records: u32, codec: Codec) -> Result<Self> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let now = i64::try_from(now.as_millis())?;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(0_i64.to_be_bytes());
        bytes.extend(i32::try_from(HEADER - OVERHEAD + payload.len())?.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        bytes.push(2);
        bytes.extend(0_u32.to_be_bytes());
        bytes.extend((codec as i16).to_be_bytes());
        bytes.extend(i32::try_from(records - 1)?.to_be_bytes());
        bytes.extend(now.to_be_bytes());
        bytes.extend(now.to_be_bytes());
        bytes.extend((-1_i64).to_be_bytes());
        bytes.extend((-1_i16).to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        bytes.extend(i32::try_from(records)?.to_be_bytes());
        bytes.extend_from_slice(payload);
        let mut batch = Self {
            bytes,
            records,
            crc: 0,
        };
        batch.seal();
        Ok(batch)
    }

    /// Makes it the next batch of an idempotent producer.
    pub fn number(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.bytes[PRODUCER_ID_AT..PRODUCER_ID_AT + 8].copy_from_slice(&producer_id.to_be_bytes());
        self.bytes[PRODUCER_ID_AT + 8..BASE_SEQUENCE_AT]
            .copy_from_slice(&producer_epoch.to_be_bytes());
        self.bytes[BASE_SEQUENCE_AT..COUNT_AT].copy_from_slice(&base_sequence.to_be_bytes());
        self.seal();
    }

    fn seal(&mut self) {
        self.crc = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&self.crc.to_be_bytes());
    }
}

/// Words in no order: compresses about as well as log lines do.
struct Text(u64);

impl Text {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes + 16);
        while text.len() < bytes {
            // 4,096 words of 3 to 10 letters.
            let mut word = Text(self.next() % 4096);
            let letters = 3 + word.next() % 8;
            text.extend((0..letters).map(|_| b'a' + (word.next() % 26) as u8));
            text.push(b' ');
        }
        text.truncate(bytes);
        text
    }
}

fn put_record(out: &mut Vec<u8>, offset_delta: u32, value: &[u8]) {
    let mut body = Vec::with_capacity(value.len() + 16);
    body.push(0);
    put_varint(&mut body, 0);
    put_varint(&mut body, i64::from(offset_delta));
    put_varint(&mut body, -1);
    put_varint(&mut body, value.len() as i64);
    body.extend_from_slice(value);
    put_varint(&mut body, 0);
    put_varint(out, body.len() as i64);
    out.extend_from_slice(&body);
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn compress(codec: Codec, payload: &[u8]) -> Result<Vec<u8>> {
    Ok(match codec {
        Codec::None => payload.to_vec(),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(payload)?;
            encoder.finish()?
        }
        Codec::Snappy => {
            // The framing of snappy-java, which Java's client writes.
            let mut out = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
            for block in payload.chunks(32 * 1024) {
                let packed = snap::raw::Encoder::new().compress_vec(block)?;
                out.extend(i32::try_from(packed.len())?.to_be_bytes());
                out.extend(packed);
            }
            out
        }
        Codec::Lz4 => {
            let mut encoder = lz4::EncoderBuilder::new()
                .block_mode(lz4::BlockMode::Independent)
                .checksum(lz4::ContentChecksum::NoChecksum)
                .build(Vec::new())?;
            encoder.write_all(payload)?;
            let (out, finished) = encoder.finish();
            finished?;
            out
        }
        Codec::Zstd => zstd::encode_all(payload, 3)?,
    })
}

/// What was sent to, or read from, a partition or several: equal when nothing was lost, doubled,
/// changed or misplaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub batches: u64,
    pub records: u64,
    /// Of whole batches.
    pub bytes: u64,
    checksum: u64,
}

impl Totals {
    pub fn add(&mut self, partition: i32, records: u32, bytes: usize, crc: u32) {
        self.batches += 1;
        self.records += u64::from(records);
        self.bytes += bytes as u64;
        let weight = 2 * partition as u64 + 1;
        self.checksum = self
            .checksum
            .wrapping_add(u64::from(crc).wrapping_mul(weight));
    }

    pub fn merge(&mut self, other: &Self) {
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

/// Walks the whole batches at the head of `records`, which begin at `next_offset`, checks each CRC
/// and that no offset is missing, and adds them to `totals`. Answers the offset after them.
pub fn take_in(
    partition: i32,
    mut records: &[u8],
    mut next_offset: i64,
    totals: &mut Totals,
) -> Result<i64> {
    while let Some(batch) = whole_batch(records)? {
        records = &records[batch.len()..];
        let base_offset = i64_at(batch, 0);
        ensure!(batch[MAGIC_AT] == 2, "a batch of magic {}", batch[MAGIC_AT]);
        ensure!(
            base_offset == next_offset,
            "partition {partition}: a batch at offset {base_offset} where {next_offset} was due"
        );
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
        ensure!(
            crc.to_be_bytes() == batch[CRC_AT..ATTRIBUTES_AT],
            "partition {partition}: the batch at offset {base_offset} is corrupt"
        );
        let count = u32::try_from(i32_at(batch, COUNT_AT)).context("record count")?;
        next_offset += i64::from(i32_at(batch, LAST_OFFSET_DELTA_AT)) + 1;
        totals.add(partition, count, batch.len(), crc);
    }
    Ok(next_offset)
}

/// The batch at the head of `records`, if all of it is there.
fn whole_batch(records: &[u8]) -> Result<Option<&[u8]>> {
    if records.len() < HEADER {
        return Ok(None);
    }
    let Ok(length) = usize::try_from(i32_at(records, LENGTH_AT)) else {
        bail!("a batch of length {}", i32_at(records, LENGTH_AT));
    };
    ensure!(
        length >= HEADER - OVERHEAD,
        "a batch of {length} bytes after its length"
    );
    Ok(records.get(..OVERHEAD + length))
}

/// What the floor does with a batch it received: CRC, count, and the two fields a leader sets.
pub fn accept(batch: &mut [u8], base_offset: i64) -> Result<u32> {
    ensure!(batch.len() >= HEADER, "a batch of {} bytes", batch.len());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    ensure!(
        crc.to_be_bytes() == batch[CRC_AT..ATTRIBUTES_AT],
        "a corrupt batch"
    );
    batch[..LENGTH_AT].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&0_i32.to_be_bytes());
    u32::try_from(i32_at(batch, COUNT_AT)).context("record count")
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    (i64::from(i32_at(bytes, at)) << 32) | i64::from(i32_at(bytes, at + 4) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(batch: &Batch, base_offset: i64) -> Vec<u8> {
        let mut bytes = batch.bytes.clone();
        accept(&mut bytes, base_offset).unwrap();
        bytes
    }

    #[test]
    fn a_batch_fills_its_size_and_says_how_many_records_it_has() {
        for (batch_bytes, record_bytes) in [(16_384, 1024), (65_536, 100), (1 << 20, 1024)] {
            let batch = Batch::filled(batch_bytes, record_bytes, Codec::None, 1).unwrap();
            assert!(batch.bytes.len() <= batch_bytes);
            assert!(batch.bytes.len() + record_bytes + 16 > batch_bytes);
        }
        assert_eq!(Batch::filled(0, 100, Codec::None, 1).unwrap().records, 1);
    }

    #[test]
    fn codecs_with_entropy_coding_shrink_the_text() {
        let plain = Batch::filled(65_536, 1024, Codec::None, 1).unwrap();
        for codec in [Codec::Gzip, Codec::Zstd] {
            let packed = Batch::filled(65_536, 1024, codec, 1).unwrap();
            assert_eq!(packed.records, plain.records);
            assert!(
                packed.bytes.len() * 10 < plain.bytes.len() * 9,
                "{codec:?}: {}",
                packed.bytes.len()
            );
        }
    }

    #[test]
    fn what_is_read_back_adds_up_only_when_it_is_what_was_sent() {
        let batches: Vec<_> = (0..3)
            .map(|seed| Batch::filled(2000, 100, Codec::None, seed).unwrap())
            .collect();
        let mut sent = Totals::default();
        let mut stored = Vec::new();
        let mut offset = 0;
        for batch in &batches {
            sent.add(3, batch.records, batch.bytes.len(), batch.crc);
            stored.extend(numbered(batch, offset));
            offset += i64::from(batch.records);
        }
        let mut read = Totals::default();
        // What is cut at the end is left for the next fetch.
        let cut = stored.len() - 10;
        let next = take_in(3, &stored[..cut], 0, &mut read).unwrap();
        assert_eq!(next, offset - i64::from(batches[2].records));
        let last = stored.len() - batches[2].bytes.len();
        assert_eq!(
            take_in(3, &stored[last..], next, &mut read).unwrap(),
            offset
        );
        assert_eq!(read, sent);

        let mut elsewhere = Totals::default();
        take_in(4, &stored, 0, &mut elsewhere).unwrap();
        assert_ne!(elsewhere, sent);
        assert!(take_in(3, &stored, 1, &mut Totals::default()).is_err());
        let damaged = stored.len() - 1;
        stored[damaged] ^= 1;
        assert!(take_in(3, &stored, 0, &mut Totals::default()).is_err());
    }

    #[test]
    fn a_numbered_batch_has_the_crc_it_says() {
        let mut batch = Batch::filled(500, 100, Codec::None, 9).unwrap();
        batch.number(7, 1, 40);
        let mut totals = Totals::default();
        take_in(0, &batch.bytes, 0, &mut totals).unwrap();
        assert_eq!(totals.records, u64::from(batch.records));
    }
}
