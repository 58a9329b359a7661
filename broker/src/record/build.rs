//! Builds v2 batches: coordinators' records, up-conversion, our own producer.

use bytes::Bytes;

use super::compress::Codec;
use crate::types::{Millis, ProducerEpoch, ProducerId};

/// One record to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Milliseconds since the epoch.
    pub timestamp: Millis,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What the header says beside the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    pub codec: Codec,
    /// −1 for none.
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub transactional: bool,
    pub control: bool,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
        }
    }
}

/// Encodes one v2 batch with base offset 0, offset deltas 0..n−1 and leader epoch −1.
/// `records` must not be empty.
pub fn build_batch(records: &[NewRecord], options: &BatchOptions) -> Bytes {
    let _ = (records, options);
    todo!()
}
