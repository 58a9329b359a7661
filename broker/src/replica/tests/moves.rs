//! Replicas that move between two log dirs of one broker.

use std::path::Path;

use super::*;
use crate::record::build::BatchBuilder;
use crate::replica::fetcher::core::LeaderData;
use crate::replica::partition::Partition;

/// A broker with two log dirs that leads partition 0 of `t`, which is in the first.
struct Moving {
    fixture: Fixture,
    second: TempDir,
}

fn open_both(first: &TempDir, second: &TempDir) -> Arc<LogManager> {
    open_logs_in(&[first.path(), second.path()])
}

impl Moving {
    async fn new() -> Self {
        let moving = Self::undecided().await;
        moving.alter(moving.first()).unwrap_err();
        moving.lead(0).await;
        assert_eq!(moving.log_dir(), moving.first());
        moving
    }

    async fn undecided() -> Self {
        let fixture = Fixture::new().await;
        fixture.logs.shutdown();
        let second = TempDir::new().unwrap();
        let logs = open_both(&fixture.dir, &second);
        let replicas = manager(&fixture.store, &fixture.cluster, &logs);
        let fixture = Fixture {
            logs,
            replicas,
            ..fixture
        };
        Self { fixture, second }
    }

    async fn lead(&self, leader_epoch: LeaderEpoch) {
        let order = Order {
            leader_epoch,
            ..Order::default()
        };
        assert_eq!(self.fixture.decide(order).await, ErrorCode::None);
    }

    /// Another start on the same dirs; clean, or as after a crash.
    fn restart(self, is_clean: bool) -> Self {
        self.fixture.replicas.checkpoint_high_watermarks();
        self.fixture.replicas.stop_fetchers();
        if is_clean {
            self.fixture.logs.shutdown();
        }
        let Fixture {
            dir,
            cluster,
            store,
            logs,
            replicas,
        } = self.fixture;
        drop((logs, replicas));
        let logs = open_both(&dir, &self.second);
        let replicas = manager(&store, &cluster, &logs);
        let fixture = Fixture {
            dir,
            cluster,
            store,
            logs,
            replicas,
        };
        Self { fixture, ..self }
    }

    fn first(&self) -> &Path {
        self.fixture.dir.path()
    }

    fn second(&self) -> &Path {
        self.second.path()
    }

    fn alter(&self, dir: &Path) -> Result<(), ErrorCode> {
        let moves = [(partition(0), dir.display().to_string())];
        self.fixture.replicas.alter_log_dirs(&moves).remove(0)
    }

    /// Copies no more than has been copied already.
    fn brake(&self) {
        let quota = &self.fixture.replicas.throttles().alter_log_dirs;
        quota.set_bound(1);
        quota.record(SystemClock.now(), 1 << 40);
    }

    fn partition(&self) -> Arc<Partition> {
        self.fixture
            .replicas
            .online_partition(&partition(0))
            .unwrap()
    }

    fn log_dir(&self) -> std::path::PathBuf {
        let log = self.partition().log().unwrap();
        assert!(!log.is_future());
        assert_eq!(log.path().parent(), Some(log.log_dir()));
        log.log_dir().to_path_buf()
    }

    async fn produced(&self, batches: i64) {
        for _ in 0..batches {
            self.fixture.produced(0).await;
        }
    }

    async fn is_moved(&self, to: &Path) {
        until(|| self.log_dir() == to).await;
        assert!(self.partition().future_log().is_none());
        assert!(self.fixture.logs.future_log(&partition(0)).is_none());
    }

    /// Every record from 0 to the LEO, in order.
    async fn is_whole(&self, end: Offset) {
        let mut next = 0;
        while next < end {
            let fetched = self.fixture.fetch_one(&at_once(), next).await;
            assert_eq!(fetched.error, ErrorCode::None);
            let offsets = base_offsets(&fetched);
            assert_eq!(
                offsets,
                (next..next + offsets.len() as i64).collect::<Vec<_>>()
            );
            assert!(!offsets.is_empty(), "nothing at {next}");
            next += offsets.len() as i64;
        }
        assert_eq!(next, end);
    }

    /// What a dir holds of the partition, without the unique ids.
    fn folders(&self, dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("t-0"))
            .map(|name| match name.split_once('.') {
                Some((_, rest)) => rest.rsplit_once('-').unwrap().1.to_owned(),
                None => name,
            })
            .collect();
        names.sort();
        names
    }
}

