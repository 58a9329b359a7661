//! Control batches: the markers that end a transaction in each of its partitions.
//!
//! Key: int16 version 0, int16 type. Value of a marker: int16 version 0, int32 coordinator epoch.
//! The batch is transactional and control, uncompressed, has one record and no sequence.
//! Sources: `ControlRecordType`, `EndTransactionMarker`.

use bytes::Bytes;

use super::Error;
use super::build::{BatchOptions, NewRecord, build_batch};
use super::varint::Cursor;
use crate::types::{Millis, ProducerEpoch, ProducerId};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndTxn {
    Abort,
    Commit,
}

/// A control record's type (bytes 2–3 of its key); types we do not know are kept by number, as
/// consumers skip them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    EndTxn(EndTxn),
    LeaderChange,
    Unknown(i16),
}

impl ControlType {
    /// Reads a control record's key.
    pub fn parse(key: Option<&[u8]>) -> Result<Self, Error> {
        let mut cursor = Cursor::new(key.unwrap_or_default());
        let (Some(version), Some(id)) = (cursor.i16(), cursor.i16()) else {
            return Err(Error::ControlRecord {
                reason: "the key has fewer than 4 bytes",
            });
        };
        if version < 0 {
            return Err(Error::ControlRecord {
                reason: "the key's version is negative",
            });
        }
        Ok(match id {
            0 => Self::EndTxn(EndTxn::Abort),
            1 => Self::EndTxn(EndTxn::Commit),
            2 => Self::LeaderChange,
            id => Self::Unknown(id),
        })
    }
}

/// The coordinator epoch in the value of a marker.
pub fn marker_coordinator_epoch(value: Option<&[u8]>) -> Result<i32, Error> {
    let mut cursor = Cursor::new(value.unwrap_or_default());
    let (Some(version), Some(epoch)) = (cursor.i16(), cursor.i32()) else {
        return Err(Error::ControlRecord {
            reason: "the marker's value has fewer than 6 bytes",
        });
    };
    if version < 0 {
        return Err(Error::ControlRecord {
            reason: "the marker's version is negative",
        });
    }
    Ok(epoch)
}

/// The batch that ends a transaction.
pub fn end_txn_marker(
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    end: EndTxn,
    coordinator_epoch: i32,
    now: Millis,
) -> Bytes {
    let id: i16 = match end {
        EndTxn::Abort => 0,
        EndTxn::Commit => 1,
    };
    let mut key = vec![0, 0];
    key.extend_from_slice(&id.to_be_bytes());
    let mut value = vec![0, 0];
    value.extend_from_slice(&coordinator_epoch.to_be_bytes());
    let record = NewRecord {
        timestamp: now,
        key: Some(Bytes::from(key)),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    };
    build_batch(
        &[record],
        &BatchOptions {
            producer_id,
            producer_epoch,
            transactional: true,
            control: true,
            ..BatchOptions::default()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch::Batch;
    use crate::record::compress::Limits;
    use crate::record::records::Records;

    #[test]
    fn a_marker_reads_back() {
        for (end, kind) in [(EndTxn::Abort, 0), (EndTxn::Commit, 1)] {
            let bytes = end_txn_marker(7, 3, end, 5, 1234);
            let batch = Batch::parse(&bytes).unwrap();
            batch.ensure_valid().unwrap();
            let header = batch.header();
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
            assert_eq!((header.base_sequence, header.last_sequence()), (-1, -1));
            let mut records = Records::new(&batch, &Limits::STORED).unwrap();
            let record = records.next().unwrap().unwrap();
            assert_eq!(record.key, Some(&[0, 0, 0, kind][..]));
            assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 5][..]));
            assert_eq!(ControlType::parse(record.key), Ok(ControlType::EndTxn(end)));
            assert_eq!(marker_coordinator_epoch(record.value), Ok(5));
            assert!(records.next().unwrap().is_none());
        }
    }

    #[test]
    fn short_keys_and_values_are_refused() {
        assert!(ControlType::parse(None).is_err());
        assert!(ControlType::parse(Some(&[0, 0, 0])).is_err());
        assert!(marker_coordinator_epoch(Some(&[0; 5])).is_err());
        assert_eq!(
            ControlType::parse(Some(&[0, 0, 0, 9])),
            Ok(ControlType::Unknown(9))
        );
    }
}
