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
        "Largest size of one segment file."),
    ("segment.ms", Long, "604800000", AtLeast(1), Medium, "log.roll.ms", Effective,
        "Age at which a new segment is started."),
    ("segment.jitter.ms", Long, "0", AtLeast(0), Medium, "log.roll.jitter.ms", Effective,
        "Largest random amount taken off the roll age."),
    ("segment.index.bytes", Int, "10485760", AtLeast(4), Medium, "log.index.size.max.bytes", Effective,
        "Largest size of an index file."),
    ("flush.messages", Long, "9223372036854775807", AtLeast(1), Medium, "log.flush.interval.messages", Effective,
        "Records after which the log is forced to disk."),
    ("flush.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.flush.interval.ms", Effective,
        "Longest time a record stays in memory only."),
    ("retention.bytes", Long, "-1", Any, Medium, "log.retention.bytes", Effective,
        "Size of a partition above which its oldest segments are deleted; -1 without limit."),
    ("retention.ms", Long, "604800000", AtLeast(-1), Medium, "log.retention.ms", Effective,
        "Age at which segments are deleted; -1 never."),
    ("max.message.bytes", Int, "1048588", AtLeast(0), Medium, "message.max.bytes", Effective,
        "Largest record batch, after compression, that the topic takes."),
    ("index.interval.bytes", Int, "4096", AtLeast(0), Medium, "log.index.interval.bytes", Effective,
        "Bytes of log between two index entries."),
    ("delete.retention.ms", Long, "86400000", AtLeast(0), Medium, "log.cleaner.delete.retention.ms", Later(CLEANER),
        "How long a delete marker stays after compaction."),
    ("min.compaction.lag.ms", Long, "0", AtLeast(0), Medium, "log.cleaner.min.compaction.lag.ms", Later(CLEANER),
        "Time for which a record is safe from compaction."),
    ("max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), Medium, "log.cleaner.max.compaction.lag.ms", Later(CLEANER),
        "Time after which a record must be compacted."),
    ("file.delete.delay.ms", Long, "60000", AtLeast(0), Medium, "log.segment.delete.delay.ms", Effective,
        "Time between taking a segment out of the log and deleting its file."),
    ("min.cleanable.dirty.ratio", Double, "0.5", Ratio(0.0, 1.0), Medium, "log.cleaner.min.cleanable.ratio", Later(CLEANER),
        "Share of not yet compacted bytes from which the log is worth compacting."),
    ("cleanup.policy", List, "delete", EachOf(CLEANUP), Medium, "log.cleanup.policy", Effective,
        "What becomes of old segments: delete, compact or both."),
    ("unclean.leader.election.enable", Boolean, "false", Any, Medium, "unclean.leader.election.enable", Later(REPLICATION),
        "Lets replicas outside the ISR lead, at the price of losing records."),
    ("min.insync.replicas", Int, "1", AtLeast(1), Medium, "min.insync.replicas", Effective,
        "Replicas in the ISR that a write with acks=all needs."),
    ("compression.type", String, "producer", OneOf(COMPRESSION), Medium, "compression.type", Effective,
        "Codec in which batches are stored; producer keeps what was sent."),
    ("compression.gzip.level", Int, "-1", GzipLevel, Medium, "compression.gzip.level", Effective,
        "Level at which the broker compresses with gzip."),
    ("compression.lz4.level", Int, "9", Between(1, 17), Medium, "compression.lz4.level", Effective,
        "Level at which the broker compresses with lz4."),
    ("compression.zstd.level", Int, "3", Between(-131072, 22), Medium, "compression.zstd.level", Effective,
        "Level at which the broker compresses with zstd."),
    ("preallocate", Boolean, "false", Any, Medium, "log.preallocate", Effective,
        "Gives a new segment its full size on disk at once."),
    ("message.format.version", String, "3.0-IV1", Version, Medium, "log.message.format.version", Accepted(FORMAT),
        "Oldest record format; has no effect."),
    ("message.timestamp.type", String, "CreateTime", OneOf(TIMESTAMP_TYPES), Medium, "log.message.timestamp.type", Effective,
        "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime)."),
    ("message.timestamp.difference.max.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.message.timestamp.difference.max.ms", Effective,
        "Older limit for both directions of a record's time; used where the two newer ones are not set."),
    ("message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.message.timestamp.before.max.ms", Effective,
        "How far a record's time may lie in the past."),
    ("message.timestamp.after.max.ms", Long, "9223372036854775807", AtLeast(0), Medium, "log.message.timestamp.after.max.ms", Effective,
        "How far a record's time may lie in the future."),
    ("leader.replication.throttled.replicas", List, "", ThrottledReplicas, Medium, -, Effective,
        "Replicas whose leaders are throttled, as partition:broker,… or * for all."),
    ("follower.replication.throttled.replicas", List, "", ThrottledReplicas, Medium, -, Effective,
        "Replicas whose followers are throttled, as partition:broker,… or * for all."),
    ("message.downconversion.enable", Boolean, "true", Any, Low, "log.message.downconversion.enable", Effective,
        "Converts records to older formats for older consumers."),
    ("remote.storage.enable", Boolean, "false", Any, Medium, -, Accepted(TIERED),
        "Copies the topic's segments to remote storage."),
    ("local.retention.ms", Long, "-2", AtLeast(-2), Medium, "log.local.retention.ms", Accepted(TIERED),
        "How long a segment stays on local disk once it is in remote storage; -2 takes retention.ms."),
    ("local.retention.bytes", Long, "-2", AtLeast(-2), Medium, "log.local.retention.bytes", Accepted(TIERED),
        "Most bytes kept on local disk once they are in remote storage; -2 takes retention.bytes."),
    ("remote.log.copy.disable", Boolean, "false", Any, Medium, -, Accepted(TIERED),
        "Stops copying to remote storage; not allowed with ZooKeeper."),
    ("remote.log.delete.on.disable", Boolean, "false", Any, Medium, -, Accepted(TIERED),
        "Deletes remote segments when remote storage is turned off; not allowed with ZooKeeper."),
}

/// A topic key by its name.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}
