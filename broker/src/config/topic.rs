//! The topic-level view of the configuration (`LogConfig` of Kafka): what one partition's log
//! obeys, after topic overrides, broker defaults and built-in defaults were merged; and the checks
//! that CreateTopics and AlterConfigs make of overrides.

use super::topic_keys::{self, TOPIC_KEYS, TopicKey};
use super::value::Value;
use super::{Config, Error, Properties, version};
use crate::types::Millis;

/// `cleanup.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// `compression.type`: keep the producer's codec, or recompress with this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerCompression {
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// One topic's effective configuration. Field names are the topic keys with dots replaced;
/// limits of −1 mean "none", as in Kafka.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression_type: BrokerCompression,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: Millis,
    pub file_delete_delay_ms: Millis,
    pub flush_messages: i64,
    pub flush_ms: Millis,
    pub index_interval_bytes: i32,
    pub max_compaction_lag_ms: Millis,
    pub max_message_bytes: i32,
    pub message_downconversion_enable: bool,
    pub message_timestamp_after_max_ms: Millis,
    pub message_timestamp_before_max_ms: Millis,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: Millis,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    pub retention_bytes: i64,
    pub retention_ms: Millis,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: Millis,
    pub segment_ms: Millis,
    pub unclean_leader_election_enable: bool,
}

impl Config {
    /// The configuration of a topic with these overrides. An override that cannot be read (another
    /// broker's, or written to the store by hand) is logged and left out.
    pub fn log_config(&self, overrides: &Properties) -> LogConfig {
        if overrides.is_empty() {
            let defaults = self.log_defaults.get_or_init(|| self.merged(overrides));
            return defaults.clone();
        }
        self.merged(overrides)
    }

    fn merged(&self, overrides: &Properties) -> LogConfig {
        let mut config = LogConfig::default();
        for key in TOPIC_KEYS {
            let own = overrides.get(key.name).and_then(|text| {
                read(key, text)
                    .inspect_err(|error| {
                        tracing::error!(target: "kafka.server.TopicConfigHandler", "{error}; the broker's default is used");
                    })
                    .ok()
            });
            config.set(key.name, own.unwrap_or_else(|| self.topic_default(key)));
        }
        config.settle_timestamp_limits(
            self.topic_number("message.timestamp.difference.max.ms", overrides),
        );
        config
    }

    /// Every topic key with its value for a topic with these overrides, in the table's order;
    /// overrides that cannot be read show the default.
    pub fn topic_values(&self, overrides: &Properties) -> Vec<(&'static TopicKey, Value)> {
        TOPIC_KEYS
            .iter()
            .map(|key| {
                let own = overrides
                    .get(key.name)
                    .and_then(|text| read(key, text).ok());
                (key, own.unwrap_or_else(|| self.topic_default(key)))
            })
            .collect()
    }

    /// Checks overrides of a topic, as CreateTopics and AlterConfigs do (`LogConfig.validate`).
    pub fn validate_topic_overrides(&self, overrides: &Properties) -> Result<(), Error> {
        if let Some(unknown) = overrides
            .keys()
            .find(|name| topic_keys::find(name).is_none())
        {
            return Err(Error::UnknownTopicKey {
                key: unknown.clone(),
            });
        }
        for key in TOPIC_KEYS {
            if let Some(text) = overrides.get(key.name) {
                read(key, text)?;
            }
        }
        let min = self.topic_number("min.compaction.lag.ms", overrides);
        let max = self.topic_number("max.compaction.lag.ms", overrides);
        if min > max {
            return Err(Error::conflict(format!(
                "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
            )));
        }
        let is_true = |name: &str| {
            overrides
                .get(name)
                .is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
        };
        if is_true("remote.log.delete.on.disable") || is_true("remote.log.copy.disable") {
            return Err(Error::conflict(
                "It is invalid to set `remote.log.delete.on.disable` or `remote.log.copy.disable` under Zookeeper's mode.",
            ));
        }
        if is_true("remote.storage.enable") {
            return Err(Error::rule(
                "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
            ));
        }
        Ok(())
    }

