//! THE table of topic keys (`LogConfig.CONFIG`): type, default, allowed values and the broker key
//! that gives a topic's default (`ServerTopicConfigSynonyms`). Order is Kafka's order of
//! definition.

use super::keys::Importance::{self, Low, Medium};
use super::keys::State::{self, Accepted, Effective, Later};
use super::value::Allowed::{self, *};
use super::value::Type;

/// One row of the table.
#[derive(Debug)]
pub struct TopicKey {
    pub name: &'static str,
    pub kind: Type,
    /// As text.
    pub default: &'static str,
    pub allowed: Allowed,
    pub importance: Importance,
    /// The broker key that holds the default, if one does.
    pub server_default: Option<&'static str>,
    pub state: State,
    pub doc: &'static str,
}

const COMPRESSION: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const CLEANUP: &[&str] = &["compact", "delete"];
const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];

const CLEANER: &str = "log compaction comes in a later version";
const QUOTAS: &str = "quotas come in a later version";
const REPLICATION: &str = "replication between brokers comes in a later version";
const TIERED: &str = "no tiered storage";
const FORMAT: &str = "ignored by Kafka as well from inter.broker.protocol.version 3.0 on";

macro_rules! server_default {
    (-) => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}

macro_rules! topic_keys {
    ($(($name:literal, $kind:ident, $default:literal, $allowed:expr, $importance:ident,
        $server:tt, $state:expr, $doc:literal),)*) => {
        /// Every topic key.
        pub static TOPIC_KEYS: &[TopicKey] = &[
            $(TopicKey {
                name: $name,
                kind: Type::$kind,
                default: $default,
                allowed: $allowed,
                importance: $importance,
                server_default: server_default!($server),
                state: $state,
                doc: $doc,
            },)*
        ];
    };
}

topic_keys! {
    ("segment.bytes", Int, "1073741824", AtLeast(14), Medium, "log.segment.bytes", Effective,
        ""),
    ("segment.ms", Long, "604800000", AtLeast(1), Medium, "log.roll.ms", Effective,
        ""),
    ("segment.jitter.ms", Long, "0", AtLeast(0), Medium, "log.roll.jitter.ms", Effective,
        ""),
    ("segment.index.bytes", Int, "10485760", AtLeast(4), Medium, "log.index.size.max.bytes", Effective,
        ""),
    ("flush.messages", Long, "9223372036854775807", AtLeast(1), Medium, "log.flush.interval.messages", Effective,
        ""),
    ("flush.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.flush.interval.ms", Effective,
        ""),
    ("retention.bytes", Long, "-1", Any, Medium, "log.retention.bytes", Effective,
        ""),
    ("retention.ms", Long, "604800000", AtLeast(-1), Medium, "log.retention.ms", Effective,
        ""),
    ("max.message.bytes", Int, "1048588", AtLeast(0), Medium, "message.max.bytes", Effective,
        ""),
    ("index.interval.bytes", Int, "4096", AtLeast(0), Medium, "log.index.interval.bytes", Effective,
        ""),
    ("delete.retention.ms", Long, "86400000", AtLeast(0), Medium, "log.cleaner.delete.retention.ms", Later(CLEANER),
        ""),
    ("min.compaction.lag.ms", Long, "0", AtLeast(0), Medium, "log.cleaner.min.compaction.lag.ms", Later(CLEANER),
        ""),
    ("max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), Medium, "log.cleaner.max.compaction.lag.ms", Later(CLEANER),
        ""),
    ("file.delete.delay.ms", Long, "60000", AtLeast(0), Medium, "log.segment.delete.delay.ms", Effective,
        ""),
    ("min.cleanable.dirty.ratio", Double, "0.5", Ratio(0.0, 1.0), Medium, "log.cleaner.min.cleanable.ratio", Later(CLEANER),
        ""),
    ("cleanup.policy", List, "delete", EachOf(CLEANUP), Medium, "log.cleanup.policy", Effective,
        ""),
    ("unclean.leader.election.enable", Boolean, "false", Any, Medium, "unclean.leader.election.enable", Later(REPLICATION),
        ""),
    ("min.insync.replicas", Int, "1", AtLeast(1), Medium, "min.insync.replicas", Effective,
        ""),
    ("compression.type", String, "producer", OneOf(COMPRESSION), Medium, "compression.type", Effective,
        ""),
    ("compression.gzip.level", Int, "-1", GzipLevel, Medium, "compression.gzip.level", Effective,
        ""),
    ("compression.lz4.level", Int, "9", Between(1, 17), Medium, "compression.lz4.level", Effective,
        ""),
    ("compression.zstd.level", Int, "3", Between(-131072, 22), Medium, "compression.zstd.level", Effective,
        ""),
    ("preallocate", Boolean, "false", Any, Medium, "log.preallocate", Effective,
        ""),
    ("message.format.version", String, "3.0-IV1", Version, Medium, "log.message.format.version", Accepted(FORMAT),
        ""),
    ("message.timestamp.type", String, "CreateTime", OneOf(TIMESTAMP_TYPES), Medium, "log.message.timestamp.type", Effective,
        ""),
    ("message.timestamp.difference.max.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.message.timestamp.difference.max.ms", Effective,
        ""),
    ("message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.message.timestamp.before.max.ms", Effective,
        ""),
    ("message.timestamp.after.max.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.message.timestamp.after.max.ms", Effective,
        ""),
    ("leader.replication.throttled.replicas", List, "", ThrottledReplicas, Medium, -, Later(QUOTAS),
        ""),
    ("follower.replication.throttled.replicas", List, "", ThrottledReplicas, Medium, -, Later(QUOTAS),
        ""),
    ("message.downconversion.enable", Boolean, "true", Any, Low, "log.message.downconversion.enable", Effective,
        ""),
    ("remote.storage.enable", Boolean, "false", Any, Medium, -, Accepted(TIERED),
        ""),
    ("local.retention.ms", Long, "-2", AtLeast(-2), Medium, "log.local.retention.ms", Accepted(TIERED),
        ""),
    ("local.retention.bytes", Long, "-2", AtLeast(-2), Medium, "log.local.retention.bytes", Accepted(TIERED),
        ""),
    ("remote.log.copy.disable", Boolean, "false", Any, Medium, -, Accepted(TIERED),
        ""),
    ("remote.log.delete.on.disable", Boolean, "false", Any, Medium, -, Accepted(TIERED),
        ""),
}

/// A topic key by its name.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}
