//! Files written for KRaft. Ottla has no KRaft; a single node that is broker and controller at
//! once needs nothing of it, so such a file runs with the embedded store. Any other KRaft file is
//! refused: half a start would look like a broker without a cluster.

use super::listener::normalised;
use super::{Error, Properties};

/// True when the properties ask for KRaft and for no ZooKeeper. With `zookeeper.connect` beside
/// them KRaft's keys have no effect.
pub fn is_kraft(properties: &Properties) -> bool {
    properties
        .get("process.roles")
        .is_some_and(|roles| !roles.trim().is_empty())
        && !properties.contains_key("zookeeper.connect")
}

/// Turns the file of a single combined node into one for the embedded store.
pub fn to_embedded(properties: &Properties) -> Result<Properties, Error> {
    let list = |key: &str| -> Vec<String> {
        properties
            .get(key)
            .map(|text| {
                text.split(',')
                    .map(|item| item.trim().to_owned())
                    .filter(|item| !item.is_empty())
                    .collect()
            })
            .unwrap_or_default()
    };
    let refuse = |reason: String| {
        Err(Error::rule(format!(
            "{reason} Ottla coordinates through ZooKeeper: set zookeeper.connect and leave out process.roles; or run one node with process.roles=broker,controller, which needs neither."
        )))
    };
    let roles = list("process.roles");
    let has = |role: &str| roles.iter().any(|one| one == role);
    if !has("broker") || !has("controller") {
        return refuse(format!(
            "process.roles={} is one part of a KRaft cluster.",
            roles.join(",")
        ));
    }
    let voters = list("controller.quorum.voters");
    let servers = list("controller.quorum.bootstrap.servers");
    if voters.len() > 1 || servers.len() > 1 {
        return refuse(format!(
            "The KRaft quorum has several nodes ({}).",
            if voters.len() > 1 { voters } else { servers }.join(",")
        ));
    }
    let controller_listeners: Vec<String> = list("controller.listener.names")
        .iter()
        .map(|name| normalised(name))
        .collect::<Result<_, _>>()?;
    let mut turned = properties.clone();
    turned.retain(|key, _| {
        !key.starts_with("controller.quorum.")
            && key != "process.roles"
            && key != "controller.listener.names"
    });
    for (key, separator) in [
        ("listeners", "://"),
        ("advertised.listeners", "://"),
        ("listener.security.protocol.map", ":"),
    ] {
        if !properties.contains_key(key) {
            continue;
        }
        let kept: Vec<String> = list(key)
            .into_iter()
            .filter(|entry| {
                let name = entry.split_once(separator).map_or("", |(name, _)| name);
                !controller_listeners.contains(&name.trim().to_uppercase())
            })
            .collect();
        if kept.is_empty() {
            turned.remove(key);
        } else {
            turned.insert(key.to_owned(), kept.join(","));
        }
    }
    // Kafka's shipped KRaft file relies on it as well: one node cannot meet the built-in factor 3.
    for (key, value) in super::Config::quick_start() {
        if key.contains("replication.factor") || key.ends_with("min.isr") {
            turned.entry(key).or_insert(value);
        }
    }
    Ok(turned)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_single_combined_node_runs_with_the_embedded_store() {
        let file = properties(&[
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.quorum.voters", "1@localhost:9093"),
            ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
            (
                "advertised.listeners",
                "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            ),
            ("controller.listener.names", "CONTROLLER"),
            (
                "listener.security.protocol.map",
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            ),
        ]);
        assert!(is_kraft(&file));
        let config = Config::new(to_embedded(&file).unwrap()).unwrap();
        assert_eq!(config.broker_id(), 1);
        assert!(config.uses_embedded_store());
        assert_eq!(config.listeners().len(), 1);
        assert_eq!(config.offsets_topic_replication_factor(), 1);
    }

    #[test]
    fn parts_of_a_kraft_cluster_are_refused() {
        for pairs in [
            &[("process.roles", "broker")][..],
            &[("process.roles", "controller")],
            &[
                ("process.roles", "broker,controller"),
                ("controller.quorum.voters", "1@a:1,2@b:1,3@c:1"),
            ],
        ] {
            let error = to_embedded(&properties(pairs)).unwrap_err().to_string();
            assert!(error.contains("set zookeeper.connect"), "{error}");
        }
    }

    #[test]
    fn zookeeper_wins_over_kraft_keys() {
        assert!(!is_kraft(&properties(&[
            ("process.roles", "broker"),
            ("zookeeper.connect", "zk:2181")
        ])));
    }
}
