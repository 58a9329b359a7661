//! What a group has committed: materialised offsets, commits on their way to the log, and offsets
//! of open transactions (the offset half of `GroupMetadata`).
//!
//! A commit becomes visible once its record is in the log. Of two commits of one partition the one
//! later in the log wins, whichever answer arrives first, so that a load replays the same.
//! Transactional commits wait under their producer until its marker.

use std::collections::HashSet;

use super::event::WriteId;
use crate::hash::HashMap;
use crate::types::{LeaderEpoch, Millis, Offset, ProducerId, TopicPartition};

/// A committed offset, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    pub offset: Offset,
    /// Epoch of the record before it, when the client knew it (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
    /// Empty when the client sent null.
    pub metadata: Box<str>,
    /// Milliseconds since the epoch.
    pub commit_timestamp: Millis,
    /// Set by OffsetCommit v2–4 with an explicit retention; then it alone decides.
    pub expire_timestamp: Option<Millis>,
}

/// A materialised commit and the offset of its record in `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Committed {
    record_offset: Offset,
    value: OffsetAndMetadata,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TransactionalCommit {
    /// `None` until its record is in the log.
    record_offset: Option<Offset>,
    write: WriteId,
    value: OffsetAndMetadata,
}

/// From when the retention counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionBase {
    /// Since the group became empty.
    Moment(Millis),
    /// Since each offset was committed.
    Commit,
}

/// The committed offsets of one group.
#[derive(Debug, Clone, Default)]
pub struct Offsets {
    committed: HashMap<TopicPartition, Committed>,
    /// The latest append on its way, per partition.
    pending: HashMap<TopicPartition, WriteId>,
    transactional: HashMap<ProducerId, HashMap<TopicPartition, TransactionalCommit>>,
}

impl Offsets {
    pub fn get(&self, partition: &TopicPartition) -> Option<&OffsetAndMetadata> {
        self.committed.get(partition).map(|entry| &entry.value)
    }

