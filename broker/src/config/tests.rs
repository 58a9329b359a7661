//! The tables against what Kafka 3.9 itself says of its keys, and the rules that span keys.

use std::path::PathBuf;

use super::keys::{Importance, KEYS, Mode};
use super::topic_keys::TOPIC_KEYS;
use super::value::Allowed;
use super::*;

/// Rows of a fixture, split at tabs.
fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
}

fn shown(default: Option<&str>) -> String {
    default.map_or("null".to_owned(), |text| format!("\"{text}\""))
}

fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::High => "HIGH",
        Importance::Medium => "MEDIUM",
        Importance::Low => "LOW",
    }
}

/// Kafka's text of what is allowed, or `*` where ours is another.
fn check_allowed(name: &str, allowed: Allowed, expect: &str) {
    if expect != "*" {
        let ours = allowed.describe();
        // Java prints a set of names in no order.
        match (allowed, expect.strip_prefix("(case insensitive) ")) {
            (Allowed::IgnoringCase(_), Some(_)) => {}
            _ => assert_eq!(ours, expect, "{name}"),
        }
    }
}

#[test]
fn the_broker_table_is_kafkas() {
    let kafka: Vec<_> = rows(include_str!("testdata/broker-keys.tsv")).collect();
    assert_eq!(kafka.len(), KEYS.len());
    for (row, key) in kafka.iter().zip(KEYS) {
        let mode = match key.mode {
            Mode::ReadOnly => "read-only",
            Mode::PerBroker => "per-broker",
            Mode::ClusterWide => "cluster-wide",
        };
        let ours = [
            key.name,
            key.kind.name(),
            &shown(key.default),
            importance(key.importance),
            if key.internal { "internal" } else { "public" },
            mode,
        ];
        assert_eq!(row[..6], ours);
        check_allowed(key.name, key.allowed, row[6]);
    }
}

#[test]
fn the_topic_table_is_kafkas() {
    let kafka: Vec<_> = rows(include_str!("testdata/topic-keys.tsv")).collect();
    assert_eq!(kafka.len(), TOPIC_KEYS.len());
    for (row, key) in kafka.iter().zip(TOPIC_KEYS) {
        let ours = [
            key.name,
            key.kind.name(),
            &shown(Some(key.default)),
            importance(key.importance),
            key.server_default.unwrap_or("-"),
        ];
        assert_eq!(row[..5], ours);
        check_allowed(key.name, key.allowed, row[5]);
    }
}

#[test]
fn every_default_comes_back_from_its_accessor_as_text() {
    let config = Config::from_pairs(&[]).unwrap();
    for key in KEYS {
        if key.kind != value::Type::Password {
            assert_eq!(
                config.text(key.name).as_deref(),
                key.default,
                "{}",
                key.name
            );
        }
    }
    assert_eq!(config.log_segment_bytes(), 1 << 30);
    assert_eq!(config.offsets_topic_replication_factor(), 3);
    assert_eq!(config.log_cleaner_min_cleanable_ratio(), 0.5);
    assert_eq!(config.broker_rack(), None);
    assert_eq!(config.sasl_enabled_mechanisms(), ["GSSAPI"]);
    assert_eq!(config.inter_broker_protocol_version(), "3.9-IV0");
    assert!(config.auto_create_topics_enable());
    assert!(config.uses_topic_ids());
}

#[test]
fn every_row_says_what_the_key_does() {
    let docs = KEYS
        .iter()
        .map(|key| (key.name, key.doc))
        .chain(TOPIC_KEYS.iter().map(|key| (key.name, key.doc)));
    for (name, doc) in docs {
        assert!(doc.ends_with('.') && doc.len() > 10, "{name}: {doc}");
        assert!(
            !doc.contains('|'),
            "{name} breaks the table of docs/config.md"
        );
    }
}

