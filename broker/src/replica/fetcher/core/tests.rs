//! The core against leaders that are played by hand, over logs in memory.

use proptest::prelude::*;

use super::*;
use crate::replica::session::TopicKey;
use crate::replica::tests::memory::{MemoryLog, MemoryLogs};

const ID: Uuid = Uuid::from_u128(7);
const BACKOFF: Millis = 1000;

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

/// A fetcher over partitions 0, 1, … with logs of these epochs, all in leader epoch 5.
struct Case {
    fetcher: Fetcher,
    logs: MemoryLogs,
    now: Millis,
}

fn end(epoch: LeaderEpoch, end_offset: Offset) -> EpochEndOffset {
    EpochEndOffset { epoch, end_offset }
}

impl Case {
    fn new(logs: &[&[LeaderEpoch]]) -> Self {
        let mut case = Self {
            fetcher: Fetcher::new(Settings {
                backoff_ms: BACKOFF,
                max_bytes: 100,
                one_at_a_time: false,
            }),
            logs: MemoryLogs::default(),
            now: 0,
        };
        for (index, epochs) in (0..).zip(logs) {
            case.logs.0.insert(partition(index), MemoryLog::of(epochs));
            case.add(index, 5);
        }
        case
    }

    fn add(&mut self, index: i32, leader_epoch: LeaderEpoch) {
        let log = &self.logs.0[&partition(index)];
        let start = Start {
            topic_id: Some(ID),
            leader_epoch,
            fetch_offset: match log.epochs.latest() {
                Some(_) => log.end(),
                None => log.high_watermark,
            },
        };
        self.fetcher.add(partition(index), start, &self.logs);
    }

    fn log(&mut self, index: i32) -> &mut MemoryLog {
        self.logs.0.get_mut(&partition(index)).unwrap()
    }

    fn next(&mut self) -> Next {
        self.fetcher.next(self.now, &mut self.logs)
    }

    /// The offsets a Fetch asks for now, by partition.
    fn fetches(&mut self) -> Vec<(i32, Offset)> {
        match self.next() {
            Next::Ask(Ask::Fetch(ask)) => ask
                .partitions
                .iter()
                .map(|(partition, sent)| (partition.partition, sent.wanted.fetch_offset))
                .collect(),
            next => panic!("{next:?}"),
        }
    }

    fn answer(&mut self, answers: Vec<PartitionAnswer<'_>>) {
        // Without a session: every request is full.
        self.fetcher
            .on_fetched(self.now, ErrorCode::None, 0, answers, &mut self.logs);
    }

    fn idle_until(&mut self, until: Option<Millis>) {
        assert_eq!(self.next(), Next::Idle(until));
    }
}

fn nothing(index: i32) -> PartitionAnswer<'static> {
    PartitionAnswer {
        key: PartitionKey {
            topic: TopicKey::Id(ID),
            partition: index,
        },
        error: ErrorCode::None,
        diverging_epoch: None,
        data: LeaderData {
            records: &[],
            high_watermark: 0,
            log_start_offset: 0,
        },
    }
}

fn error(index: i32, error: ErrorCode) -> PartitionAnswer<'static> {
    PartitionAnswer {
        error,
        ..nothing(index)
    }
}

fn diverging(index: i32, at: EpochEndOffset) -> PartitionAnswer<'static> {
    PartitionAnswer {
        diverging_epoch: Some(at),
        data: LeaderData {
            high_watermark: 100,
            ..nothing(index).data
        },
        ..nothing(index)
    }
}

fn data(index: i32, records: &[u8], high_watermark: Offset) -> PartitionAnswer<'_> {
    PartitionAnswer {
        data: LeaderData {
            records,
            high_watermark,
            log_start_offset: 0,
        },
        ..nothing(index)
    }
}

#[test]
fn appended_records_move_the_offset_and_the_high_watermark() {
    let mut case = Case::new(&[&[1, 1]]);
    assert_eq!(case.fetches(), [(0, 2)]);
    let leader = MemoryLog::of(&[1, 1, 1, 5]);
    case.answer(vec![data(0, &leader.read(2, 9), 3)]);
    assert_eq!(case.log(0).high_watermark, 3);
    let Next::Ask(Ask::Fetch(ask)) = case.next() else {
        panic!("a fetch");
    };
    let wanted = ask.partitions[0].1.wanted;
    assert_eq!(
        (wanted.fetch_offset, wanted.last_fetched_epoch),
        (4, Some(5))
    );
    assert_eq!(wanted.current_leader_epoch, Some(5));
}

