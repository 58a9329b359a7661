//! A record batch (magic 2) as bytes, without a copy. Layout: batch header of 61 bytes, contract §5.4.

/// Bytes of a v2 batch header.
pub const HEADER_LEN: usize = 61;

/// The header fields of a v2 batch, copied out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after this field; the whole batch is 12 longer.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}
