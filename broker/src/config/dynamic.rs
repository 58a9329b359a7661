//! The configuration now, and how it changes while the broker runs (KIP-226, `DynamicBrokerConfig`).
//!
//! Three layers of text: what the broker was started with < the cluster's default
//! (`/config/brokers/<default>`) < this broker's own (`/config/brokers/<id>`). Each change of a
//! layer parses the sum anew and swaps it whole.
//!
//! 1. What the store holds never stops the broker: an entry that is not allowed there is logged
//!    and left out, and a sum that contradicts itself leaves the old configuration in place.
//! 2. A key set in a higher layer removes its synonyms from the lower ones, so that
//!    `log.retention.hours` set dynamically wins over `log.retention.ms` of the file.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::keys::{self, KEYS, Key, Mode};
use super::value::{Type, Value};
use super::{Config, Error, Properties};

/// The name of the entity whose configuration all others of its type start from.
const DEFAULT_ENTITY: &str = "<default>";

/// Which part of `/config/brokers` a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `/config/brokers/<id>` of this broker.
    ThisBroker,
    /// `/config/brokers/<default>`.
    ClusterDefault,
}

/// The three layers as text, for DescribeConfigs.
#[derive(Clone, Default)]
pub struct Layers {
    /// What the broker was started with.
    pub static_broker: Arc<Properties>,
    pub dynamic_default: Arc<Properties>,
    pub dynamic_broker: Arc<Properties>,
}

/// The configuration now; dynamic changes replace it whole.
pub struct LiveConfig {
    current: ArcSwap<Config>,
    started_with: Config,
    layers: Mutex<Layers>,
    changes: watch::Sender<u64>,
}

impl LiveConfig {
    pub fn new(config: Config) -> Self {
        let layers = Layers {
            static_broker: Arc::new(config.properties().clone()),
            ..Layers::default()
        };
        Self {
            current: ArcSwap::from_pointee(config.clone()),
            started_with: config,
            layers: Mutex::new(layers),
            changes: watch::Sender::new(0),
        }
    }

    pub fn load(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// Changes after every swap: subscribe first, then load, then wait.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn layers(&self) -> Layers {
        self.layers.lock().clone()
    }

    /// Takes what the store holds for `scope` as that layer. Returns whether it is in force; when
    /// not, the reason was logged and everything stays as it was.
    pub fn apply(&self, scope: Scope, stored: &Properties) -> bool {
        let accepted = Arc::new(accept_stored(scope, stored));
        let mut layers = self.layers.lock();
        let mut proposed = layers.clone();
        match scope {
            Scope::ThisBroker => proposed.dynamic_broker = accepted,
            Scope::ClusterDefault => proposed.dynamic_default = accepted,
        }
        let config = match self.sum(&proposed) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(
                    target: "kafka.server.DynamicBrokerConfig",
                    "{} could not be applied: {error}; set were: {}",
                    match scope {
                        Scope::ThisBroker => "Per-broker configs",
                        Scope::ClusterDefault => "Cluster default configs",
                    },
                    names(stored.keys())
                );
                return false;
            }
        };
        *layers = proposed;
        self.current.store(Arc::new(config));
        drop(layers);
        self.changes.send_modify(|count| *count += 1);
        true
    }

    /// [`LiveConfig::apply`] for an entity of `/config/brokers`; those of other brokers are ignored
    /// (`BrokerConfigHandler`).
    pub fn apply_entity(&self, entity_name: &str, stored: &Properties) {
        if entity_name == DEFAULT_ENTITY {
            self.apply(Scope::ClusterDefault, stored);
        } else if entity_name.parse() == Ok(self.started_with.broker_id()) {
            self.apply(Scope::ThisBroker, stored);
        }
    }

    /// Whether `proposed` could become the layer of `scope`: the checks of AlterConfigs.
    pub fn validate(&self, scope: Scope, proposed: &Properties) -> Result<(), Error> {
        check_names(scope, proposed)?;
        let layers = self.layers();
        let proposed = Arc::new(proposed.clone());
        let sum = match scope {
            Scope::ThisBroker => Layers {
                dynamic_broker: proposed,
                ..layers
            },
            Scope::ClusterDefault => Layers {
                dynamic_default: proposed,
                ..layers
            },
        };
        let config = self.sum(&sum)?;
        check_change(&self.load(), &config)
    }

    fn sum(&self, layers: &Layers) -> Result<Config, Error> {
        let mut sum = (*layers.static_broker).clone();
        for layer in [&layers.dynamic_default, &layers.dynamic_broker] {
            for (key, value) in layer.iter() {
                for synonym in synonyms(key) {
                    sum.remove(synonym);
                }
                sum.insert(key.clone(), value.clone());
            }
        }
        Ok(Config::new(sum)?.with_broker_id(self.started_with.broker_id()))
    }
}