#[test]
fn several_keys_make_one_duration() {
    let check = |pairs: &[(&str, &str)], retention: i64, roll: i64| {
        let config = Config::from_pairs(pairs).unwrap();
        assert_eq!(
            (config.log_retention_ms(), config.log_roll_ms()),
            (retention, roll),
            "{pairs:?}"
        );
    };
    check(&[], 604_800_000, 604_800_000);
    check(
        &[("log.retention.hours", "1"), ("log.roll.hours", "2")],
        3_600_000,
        7_200_000,
    );
    check(
        &[("log.retention.hours", "1"), ("log.retention.minutes", "3")],
        180_000,
        604_800_000,
    );
    check(
        &[
            ("log.retention.hours", "1"),
            ("log.retention.minutes", "3"),
            ("log.retention.ms", "5"),
            ("log.roll.hours", "1"),
            ("log.roll.ms", "6"),
        ],
        5,
        6,
    );
    check(&[("log.retention.ms", "-1")], -1, 604_800_000);
    check(&[("log.retention.hours", "-1")], -1, 604_800_000);
    let config = Config::from_pairs(&[("log.flush.scheduler.interval.ms", "9")]).unwrap();
    assert_eq!(config.log_flush_interval_ms(), 9);
}

#[test]
fn recoveries_take_two_threads_unless_told() {
    const KEY: &str = "num.recovery.threads.per.data.dir";
    for (set, expect) in [(None, 2), (Some("1"), 1), (Some("7"), 7)] {
        let pairs: Vec<_> = set.map(|value| (KEY, value)).into_iter().collect();
        let config = Config::from_pairs(&pairs).unwrap();
        assert_eq!(config.recovery_threads(), expect);
        // Shown as Kafka shows it.
        let shown = config.num_recovery_threads_per_data_dir();
        assert_eq!(shown.to_string(), set.unwrap_or("1"));
    }
}

#[test]
fn log_dirs_win_over_log_dir() {
    let dirs = |pairs: &[(&str, &str)]| Config::from_pairs(pairs).unwrap().log_dirs().to_vec();
    assert_eq!(dirs(&[]), [PathBuf::from("/tmp/kafka-logs")]);
    assert_eq!(dirs(&[("log.dir", "/a")]), [PathBuf::from("/a")]);
    assert_eq!(
        dirs(&[("log.dir", "/a"), ("log.dirs", " /b , /c,")]),
        [PathBuf::from("/b"), PathBuf::from("/c")]
    );
}

#[test]
fn node_id_and_broker_id_are_one() {
    assert_eq!(
        Config::from_pairs(&[("node.id", "7")]).unwrap().broker_id(),
        7
    );
    assert!(Config::from_pairs(&[("node.id", "7"), ("broker.id", "7")]).is_ok());
}

#[test]
fn listeners_between_brokers_are_found() {
    let config = Config::from_pairs(&[
        ("listeners", "INSIDE://:1,OUTSIDE://:2"),
        ("advertised.listeners", "INSIDE://a:1,OUTSIDE://b:2"),
        (
            "listener.security.protocol.map",
            "INSIDE:PLAINTEXT,OUTSIDE:SASL_SSL",
        ),
        ("inter.broker.listener.name", "inside"),
    ])
    .unwrap();
    assert_eq!(config.inter_broker_listener_name(), "INSIDE");
    assert_eq!(
        config.inter_broker_security_protocol(),
        SecurityProtocol::Plaintext
    );
    assert_eq!(
        config.listeners()[1].security_protocol,
        SecurityProtocol::SaslSsl
    );
    assert_eq!(config.advertised_listeners()[1].host.as_deref(), Some("b"));
}

