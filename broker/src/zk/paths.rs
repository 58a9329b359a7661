//! Every path of Kafka's znodes, below the chroot, and what is created at start-up. What the
//! nodes hold is in [`super::data`].
//!
//! Source: `ZkData.scala`.

use crate::types::{BrokerId, TopicPartition};

pub const CLUSTER: &str = "/cluster";
pub const CLUSTER_ID: &str = "/cluster/id";
pub const CONTROLLER: &str = "/controller";
pub const CONTROLLER_EPOCH: &str = "/controller_epoch";
pub const BROKER_IDS: &str = "/brokers/ids";
/// Its version is the counter of generated broker ids.
pub const BROKER_SEQUENCE: &str = "/brokers/seqid";
pub const TOPICS: &str = "/brokers/topics";
pub const CONFIG: &str = "/config";
pub const CONFIG_CHANGES: &str = "/config/changes";
pub const DELETE_TOPICS: &str = "/admin/delete_topics";
pub const REASSIGN_PARTITIONS: &str = "/admin/reassign_partitions";
pub const PREFERRED_REPLICA_ELECTION: &str = "/admin/preferred_replica_election";
pub const ISR_CHANGES: &str = "/isr_change_notification";
pub const LOG_DIR_EVENTS: &str = "/log_dir_event_notification";
pub const PRODUCER_ID_BLOCK: &str = "/latest_producer_id_block";
pub const FEATURE: &str = "/feature";
pub const MIGRATION: &str = "/migration";
pub const CONSUMERS: &str = "/consumers";

/// Names of sequential nodes, before the ten digits.
pub const CONFIG_CHANGE_PREFIX: &str = "config_change_";
/// See [`CONFIG_CHANGE_PREFIX`].
pub const ISR_CHANGE_PREFIX: &str = "isr_change_";
/// See [`CONFIG_CHANGE_PREFIX`].
pub const LOG_DIR_EVENT_PREFIX: &str = "log_dir_event_";

/// Types of entities below [`CONFIG`], in Kafka's order.
pub const CONFIG_TYPES: [&str; 5] = ["topics", "clients", "users", "brokers", "ips"];
/// The entity that stands for all others of its type.
pub const DEFAULT_ENTITY: &str = "<default>";

/// What a broker creates at start-up, without data, where it is missing.
pub fn persistent() -> impl Iterator<Item = String> {
    [
        CONSUMERS,
        BROKER_IDS,
        TOPICS,
        CONFIG_CHANGES,
        DELETE_TOPICS,
        BROKER_SEQUENCE,
        ISR_CHANGES,
        PRODUCER_ID_BLOCK,
        LOG_DIR_EVENTS,
    ]
    .into_iter()
    .map(str::to_owned)
    .chain(CONFIG_TYPES.into_iter().map(config_type))
}

pub fn broker(id: BrokerId) -> String {
    format!("{BROKER_IDS}/{id}")
}

pub fn topic(topic: &str) -> String {
    format!("{TOPICS}/{topic}")
}

pub fn partitions(topic: &str) -> String {
    format!("{TOPICS}/{topic}/partitions")
}

pub fn partition(partition: &TopicPartition) -> String {
    format!(
        "{TOPICS}/{}/partitions/{}",
        partition.topic, partition.partition
    )
}

pub fn partition_state(partition: &TopicPartition) -> String {
    format!(
        "{TOPICS}/{}/partitions/{}/state",
        partition.topic, partition.partition
    )
}

pub fn delete_topic(topic: &str) -> String {
    format!("{DELETE_TOPICS}/{topic}")
}

pub fn config_type(entity_type: &str) -> String {
    format!("{CONFIG}/{entity_type}")
}

/// `entity` is sanitised already; `<user>/clients/<client>` names two levels.
pub fn config_entity(entity_type: &str, entity: &str) -> String {
    format!("{CONFIG}/{entity_type}/{entity}")
}

/// To be created sequentially.
pub fn config_change() -> String {
    format!("{CONFIG_CHANGES}/{CONFIG_CHANGE_PREFIX}")
}

/// To be created sequentially.
pub fn isr_change() -> String {
    format!("{ISR_CHANGES}/{ISR_CHANGE_PREFIX}")
}

/// To be created sequentially.
pub fn log_dir_event() -> String {
    format!("{LOG_DIR_EVENTS}/{LOG_DIR_EVENT_PREFIX}")
}

/// Where OffsetCommit v0 puts an offset.
pub fn consumer_offset(group: &str, partition: &TopicPartition) -> String {
    format!(
        "{CONSUMERS}/{group}/offsets/{}/{}",
        partition.topic, partition.partition
    )
}

/// The number of a sequential node's name; `None` when it is not one of `prefix`'s.
pub fn sequence(name: &str, prefix: &str) -> Option<i64> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// The node above; `None` above the first level.
pub fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/')
        .map(|(parent, _)| parent)
        .filter(|parent| !parent.is_empty())
}