    /// A topic key's value when no override is set (`KafkaConfig.extractLogConfigMap`).
    pub fn topic_default(&self, key: &TopicKey) -> Value {
        match key.name {
            "segment.ms" => Value::Long(self.log_roll_ms()),
            "segment.jitter.ms" => Value::Long(self.log_roll_jitter_ms()),
            "flush.ms" => Value::Long(self.log_flush_interval_ms()),
            "retention.ms" => Value::Long(self.log_retention_ms()),
            "message.timestamp.before.max.ms" => {
                Value::Long(self.log_message_timestamp_before_max_ms())
            }
            "message.timestamp.after.max.ms" => {
                Value::Long(self.log_message_timestamp_after_max_ms())
            }
            "message.format.version"
                if version::at_least(self.inter_broker_protocol_version(), "3.0-IV1") =>
            {
                Value::String(key.default.to_owned())
            }
            _ => key
                .server_default
                .and_then(|server| self.value(server))
                .cloned()
                .or_else(|| Value::parse(key.name, key.kind, key.default).ok())
                .unwrap_or(Value::Null),
        }
    }

    fn topic_number(&self, name: &str, overrides: &Properties) -> i64 {
        let Some(key) = topic_keys::find(name) else {
            return i64::MAX;
        };
        let own = overrides.get(name).and_then(|text| read(key, text).ok());
        match own.unwrap_or_else(|| self.topic_default(key)) {
            Value::Long(number) => number,
            _ => i64::MAX,
        }
    }
}

fn read(key: &TopicKey, text: &str) -> Result<Value, Error> {
    let value = Value::parse(key.name, key.kind, text)?;
    key.allowed.check(key.name, &value)?;
    Ok(value)
}

impl LogConfig {
    /// Takes one key's value; keys without a field (tiered storage, throttles) are ignored.
    fn set(&mut self, key: &str, value: Value) {
        match (key, value) {
            ("cleanup.policy", Value::List(v)) => {
                self.cleanup_policy = CleanupPolicy::from_list(&v);
            }
            ("compression.type", Value::String(v)) => {
                self.compression_type =
                    BrokerCompression::from_name(&v).unwrap_or(BrokerCompression::Producer);
            }
            ("message.timestamp.type", Value::String(v)) => {
                self.message_timestamp_type =
                    TimestampType::from_name(&v).unwrap_or(TimestampType::CreateTime);
            }
            ("compression.gzip.level", Value::Int(v)) => self.compression_gzip_level = v,
            ("compression.lz4.level", Value::Int(v)) => self.compression_lz4_level = v,
            ("compression.zstd.level", Value::Int(v)) => self.compression_zstd_level = v,
            ("delete.retention.ms", Value::Long(v)) => self.delete_retention_ms = v,
            ("file.delete.delay.ms", Value::Long(v)) => self.file_delete_delay_ms = v,
            ("flush.messages", Value::Long(v)) => self.flush_messages = v,
            ("flush.ms", Value::Long(v)) => self.flush_ms = v,
            ("index.interval.bytes", Value::Int(v)) => self.index_interval_bytes = v,
            ("max.compaction.lag.ms", Value::Long(v)) => self.max_compaction_lag_ms = v,
            ("max.message.bytes", Value::Int(v)) => self.max_message_bytes = v,
            ("message.downconversion.enable", Value::Boolean(v)) => {
                self.message_downconversion_enable = v;
            }
            ("message.timestamp.after.max.ms", Value::Long(v)) => {
                self.message_timestamp_after_max_ms = v;
            }
            ("message.timestamp.before.max.ms", Value::Long(v)) => {
                self.message_timestamp_before_max_ms = v;
            }
            ("min.cleanable.dirty.ratio", Value::Double(v)) => self.min_cleanable_dirty_ratio = v,
            ("min.compaction.lag.ms", Value::Long(v)) => self.min_compaction_lag_ms = v,
            ("min.insync.replicas", Value::Int(v)) => self.min_insync_replicas = v,
            ("preallocate", Value::Boolean(v)) => self.preallocate = v,
            ("retention.bytes", Value::Long(v)) => self.retention_bytes = v,
            ("retention.ms", Value::Long(v)) => self.retention_ms = v,
            ("segment.bytes", Value::Int(v)) => self.segment_bytes = v,
            ("segment.index.bytes", Value::Int(v)) => self.segment_index_bytes = v,
            ("segment.jitter.ms", Value::Long(v)) => self.segment_jitter_ms = v,
            ("segment.ms", Value::Long(v)) => self.segment_ms = v,
            ("unclean.leader.election.enable", Value::Boolean(v)) => {
                self.unclean_leader_election_enable = v;
            }
            _ => {}
        }
    }