/// The keys that make one value together with `key`, most important first; the key itself when it
/// stands alone (`DynamicBrokerConfig.brokerConfigSynonyms` without listener overrides).
pub fn synonyms(key: &str) -> Vec<&str> {
    const ROLL: [&str; 2] = ["log.roll.ms", "log.roll.hours"];
    const JITTER: [&str; 2] = ["log.roll.jitter.ms", "log.roll.jitter.hours"];
    const FLUSH: [&str; 2] = ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];
    const RETENTION: [&str; 3] = [
        "log.retention.ms",
        "log.retention.minutes",
        "log.retention.hours",
    ];
    if ROLL.contains(&key) {
        ROLL.to_vec()
    } else if JITTER.contains(&key) {
        JITTER.to_vec()
    } else if key == FLUSH[0] {
        // The scheduler's interval is the default of the other, not the other way round.
        FLUSH.to_vec()
    } else if RETENTION.contains(&key) {
        RETENTION.to_vec()
    } else {
        vec![key]
    }
}

/// [`synonyms`], and for `listener.name.<listener>.[<mechanism>.]<key>` that key.
pub fn synonyms_with_listeners(key: &str) -> Vec<&str> {
    const OF_MECHANISMS: [&str; 5] = [
        "sasl.jaas.config",
        "sasl.login.callback.handler.class",
        "sasl.login.class",
        "sasl.server.callback.handler.class",
        "connections.max.reauth.ms",
    ];
    match listener_override(key) {
        None => synonyms(key),
        Some(base) => {
            let base = OF_MECHANISMS
                .into_iter()
                .find(|name| base.ends_with(name))
                .unwrap_or(base);
            vec![key, base]
        }
    }
}

/// `<key>` of `listener.name.<listener>.<key>`.
pub(super) fn listener_override(key: &str) -> Option<&str> {
    let (_, base) = key.strip_prefix("listener.name.")?.split_once('.')?;
    Some(base)
}

/// The type of a key, dynamic-only keys and listener overrides included (`KafkaConfig.configType`).
pub fn type_of(key: &str) -> Option<Type> {
    keys::find_dynamic(key)
        .or_else(|| {
            synonyms_with_listeners(key)
                .into_iter()
                .find_map(keys::find)
        })
        .map(|key| key.kind)
}

/// True when a value must not be shown: a password, or a key we know nothing about.
pub fn is_sensitive(key: &str) -> bool {
    type_of(key).is_none_or(|kind| kind == Type::Password)
}

/// Keys that only make sense for one listener at a time (`SslConfigs.RECONFIGURABLE_CONFIGS`).
const PER_LISTENER: [&str; 10] = [
    "ssl.keystore.type",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.key.password",
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.truststore.certificates",
];

/// Listener overrides that a cluster's default may hold.
const CLUSTER_WIDE_OVERRIDES: [&str; 3] = [
    "max.connections",
    "max.connection.creation.rate",
    "num.network.threads",
];

fn is_read_only(key: &str) -> bool {
    keys::find(key).is_some_and(|key| key.mode == Mode::ReadOnly)
}

fn is_per_broker(key: &str) -> bool {
    match listener_override(key) {
        Some(base) => !CLUSTER_WIDE_OVERRIDES.contains(&base),
        None => keys::find(key).is_some_and(|key| key.mode == Mode::PerBroker),
    }
}

/// Dynamic passwords are stored encrypted with `password.encoder.secret`.
fn is_password(key: &str) -> bool {
    KEYS.iter().any(|known| {
        known.kind == Type::Password && known.mode != Mode::ReadOnly && key.ends_with(known.name)
    })
}