async fn until(mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_done() {
        assert!(Instant::now() < deadline, "never");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_leaders_replica_moves_while_it_is_written_and_read() {
    let moving = Moving::new().await;
    moving.produced(300).await;
    moving.brake();
    moving.alter(moving.second()).unwrap();
    assert_eq!(moving.folders(moving.second()), ["future"]);
    let throttles = moving.fixture.replicas.throttles();
    throttles.alter_log_dirs.set_bound(crate::quota::UNLIMITED);
    moving.fixture.replicas.copiers().wake();
    let mut end = 300;
    while moving.log_dir() != moving.second() {
        moving.produced(1).await;
        end += 1;
        tokio::task::yield_now().await;
    }
    moving.produced(1).await;
    end += 1;
    moving.is_moved(moving.second()).await;
    moving.is_whole(end).await;
    assert_eq!(moving.partition().log().unwrap().high_watermark(), end);
    assert_eq!(moving.folders(moving.first()), ["delete"]);
    assert_eq!(moving.folders(moving.second()), ["t-0"]);
    // And back again, while a consumer waits for the next record.
    let poll = long_poll(1);
    let waiting = moving.fixture.fetch_one(&poll, end);
    let writing = async {
        moving.alter(moving.first()).unwrap();
        moving.is_moved(moving.first()).await;
        moving.produced(1).await;
    };
    let (fetched, ()) = tokio::join!(waiting, writing);
    assert_eq!(base_offsets(&fetched), [end]);
    end += 1;
    moving.is_whole(end).await;
    let moving = moving.restart(true);
    moving.lead(1).await;
    assert_eq!(moving.log_dir(), moving.first());
    moving.is_whole(end).await;
}

#[tokio::test]
async fn requests_are_refused_as_kafka_does() {
    let moving = Moving::undecided().await;
    let (first, second) = (moving.first(), moving.second());
    let alter = |topic: &str, index: i32, dir: &str| {
        let moves = [(TopicPartition::new(topic, index), dir.to_owned())];
        moving.fixture.replicas.alter_log_dirs(&moves).remove(0)
    };
    let path = second.display().to_string();
    // 255 bytes hold the name, the index, 32 digits of an id, and `-future`.
    let (long, longest) = ("x".repeat(214), "x".repeat(213));
    for (topic, dir, expect) in [
        (long.as_str(), "/nowhere", ErrorCode::InvalidTopicException),
        (longest.as_str(), "/nowhere", ErrorCode::LogDirNotFound),
        ("nowhere", &path, ErrorCode::UnknownTopicOrPartition),
        ("t", &format!("{path}/"), ErrorCode::LogDirNotFound),
        ("t", &path, ErrorCode::ReplicaNotAvailable),
    ] {
        assert_eq!(alter(topic, 0, dir), Err(expect), "{topic} {dir}");
    }
    // The wish was noted all the same.
    moving.lead(0).await;
    assert_eq!(moving.log_dir(), second);
    assert_eq!(alter("t", 0, &path), Ok(()), "it is there");
    assert!(moving.partition().future_log().is_none());
    moving.fixture.logs.fail_dir(first);
    let first = first.display().to_string();
    assert_eq!(alter("t", 0, &first), Err(ErrorCode::KafkaStorageError));
}

#[tokio::test]
async fn a_move_is_off_when_the_replica_shall_stay() {
    let moving = Moving::new().await;
    moving.produced(3).await;
    moving.brake();
    moving.alter(moving.second()).unwrap();
    assert!(moving.partition().future_log().is_some());
    // Asked for again it goes on.
    moving.alter(moving.second()).unwrap();
    assert_eq!(moving.folders(moving.second()), ["future"]);
    moving.alter(moving.first()).unwrap();
    assert!(moving.partition().future_log().is_none());
    assert_eq!(moving.folders(moving.second()), ["delete"]);
    assert_eq!(moving.log_dir(), moving.first());
    moving.is_whole(3).await;
}

#[tokio::test]
async fn a_move_goes_on_after_either_stop() {
    for is_clean in [true, false] {
        let moving = Moving::new().await;
        moving.produced(20).await;
        moving.brake();
        moving.alter(moving.second()).unwrap();
        let moving = moving.restart(is_clean);
        assert_eq!(moving.folders(moving.second()), ["future"]);
        // Not before the controller has spoken.
        assert!(moving.fixture.replicas.copiers().is_empty());
        moving.lead(1).await;
        moving.is_moved(moving.second()).await;
        moving.is_whole(20).await;
        assert_eq!(moving.partition().log().unwrap().latest_epoch(), Some(1));
    }
}

#[tokio::test]
async fn a_move_goes_on_in_a_new_leader_epoch() {
    let moving = Moving::new().await;
    moving.produced(3).await;
    moving.brake();
    moving.alter(moving.second()).unwrap();
    moving.lead(4).await;
    moving.produced(1).await;
    moving
        .fixture
        .replicas
        .throttles()
        .alter_log_dirs
        .set_bound(crate::quota::UNLIMITED);
    moving.fixture.replicas.copiers().wake();
    moving.is_moved(moving.second()).await;
    moving.is_whole(4).await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_takes_its_copy_along() {
    let moving = Moving::new().await;
    moving.produced(3).await;
    moving.brake();
    moving.alter(moving.second()).unwrap();
    let stopped = moving.fixture.replicas.stop_replicas(stop(0, true)).await;
    assert_eq!(stopped.partition_errors[0].error_code, 0);
    assert!(moving.fixture.logs.logs().is_empty());
    assert_eq!(moving.folders(moving.first()), ["delete"]);
    assert_eq!(moving.folders(moving.second()), ["delete"]);
    assert!(moving.fixture.replicas.copiers().is_empty());
}

#[tokio::test]
async fn a_copy_whose_dir_fails_is_given_up_and_the_replica_stays() {
    let moving = Moving::new().await;
    moving.produced(3).await;
    moving.brake();
    moving.alter(moving.second()).unwrap();
    let failure = moving.fixture.logs.fail_dir(moving.second());
    moving
        .fixture
        .replicas
        .on_log_dir_failure(&failure, &tokio::runtime::Handle::current());
    assert!(moving.partition().future_log().is_none());
    moving.produced(1).await;
    moving.is_whole(4).await;
    assert_eq!(
        moving.alter(moving.second()),
        Err(ErrorCode::KafkaStorageError)
    );
}

#[tokio::test]
async fn records_deleted_meanwhile_are_gone_from_the_copy_too() {
    let moving = Moving::new().await;
    moving.produced(10).await;
    moving.brake();
    moving.alter(moving.second()).unwrap();
    let replicas = Arc::clone(&moving.fixture.replicas);
    let deleting =
        tokio::spawn(async move { replicas.delete_records(vec![(partition(0), 7)], LONG).await });
    until(|| moving.partition().log().unwrap().log_start_offset() == 7).await;
    assert_eq!(
        moving.partition().low_watermark(|_| true),
        Ok(0),
        "the copy still begins at 0"
    );
    moving
        .fixture
        .replicas
        .throttles()
        .alter_log_dirs
        .set_bound(crate::quota::UNLIMITED);
    moving.fixture.replicas.copiers().wake();
    assert_eq!(deleting.await.unwrap(), [Ok(7)]);
    moving.is_moved(moving.second()).await;
    let log = moving.partition().log().unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (7, 10));
    drop(log);
    let moving = moving.restart(false);
    moving.lead(1).await;
    assert_eq!(moving.partition().log().unwrap().log_start_offset(), 7);
}

#[tokio::test]
async fn a_copy_of_what_a_follower_cut_is_cut_before_it_counts() {
    let moving = Moving::new().await;
    moving.produced(5).await;
    let partition = moving.partition();
    // Everything is copied but for the swap: the copy is held by hand.
    let current = partition.log().unwrap();
    let path = moving.second().display().to_string();
    let future = moving
        .fixture
        .logs
        .get_or_create_future(
            &super::partition(0),
            &path,
            None,
            current.config().as_ref().clone(),
        )
        .unwrap()
        .unwrap();
    let fetched = moving.fixture.fetch_one(&at_once(), 0).await;
    let region = fetched.region.unwrap();
    let mut bytes = vec![0; region.len];
    region
        .file
        .read_exact_at(&mut bytes, region.position)
        .unwrap();
    future.append_as_follower(&bytes, 0).unwrap();
    // Another leader did not have the last two.
    moving.fixture.cluster.publish(image(&[ME, OTHER]));
    let order = Order {
        leader: OTHER,
        leader_epoch: 3,
        replicas: vec![ME, OTHER],
        isr: vec![OTHER],
        ..Order::default()
    };
    // The decision takes the copy up, which is ahead once the log is cut.
    moving.brake();
    assert_eq!(moving.fixture.decide(order).await, ErrorCode::None);
    partition.truncate_to(3, 3).unwrap();
    let mut theirs = BatchBuilder::new(&BatchOptions::default())
        .unwrap()
        .placed_at(3, 3);
    for _ in 0..2 {
        theirs.append(&NewRecord::default()).unwrap();
    }
    let (theirs, _) = theirs.finish().unwrap();
    let data = LeaderData {
        records: &theirs,
        high_watermark: 5,
        log_start_offset: 0,
    };
    let followed = partition.append_as_follower(3, 3, data).unwrap();
    assert_eq!(followed.log_end_offset, future.log_end_offset());
    moving
        .fixture
        .replicas
        .throttles()
        .alter_log_dirs
        .set_bound(crate::quota::UNLIMITED);
    moving.fixture.replicas.copiers().wake();
    moving.is_moved(moving.second()).await;
    let log = partition.log().unwrap();
    assert!(Arc::ptr_eq(&log, &future));
    assert_eq!(log.latest_epoch(), Some(3));
    assert_eq!(log.epoch_for_offset(3), Some(3));
    assert_eq!(log.epoch_for_offset(2), Some(0));
}