    pub fn committed_partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.committed.keys()
    }

    /// Number of materialised offsets.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// True when nothing is committed, on its way or in an open transaction.
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty() && self.transactional.is_empty()
    }

    /// True while a commit of this partition may still change what a fetch returns (KIP-447).
    pub fn is_unstable(&self, partition: &TopicPartition) -> bool {
        self.pending.contains_key(partition)
            || self
                .transactional
                .values()
                .any(|offsets| offsets.contains_key(partition))
    }

    pub(super) fn begin(
        &mut self,
        write: WriteId,
        partitions: impl Iterator<Item = TopicPartition>,
    ) {
        for partition in partitions {
            self.pending.insert(partition, write);
        }
    }

    /// The record is at `record_offset`. A partition deleted since then stays deleted.
    pub(super) fn finish(
        &mut self,
        write: WriteId,
        partition: &TopicPartition,
        value: OffsetAndMetadata,
        record_offset: Offset,
    ) {
        let Some(latest) = self.pending.get(partition) else {
            return;
        };
        if *latest == write {
            self.pending.remove(partition);
        }
        self.materialise(partition, value, record_offset);
    }

    pub(super) fn abandon(&mut self, write: WriteId, partition: &TopicPartition) {
        if self.pending.get(partition) == Some(&write) {
            self.pending.remove(partition);
        }
    }

    fn materialise(
        &mut self,
        partition: &TopicPartition,
        value: OffsetAndMetadata,
        record_offset: Offset,
    ) {
        let entry = Committed {
            record_offset,
            value,
        };
        match self.committed.get_mut(partition) {
            Some(known) if known.record_offset < record_offset => *known = entry,
            Some(_) => {}
            None => {
                self.committed.insert(partition.clone(), entry);
            }
        }
    }

    pub(super) fn begin_transactional(
        &mut self,
        producer: ProducerId,
        write: WriteId,
        offsets: impl Iterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) {
        let of_producer = self.transactional.entry(producer).or_default();
        for (partition, value) in offsets {
            of_producer.insert(
                partition,
                TransactionalCommit {
                    record_offset: None,
                    write,
                    value,
                },
            );
        }
    }

    pub(super) fn finish_transactional(
        &mut self,
        producer: ProducerId,
        write: WriteId,
        partition: &TopicPartition,
        record_offset: Offset,
    ) {
        if let Some(commit) = self
            .transactional
            .get_mut(&producer)
            .and_then(|offsets| offsets.get_mut(partition))
            && commit.write == write
        {
            commit.record_offset = Some(record_offset);
        }
    }

    pub(super) fn abandon_transactional(
        &mut self,
        producer: ProducerId,
        write: WriteId,
        partition: &TopicPartition,
    ) {
        if let Some(offsets) = self.transactional.get_mut(&producer) {
            if offsets
                .get(partition)
                .is_some_and(|commit| commit.write == write)
            {
                offsets.remove(partition);
            }
            if offsets.is_empty() {
                self.transactional.remove(&producer);
            }
        }
    }

    /// The marker of `producer` is written: its offsets count, or are dropped.
    pub(super) fn complete_transaction(&mut self, producer: ProducerId, committed: bool) {
        let Some(offsets) = self.transactional.remove(&producer) else {
            return;
        };
        if !committed {
            return;
        }
        for (partition, commit) in offsets {
            // One that never reached the log before the marker is not part of the transaction.
            if let Some(record_offset) = commit.record_offset {
                self.materialise(&partition, commit.value, record_offset);
            }
        }
    }

    /// Replays an offset record; `producer` for one of a transactional batch.
    pub(super) fn replay(
        &mut self,
        partition: TopicPartition,
        value: Option<OffsetAndMetadata>,
        record_offset: Offset,
        producer: Option<ProducerId>,
    ) {
        match (producer, value) {
            (None, Some(value)) => {
                self.committed.insert(
                    partition,
                    Committed {
                        record_offset,
                        value,
                    },
                );
            }
            (None, None) => {
                self.committed.remove(&partition);
            }
            (Some(producer), Some(value)) => {
                self.transactional.entry(producer).or_default().insert(
                    partition,
                    TransactionalCommit {
                        record_offset: Some(record_offset),
                        write: 0,
                        value,
                    },
                );
            }
            (Some(producer), None) => {
                if let Some(offsets) = self.transactional.get_mut(&producer) {
                    offsets.remove(&partition);
                    if offsets.is_empty() {
                        self.transactional.remove(&producer);
                    }
                }
            }
        }
    }

    /// Removes these partitions everywhere; returns those that need a tombstone, being in the log
    /// or on their way into it.
    pub(super) fn remove<'a>(
        &mut self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Vec<TopicPartition> {
        let mut removed = Vec::new();
        for partition in partitions {
            let was_pending = self.pending.remove(partition).is_some();
            for offsets in self.transactional.values_mut() {
                offsets.remove(partition);
            }
            let was_committed = self.committed.remove(partition).is_some();
            if was_pending || was_committed {
                removed.push(partition.clone());
            }
        }
        self.transactional.retain(|_, offsets| !offsets.is_empty());
        removed
    }

    pub(super) fn remove_all(&mut self) -> Vec<TopicPartition> {
        let mut all: HashSet<TopicPartition> = self.committed.keys().cloned().collect();
        all.extend(self.pending.keys().cloned());
        for offsets in self.transactional.values() {
            all.extend(offsets.keys().cloned());
        }
        self.remove(&all)
    }

    /// Removes what has expired. Partitions of `spared` topics and those with a commit on its way
    /// stay.
    pub(super) fn remove_expired(
        &mut self,
        now: Millis,
        retention_ms: Millis,
        base: RetentionBase,
        spared: Option<&HashSet<String>>,
    ) -> Vec<TopicPartition> {
        let pending = &self.pending;
        let expired: Vec<TopicPartition> = self
            .committed
            .iter()
            .filter(|(partition, entry)| {
                let is_spared = spared.is_some_and(|topics| topics.contains(&*partition.topic));
                let is_old = match entry.value.expire_timestamp {
                    Some(expire_timestamp) => now >= expire_timestamp,
                    None => {
                        let since = match base {
                            RetentionBase::Moment(moment) => moment,
                            RetentionBase::Commit => entry.value.commit_timestamp,
                        };
                        now.saturating_sub(since) >= retention_ms
                    }
                };
                is_old && !is_spared && !pending.contains_key(*partition)
            })
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in &expired {
            self.committed.remove(partition);
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(offset: Offset) -> OffsetAndMetadata {
        OffsetAndMetadata {
            offset,
            leader_epoch: None,
            metadata: "".into(),
            commit_timestamp: 100,
            expire_timestamp: None,
        }
    }

    fn partition(n: i32) -> TopicPartition {
        TopicPartition::new("t", n)
    }

    fn offset_of(offsets: &Offsets, n: i32) -> Option<Offset> {
        offsets.get(&partition(n)).map(|value| value.offset)
    }

    #[test]
    fn commit_counts_only_once_it_is_in_the_log() {
        let mut offsets = Offsets::default();
        offsets.begin(1, [partition(0)].into_iter());
        assert_eq!(offset_of(&offsets, 0), None);
        assert!(offsets.is_unstable(&partition(0)));
        offsets.finish(1, &partition(0), value(5), 10);
        assert_eq!(offset_of(&offsets, 0), Some(5));
        assert!(!offsets.is_unstable(&partition(0)));
    }

    #[test]
    fn the_later_record_wins_whichever_answer_comes_first() {
        let mut offsets = Offsets::default();
        offsets.begin(1, [partition(0)].into_iter());
        offsets.begin(2, [partition(0)].into_iter());
        offsets.finish(2, &partition(0), value(7), 11);
        assert!(!offsets.is_unstable(&partition(0)));
        offsets.begin(3, [partition(0)].into_iter());
        offsets.finish(1, &partition(0), value(5), 10);
        assert_eq!(offset_of(&offsets, 0), Some(7));
        assert!(offsets.is_unstable(&partition(0)), "3 is still on its way");
        offsets.abandon(3, &partition(0));
        assert!(!offsets.is_unstable(&partition(0)));
    }

    #[test]
    fn commit_of_a_partition_deleted_meanwhile_does_not_come_back() {
        let mut offsets = Offsets::default();
        offsets.begin(1, [partition(0)].into_iter());
        assert_eq!(offsets.remove(&[partition(0)]), vec![partition(0)]);
        offsets.finish(1, &partition(0), value(5), 10);
        assert_eq!(offset_of(&offsets, 0), None);
        assert!(offsets.is_empty());
    }

    #[test]
    fn transactional_offsets_wait_for_the_marker() {
        let mut offsets = Offsets::default();
        for (producer, committed) in [(1, true), (2, false)] {
            let n = i32::try_from(producer).unwrap();
            offsets.begin_transactional(producer, 9, [(partition(n), value(5))].into_iter());
            offsets.finish_transactional(producer, 9, &partition(n), 20);
            assert!(offsets.is_unstable(&partition(n)));
            assert_eq!(offset_of(&offsets, n), None);
            offsets.complete_transaction(producer, committed);
            assert!(!offsets.is_unstable(&partition(n)));
        }
        assert_eq!(offset_of(&offsets, 1), Some(5));
        assert_eq!(offset_of(&offsets, 2), None);
    }

    #[test]
    fn an_older_transactional_commit_does_not_replace_a_newer_plain_one() {
        let mut offsets = Offsets::default();
        offsets.replay(partition(0), Some(value(5)), 10, Some(1));
        offsets.replay(partition(0), Some(value(6)), 11, None);
        offsets.complete_transaction(1, true);
        assert_eq!(offset_of(&offsets, 0), Some(6));
    }

    #[test]
    fn expiry_follows_base_explicit_timestamp_and_subscription() {
        let at = |now, base, spared: Option<&HashSet<String>>, value: OffsetAndMetadata| {
            let mut offsets = Offsets::default();
            offsets.replay(partition(0), Some(value), 1, None);
            !offsets.remove_expired(now, 50, base, spared).is_empty()
        };
        let subscribed = HashSet::from(["t".to_owned()]);
        let explicit = OffsetAndMetadata {
            expire_timestamp: Some(400),
            ..value(1)
        };
        let cases = [
            (149, RetentionBase::Commit, None, value(1), false),
            (150, RetentionBase::Commit, None, value(1), true),
            (
                150,
                RetentionBase::Commit,
                Some(&subscribed),
                value(1),
                false,
            ),
            (150, RetentionBase::Moment(101), None, value(1), false),
            (151, RetentionBase::Moment(101), None, value(1), true),
            (399, RetentionBase::Moment(0), None, explicit.clone(), false),
            (400, RetentionBase::Moment(399), None, explicit, true),
        ];
        for (index, (now, base, spared, value, expected)) in cases.into_iter().enumerate() {
            assert_eq!(at(now, base, spared, value), expected, "case {index}");
        }
        let mut offsets = Offsets::default();
        offsets.replay(partition(0), Some(value(1)), 1, None);
        offsets.begin(1, [partition(0)].into_iter());
        assert!(
            offsets
                .remove_expired(1_000, 50, RetentionBase::Commit, None)
                .is_empty(),
            "a commit is on its way"
        );
    }
}