/// The checks a proposed layer must pass by itself, in Kafka's order.
fn check_names(scope: Scope, proposed: &Properties) -> Result<(), Error> {
    let refuse = |rule: &'static str, wrong: Vec<&str>, set: &str| {
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::NotDynamic {
            rule,
            keys: format!("{set}({})", wrong.join(", ")),
        })
    };
    let all = || proposed.keys().map(String::as_str);
    let read_only: Vec<&str> = all().filter(|key| is_read_only(key)).collect();
    // As Scala prints a set, which clients show: by another name from five members on.
    let set = if read_only.len() > 4 {
        "HashSet"
    } else {
        "Set"
    };
    refuse("Cannot update these configs dynamically", read_only, set)?;
    refuse(
        "These security configs can be dynamically updated only per-listener using the listener prefix",
        all().filter(|key| PER_LISTENER.contains(key)).collect(),
        "HashSet",
    )?;
    for (key, value) in proposed {
        check_value(key, value)?;
    }
    if scope == Scope::ClusterDefault {
        let per_broker: Vec<&str> = all().filter(|key| is_per_broker(key)).collect();
        let set = if per_broker.len() > 4 {
            "HashSet"
        } else {
            "Set"
        };
        refuse(
            "Cannot update these configs at default cluster level, broker id must be specified",
            per_broker,
            set,
        )?;
    }
    if let Some(key) = all().find(|key| is_password(key)) {
        return Err(Error::rule(format!(
            "Password encoder secret not configured: {key} cannot be stored, because this version of Ottla does not encrypt dynamic passwords yet; set it in server.properties"
        )));
    }
    Ok(())
}

/// Checks one entry by itself; keys that are not Kafka's may hold anything.
fn check_value(key: &str, value: &str) -> Result<(), Error> {
    let name = listener_override(key).unwrap_or(key);
    match keys::find_dynamic(name) {
        Some(known) if known.mode != Mode::ReadOnly || is_dynamic_only(known) => {
            let value = Value::parse(name, known.kind, value)?;
            known.allowed.check(name, &value)
        }
        _ => Ok(()),
    }
}

fn is_dynamic_only(key: &Key) -> bool {
    keys::find(key.name).is_none()
}

/// What of a stored layer may take part (`fromPersistentProps`); the rest is logged.
pub fn accept_stored(scope: Scope, stored: &Properties) -> Properties {
    let mut accepted = Properties::new();
    for (key, value) in stored {
        let reason = if let Err(error) = check_value(key, value) {
            Some(error.to_string())
        } else if is_read_only(key) {
            Some("it cannot be changed dynamically".to_owned())
        } else if PER_LISTENER.contains(&key.as_str()) {
            Some("it can be changed dynamically only with a listener prefix".to_owned())
        } else if scope == Scope::ClusterDefault && is_per_broker(key) {
            Some("it cannot be set as the cluster's default".to_owned())
        } else if is_password(key) {
            Some("dynamic passwords are not decoded by this version".to_owned())
        } else {
            None
        };
        match reason {
            None => {
                accepted.insert(key.clone(), value.clone());
            }
            Some(reason) => tracing::error!(
                target: "kafka.server.DynamicBrokerConfig",
                "Dynamic {} config {key} will be ignored: {reason}",
                match scope {
                    Scope::ThisBroker => "broker",
                    Scope::ClusterDefault => "default cluster",
                }
            ),
        }
    }
    accepted
}

