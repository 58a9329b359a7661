//! The sources of the configuration in their order, and what is worth a line at start.
//!
//! Built-in defaults < file < environment < `KEY=VALUE` arguments < `--override`. Without a file
//! and without `zookeeper.connect` the defaults of [`Config::quick_start`] stand below all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::environment::Environment;
use super::keys::{self, KEYS, State};
use super::{Config, Error, Properties, dynamic, file, kraft};

/// What the command line says about configuration.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `server.properties`.
    pub file: Option<PathBuf>,
    /// `KEY=VALUE` without `--override`, as images pass them.
    pub arguments: Vec<String>,
    /// `--override KEY=VALUE`.
    pub overrides: Vec<String>,
    /// The file stands where bitnami's image looks for one, which switches `KAFKA_CFG_*` off.
    pub file_replaces_cfg: bool,
}

/// A configuration with what came along.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub environment: Environment,
    /// The file was one for KRaft (see `config/kraft.rs`): tools wait for KRaft's log lines.
    pub from_kraft: bool,
}

impl Sources {
    /// Reads all sources; `variables` is the process's environment.
    pub fn load(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, Error> {
        let mut properties = match &self.file {
            Some(path) => file::read(path)?,
            None => Properties::new(),
        };
        let environment = Environment::read(variables, self.file_replaces_cfg)?;
        for (key, value) in &environment.properties {
            properties.insert(key.clone(), value.clone());
        }
        if !properties.contains_key("listeners") {
            properties.extend(environment.derived.clone());
        }
        for argument in self.arguments.iter().chain(&self.overrides) {
            let (key, value) = file::parse_argument(argument)?;
            properties.insert(key, value);
        }
        let from_kraft = kraft::is_kraft(&properties);
        if from_kraft {
            properties = kraft::to_embedded(&properties)?;
        } else if properties.contains_key("zookeeper.connect") {
            properties.remove("process.roles");
            if !truthy(properties.get("zookeeper.metadata.migration.enable")) {
                properties.retain(|key, _| {
                    key != "controller.listener.names" && !key.starts_with("controller.quorum.")
                });
            }
        }
        if self.file.is_none() && !properties.contains_key("zookeeper.connect") {
            for (key, value) in Config::quick_start() {
                let stands_for = |other: &str| key == "broker.id" && other == "node.id";
                let replaced = properties
                    .keys()
                    .any(|other| stands_for(other) || (key == "log.dirs" && other == "log.dir"));
                if !replaced {
                    properties.entry(key).or_insert(value);
                }
            }
        }
        Ok(Loaded {
            config: Config::new(properties)?,
            environment,
            from_kraft,
        })
    }
}

fn truthy(value: Option<&String>) -> bool {
    value.is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
}

/// Names that are no key of Kafka's, for one WARN each.
pub fn unknown_keys(config: &Config) -> Vec<&str> {
    config
        .properties()
        .keys()
        .map(String::as_str)
        .filter(|key| {
            dynamic::synonyms_with_listeners(key)
                .into_iter()
                .all(|name| keys::find(name).is_none())
        })
        .collect()
}

/// Keys set to something other than their default that have no effect, with the reason.
pub fn keys_without_effect(config: &Config) -> Vec<(&'static str, &'static str)> {
    KEYS.iter()
        .filter(|key| config.is_set(key.name))
        .filter(|key| config.text(key.name).as_deref() != key.default)
        .filter_map(|key| match key.state {
            State::Effective => None,
            State::Accepted(reason) | State::Later(reason) => Some((key.name, reason)),
        })
        .filter(|(name, _)| *name != "node.id")
        .collect()
}

/// Logs both, once, at start.
pub fn log_notes(loaded: &Loaded) {
    const TARGET: &str = "kafka.server.KafkaConfig";
    for note in &loaded.environment.notes {
        tracing::warn!(target: TARGET, "{note}");
    }
    for key in unknown_keys(&loaded.config) {
        tracing::warn!(target: TARGET, "The configuration '{key}' was supplied but isn't a known config.");
    }
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, reason) in keys_without_effect(&loaded.config) {
        by_reason.entry(reason).or_default().push(key);
    }
    for (reason, keys) in by_reason {
        tracing::warn!(target: TARGET, "Without effect here: {}; {reason}.", keys.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(sources: &Sources, variables: &[(&str, &str)]) -> Result<Loaded, Error> {
        sources.load(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn file_with(text: &str) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.properties");
        std::fs::write(&path, text).unwrap();
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        (dir, sources)
    }

    #[test]
    fn later_sources_win() {
        let (_dir, mut sources) =
            file_with("num.partitions=2\nzookeeper.connect=zk:1\nlog.segment.bytes=20\n");
        let partitions = |sources: &Sources, variables: &[(&str, &str)]| {
            load(sources, variables).unwrap().config.num_partitions()
        };
        assert_eq!(partitions(&Sources::default(), &[]), 1);
        assert_eq!(partitions(&sources, &[]), 2);
        let environment = [("KAFKA_NUM_PARTITIONS", "3")];
        assert_eq!(partitions(&sources, &environment), 3);
        sources.arguments = vec!["num.partitions=4".into()];
        assert_eq!(partitions(&sources, &environment), 4);
        sources.overrides = vec!["num.partitions=5".into()];
        assert_eq!(partitions(&sources, &environment), 5);
    }

    #[test]
    fn listeners_of_the_file_stay_when_the_environment_advertises_others() {
        let (_dir, sources) = file_with("zookeeper.connect=zk:1\nlisteners=PLAINTEXT://:1\n");
        let variables = [("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://h:2")];
        let config = load(&sources, &variables).unwrap().config;
        assert_eq!(config.listeners()[0].port, 1);
        assert_eq!(config.advertised_listeners()[0].port, 2);
    }

    #[test]
    fn without_any_configuration_one_broker_runs_by_itself() {
        let config = load(&Sources::default(), &[("PATH", "/bin")])
            .unwrap()
            .config;
        assert!(config.uses_embedded_store());
        assert_eq!(config.broker_id(), 0);
        assert_eq!(config.log_dirs(), [PathBuf::from("./ottla-data")]);
        assert_eq!(
            config.listeners()[0].to_string(),
            "PLAINTEXT://localhost:9092"
        );
        assert_eq!(config.offsets_topic_replication_factor(), 1);
        assert_eq!(config.transaction_state_log_min_isr(), 1);
        assert_eq!(config.group_initial_rebalance_delay_ms(), 0);
    }

    #[test]
    fn with_zookeeper_kafkas_defaults_hold() {
        let config = load(
            &Sources::default(),
            &[("KAFKA_ZOOKEEPER_CONNECT", "zk:2181")],
        )
        .unwrap()
        .config;
        assert_eq!(config.broker_id(), -1);
        assert_eq!(config.offsets_topic_replication_factor(), 3);
        assert_eq!(config.group_initial_rebalance_delay_ms(), 3000);
        assert_eq!(config.log_dirs(), [PathBuf::from("/tmp/kafka-logs")]);
    }

    #[test]
    fn a_typo_in_a_value_names_key_and_value() {
        let error = load(&Sources::default(), &[("KAFKA_NUM_PARTITIONS", "abc")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Invalid value abc for configuration num.partitions: Not a number of type INT"
        );
    }

    #[test]
    fn kraft_variables_of_one_node_start_it() {
        let loaded = load(
            &Sources::default(),
            &[
                ("KAFKA_PROCESS_ROLES", "broker,controller"),
                ("KAFKA_NODE_ID", "1"),
                ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093"),
                ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
                ("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093"),
            ],
        )
        .unwrap();
        assert!(loaded.from_kraft);
        assert_eq!(loaded.config.broker_id(), 1);
        assert!(load(&Sources::default(), &[("KAFKA_PROCESS_ROLES", "broker")]).is_err());
    }

    #[test]
    fn unknown_keys_and_keys_without_effect_are_told_apart() {
        let config = Config::from_pairs(&[
            ("max.request.size", "1"),
            ("listener.name.a.ssl.keystore.type", "PEM"),
            ("listener.name.a.nonsense", "1"),
            ("num.io.threads", "16"),
            ("num.network.threads", "3"),
            ("log.cleaner.enable", "false"),
        ])
        .unwrap();
        assert_eq!(
            unknown_keys(&config),
            ["listener.name.a.nonsense", "max.request.size"]
        );
        let names: Vec<&str> = keys_without_effect(&config)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["num.io.threads", "log.cleaner.enable"]);
    }

    #[test]
    fn kafkas_stock_file_starts() {
        let stock = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/server.properties");
        let sources = Sources {
            file: Some(PathBuf::from(stock)),
            ..Sources::default()
        };
        let config = load(&sources, &[]).unwrap().config;
        assert_eq!(config.zookeeper_connect(), Some("localhost:2181"));
        assert_eq!(config.broker_id(), 0);
        assert_eq!(config.log_dirs(), [PathBuf::from("/tmp/kafka-logs")]);
        assert!(unknown_keys(&config).is_empty());
        assert!(keys_without_effect(&config).is_empty());
    }
}
