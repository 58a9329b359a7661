//! Where a follower cuts its log so that it is a prefix of the leader's (KIP-101, KIP-279). [core]
//!
//! The leader says where an epoch of the follower ended in *its* log: with OffsetForLeaderEpoch, or
//! as `diverging_epoch` of a Fetch. The follower never cuts by its own high watermark unless the
//! leader knows nothing of its epochs.
//!
//! Source: `AbstractFetcherThread.getOffsetTruncationState`; contract §4.2.

use crate::error::ErrorCode;
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

/// What a follower says of the end of its log in a Fetch.
#[derive(Debug, Clone, Copy)]
pub struct Fetching {
    pub fetch_offset: Offset,
    pub last_fetched_epoch: LeaderEpoch,
}

/// On the leader: where the follower's log parts from ours, if it does. `end` is our end offset for
/// the epoch the follower fetched last; OFFSET_OUT_OF_RANGE when we cannot tell.
pub fn divergence(
    fetching: Fetching,
    end: EpochEndOffset,
    log_start_offset: Offset,
) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if end.end_offset == -1 || end.epoch == -1 || fetching.fetch_offset < log_start_offset {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let is_diverging =
        end.epoch < fetching.last_fetched_epoch || end.end_offset < fetching.fetch_offset;
    Ok(is_diverging.then_some(end))
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
    fn a_leader_finds_where_a_follower_parted() {
        // Our epoch 3 ended at 10, and the log starts at 2.
        let end = EpochEndOffset {
            epoch: 3,
            end_offset: 10,
        };
        for (fetch_offset, last_fetched_epoch, expect) in [
            (10, 3, Ok(None)),
            (7, 3, Ok(None)),
            (11, 3, Ok(Some(end))),
            (7, 4, Ok(Some(end))),
            (1, 3, Err(ErrorCode::OffsetOutOfRange)),
        ] {
            let fetching = Fetching {
                fetch_offset,
                last_fetched_epoch,
            };
            assert_eq!(divergence(fetching, end, 2), expect, "{fetching:?}");
        }
        let unknown = EpochEndOffset {
            epoch: -1,
            end_offset: -1,
        };
        let fetching = Fetching {
            fetch_offset: 7,
            last_fetched_epoch: 9,
        };
        assert_eq!(
            divergence(fetching, unknown, 2),
            Err(ErrorCode::OffsetOutOfRange)
        );
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