#[test]
fn the_high_watermark_is_at_most_the_end_and_never_goes_back() {
    let mut case = Case::new(&[&[1, 1]]);
    for (leaders, expect) in [(50, 2), (1, 2)] {
        case.fetches();
        case.answer(vec![data(0, &[], leaders)]);
        assert_eq!(case.log(0).high_watermark, expect);
    }
}

#[test]
fn a_diverging_epoch_cuts_and_raises_no_high_watermark() {
    let mut case = Case::new(&[&[1, 1, 3, 3]]);
    case.log(0).high_watermark = 1;
    case.fetches();
    // The leader has no epoch 3: its epoch 2 ended at 6. Ours: 1 ended at 2.
    case.answer(vec![diverging(0, end(2, 6))]);
    assert_eq!(case.log(0).high_watermark, 1);
    let Next::Ask(Ask::Fetch(ask)) = case.next() else {
        panic!("a fetch");
    };
    let wanted = ask.partitions[0].1.wanted;
    assert_eq!(
        (wanted.fetch_offset, wanted.last_fetched_epoch),
        (2, Some(1))
    );
    // Once more, now in a common epoch.
    case.answer(vec![diverging(0, end(1, 1))]);
    assert_eq!(case.log(0).end(), 1);
}

#[test]
fn a_log_without_epochs_is_cut_at_its_high_watermark() {
    let mut case = Case::new(&[&[-1, -1, -1]]);
    case.log(0).high_watermark = 2;
    case.add(0, 6);
    assert!(case.fetcher.may_truncate());
    assert_eq!(case.fetches(), [(0, 2)]);
    assert_eq!(case.log(0).end(), 2);
}

#[test]
fn an_epoch_learnt_before_the_cut_is_asked_for() {
    let mut case = Case::new(&[&[]]);
    case.log(0)
        .append(crate::replica::tests::memory::Entry { epoch: 2, value: 0 });
    let Next::Ask(Ask::EpochEnds(asks)) = case.next() else {
        panic!("a question");
    };
    assert_eq!((asks[0].epoch, asks[0].current_leader_epoch), (2, 5));
    let answer = (partition(0), Ok(end(2, 9)));
    case.fetcher.on_epoch_ends(0, [answer], &mut case.logs);
    assert_eq!(case.fetches(), [(0, 1)]);
}

#[test]
fn an_offset_out_of_range_is_sought_in_the_leaders_log() {
    for (leader, expect) in [
        // The leader ends before us: its end.
        ((0, 1), 1),
        // It has what we want: go on where we are.
        ((0, 9), 3),
        // It begins behind us: all of ours goes.
        ((7, 9), 7),
    ] {
        let mut case = Case::new(&[&[1, 1, 1]]);
        case.fetches();
        case.answer(vec![error(0, ErrorCode::OffsetOutOfRange)]);
        while let Next::Ask(Ask::Offsets(kind, asks)) = case.next() {
            assert_eq!(asks[0].current_leader_epoch, 5);
            let offset = match kind {
                OffsetKind::Latest => leader.1,
                OffsetKind::Earliest => leader.0,
            };
            let answer = (partition(0), Ok(offset));
            case.fetcher.on_offsets(0, [answer], &mut case.logs);
            if case.fetcher.unsettled.is_empty() {
                break;
            }
        }
        assert_eq!(case.fetches(), [(0, expect)], "{leader:?}");
        assert_eq!(case.log(0).end(), expect);
    }
}

#[test]
fn a_fenced_partition_waits_for_the_controller() {
    let mut case = Case::new(&[&[1], &[1]]);
    case.fetches();
    case.answer(vec![error(0, ErrorCode::FencedLeaderEpoch), nothing(1)]);
    assert_eq!(case.fetches(), [(1, 1)]);
    assert_eq!(case.fetcher.failed().collect::<Vec<_>>(), [&partition(0)]);
    case.answer(vec![nothing(1)]);
    case.add(0, 6);
    assert_eq!(case.fetches().len(), 2);
    assert_eq!(case.fetcher.failed().count(), 0);
}

