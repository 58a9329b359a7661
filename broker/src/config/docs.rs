//! `docs/config.md`, made from the tables. The test below writes the page anew and fails when that
//! changes it.

use std::fmt::Write as _;

use super::keys::{DYNAMIC_ONLY, KEYS, Key, Mode, State};
use super::topic_keys::{TOPIC_KEYS, TopicKey};
use super::value::Allowed;

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    let count = |in_effect: bool| {
        KEYS.iter()
            .filter(|key| (key.state == State::Effective) == in_effect)
            .count()
    };
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        page,
        "\n## Broker keys\n\n{} keys; {} of them have no effect in this version, which their row says.\n\n{BROKER_HEAD}",
        KEYS.len(),
        count(false)
    );
    let mut keys: Vec<&Key> = KEYS.iter().collect();
    keys.sort_by_key(|key| key.name);
    for key in keys {
        broker_row(&mut page, key);
    }
    let _ = write!(
        page,
        "\n## Broker keys that exist only as dynamic configs\n\nSet with `kafka-configs --alter --entity-type brokers`.\n\n{BROKER_HEAD}"
    );
    for key in DYNAMIC_ONLY {
        broker_row(&mut page, key);
    }
    let _ = write!(
        page,
        "\n## Topic keys\n\nSet per topic; a topic without one has the value of the broker key in the last column but one.\n\n{TOPIC_HEAD}"
    );
    let mut keys: Vec<&TopicKey> = TOPIC_KEYS.iter().collect();
    keys.sort_by_key(|key| key.name);
    for key in keys {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            key.kind.name().to_lowercase(),
            code(Some(key.default)),
            allowed(key.allowed),
            key.server_default
                .map_or_else(String::new, |name| format!("`{name}`")),
            doc(key.doc, key.state)
        );
    }
    page
}

const INTRODUCTION: &str = "\
<!-- Made from broker/src/config/keys.rs and topic_keys.rs by `cargo test -p ottla config::docs`. -->
# Configuration

Ottla takes every key of Apache Kafka 3.9, with the same types, defaults and checks. Sources, later
ones win: built-in defaults, `server.properties`, the environment (`KAFKA_NUM_PARTITIONS=3` is
`num.partitions=3`), `KEY=VALUE` arguments, `--override KEY=VALUE`; and over all of these what is
set dynamically, per broker over the cluster's default. A key Kafka does not know gives a warning;
a value that is not allowed ends the start with the key, the value and what is allowed.

What differs from Kafka:

- Without `zookeeper.connect` a single broker coordinates by itself and keeps what ZooKeeper would
  hold in its first log directory.
- Started with neither a file nor `zookeeper.connect`, the broker has `broker.id=0`,
  `listeners=PLAINTEXT://localhost:9092`, `log.dirs=./ottla-data`, and what one broker can meet:
  `offsets.topic.replication.factor=1`, `transaction.state.log.replication.factor=1`,
  `transaction.state.log.min.isr=1`, `group.initial.rebalance.delay.ms=0`.
- A `server.properties` for one KRaft node with `process.roles=broker,controller` starts as such a
  broker; other KRaft files are refused.

**Update** says how a key changes at run time: *read-only* needs a restart, *per-broker* is set on
one broker, *cluster-wide* on one or on all.
";

const BROKER_HEAD: &str = "\
| Key | Type | Default | Allowed | Update | What it does |
|---|---|---|---|---|---|
";

const TOPIC_HEAD: &str = "\
| Key | Type | Default | Allowed | Broker key | What it does |
|---|---|---|---|---|---|
";

fn broker_row(page: &mut String, key: &Key) {
    let _ = writeln!(
        page,
        "| `{}` | {} | {} | {} | {} | {} |",
        key.name,
        key.kind.name().to_lowercase(),
        code(key.default),
        allowed(key.allowed),
        match key.mode {
            Mode::ReadOnly => "read-only",
            Mode::PerBroker => "per-broker",
            Mode::ClusterWide => "cluster-wide",
        },
        doc(key.doc, key.state)
    );
}

fn code(default: Option<&str>) -> String {
    match default {
        None => "null".to_owned(),
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    }
}

fn allowed(allowed: Allowed) -> String {
    allowed.describe().replace('|', "\\|")
}

fn doc(doc: &str, state: State) -> String {
    match state {
        State::Effective => doc.to_owned(),
        State::Accepted(reason) => format!("{doc} **No effect**: {reason}."),
        State::Later(reason) => format!("{doc} **No effect yet**: {reason}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_the_one_the_tables_make() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
        let page = markdown();
        if std::fs::read_to_string(path).ok().as_deref() != Some(page.as_str()) {
            std::fs::write(path, page).unwrap();
            panic!("docs/config.md was not up to date; it is now: commit it");
        }
    }
}