/// What the parts that would have to follow a change say to it (`BrokerReconfigurable`).
fn check_change(old: &Config, new: &Config) -> Result<(), Error> {
    let threads = [
        ("num.io.threads", old.num_io_threads(), new.num_io_threads()),
        (
            "num.replica.fetchers",
            old.num_replica_fetchers(),
            new.num_replica_fetchers(),
        ),
        (
            "num.recovery.threads.per.data.dir",
            old.num_recovery_threads_per_data_dir(),
            new.num_recovery_threads_per_data_dir(),
        ),
        (
            "background.threads",
            old.background_threads(),
            new.background_threads(),
        ),
        (
            "num.network.threads",
            old.num_network_threads(),
            new.num_network_threads(),
        ),
        (
            "log.cleaner.threads",
            old.log_cleaner_threads(),
            new.log_cleaner_threads(),
        ),
    ];
    for (key, old, new) in threads {
        let reason = if new == old {
            continue;
        } else if new <= 0 {
            "value should be at least 1".to_owned()
        } else if new < old / 2 {
            format!("value should be at least half the current value {old}")
        } else if i64::from(new) > i64::from(old) * 2 {
            format!("value should not be greater than double the current value {old}")
        } else {
            continue;
        };
        return Err(refused(&format!(
            "Dynamic thread count update validation failed for {key}={new}, {reason}"
        )));
    }
    for listener in new.listeners() {
        let before = old.listeners().iter().find(|one| one.name == listener.name);
        if before.is_some_and(|one| one.security_protocol != listener.security_protocol) {
            return Err(refused(&format!(
                "Security protocol cannot be updated for existing listener {}",
                listener.name
            )));
        }
    }
    Ok(())
}

/// Kafka wraps the reason in a second exception, and its text shows.
fn refused(reason: &str) -> Error {
    Error::rule(format!(
        "Invalid value org.apache.kafka.common.config.ConfigException: {reason} for configuration \
         Invalid dynamic configuration"
    ))
}

