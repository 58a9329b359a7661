//! Configuration: one table of keys, its sources, and typed views of the result.
//!
//! Sources, later ones win: built-in defaults < `server.properties` < `KAFKA_*` environment <
//! `KEY=VALUE` arguments < `--override`; over these the dynamic configs of the coordination store,
//! `/config/brokers/<default>` < `/config/brokers/<id>` (KIP-226).
//!
//! To add a key, add one row to `keys.rs`. Code reads `config.log_segment_bytes()`, never a name.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::types::BrokerId;

pub mod docs;
pub mod dynamic;
mod effective;
pub mod environment;
mod error;
pub mod file;
pub mod keys;
pub mod kraft;
pub mod listener;
pub mod logging;
pub mod sources;
pub mod topic;
pub mod topic_keys;
pub mod value;
pub mod version;

pub use dynamic::{LiveConfig, Scope};
pub use error::Error;
pub use listener::{Listener, SecurityProtocol};
pub use value::Password;

use effective::Effective;
use keys::KEYS;
use topic::LogConfig;
use value::Value;

/// Keys with their values as text, as a file or a znode holds them.
pub type Properties = BTreeMap<String, String>;

/// One consistent state of the broker's configuration, parsed and checked. One typed accessor per
/// key, named after the key with dots replaced by underscores.
#[derive(Clone)]
pub struct Config {
    /// By [`keys::Slot`].
    values: Vec<Value>,
    /// What was set, by whatever source; unknown keys too.
    set: Properties,
    effective: Effective,
    /// Of a topic without overrides, once one was asked for: a start asks for each partition.
    log_defaults: OnceLock<LogConfig>,
}

impl Config {
    /// Parses and checks. Unknown keys are kept and have no effect.
    pub fn new(properties: Properties) -> Result<Self, Error> {
        let mut set = properties;
        match (set.get("broker.id").cloned(), set.get("node.id").cloned()) {
            (Some(id), None) => set.insert("node.id".to_owned(), id),
            (None, Some(id)) => set.insert("broker.id".to_owned(), id),
            _ => None,
        };
        let mut values = Vec::with_capacity(KEYS.len());
        for key in KEYS {
            let value = match set.get(key.name).map(String::as_str).or(key.default) {
                Some(text) => Value::parse(key.name, key.kind, text)?,
                None => Value::Null,
            };
            key.allowed.check(key.name, &value)?;
            values.push(value);
        }
        let mut config = Self {
            values,
            set,
            effective: Effective::default(),
            log_defaults: OnceLock::new(),
        };
        config.derive()?;
        Ok(config)
    }

    /// The configuration from a few pairs, over Kafka's defaults; mostly for tests.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, Error> {
        Self::new(
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    /// What `ottla` without any configuration runs with: one broker by itself, on this machine,
    /// with the replication factors such a broker can meet (those of Kafka's stock
    /// `server.properties`).
    pub fn quick_start() -> Properties {
        [
            ("broker.id", "0"),
            ("listeners", "PLAINTEXT://localhost:9092"),
            ("log.dirs", "./ottla-data"),
            ("offsets.topic.replication.factor", "1"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("group.initial.rebalance.delay.ms", "0"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// The same configuration as the broker that took `id` (from `/brokers/seqid` or
    /// `meta.properties`) because none was configured.
    pub fn with_broker_id(&self, id: BrokerId) -> Self {
        let mut config = self.clone();
        config.effective.broker_id = Some(id);
        config
    }

    /// True when some source set the key.
    pub fn is_set(&self, key: &str) -> bool {
        self.set.contains_key(key)
    }

    /// Everything that was set, unknown keys included.
    pub fn properties(&self) -> &Properties {
        &self.set
    }

    /// A key's value as text: `None` for null or an unknown key, hidden for passwords.
    pub fn text(&self, key: &str) -> Option<String> {
        self.value(key)?.text()
    }

    /// A key's parsed value; `None` for an unknown key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        Some(&self.values[keys::slot(key)?])
    }
}

impl std::fmt::Debug for Config {
    /// What was set, with secrets hidden.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.set.iter().map(|(key, value)| {
                let hidden = dynamic::is_sensitive(key);
                (key, if hidden { Password::HIDDEN } else { value })
            }))
            .finish()
    }
}

#[cfg(test)]
mod tests;
