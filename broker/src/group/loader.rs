//! Rebuilds groups from the batches of one `__consumer_offsets` partition
//! (`GroupMetadataManager.doLoadGroupsAndOffsets`). Fed with bytes; reads no file.
//!
//! Records that cannot be read are logged and skipped: the value before them stays, which is
//! better than an offset that falls back to nothing. A batch that cannot be read ends the load.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::event::{Now, Settings};
use super::group::Group;
use super::record::Record;
use crate::record::batch::BatchIter;
use crate::record::compress::Limits;
use crate::record::control::{ControlType, EndTxn};
use crate::record::records::for_each_record;
use crate::types::{Offset, ProducerId};

/// Why a stretch of the log could not be replayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("offset {offset}: {source}")]
    Batch {
        offset: Offset,
        source: crate::record::Error,
    },
    #[error("{source}")]
    Record {
        #[from]
        source: crate::record::Error,
    },
}

/// A load under way.
pub(super) struct Loader {
    settings: Arc<Settings>,
    now: Now,
    groups: HashMap<Arc<str>, Group>,
    /// Groups with offsets in an open transaction, by producer.
    open: HashMap<ProducerId, BTreeSet<Arc<str>>>,
    next_offset: Offset,
    skipped: u64,
}

impl Loader {
    pub(super) fn new(settings: Arc<Settings>, now: Now, start: Offset) -> Self {
        Self {
            settings,
            now,
            groups: HashMap::new(),
            open: HashMap::new(),
            next_offset: start,
            skipped: 0,
        }
    }

