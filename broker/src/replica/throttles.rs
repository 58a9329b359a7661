//! The throttles on copying replicas, as the configuration sets them (KIP-73).

use crate::config::{LiveConfig, Properties};
use crate::quota::window::RateWindow;
use crate::quota::{ReplicationQuota, Throttled, UNLIMITED};
use crate::types::{BrokerId, TopicName};

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const ALTER_LOG_DIRS_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LEADER_THROTTLED: &str = "leader.replication.throttled.replicas";
const FOLLOWER_THROTTLED: &str = "follower.replication.throttled.replicas";

/// What throttled replicas may copy (KIP-73).
pub struct Throttles {
    /// What this broker's leaders send.
    pub leader: ReplicationQuota,
    /// What this broker's followers ask for.
    pub follower: ReplicationQuota,
    /// What is copied between log dirs, of all partitions (KIP-113).
    pub alter_log_dirs: ReplicationQuota,
}

impl Throttles {
    pub(super) fn new(config: &LiveConfig) -> Self {
        let loaded = config.load();
        let quota = || {
            ReplicationQuota::new(RateWindow::new(
                loaded.replication_quota_window_num(),
                loaded.replication_quota_window_size_seconds(),
            ))
        };
        let throttles = Self {
            leader: quota(),
            follower: quota(),
            alter_log_dirs: ReplicationQuota::new(RateWindow::new(
                loaded.alter_log_dirs_replication_quota_window_num(),
                loaded.alter_log_dirs_replication_quota_window_size_seconds(),
            )),
        };
        throttles.take_rates(config);
        throttles
    }

    /// The rates are dynamic only: what `server.properties` says of them does not count.
    pub(super) fn take_rates(&self, config: &LiveConfig) {
        let layers = config.layers();
        let rate = |key: &str| {
            layers
                .dynamic_broker
                .get(key)
                .or_else(|| layers.dynamic_default.get(key))
                .and_then(|rate| rate.trim().parse().ok())
                .unwrap_or(UNLIMITED)
        };
        self.leader.set_bound(rate(LEADER_RATE));
        self.follower.set_bound(rate(FOLLOWER_RATE));
        self.alter_log_dirs.set_bound(rate(ALTER_LOG_DIRS_RATE));
    }

    /// Takes what a topic's overrides say of throttled replicas; nothing for a topic that is gone.
    pub(super) fn take_topic(
        &self,
        topic: &TopicName,
        overrides: Option<&Properties>,
        broker: BrokerId,
    ) {
        for (quota, key) in [
            (&self.leader, LEADER_THROTTLED),
            (&self.follower, FOLLOWER_THROTTLED),
        ] {
            let list = overrides.and_then(|overrides| overrides.get(key));
            quota.set_throttled(topic, list.and_then(|list| Throttled::parse(list, broker)));
        }
    }
}