#[test]
fn other_errors_and_damage_wait_for_the_back_off() {
    for (answer, what) in [
        (error(0, ErrorCode::UnknownLeaderEpoch), "unknown epoch"),
        (error(0, ErrorCode::NotLeaderOrFollower), "not the leader"),
        (error(0, ErrorCode::UnknownTopicId), "unknown id"),
        (error(0, ErrorCode::KafkaStorageError), "storage"),
        (data(0, &[1, 2, 3], 0), "damage"),
    ] {
        let mut case = Case::new(&[&[1]]);
        case.fetches();
        case.answer(vec![answer]);
        case.idle_until(Some(BACKOFF));
        case.now = BACKOFF;
        assert_eq!(case.fetches(), [(0, 1)], "{what}");
    }
}

#[test]
fn without_an_answer_everything_waits_and_a_new_session_is_asked_for() {
    let mut case = Case::new(&[&[1], &[1]]);
    case.fetches();
    case.fetcher.on_failure(0);
    case.idle_until(Some(BACKOFF));
    case.now = BACKOFF;
    assert_eq!(case.fetches().len(), 2);
}

#[test]
fn an_answer_of_another_epoch_or_for_a_removed_partition_counts_for_nothing() {
    let leader = MemoryLog::of(&[1, 1]);
    for readd in [None, Some(6)] {
        let mut case = Case::new(&[&[1]]);
        case.fetches();
        assert!(case.fetcher.remove(&partition(0)));
        if let Some(epoch) = readd {
            case.add(0, epoch);
        }
        case.answer(vec![data(0, &leader.read(1, 9), 2)]);
        assert_eq!(case.log(0).end(), 1, "{readd:?}");
    }
}

#[test]
fn a_leader_that_keeps_answering_nonsense_is_given_a_pause() {
    let mut case = Case::new(&[&[1]]);
    for _ in 0..2 {
        case.fetches();
        case.answer(vec![nothing(9)]);
    }
    case.idle_until(Some(BACKOFF));
}

