//! Where a follower cuts its log so that it is a prefix of the leader's (KIP-101, KIP-279). [core]
//!
//! The leader says where an epoch of the follower ended in *its* log: with OffsetForLeaderEpoch, or
//! as `diverging_epoch` of a Fetch. The follower never cuts by its own high watermark unless the
//! leader knows nothing of its epochs.
//!
//! Source: `AbstractFetcherThread.getOffsetTruncationState`; contract §4.2.

use crate::log::EpochEndOffset;
use crate::types::{LeaderEpoch, Offset};

/// The follower's own end, as far as the decision needs it.
#[derive(Debug, Clone, Copy)]
pub struct Follower {
    /// From where it fetches: its high watermark while it knows no epoch.
    pub fetch_offset: Offset,
    pub log_end_offset: Offset,
}

/// Everything at or beyond the answer goes; it is not above the LEO. `leader` is what the leader said,
/// `local_end_of` the follower's own [`crate::log::Log::end_offset_for_epoch`].
///
/// One cut may not be enough: the next fetch names the epoch that is the follower's last then, and the
/// leader asks for the next cut.
pub fn truncation(
    follower: Follower,
    leader: EpochEndOffset,
    local_end_of: impl FnOnce(LeaderEpoch) -> EpochEndOffset,
) -> Offset {
    let offset = if leader.end_offset < 0 {
        follower.fetch_offset
    } else if leader.epoch < 0 {
        leader.end_offset
    } else {
        let local = local_end_of(leader.epoch);
        if local.end_offset < 0 {
            // The follower tracked no epoch that old.
            leader.end_offset
        } else if local.epoch == leader.epoch {
            leader.end_offset.min(local.end_offset)
        } else {
            // The leader answered with an epoch that the follower does not have.
            local.end_offset
        }
    };
    offset.min(follower.log_end_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A follower with epochs 2 (from 0) and 4 (from 10), LEO 20, high watermark 5.
    fn check(leader: (LeaderEpoch, Offset), expect: Offset) {
        let follower = Follower {
            fetch_offset: 5,
            log_end_offset: 20,
        };
        let leader = EpochEndOffset {
            epoch: leader.0,
            end_offset: leader.1,
        };
        let cut = truncation(follower, leader, |epoch| match epoch {
            4 => EpochEndOffset {
                epoch: 4,
                end_offset: 20,
            },
            2 | 3 => EpochEndOffset {
                epoch: 2,
                end_offset: 10,
            },
            0 | 1 => EpochEndOffset {
                epoch,
                end_offset: 0,
            },
            _ => EpochEndOffset {
                epoch: -1,
                end_offset: -1,
            },
        });
        assert_eq!(cut, expect, "leader {leader:?}");
    }

    #[test]
    fn cut_is_where_the_common_epoch_ends_in_both_logs() {
        check((4, 15), 15);
        check((4, 30), 20);
        check((2, 30), 10);
        check((2, 7), 7);
    }

    #[test]
    fn an_epoch_the_follower_lacks_cuts_to_the_one_before() {
        check((3, 12), 10);
    }

    #[test]
    fn without_a_usable_answer_the_cut_is_at_the_high_watermark_or_the_leaders_offset() {
        check((-1, -1), 5);
        check((-1, 12), 12);
        check((-1, 50), 20);
        check((9, 50), 20);
    }
}
