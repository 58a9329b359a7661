//! Which leader epoch begins at which offset (`LeaderEpochFileCache`). [core]: the log writes it
//! through to `leader-epoch-checkpoint`.
//!
//! 1. Epochs and start offsets both increase strictly.
//! 2. No entry starts beyond the log end offset, and the first one covers the log start offset,
//!    once the log has truncated it to its bounds.
//!
//! An epoch that began but wrote nothing yet starts at the log end offset.

use crate::types::{LeaderEpoch, Offset};

use super::EpochEndOffset;

/// "No epoch" and "no offset" on the wire.
const UNDEFINED: EpochEndOffset = EpochEndOffset {
    epoch: -1,
    end_offset: -1,
};

/// Epoch and start offset, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// Takes what a checkpoint held; entries that break the order (keeps 1) give way to later ones.
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut epochs = Self::default();
        for (epoch, start) in entries {
            epochs.assign(epoch, start);
        }
        epochs
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Notes that `epoch` starts at `start`; returns whether anything changed. Entries that
    /// contradict it (same or later epoch, or same or later start) go.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch < 0 || start < 0 {
            return false;
        }
        if let Some(&(latest, latest_start)) = self.entries.last()
            && epoch == latest
            && start >= latest_start
        {
            return false;
        }
        while let Some(&(last, last_start)) = self.entries.last()
            && (last >= epoch || last_start >= start)
        {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|&(epoch, _)| epoch)
    }

    pub(crate) fn earliest(&self) -> Option<(LeaderEpoch, Offset)> {
        self.entries.first().copied()
    }

    pub(crate) fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|&(_, start)| start <= offset);
        after.checked_sub(1).map(|at| self.entries[at].0)
    }

    /// Where `epoch`, or the largest known epoch below it, ends. The latest epoch ends at the log
    /// end offset; an epoch older than all known ones ends where the first known one starts.
    pub(crate) fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> EpochEndOffset {
        if epoch == -1 {
            return UNDEFINED;
        }
        if self.latest() == Some(epoch) {
            return EpochEndOffset {
                epoch,
                end_offset: log_end_offset,
            };
        }
        let higher = self.entries.partition_point(|&(known, _)| known <= epoch);
        match (higher.checked_sub(1), self.entries.get(higher)) {
            (_, None) => UNDEFINED,
            (None, Some(&(_, end_offset))) => EpochEndOffset { epoch, end_offset },
            (Some(floor), Some(&(_, end_offset))) => EpochEndOffset {
                epoch: self.entries[floor].0,
                end_offset,
            },
        }
    }

    /// Forgets epochs that start at or beyond `end`; returns whether there were any.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|&(_, start)| start < end);
        self.entries.len() != before
    }

    /// Forgets epochs that ended at or before `start`; the one that covers `start` begins there
    /// from now on. Returns whether any entry was at or before `start`.
    pub(crate) fn truncate_from_start(&mut self, start: Offset) -> bool {
        let covered = self.entries.partition_point(|&(_, from)| from <= start);
        let Some(last) = covered.checked_sub(1) else {
            return false;
        };
        let changed = last > 0 || self.entries[last].1 != start;
        self.entries.drain(..last);
        self.entries[0].1 = start;
        changed
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(entries.iter().copied())
    }

    #[test]
    fn assign_keeps_both_columns_increasing() {
        let check = |given: &[(i32, i64)], expect: &[(i32, i64)]| {
            assert_eq!(epochs(given).entries(), expect, "{given:?}");
        };
        check(&[(1, 0), (2, 5)], &[(1, 0), (2, 5)]);
        check(&[(2, 5), (2, 9)], &[(2, 5)]);
        check(&[(2, 5), (2, 3)], &[(2, 3)]);
        check(&[(1, 0), (2, 5), (3, 5)], &[(1, 0), (3, 5)]);
        check(&[(1, 0), (5, 5), (3, 7)], &[(1, 0), (3, 7)]);
        check(&[(1, 0), (2, 5), (3, 9), (4, 4)], &[(1, 0), (4, 4)]);
        check(&[(-1, 0), (0, -1)], &[]);
    }

    #[test]
    fn end_offset_table() {
        let cache = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let check = |asked: i32, epoch: i32, end_offset: i64| {
            assert_eq!(
                cache.end_offset_for(asked, 42),
                EpochEndOffset { epoch, end_offset },
                "asked {asked}"
            );
        };
        check(-1, -1, -1);
        check(0, 0, 10);
        check(2, 2, 20);
        check(3, 2, 20);
        check(4, 4, 30);
        check(6, 4, 30);
        check(7, 7, 42);
        check(8, -1, -1);
        assert_eq!(epochs(&[]).end_offset_for(0, 42), UNDEFINED);
    }

    #[test]
    fn truncation_keeps_the_epoch_that_covers_the_bound() {
        let cache = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let mut from_start = cache.clone();
        assert!(from_start.truncate_from_start(25));
        assert_eq!(from_start.entries(), [(4, 25), (7, 30)]);
        assert!(!from_start.truncate_from_start(25));
        let mut from_end = cache.clone();
        assert!(from_end.truncate_from_end(30));
        assert_eq!(from_end.entries(), [(2, 10), (4, 20)]);
        assert!(!from_end.truncate_from_end(30));
        assert!(!epochs(&[(2, 10)]).truncate_from_start(9));
    }

    #[test]
    fn epoch_of_an_offset() {
        let cache = epochs(&[(2, 10), (4, 20)]);
        assert_eq!(cache.epoch_for_offset(9), None);
        assert_eq!(cache.epoch_for_offset(10), Some(2));
        assert_eq!(cache.epoch_for_offset(19), Some(2));
        assert_eq!(cache.epoch_for_offset(500), Some(4));
    }
}
