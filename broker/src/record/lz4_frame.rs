//! The frame header of lz4 as Kafka's magic-0 clients wrote it: its checksum byte was computed over
//! the four magic bytes too. Readers of magic 0 ignore the byte, writers repeat the mistake
//! (`Lz4BlockOutputStream`, `useBrokenFlagDescriptorChecksum`).
//!
//! Header: magic `04 22 4d 18`, FLG, BD, content size (8 bytes if FLG bit 3), checksum byte: the
//! second byte of the xxHash-32 of FLG up to the checksum.

const MAGIC_LEN: usize = 4;

/// A copy of the header with the right checksum, and what follows it. A header that is no lz4 frame
/// comes back untouched, for the decoder to refuse.
pub(super) fn mend_header(frame: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(checksum_at) = checksum_position(frame) else {
        return (Vec::new(), frame);
    };
    let mut head = frame[..=checksum_at].to_vec();
    head[checksum_at] = checksum(&frame[MAGIC_LEN..checksum_at]);
    (head, &frame[checksum_at + 1..])
}

/// Puts the wrong checksum of magic 0 into a frame.
pub(super) fn break_header(frame: &mut [u8]) {
    if let Some(checksum_at) = checksum_position(frame) {
        frame[checksum_at] = checksum(&frame[..checksum_at]);
    }
}

fn checksum_position(frame: &[u8]) -> Option<usize> {
    let flags = *frame.get(MAGIC_LEN)?;
    let at = if flags & 0x08 == 0 { 6 } else { 14 };
    (at < frame.len()).then_some(at)
}

fn checksum(bytes: &[u8]) -> u8 {
    (xxh32_short(bytes) >> 8) as u8
}

/// xxHash-32 with seed 0 of fewer than 16 bytes, which is all a frame header has.
fn xxh32_short(bytes: &[u8]) -> u32 {
    const PRIME_1: u32 = 0x9e37_79b1;
    const PRIME_2: u32 = 0x85eb_ca77;
    const PRIME_3: u32 = 0xc2b2_ae3d;
    const PRIME_4: u32 = 0x27d4_eb2f;
    const PRIME_5: u32 = 0x1656_67b1;
    debug_assert!(bytes.len() < 16);
    let mut hash = PRIME_5.wrapping_add(bytes.len() as u32);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        hash = hash
            .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3))
            .rotate_left(17)
            .wrapping_mul(PRIME_4);
    }
    for &byte in rest {
        hash = hash
            .wrapping_add(u32::from(byte).wrapping_mul(PRIME_5))
            .rotate_left(11)
            .wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FLG 0x60 (version 1, independent blocks), BD 0x40 (64 KiB): Java's frames start so.
    const JAVA_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];

    #[test]
    fn checksum_matches_a_known_header() {
        assert_eq!(checksum(&JAVA_HEADER[4..6]), JAVA_HEADER[6]);
    }

    #[test]
    fn a_broken_header_is_mended() {
        let mut frame = JAVA_HEADER.to_vec();
        break_header(&mut frame);
        assert_ne!(frame, JAVA_HEADER);
        assert_eq!(mend_header(&frame).0, JAVA_HEADER);
    }

    #[test]
    fn short_frames_are_left_alone() {
        for len in 0..6 {
            assert_eq!(
                mend_header(&JAVA_HEADER[..len]),
                (vec![], &JAVA_HEADER[..len])
            );
        }
    }
}