#[test]
fn those_that_got_nothing_come_first_in_a_full_request() {
    let mut case = Case::new(&[&[1], &[1], &[1]]);
    let leader = MemoryLog::of(&[1, 1]);
    case.fetches();
    let records = leader.read(1, 9);
    case.answer(vec![data(0, &records, 0), nothing(1), nothing(2)]);
    let order: Vec<i32> = case.fetches().iter().map(|(index, _)| *index).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn nothing_to_follow_is_nothing_to_ask() {
    let mut case = Case::new(&[]);
    case.idle_until(None);
    assert!(case.fetcher.is_empty());
}

proptest! {
    /// Any two logs: the follower's becomes a prefix of the leader's, then all of it.
    #[test]
    fn a_follower_always_ends_with_the_leaders_log(
        common in prop::collection::vec(0..3i32, 0..6),
        ours in prop::collection::vec(0..6i32, 0..6),
        theirs in prop::collection::vec(0..6i32, 0..6),
    ) {
        // Epochs never fall in a log, and each epoch has one writer: the two that part write in
        // epochs of their own.
        let sorted = |mut epochs: Vec<i32>, parity: i32| {
            epochs.iter_mut().for_each(|epoch| *epoch = 10 + *epoch * 2 + parity);
            epochs.sort_unstable();
            epochs
        };
        let mut common = common;
        common.sort_unstable();
        let follower: Vec<i32> = common.iter().copied().chain(sorted(ours, 0)).collect();
        let leader: Vec<i32> = common.iter().copied().chain(sorted(theirs, 1)).collect();
        let mut leader = MemoryLog::of(&leader);
        // Becoming leader notes the epoch.
        leader.epochs.assign(100, leader.end());
        let mut case = Case::new(&[&follower]);
        case.fetcher.remove(&partition(0));
        case.add(0, 100);
        for _ in 0..50 {
            let ask = match case.next() {
                Next::Ask(Ask::Fetch(ask)) => ask,
                Next::Ask(Ask::Offsets(kind, _)) => {
                    let offset = match kind {
                        OffsetKind::Latest => leader.end(),
                        OffsetKind::Earliest => leader.start,
                    };
                    let answer = (partition(0), Ok(offset));
                    case.fetcher.on_offsets(0, [answer], &mut case.logs);
                    continue;
                }
                next => panic!("{next:?}"),
            };
            let wanted = ask.partitions[0].1.wanted;
            let parted = wanted.last_fetched_epoch.map_or(Ok(None), |last_fetched_epoch| {
                crate::replica::truncation::divergence(
                    crate::replica::truncation::Fetching {
                        fetch_offset: wanted.fetch_offset,
                        last_fetched_epoch,
                    },
                    leader.end_of(last_fetched_epoch),
                    leader.start,
                )
            });
            let records = leader.read(wanted.fetch_offset, 2);
            case.answer(vec![match parted {
                Err(code) => error(0, code),
                Ok(Some(at)) => diverging(0, at),
                Ok(None) => data(0, &records, leader.end()),
            }]);
        }
        prop_assert_eq!(&case.log(0).entries, &leader.entries);
        prop_assert_eq!(case.log(0).high_watermark, leader.end());
    }
}

/// Partition 0 is throttled, and its quota exceeded.
fn throttled() -> Option<impl Fn(&TopicPartition) -> bool> {
    Some(|partition: &TopicPartition| partition.partition == 0)
}

fn released() -> Option<fn(&TopicPartition) -> bool> {
    None
}

#[test]
fn a_throttled_partition_that_lags_waits_for_its_quota_and_the_others_do_not() {
    let mut case = Case::new(&[&[1], &[1]]);
    case.fetcher.throttle(throttled());
    assert_eq!(case.fetches(), [(1, 1)]);
    case.answer(vec![nothing(1)]);
    case.fetcher.throttle(released());
    let mut both = case.fetches();
    both.sort_unstable();
    assert_eq!(both, [(0, 1), (1, 1)]);
}

#[test]
fn with_nothing_else_to_ask_for_a_throttled_fetcher_looks_again_after_the_backoff() {
    let mut case = Case::new(&[&[1]]);
    case.fetcher.throttle(throttled());
    case.idle_until(Some(BACKOFF));
    case.now = BACKOFF;
    case.fetcher.throttle(throttled());
    case.idle_until(Some(2 * BACKOFF));
    case.fetcher.throttle(released());
    assert_eq!(case.fetches(), [(0, 1)]);
}

#[test]
fn a_partition_that_has_caught_up_is_not_throttled_until_it_lags() {
    let mut case = Case::new(&[&[1]]);
    case.fetches();
    case.answer(vec![data(0, &[], 1)]);
    case.fetcher.throttle(throttled());
    assert_eq!(case.fetches(), [(0, 1)]);
    case.answer(vec![data(0, &[], 2)]);
    case.fetcher.throttle(throttled());
    case.idle_until(Some(BACKOFF));
    // A new leader epoch: nobody knows how far the leader is.
    case.fetcher.throttle(released());
    case.fetches();
    case.answer(vec![data(0, &[], 1)]);
    case.add(0, 6);
    case.fetcher.throttle(throttled());
    case.idle_until(Some(BACKOFF));
}

#[test]
fn within_a_session_a_throttled_partition_is_forgotten_and_told_again() {
    let mut case = Case::new(&[&[1], &[1]]);
    case.fetches();
    let answers = vec![data(0, &[], 5), data(1, &[], 5)];
    case.fetcher
        .on_fetched(case.now, ErrorCode::None, 9, answers, &mut case.logs);
    case.fetcher.throttle(throttled());
    let Next::Ask(Ask::Fetch(ask)) = case.next() else {
        panic!("a fetch");
    };
    assert_eq!(ask.session_id, 9);
    assert!(ask.partitions.is_empty());
    assert_eq!(ask.forgotten, [(partition(0), Some(ID))]);
    case.fetcher
        .on_fetched(case.now, ErrorCode::None, 9, vec![], &mut case.logs);
    case.fetcher.throttle(released());
    assert_eq!(case.fetches(), [(0, 1)]);
    // Removed while it is throttled: nothing is left behind.
    case.fetcher
        .on_fetched(case.now, ErrorCode::None, 9, vec![], &mut case.logs);
    case.fetcher.throttle(throttled());
    assert!(case.fetcher.remove(&partition(0)));
    assert!(case.fetcher.remove(&partition(1)));
    let Next::Ask(Ask::Fetch(ask)) = case.next() else {
        panic!("a fetch that forgets");
    };
    assert_eq!(ask.forgotten.len(), 2);
    case.fetcher
        .on_fetched(case.now, ErrorCode::None, 9, vec![], &mut case.logs);
    case.fetcher.throttle(throttled());
    case.idle_until(None);
}