fn names<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = keys.map(String::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn live(pairs: &[(&str, &str)]) -> LiveConfig {
        LiveConfig::new(Config::from_pairs(pairs).unwrap())
    }

    #[test]
    fn per_broker_wins_over_cluster_default_over_file_over_built_in() {
        let live = live(&[("log.segment.bytes", "1000")]);
        assert_eq!(live.load().log_segment_bytes(), 1000);
        assert!(live.apply(
            Scope::ClusterDefault,
            &properties(&[("log.segment.bytes", "2000")])
        ));
        assert_eq!(live.load().log_segment_bytes(), 2000);
        assert!(live.apply(
            Scope::ThisBroker,
            &properties(&[("log.segment.bytes", "3000")])
        ));
        assert_eq!(live.load().log_segment_bytes(), 3000);
        assert!(live.apply(Scope::ThisBroker, &Properties::new()));
        assert!(live.apply(Scope::ClusterDefault, &Properties::new()));
        assert_eq!(live.load().log_segment_bytes(), 1000);
    }

    #[test]
    fn entities_of_other_brokers_are_ignored() {
        let live = live(&[("broker.id", "1")]);
        let max = |bytes: &str| properties(&[("message.max.bytes", bytes)]);
        live.apply_entity("2", &max("22"));
        assert_eq!(live.load().message_max_bytes(), 1_048_588);
        live.apply_entity("<default>", &max("33"));
        assert_eq!(live.load().message_max_bytes(), 33);
        live.apply_entity("1", &max("11"));
        assert_eq!(live.load().message_max_bytes(), 11);
    }

    #[test]
    fn a_dynamic_synonym_wins_over_a_finer_static_one() {
        let live = live(&[("log.retention.hours", "1"), ("log.retention.minutes", "5")]);
        assert_eq!(live.load().log_retention_ms(), 300_000);
        live.apply(Scope::ThisBroker, &properties(&[("log.retention.ms", "7")]));
        assert_eq!(live.load().log_retention_ms(), 7);
    }

    #[test]
    fn stored_entries_that_are_not_allowed_are_left_out_alone() {
        let live = live(&[]);
        let stored = properties(&[
            ("num.partitions", "7"),
            ("log.segment.bytes", "abc"),
            ("message.max.bytes", "99"),
            ("ssl.keystore.type", "PEM"),
            ("custom.key", "kept"),
        ]);
        assert!(live.apply(Scope::ThisBroker, &stored));
        let now = live.load();
        assert_eq!(now.num_partitions(), 1);
        assert_eq!(now.log_segment_bytes(), 1 << 30);
        assert_eq!(now.message_max_bytes(), 99);
        assert!(now.is_set("custom.key"));
        assert_eq!(live.layers().dynamic_broker.len(), 2);
    }

    #[test]
    fn a_contradiction_in_the_store_changes_nothing() {
        let live = live(&[("listeners", "PLAINTEXT://:9092")]);
        let mut changes = live.changes();
        changes.mark_unchanged();
        let stored = properties(&[("advertised.listeners", "SSL://h:1")]);
        assert!(!live.apply(Scope::ThisBroker, &stored));
        assert_eq!(live.load().advertised_listeners()[0].port, 9092);
        assert!(!changes.has_changed().unwrap());
    }

    #[test]
    fn proposals_are_refused_with_kafkas_text() {
        let live = live(&[]);
        let check = |scope, pairs: &[(&str, &str)]| {
            live.validate(scope, &properties(pairs))
                .map_err(|error| error.to_string())
        };
        use Scope::{ClusterDefault, ThisBroker};
        for (scope, pairs, expect) in [
            (
                ThisBroker,
                &[("num.partitions", "3")][..],
                "Cannot update these configs dynamically: Set(num.partitions)",
            ),
            (
                ThisBroker,
                &[("ssl.keystore.type", "x")],
                "These security configs can be dynamically updated only per-listener using the listener prefix: HashSet(ssl.keystore.type)",
            ),
            (
                ClusterDefault,
                &[("advertised.listeners", "x")],
                "Cannot update these configs at default cluster level, broker id must be specified: Set(advertised.listeners)",
            ),
            (
                ClusterDefault,
                &[("listener.name.a.ssl.keystore.type", "x")],
                "Cannot update these configs at default cluster level, broker id must be specified: Set(listener.name.a.ssl.keystore.type)",
            ),
            (
                ThisBroker,
                &[("log.segment.bytes", "1")],
                "Invalid value 1 for configuration log.segment.bytes: Value must be at least 14",
            ),
            (
                ThisBroker,
                &[("log.retention.ms", "x")],
                "Invalid value x for configuration log.retention.ms: Not a number of type LONG",
            ),
            (
                ThisBroker,
                &[("listener.name.a.max.connections", "x")],
                "Invalid value x for configuration max.connections: Not a number of type INT",
            ),
            (
                ThisBroker,
                &[("leader.replication.throttled.rate", "-5")],
                "Invalid value -5 for configuration leader.replication.throttled.rate: Value must be at least 0",
            ),
            (
                ThisBroker,
                &[("log.roll.hours", "3")],
                "Cannot update these configs dynamically: Set(log.roll.hours)",
            ),
            (
                ThisBroker,
                &[("num.io.threads", "100")],
                "Invalid value org.apache.kafka.common.config.ConfigException: Dynamic thread count update validation failed for num.io.threads=100, value should not be greater than double the current value 8 for configuration Invalid dynamic configuration",
            ),
        ] {
            assert_eq!(check(scope, pairs), Err(expect.to_owned()), "{pairs:?}");
        }
        assert_eq!(check(ThisBroker, &[("my.own.key", "1")]), Ok(()));
        assert_eq!(
            check(ThisBroker, &[("leader.replication.throttled.rate", "5")]),
            Ok(())
        );
    }

    #[test]
    fn types_of_overrides_and_dynamic_only_keys_are_known() {
        assert_eq!(type_of("log.segment.bytes"), Some(Type::Int));
        assert_eq!(
            type_of("leader.replication.throttled.rate"),
            Some(Type::Long)
        );
        assert_eq!(
            type_of("listener.name.a.ssl.keystore.password"),
            Some(Type::Password)
        );
        assert_eq!(
            type_of("listener.name.a.scram-sha-256.sasl.jaas.config"),
            Some(Type::Password)
        );
        assert_eq!(type_of("what.is.this"), None);
        assert!(is_sensitive("what.is.this"));
    }

    #[test]
    fn a_generated_broker_id_survives_dynamic_changes() {
        let config = Config::from_pairs(&[]).unwrap().with_broker_id(1001);
        let live = LiveConfig::new(config);
        live.apply(
            Scope::ThisBroker,
            &properties(&[("message.max.bytes", "99")]),
        );
        assert_eq!(live.load().broker_id(), 1001);
        assert_eq!(live.load().text("broker.id").as_deref(), Some("-1"));
    }
}
