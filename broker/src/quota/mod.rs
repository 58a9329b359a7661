//! Quotas: rates over a sliding window (`window.rs`), and who is held to them.
//!
//! [`ReplicationQuota`] throttles the copying of replicas that lag (KIP-73): once for what leaders
//! send, once for what followers ask for. Which partitions are throttled is a matter of their
//! topics' configurations, the rate one of the broker's.
//!
//! Source: `ReplicationQuotaManager.scala`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};

use self::window::RateWindow;
use crate::types::{BrokerId, Millis, TopicName, TopicPartition};

pub mod window;

/// No limit.
pub const UNLIMITED: i64 = i64::MAX;

/// The throttled partitions of one topic, as far as one broker is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Throttled {
    All,
    Partitions(Vec<i32>),
}

impl Throttled {
    /// Reads `*` or `partition:broker,…`, of which only those of `broker` count; `None` when the list
    /// is empty or neither of both.
    pub fn parse(list: &str, broker: BrokerId) -> Option<Self> {
        let list = list.trim();
        match list {
            "" => return None,
            "*" => return Some(Self::All),
            _ => {}
        }
        let mut partitions = Vec::new();
        for item in list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (partition, replica) = item.split_once(':')?;
            let partition = partition.parse().ok()?;
            if replica.parse() == Ok(broker) {
                partitions.push(partition);
            }
        }
        Some(Self::Partitions(partitions))
    }
}

/// What may be copied of throttled partitions.
#[derive(Debug)]
pub struct ReplicationQuota {
    /// Whether `topics` holds anything: then nobody else looks there.
    has_topics: AtomicBool,
    topics: RwLock<HashMap<TopicName, Throttled>>,
    /// Bytes per second.
    bound: AtomicI64,
    window: Mutex<RateWindow>,
}

impl ReplicationQuota {
    /// Without a limit, and with nothing throttled.
    pub fn new(window: RateWindow) -> Self {
        Self {
            has_topics: AtomicBool::new(false),
            topics: RwLock::default(),
            bound: AtomicI64::new(UNLIMITED),
            window: Mutex::new(window),
        }
    }

    /// `bytes_per_second` is [`UNLIMITED`] for no limit.
    pub fn set_bound(&self, bytes_per_second: i64) {
        self.bound.store(bytes_per_second, Ordering::Relaxed);
    }

    pub fn bound(&self) -> i64 {
        self.bound.load(Ordering::Relaxed)
    }

    /// Replaces what is throttled of a topic.
    pub fn set_throttled(&self, topic: &TopicName, throttled: Option<Throttled>) {
        let mut topics = self.topics.write();
        match throttled {
            Some(throttled) => drop(topics.insert(topic.clone(), throttled)),
            None => drop(topics.remove(topic)),
        }
        self.has_topics.store(!topics.is_empty(), Ordering::Release);
    }

    /// Whether anything at all is throttled: one load.
    pub fn is_in_use(&self) -> bool {
        self.has_topics.load(Ordering::Acquire)
    }

    pub fn is_throttled(&self, partition: &TopicPartition) -> bool {
        self.is_in_use()
            && match self.topics.read().get(&partition.topic) {
                None => false,
                Some(Throttled::All) => true,
                Some(Throttled::Partitions(some)) => some.contains(&partition.partition),
            }
    }

    pub fn is_exceeded(&self, now: Millis) -> bool {
        let bound = self.bound();
        bound != UNLIMITED && self.window.lock().rate(now) > bound as f64
    }

    /// Counts bytes of throttled partitions, whether the quota is exceeded or not.
    pub fn record(&self, now: Millis, bytes: usize) {
        self.window.lock().record(now, bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> ReplicationQuota {
        ReplicationQuota::new(RateWindow::new(11, 1))
    }

    #[test]
    fn lists_are_read_for_one_broker() {
        for (list, expect) in [
            ("", None),
            (" * ", Some(Throttled::All)),
            ("0:1,3:2,4:1", Some(Throttled::Partitions(vec![0, 4]))),
            ("0:1, 2:1,", Some(Throttled::Partitions(vec![0, 2]))),
            ("3:2", Some(Throttled::Partitions(vec![]))),
            ("3", None),
            ("a:1", None),
            ("99999999999:1", None),
        ] {
            assert_eq!(Throttled::parse(list, 1), expect, "{list:?}");
        }
    }

    #[test]
    fn partitions_are_throttled_by_their_topic() {
        let quota = quota();
        let (t, u) = (TopicName::new("t"), TopicName::new("u"));
        assert!(!quota.is_throttled(&TopicPartition::new("t", 0)));
        quota.set_throttled(&t, Some(Throttled::Partitions(vec![1])));
        quota.set_throttled(&u, Some(Throttled::All));
        assert!(!quota.is_throttled(&TopicPartition::new("t", 0)));
        assert!(quota.is_throttled(&TopicPartition::new("t", 1)));
        assert!(quota.is_throttled(&TopicPartition::new("u", 7)));
        quota.set_throttled(&t, None);
        assert!(!quota.is_throttled(&TopicPartition::new("t", 1)));
        assert!(quota.is_in_use());
        quota.set_throttled(&u, None);
        assert!(!quota.is_in_use());
    }

    #[test]
    fn a_quota_is_exceeded_above_its_bound_until_the_window_has_moved_on() {
        let quota = quota();
        quota.record(0, 1_000_000);
        assert!(!quota.is_exceeded(0), "there is no bound yet");
        quota.set_bound(100_000);
        assert!(quota.is_exceeded(0));
        assert!(quota.is_exceeded(9_999));
        assert!(
            !quota.is_exceeded(10_000),
            "1 MB in 10 s is what is allowed"
        );
        quota.set_bound(0);
        assert!(quota.is_exceeded(10_000));
        assert!(!quota.is_exceeded(11_000), "nothing was copied for long");
        quota.set_bound(UNLIMITED);
        quota.record(11_000, usize::MAX);
        assert!(!quota.is_exceeded(11_000));
    }
}