#[test]
fn keys_that_contradict_each_other_are_refused_with_kafkas_text() {
    for (pairs, expect) in [
        (
            &[("listeners", "a")][..],
            "Error creating broker listeners from 'a': Unable to parse a to a broker endpoint",
        ),
        (
            &[("broker.id", "1"), ("node.id", "2")],
            "You must set `node.id` to the same value as `broker.id`.",
        ),
        (
            &[("broker.id", "2000")],
            "broker.id must be greater than or equal to -1 and not greater than reserved.broker.max.id (broker.id=2000, reserved.broker.max.id=1000)",
        ),
        (
            &[("broker.id.generation.enable", "false")],
            "broker.id must be greater than or equal to 0",
        ),
        (
            &[("log.roll.ms", "0")],
            "log.roll.ms must be greater than or equal to 1",
        ),
        (
            &[("log.retention.ms", "0")],
            "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
        ),
        (
            &[("log.dirs", ",")],
            "At least one log directory must be defined via log.dirs or log.dir.",
        ),
        (
            &[("max.connections.per.ip", "0")],
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
        ),
        (
            &[("queued.max.request.bytes", "5")],
            "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
        ),
        (
            &[("control.plane.listener.name", "X")],
            "Listener with X defined in control.plane.listener.name not found in listener.security.protocol.map.",
        ),
        (
            &[("inter.broker.listener.name", "X")],
            "Listener with name X defined in inter.broker.listener.name not found in listener.security.protocol.map.",
        ),
        (
            &[("inter.broker.listener.name", "SSL")],
            "inter.broker.listener.name must be a listener name defined in advertised.listeners. The valid options based on currently configured listeners are PLAINTEXT",
        ),
        (
            &[
                ("inter.broker.listener.name", "SSL"),
                ("security.inter.broker.protocol", "SSL"),
            ],
            "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.",
        ),
        (
            &[("listeners", "")],
            "There must be at least one broker advertised listener.",
        ),
        (
            &[("advertised.listeners", "PLAINTEXT://0.0.0.0:1")],
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.",
        ),
        (
            &[("advertised.listeners", "PLAINTEXT://a:1,SSL://b:2")],
            "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found PLAINTEXT,SSL. The valid options based on the current configuration are PLAINTEXT",
        ),
        (
            &[("controller.listener.names", "X")],
            "controller.listener.names must be empty when not running in KRaft mode: [X]",
        ),
        (
            &[("group.coordinator.rebalance.protocols", "consumer")],
            "Disabling the 'classic' protocol is not supported.",
        ),
        (
            &[("group.coordinator.rebalance.protocols", "classic,consumer")],
            "The new 'consumer' rebalance protocol is only supported in KRaft cluster.",
        ),
        (
            &[("replica.fetch.wait.max.ms", "40000")],
            "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts",
        ),
        (
            &[("connection.failed.authentication.delay.ms", "600000")],
            "connection.failed.authentication.delay.ms=600000 should always be less than connections.max.idle.ms=600000 to prevent failed authentication responses from timing out",
        ),
        (
            &[("num.partitions", "")],
            "Invalid value  for configuration num.partitions: Not a number of type INT",
        ),
        (
            &[("inter.broker.protocol.version", "7")],
            "Invalid value 7 for configuration inter.broker.protocol.version: Version 7 is not a valid version",
        ),
    ] {
        let error = Config::from_pairs(pairs).unwrap_err().to_string();
        assert_eq!(error, expect, "{pairs:?}");
    }
}

#[test]
fn limits_per_address_are_read() {
    let config = Config::from_pairs(&[
        ("max.connections.per.ip", "0"),
        (
            "max.connections.per.ip.overrides",
            "127.0.0.1:5, ::1:6,host.name:7",
        ),
    ])
    .unwrap();
    let limits: Vec<(&str, i32)> = config
        .max_connections_per_ip_overrides()
        .iter()
        .map(|(address, limit)| (address.as_str(), *limit))
        .collect();
    assert_eq!(limits, [("127.0.0.1", 5), ("::1", 6), ("host.name", 7)]);
}

#[test]
fn passwords_do_not_show() {
    let config = Config::from_pairs(&[("ssl.keystore.password", "secret")]).unwrap();
    assert_eq!(
        config.text("ssl.keystore.password").as_deref(),
        Some("[hidden]")
    );
    assert_eq!(config.ssl_keystore_password().unwrap().reveal(), "secret");
    assert!(!format!("{config:?}").contains("secret"));
    assert!(!format!("{:?}", config.ssl_keystore_password()).contains("secret"));
}

proptest::proptest! {
    /// Whatever stands in a file or a variable is an error at worst.
    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,40}", punctuated in "[A-Za-z0-9:/,\\[\\].= _-]{0,40}") {
        for text in [text, punctuated] {
            for key in KEYS {
                let _ = value::Value::parse(key.name, key.kind, &text)
                    .and_then(|value| key.allowed.check(key.name, &value));
            }
            for key in ["listeners", "advertised.listeners", "listener.security.protocol.map", "max.connections.per.ip.overrides", "log.dirs"] {
                let _ = Config::from_pairs(&[(key, &text)]);
            }
            let variables = [("KAFKA_ADVERTISED_LISTENERS", &text), ("KAFKA_CREATE_TOPICS", &text), ("KAFKA_OPTS", &text)];
            let _ = environment::Environment::read(
                variables.map(|(name, value)| (name.to_owned(), value.clone())),
                false,
            );
        }
    }
}