    /// The two limits of KIP-937 default to the one key they replaced.
    fn settle_timestamp_limits(&mut self, difference_max_ms: Millis) {
        for limit in [
            &mut self.message_timestamp_before_max_ms,
            &mut self.message_timestamp_after_max_ms,
        ] {
            if *limit == Millis::MAX {
                *limit = difference_max_ms;
            }
        }
    }
}

impl CleanupPolicy {
    pub(super) fn from_list(policies: &[String]) -> Self {
        let has = |name: &str| policies.iter().any(|one| one.eq_ignore_ascii_case(name));
        Self {
            delete: has("delete"),
            compact: has("compact"),
        }
    }
}

impl BrokerCompression {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "producer" => Self::Producer,
            "uncompressed" => Self::Uncompressed,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

impl TimestampType {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "CreateTime" => Self::CreateTime,
            "LogAppendTime" => Self::LogAppendTime,
            _ => return None,
        })
    }
}

impl Default for LogConfig {
    /// Kafka 3.9's built-in topic defaults.
    fn default() -> Self {
        Self {
            cleanup_policy: CleanupPolicy {
                delete: true,
                compact: false,
            },
            compression_type: BrokerCompression::Producer,
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_zstd_level: 3,
            delete_retention_ms: 86_400_000,
            file_delete_delay_ms: 60_000,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            index_interval_bytes: 4096,
            max_compaction_lag_ms: i64::MAX,
            max_message_bytes: 1_048_588,
            message_downconversion_enable: true,
            message_timestamp_after_max_ms: i64::MAX,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_type: TimestampType::CreateTime,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            min_insync_replicas: 1,
            preallocate: false,
            retention_bytes: -1,
            retention_ms: 604_800_000,
            segment_bytes: 1 << 30,
            segment_index_bytes: 10_485_760,
            segment_jitter_ms: 0,
            segment_ms: 604_800_000,
            unclean_leader_election_enable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Properties {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn without_anything_set_a_topic_has_kafkas_defaults() {
        let config = Config::from_pairs(&[]).unwrap();
        assert_eq!(config.log_config(&Properties::new()), LogConfig::default());
    }

    /// They are remembered, by this configuration and by what is made of it.
    #[test]
    fn defaults_of_topics_are_those_of_their_configuration() {
        let none = Properties::new();
        for ms in ["7", "8"] {
            let config = Config::from_pairs(&[("log.retention.ms", ms)]).unwrap();
            for config in [&config, &config, &config.with_broker_id(3)] {
                assert_eq!(config.log_config(&none).retention_ms.to_string(), ms);
            }
            let own = config.log_config(&overrides(&[("retention.ms", "9")]));
            assert_eq!(own.retention_ms, 9);
        }
    }

    #[test]
    fn topic_overrides_win_over_broker_values_over_built_in_ones() {
        let config = Config::from_pairs(&[
            ("log.retention.minutes", "2"),
            ("log.segment.bytes", "5000"),
            ("log.cleanup.policy", "compact"),
            ("message.max.bytes", "77"),
            ("compression.type", "lz4"),
            ("log.roll.hours", "1"),
        ])
        .unwrap();
        let log = config.log_config(&overrides(&[
            ("segment.bytes", "6000"),
            ("cleanup.policy", "compact, delete"),
            ("message.timestamp.type", "LogAppendTime"),
        ]));
        assert_eq!(log.retention_ms, 120_000);
        assert_eq!(log.segment_bytes, 6000);
        assert_eq!(log.segment_ms, 3_600_000);
        assert_eq!(log.max_message_bytes, 77);
        assert_eq!(log.compression_type, BrokerCompression::Lz4);
        assert_eq!(log.message_timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(
            log.cleanup_policy,
            CleanupPolicy {
                delete: true,
                compact: true
            }
        );
    }

    #[test]
    fn the_old_difference_limit_stands_in_for_limits_not_set() {
        let config = Config::from_pairs(&[]).unwrap();
        let log = config.log_config(&overrides(&[
            ("message.timestamp.difference.max.ms", "9"),
            ("message.timestamp.after.max.ms", "5"),
        ]));
        assert_eq!(log.message_timestamp_before_max_ms, 9);
        assert_eq!(log.message_timestamp_after_max_ms, 5);
    }

    #[test]
    fn an_unreadable_override_of_the_store_leaves_the_default() {
        let config = Config::from_pairs(&[]).unwrap();
        let log = config.log_config(&overrides(&[("retention.ms", "soon"), ("gone", "1")]));
        assert_eq!(log, LogConfig::default());
    }

    #[test]
    fn every_topic_key_with_an_effect_has_a_field() {
        let config = Config::from_pairs(&[]).unwrap();
        for key in TOPIC_KEYS {
            if matches!(key.state, super::super::keys::State::Accepted(_))
                || key.name.ends_with("throttled.replicas")
                || key.name == "message.timestamp.difference.max.ms"
            {
                continue;
            }
            let other = match key.kind {
                super::super::value::Type::Boolean if key.default == "true" => "false",
                super::super::value::Type::Boolean => "true",
                super::super::value::Type::List => "compact",
                super::super::value::Type::Double => "0.25",
                _ if key.name == "message.timestamp.type" => "LogAppendTime",
                _ if key.name == "compression.type" => "gzip",
                _ if key.name.ends_with(".level") => "5",
                _ => "15",
            };
            let changed = config.log_config(&overrides(&[(key.name, other)]));
            assert_ne!(changed, LogConfig::default(), "{}", key.name);
        }
    }

    #[test]
    fn bad_overrides_are_refused_with_kafkas_text() {
        let config = Config::from_pairs(&[]).unwrap();
        let check = |pairs: &[(&str, &str)]| {
            config
                .validate_topic_overrides(&overrides(pairs))
                .map_err(|error| error.to_string())
        };
        for (pairs, expect) in [
            (&[("a", "1")][..], "Unknown topic config name: a"),
            (
                &[("retention.ms", "x")],
                "Invalid value x for configuration retention.ms: Not a number of type LONG",
            ),
            (
                &[("cleanup.policy", "x")],
                "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete",
            ),
            (
                &[
                    ("min.compaction.lag.ms", "5"),
                    ("max.compaction.lag.ms", "3"),
                ],
                "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (3)",
            ),
            (
                &[("message.format.version", "9.9")],
                "Invalid value 9.9 for configuration message.format.version: Version 9.9 is not a valid version",
            ),
            (
                &[("leader.replication.throttled.replicas", "x")],
                "Invalid value [x] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            ),
            (
                &[("remote.log.copy.disable", "true")],
                "It is invalid to set `remote.log.delete.on.disable` or `remote.log.copy.disable` under Zookeeper's mode.",
            ),
            (
                &[("remote.storage.enable", "true")],
                "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
            ),
            (
                &[("min.cleanable.dirty.ratio", "2")],
                "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
            ),
            (
                &[("preallocate", "1")],
                "Invalid value 1 for configuration preallocate: Expected value to be either true or false",
            ),
        ] {
            assert_eq!(check(pairs), Err(expect.to_owned()), "{pairs:?}");
        }
        assert_eq!(
            check(&[
                ("retention.ms", "1000"),
                ("cleanup.policy", "compact,delete")
            ]),
            Ok(())
        );
    }
}
