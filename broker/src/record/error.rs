//! What can be wrong with batches and records. The texts follow Kafka's exceptions, which reach
//! its broker log; clients see the code.

use crate::error::{ErrorCode, KafkaCode};

/// A batch or record that cannot be read, or not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Record size {size} is less than the minimum record overhead (14)")]
    SizeTooSmall { size: i32 },
    #[error("Invalid magic found in record: {magic}")]
    InvalidMagic { magic: i8 },
    #[error(
        "Record batch is corrupt (the size {size} is smaller than the minimum allowed overhead {overhead})"
    )]
    BelowOverhead { size: usize, overhead: usize },
    #[error("Record is corrupt (stored crc = {stored}, computed crc = {computed})")]
    CrcMismatch { stored: u32, computed: u32 },
    #[error("Unknown compression type id: {id}")]
    UnknownCodec { id: u8 },
    #[error("Found invalid record count {count} in magic v2 batch")]
    InvalidCount { count: i32 },
    #[error(
        "Invalid record size: expected {expected} bytes in record payload, but the batch has only {remaining} left"
    )]
    RecordCut { expected: i64, remaining: usize },
    #[error(
        "Invalid record size: expected to read {expected} bytes in record payload, but instead read {read}"
    )]
    RecordLength { expected: usize, read: usize },
    #[error("Found invalid record structure in record {index}")]
    RecordStructure { index: i32 },
    #[error(
        "Found invalid number of record headers {count} with {remaining} bytes left in the record"
    )]
    HeaderCount { count: i32, remaining: usize },
    #[error("Incorrect declared batch size, premature EOF reached after {read} of {count} records")]
    PrematureEnd { read: i32, count: i32 },
    #[error("Incorrect declared batch size, records still remaining after the {count} declared")]
    RecordsRemaining { count: i32 },
    #[error("offset {base} plus delta {delta} leaves the range of offsets")]
    OffsetOverflow { base: i64, delta: i64 },
    #[error("timestamp {base} plus delta {delta} leaves the range of timestamps")]
    TimestampOverflow { base: i64, delta: i64 },
    #[error("Invalid negative timestamp {timestamp}")]
    NegativeTimestamp { timestamp: i64 },
    #[error("Failed to decompress record stream ({codec}): {reason}")]
    Decompress { codec: &'static str, reason: String },
    #[error(
        "a record of {size} bytes, unpacked, exceeds the limit of {limit} bytes (socket.request.max.bytes)"
    )]
    RecordTooLarge { size: u64, limit: u64 },
    #[error("the batch unpacks to more than {limit} bytes")]
    BatchTooLarge { limit: u64 },
    #[error("Failed to compress record stream ({codec}): {reason}")]
    Compress { codec: &'static str, reason: String },
    #[error("Found invalid compressed record set with null value (magic = {magic})")]
    NullWrapper { magic: i8 },
    #[error("Found invalid compressed record set with no inner records")]
    EmptyWrapper,
    #[error("Inner messages must not be compressed")]
    NestedWrapper,
    #[error("Inner message of magic {magic} in a wrapper of magic {wrapper}")]
    InnerMagic { magic: i8, wrapper: i8 },
    #[error(
        "Found invalid wrapper offset in compressed v1 message set, wrapper offset '{wrapper}' is less than the last inner message offset '{inner}' and it is not zero."
    )]
    WrapperOffset { wrapper: i64, inner: i64 },
    #[error("Down-conversion of zstandard-compressed batches is not supported")]
    ZstdDownConversion,
    #[error("Invalid control record: {reason}")]
    ControlRecord { reason: &'static str },
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::SizeTooSmall { .. }
            | Self::InvalidMagic { .. }
            | Self::BelowOverhead { .. }
            | Self::CrcMismatch { .. } => ErrorCode::CorruptMessage,
            Self::UnknownCodec { .. }
            | Self::InvalidCount { .. }
            | Self::RecordCut { .. }
            | Self::RecordLength { .. }
            | Self::RecordStructure { .. }
            | Self::HeaderCount { .. }
            | Self::PrematureEnd { .. }
            | Self::RecordsRemaining { .. }
            | Self::OffsetOverflow { .. }
            | Self::NullWrapper { .. }
            | Self::EmptyWrapper
            | Self::NestedWrapper
            | Self::InnerMagic { .. }
            | Self::WrapperOffset { .. }
            | Self::ControlRecord { .. }
            // Kafka answers UNKNOWN_SERVER_ERROR to a stream that does not unpack; the client is
            // at fault, and sending it again will not help.
            | Self::Decompress { .. } => ErrorCode::InvalidRecord,
            Self::TimestampOverflow { .. } | Self::NegativeTimestamp { .. } => {
                ErrorCode::InvalidTimestamp
            }
            Self::RecordTooLarge { .. } | Self::BatchTooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Compress { .. } => ErrorCode::UnknownServerError,
            Self::ZstdDownConversion => ErrorCode::UnsupportedCompressionType,
        }
    }
}