    /// The offset after the last batch that was replayed.
    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Replays whole batches from the front of `bytes`; a torn one at the end is left.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let limits = Limits::STORED;
        for frame in BatchIter::new(bytes) {
            let at = |source| Error::Batch {
                offset: self.next_offset,
                source,
            };
            let frame = frame.map_err(at)?;
            frame.ensure_valid().map_err(at)?;
            let last_offset = frame.last_offset().map_err(at)?;
            if last_offset < self.next_offset {
                continue;
            }
            let header = if frame.prefix.magic == 2 {
                Some(*frame.batch().map_err(at)?.header())
            } else {
                None
            };
            let is_control = header.is_some_and(|header| header.is_control());
            let producer = header
                .filter(|header| header.is_transactional() || is_control)
                .map(|header| header.producer_id);
            for_each_record(&frame, &limits, |record| {
                if is_control {
                    if let (Some(producer), Ok(ControlType::EndTxn(end))) =
                        (producer, ControlType::parse(record.key))
                    {
                        self.marker(producer, end == EndTxn::Commit);
                    }
                } else {
                    self.record(record.offset, record.key, record.value, producer);
                }
                Ok::<(), Error>(())
            })?;
            self.next_offset = last_offset + 1;
        }
        Ok(())
    }

    fn record(
        &mut self,
        offset: Offset,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        producer: Option<ProducerId>,
    ) {
        let record = match Record::decode(key, value) {
            Ok(Record::Unknown { key_version }) => {
                tracing::warn!(
                    target: super::LOG,
                    "Unknown message key with version {key_version} while loading offsets and \
                     group metadata, at offset {offset}. Ignoring it. It could be a left over \
                     from an aborted upgrade."
                );
                return;
            }
            Ok(record) => record,
            Err(error) => {
                self.skipped += 1;
                tracing::error!(
                    target: super::LOG,
                    "Skipping a record at offset {offset} while loading offsets and group \
                     metadata: {error}"
                );
                return;
            }
        };
        let (Record::Offset { group: id, .. } | Record::Group { group: id, .. }) = &record else {
            return;
        };
        if let (Some(producer), Record::Offset { .. }) = (producer, &record) {
            self.open.entry(producer).or_default().insert(id.clone());
        }
        self.groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id, Arc::clone(&self.settings), self.now))
            .replay(record, offset, producer);
    }

    fn marker(&mut self, producer: ProducerId, committed: bool) {
        for id in self.open.remove(&producer).unwrap_or_default() {
            if let Some(group) = self.groups.get_mut(&id) {
                group.replay_marker(producer, committed);
            }
        }
    }

    /// The groups of the partition; those that were deleted are not among them.
    pub(super) fn finish(self) -> Vec<Group> {
        self.groups
            .into_values()
            .filter(|group| !group.is_blank())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::offsets::OffsetAndMetadata;
    use super::super::record::GroupValue;
    use super::*;
    use crate::record::build::{BatchOptions, NewRecord, build_batch};
    use crate::record::control::end_txn_marker;
    use crate::types::TopicPartition;

    fn loader() -> Loader {
        let now = Now { wall: 5, steady: 0 };
        Loader::new(Arc::new(Settings::default()), now, 0)
    }

    fn offset_record(group: &str, offset: Option<Offset>) -> Record {
        Record::Offset {
            group: group.into(),
            partition: TopicPartition::new("t", 0),
            value: offset.map(|offset| OffsetAndMetadata {
                offset,
                leader_epoch: None,
                metadata: "".into(),
                commit_timestamp: 1,
                expire_timestamp: None,
            }),
        }
    }

    fn batch(base_offset: Offset, records: &[Record], producer: Option<ProducerId>) -> Bytes {
        let records: Vec<NewRecord> = records
            .iter()
            .map(|record| NewRecord {
                timestamp: 1,
                key: Some(record.encode_key().unwrap().into()),
                value: record.encode_value().unwrap().map(Bytes::from),
                headers: Vec::new(),
            })
            .collect();
        let options = BatchOptions {
            producer_id: producer.unwrap_or(-1),
            producer_epoch: if producer.is_some() { 0 } else { -1 },
            base_sequence: if producer.is_some() { 0 } else { -1 },
            transactional: producer.is_some(),
            ..BatchOptions::default()
        };
        placed(build_batch(&records, &options), base_offset)
    }

    fn placed(bytes: Bytes, base_offset: Offset) -> Bytes {
        let mut bytes = bytes.to_vec();
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes.into()
    }

    fn committed(loader: Loader, group: &str) -> Option<Offset> {
        let groups = loader.finish();
        let group = groups.iter().find(|it| &**it.id() == group)?;
        match &group.fetch(Some(&[TopicPartition::new("t", 0)]), false)[0].1 {
            super::super::group::Fetched::Committed(value) => Some(value.offset),
            _ => None,
        }
    }

    #[test]
    fn later_records_win_and_tombstones_delete() {
        let mut loading = loader();
        loading
            .feed(&batch(
                0,
                &[offset_record("a", Some(1)), offset_record("b", Some(1))],
                None,
            ))
            .unwrap();
        loading
            .feed(&batch(
                2,
                &[offset_record("a", Some(2)), offset_record("b", None)],
                None,
            ))
            .unwrap();
        assert_eq!(loading.next_offset(), 4);
        assert_eq!(committed(loading, "a"), Some(2));
    }

    #[test]
    fn deleted_groups_are_not_loaded() {
        let mut loading = loader();
        let group = |value| Record::Group {
            group: "a".into(),
            value,
        };
        let written = GroupValue {
            generation: 4,
            protocol_type: "consumer".into(),
            ..GroupValue::default()
        };
        loading
            .feed(&batch(0, &[group(Some(written)), group(None)], None))
            .unwrap();
        assert!(loading.finish().is_empty());
    }

    #[test]
    fn transactional_offsets_follow_their_marker() {
        for (marker, expected) in [
            (Some(EndTxn::Commit), Some(7)),
            (Some(EndTxn::Abort), Some(1)),
            (None, Some(1)),
        ] {
            let mut loading = loader();
            loading
                .feed(&batch(0, &[offset_record("a", Some(1))], None))
                .unwrap();
            loading
                .feed(&batch(1, &[offset_record("a", Some(7))], Some(42)))
                .unwrap();
            if let Some(end) = marker {
                let bytes = end_txn_marker(42, 0, end, 0, 9);
                loading.feed(&placed(bytes, 2)).unwrap();
            }
            assert_eq!(committed(loading, "a"), expected, "{marker:?}");
        }
    }

    #[test]
    fn records_nobody_can_read_are_skipped_and_the_value_before_stays() {
        let mut loading = loader();
        loading
            .feed(&batch(0, &[offset_record("a", Some(1))], None))
            .unwrap();
        let key = offset_record("a", None).encode_key().unwrap();
        let odd = [
            NewRecord {
                key: Some(key.into()),
                value: Some(Bytes::from_static(&[0, 9, 9])),
                ..NewRecord::default()
            },
            NewRecord {
                key: Some(Bytes::from_static(&[0, 8, 1])),
                value: Some(Bytes::from_static(b"KIP-848")),
                ..NewRecord::default()
            },
            NewRecord::default(),
        ];
        let bytes = build_batch(&odd, &BatchOptions::default());
        loading.feed(&placed(bytes, 1)).unwrap();
        assert_eq!(loading.skipped, 2);
        assert_eq!(loading.next_offset(), 4);
        assert_eq!(committed(loading, "a"), Some(1));
    }

    #[test]
    fn a_corrupt_batch_ends_the_load() {
        let mut bytes = batch(0, &[offset_record("a", Some(1))], None).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(matches!(
            loader().feed(&bytes),
            Err(Error::Batch { offset: 0, .. })
        ));
    }

    #[test]
    fn a_torn_batch_is_left_for_the_next_read() {
        let bytes = batch(0, &[offset_record("a", Some(1))], None);
        let mut loading = loader();
        loading.feed(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(loading.next_offset(), 0);
    }
}
