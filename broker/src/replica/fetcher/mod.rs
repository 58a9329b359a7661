//! Following other leaders: the fetchers of this broker (`ReplicaFetcherManager`).
//!
//! One fetcher for each leader and number below `num.replica.fetchers`; a partition always goes to
//! the same number. `core.rs` decides, `session.rs` is the fetching side of a fetch session, `task.rs`
//! talks to the leader.
//!
//! Invariants:
//! 1. When [`Fetchers::remove`] returns, nothing more is written to the logs of these partitions by a
//!    fetcher.
//! 2. A partition is followed by one fetcher at most.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::core::{Fetcher, Settings, Start};
use self::task::{Logs, Task};
use super::manager::ReplicaManager;
use crate::types::{BrokerId, TopicPartition, Uuid, java_string_hash};

pub mod core;
pub mod session;
mod task;

/// A partition to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToFollow {
    pub partition: TopicPartition,
    pub leader: BrokerId,
    pub start: Start,
}

/// Leader and number.
type FetcherKey = (BrokerId, i32);

/// A fetcher that runs.
struct Running {
    fetcher: Arc<Mutex<Fetcher>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// All fetchers of a broker.
#[derive(Default)]
pub struct Fetchers {
    running: Mutex<HashMap<FetcherKey, Running>>,
    /// Where they run, and until when; `None` before the start and after the end.
    runtime: Mutex<Option<(Handle, CancellationToken)>>,
}

/// Which fetcher of a leader a partition goes to (`AbstractFetcherManager.getFetcherId`).
pub(super) fn fetcher_number(partition: &TopicPartition, fetchers: i32) -> i32 {
    let hash = java_string_hash(&partition.topic)
        .wrapping_mul(31)
        .wrapping_add(partition.partition);
    // As `Utils.abs`: the smallest number has no positive twin.
    let abs = if hash == i32::MIN { 0 } else { hash.abs() };
    abs % fetchers.max(1)
}

impl Fetchers {
    /// From now on fetchers run on `runtime`.
    pub(super) fn start(&self, runtime: Handle, stop: CancellationToken) {
        *self.runtime.lock() = Some((runtime, stop));
    }

    /// Follows partitions; any that is followed must have been removed before.
    pub(super) fn add(&self, manager: &Arc<ReplicaManager>, to_follow: Vec<ToFollow>) {
        let Some((runtime, stop)) = self.runtime.lock().clone() else {
            return;
        };
        let config = manager.config().load();
        let mut running = self.running.lock();
        let logs = Logs(Arc::downgrade(manager));
        for ToFollow {
            partition,
            leader,
            start,
        } in to_follow
        {
            let number = fetcher_number(&partition, config.num_replica_fetchers());
            tracing::info!(
                target: "kafka.server.ReplicaFetcherManager",
                "[ReplicaFetcherManager on broker {}] Added fetcher to broker {leader} for partition {partition} with leader epoch {} from offset {}",
                manager.broker_id(),
                start.leader_epoch,
                start.fetch_offset
            );
            let one = running
                .entry((leader, number))
                .or_insert_with(|| spawn(manager, leader, number, &runtime, stop.child_token()));
            one.fetcher.lock().add(partition, start, &logs);
            one.wake.notify_one();
        }
    }

    /// Follows partitions no more (keeps 1).
    pub(super) fn remove<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        let running = self.running.lock();
        for partition in partitions {
            for one in running.values() {
                if one.fetcher.lock().remove(partition) {
                    one.wake.notify_one();
                }
            }
        }
    }

    /// The controller gave an old topic its id.
    pub(super) fn set_topic_id(&self, partition: &TopicPartition, topic_id: Uuid) {
        for one in self.running.lock().values() {
            one.fetcher.lock().set_topic_id(partition, topic_id);
        }
    }

    /// Ends fetchers that have nothing to follow.
    pub(super) fn stop_idle(&self) {
        self.running
            .lock()
            .retain(|_, one| !one.fetcher.lock().is_empty());
    }

    /// Ends all fetchers; no other begins.
    pub(super) fn stop(&self) {
        *self.runtime.lock() = None;
        let running = std::mem::take(&mut *self.running.lock());
        for one in running.values() {
            let mut fetcher = one.fetcher.lock();
            for partition in fetcher.partitions() {
                fetcher.remove(&partition);
            }
        }
    }

    /// Takes every partition away, to be added again under another `num.replica.fetchers`.
    pub(super) fn take_all(&self) -> Vec<TopicPartition> {
        let running = std::mem::take(&mut *self.running.lock());
        let mut taken = Vec::new();
        for one in running.values() {
            let mut fetcher = one.fetcher.lock();
            for partition in fetcher.partitions() {
                fetcher.remove(&partition);
                taken.push(partition);
            }
        }
        taken
    }

    /// How many fetchers run.
    pub fn len(&self) -> usize {
        self.running.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn spawn(
    manager: &Arc<ReplicaManager>,
    leader: BrokerId,
    number: i32,
    runtime: &Handle,
    stop: CancellationToken,
) -> Running {
    let config = manager.config().load();
    let fetcher = Arc::new(Mutex::new(Fetcher::new(Settings {
        backoff_ms: i64::from(config.replica_fetch_backoff_ms()),
        max_bytes: config.replica_fetch_max_bytes(),
        one_at_a_time: false,
    })));
    let wake = Arc::new(Notify::new());
    let task = Task::new(
        Arc::downgrade(manager),
        (leader, number),
        Arc::clone(&fetcher),
        Arc::clone(&wake),
    );
    let until = stop.clone();
    runtime.spawn(async move {
        tokio::select! {
            () = until.cancelled() => {}
            () = task.run() => {}
        }
    });
    Running {
        fetcher,
        wake,
        stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_spread_as_kafka_does() {
        for (topic, partition, fetchers, expect) in [
            ("t", 0, 1, 0),
            // 31 · 116 = 3596.
            ("t", 0, 4, 0),
            ("t", 3, 4, 3),
            ("", 7, 5, 2),
            ("polygenelubricants", 0, 3, 0),
        ] {
            let partition = TopicPartition::new(topic, partition);
            assert_eq!(fetcher_number(&partition, fetchers), expect, "{partition}");
        }
    }
}
