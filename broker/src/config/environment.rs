//! `KAFKA_*` variables as the images of Confluent, Apache, bitnami, wurstmeister and Debezium read
//! them, under one rule.
//!
//! 1. `KAFKA_` (or bitnami's `KAFKA_CFG_`) is cut off, the rest in small letters; `___` is a dash,
//!    `__` an underscore, `_` a dot. `KAFKA_X` wins over `KAFKA_CFG_X`.
//! 2. Settings of the process and its scripts (heap, JVM options, loggers) are never properties.
//! 3. Without `listeners` they are those of `advertised.listeners` on every interface; the host
//!    and port variables of old images count only when neither is given.

use super::{Error, Properties};

/// What the environment asks for.
#[derive(Clone, Default)]
pub struct Environment {
    pub properties: Properties,
    /// `listeners` and, from old variables, `advertised.listeners`: to be used when no source set
    /// `listeners`.
    pub derived: Properties,
    /// Topics to create when missing, once the broker listens.
    pub topics: Vec<TopicToCreate>,
    /// `KAFKA_LOG4J_ROOT_LOGLEVEL`.
    pub root_level: Option<String>,
    /// `KAFKA_LOG4J_LOGGERS`: logger and level, by the names of Java loggers.
    pub loggers: Vec<(String, String)>,
    /// `CLUSTER_ID` of KRaft files: the id of a cluster that coordinates by itself.
    pub cluster_id: Option<String>,
    /// Port of a jmx_exporter agent in `KAFKA_OPTS`, whose place `/metrics` takes.
    pub metrics_port: Option<u16>,
    /// `KAFKA_CUB_ZK_TIMEOUT`: how long Confluent's image waits for ZooKeeper before Kafka does.
    pub ensemble_grace_seconds: Option<u64>,
    /// Worth one line each at start.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.properties.keys()).finish()
    }
}

/// One entry of `KAFKA_CREATE_TOPICS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicToCreate {
    pub name: String,
    /// `None`: `num.partitions`.
    pub partitions: Option<i32>,
    /// `None`: `default.replication.factor`.
    pub replication_factor: Option<i16>,
    pub cleanup_policy: Option<String>,
}

/// Behind `KAFKA_`: settings of the process, not properties.
const PROCESS_SETTINGS: [&str; 20] = [
    "VERSION",
    "HOME",
    "DEBUG",
    "HEAP_OPTS",
    "LOG4J_OPTS",
    "OPTS",
    "JMX_OPTS",
    "JVM_PERFORMANCE_OPTS",
    "GC_LOG_OPTS",
    "LOG4J_ROOT_LOGLEVEL",
    "LOG4J_LOGGERS",
    "TOOLS_LOG4J_LOGLEVEL",
    "JMX_HOSTNAME",
    "JMX_PORT",
    "LOG",
    "DATA",
    "DATA_DIRS",
    "CUB_ZK_TIMEOUT",
    "CREATE_TOPICS",
    "CREATE_TOPICS_SEPARATOR",
];

/// Names that do not follow rule 1, or that are another name's alias.
const ALIASES: [(&str, &str); 5] = [
    ("LOGS_DIRS", "log.dirs"),
    ("SEGMENT_BYTES", "log.segment.bytes"),
    ("MAX_MESSAGE_BYTES", "message.max.bytes"),
    ("ZOOKEEPER_CLIENT_CNXN_SOCKET", "zookeeper.clientCnxnSocket"),
    ("ZOOKEEPER_CLIENTCNXNSOCKET", "zookeeper.clientCnxnSocket"),
];

/// Gone from Kafka since 3.0, still in files.
const OLD_ADDRESSES: [&str; 4] = [
    "ADVERTISED_HOST_NAME",
    "ADVERTISED_PORT",
    "HOST_NAME",
    "PORT",
];

/// Debezium's own names, without the prefix.
const DEBEZIUM: [(&str, &str); 3] = [
    ("BROKER_ID", "broker.id"),
    ("NODE_ID", "broker.id"),
    ("ZOOKEEPER_CONNECT", "zookeeper.connect"),
];

impl Environment {
    /// Reads the variables. With a mounted bitnami file (`ignore_cfg`) `KAFKA_CFG_*` is off.
    pub fn read(
        variables: impl IntoIterator<Item = (String, String)>,
        ignore_cfg: bool,
    ) -> Result<Self, Error> {
        let variables: Properties = variables.into_iter().collect();
        let mut read = Self::default();
        let mut ignored = false;
        for (name, value) in &variables {
            let Some(suffix) = name.strip_prefix("KAFKA_CFG_") else {
                continue;
            };
            if ignore_cfg {
                ignored = true;
                continue;
            }
            let key = repair_protocols(&property_name(suffix));
            read.properties.insert(key, value.clone());
        }
        if ignored {
            read.notes.push(
                "A server.properties is mounted: KAFKA_CFG_* variables are ignored".to_owned(),
            );
        }
        for (name, key) in DEBEZIUM {
            if let Some(value) = variables.get(name) {
                read.properties.insert(key.to_owned(), value.clone());
            }
        }
        for (name, value) in &variables {
            let Some(suffix) = name.strip_prefix("KAFKA_") else {
                continue;
            };
            if suffix.starts_with("CFG_") || is_process_setting(suffix, value) {
                continue;
            }
            read.properties.insert(property_name(suffix), value.clone());
        }
        read.derived = derive_listeners(&read.properties, &variables);
        read.read_process_settings(&variables)?;
        Ok(read)
    }

    fn read_process_settings(&mut self, variables: &Properties) -> Result<(), Error> {
        self.root_level = ["KAFKA_LOG4J_ROOT_LOGLEVEL", "LOG_LEVEL"]
            .iter()
            .find_map(|name| variables.get(*name))
            .filter(|level| !level.trim().is_empty())
            .cloned();
        if let Some(loggers) = variables.get("KAFKA_LOG4J_LOGGERS") {
            self.loggers = loggers
                .split(',')
                .filter_map(|entry| entry.trim().rsplit_once('='))
                .map(|(logger, level)| (logger.trim().to_owned(), level.trim().to_owned()))
                .collect();
        }
        self.cluster_id = ["CLUSTER_ID", "KAFKA_KRAFT_CLUSTER_ID"]
            .iter()
            .find_map(|name| variables.get(*name))
            .filter(|id| !id.is_empty())
            .cloned();
        self.ensemble_grace_seconds = variables
            .get("KAFKA_CUB_ZK_TIMEOUT")
            .and_then(|seconds| seconds.trim().parse().ok());
        self.metrics_port = variables
            .get("KAFKA_OPTS")
            .and_then(|options| jmx_exporter_port(options));
        if let Some(port) = variables
            .get("KAFKA_JMX_PORT")
            .or(variables.get("JMX_PORT"))
        {
            self.notes.push(format!(
                "JMX_PORT={port}: Ottla has no JMX; metrics are served over HTTP when a port for them is given"
            ));
        }
        let topics = variables
            .get("KAFKA_CREATE_TOPICS")
            .map(|text| ("KAFKA_CREATE_TOPICS", text))
            .or_else(|| {
                variables
                    .get("CREATE_TOPICS")
                    .map(|text| ("CREATE_TOPICS", text))
            });
        if let Some((name, text)) = topics {
            let separator = variables.get("KAFKA_CREATE_TOPICS_SEPARATOR");
            self.topics = parse_topics(name, text, separator.map(String::as_str))?;
        }
        Ok(())
    }
}

/// Rule 1, behind the prefix.
fn property_name(suffix: &str) -> String {
    if let Some((_, key)) = ALIASES.iter().find(|(name, _)| *name == suffix) {
        return (*key).to_owned();
    }
    suffix
        .to_lowercase()
        .replace('_', ".")
        .replace("...", "-")
        .replace("..", "_")
}

/// bitnami's variables have single underscores only, so two protocols lose theirs.
fn repair_protocols(key: &str) -> String {
    key.replace("sasl.ssl", "sasl_ssl")
        .replace("sasl.plaintext", "sasl_plaintext")
}

fn is_process_setting(suffix: &str, value: &str) -> bool {
    PROCESS_SETTINGS.contains(&suffix)
        || OLD_ADDRESSES.contains(&suffix)
        || suffix == "KRAFT_CLUSTER_ID"
        // What Kubernetes sets for a service called kafka.
        || suffix.starts_with("SERVICE_")
        || suffix.starts_with("PORT_")
        || value.starts_with("tcp://")
}

/// Rule 3.
fn derive_listeners(properties: &Properties, variables: &Properties) -> Properties {
    let mut derived = Properties::new();
    if properties.contains_key("listeners") {
        return derived;
    }
    if let Some(advertised) = properties.get("advertised.listeners") {
        let everywhere: Vec<String> = advertised
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(
                |entry| match (entry.split_once("://"), entry.rsplit_once(':')) {
                    (Some((name, _)), Some((_, port))) => format!("{name}://0.0.0.0:{port}"),
                    // Left as it is, so that the parser's message shows what was written.
                    _ => entry.to_owned(),
                },
            )
            .collect();
        derived.insert("listeners".to_owned(), everywhere.join(","));
        return derived;
    }
    let given = |name: &str| {
        variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty() && !value.starts_with("tcp://"))
    };
    let host = given("KAFKA_HOST_NAME");
    let port = given("KAFKA_PORT");
    // `HOST_NAME` and `PORT` without the prefix are common variables of other programs.
    let advertised_host =
        given("KAFKA_ADVERTISED_HOST_NAME").or_else(|| given("ADVERTISED_HOST_NAME"));
    let advertised_port = given("KAFKA_ADVERTISED_PORT").or_else(|| given("ADVERTISED_PORT"));
    if [host, port, advertised_host, advertised_port]
        .iter()
        .all(Option::is_none)
    {
        return derived;
    }
    let port = port.unwrap_or("9092");
    let listener = format!("PLAINTEXT://{}:{port}", host.unwrap_or_default());
    derived.insert("listeners".to_owned(), listener);
    if let Some(host) = advertised_host.or(host) {
        let advertised = format!("PLAINTEXT://{host}:{}", advertised_port.unwrap_or(port));
        derived.insert("advertised.listeners".to_owned(), advertised);
    }
    derived
}

/// `-javaagent:…jmx_prometheus_javaagent….jar=[host:]PORT:rules.yml`.
fn jmx_exporter_port(options: &str) -> Option<u16> {
    let agent = options
        .split_whitespace()
        .find(|option| option.starts_with("-javaagent:") && option.contains("jmx_prometheus"))?;
    let (_, address) = agent.split_once('=')?;
    address.split(':').find_map(|part| part.parse().ok())
}

/// `name:partitions:replicas[:cleanup.policy]`, separated by commas, new lines or a separator of
/// the user's own.
pub fn parse_topics(
    source: &str,
    text: &str,
    separator: Option<&str>,
) -> Result<Vec<TopicToCreate>, Error> {
    let separator = separator.filter(|separator| !separator.is_empty());
    let entries: Vec<&str> = match separator {
        Some(separator) => text.split(&separator.replace("\\n", "\n")).collect(),
        None => text.split([',', '\n']).collect(),
    };
    entries
        .into_iter()
        .map(|entry| entry.trim().trim_matches(['"', '\'']).trim())
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let refuse = |what: &str| Error::Unreadable {
                source_name: format!("{source}: `{entry}`"),
                reason: format!("{what}; expected name:partitions:replicas[:cleanup.policy]"),
            };
            let mut parts = entry.split(':').map(str::trim);
            let name = parts.next().unwrap_or_default().to_owned();
            let partitions = match parts.next().filter(|part| !part.is_empty()) {
                None => None,
                Some(number) => Some(
                    number
                        .parse()
                        .map_err(|_| refuse("the number of partitions is no number"))?,
                ),
            };
            let replication_factor = match parts.next().filter(|part| !part.is_empty()) {
                None => None,
                Some(number) => Some(
                    number
                        .parse()
                        .map_err(|_| refuse("the number of replicas is no number"))?,
                ),
            };
            let cleanup_policy = parts
                .next()
                .map(|policy| policy.trim_start_matches("--config=cleanup.policy="))
                .filter(|policy| !policy.is_empty())
                .map(str::to_owned);
            if name.is_empty() || parts.next().is_some() {
                return Err(refuse("not a topic"));
            }
            Ok(TopicToCreate {
                name,
                partitions,
                replication_factor,
                cleanup_policy,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment::read(variables, false).unwrap()
    }

    fn check(variables: &[(&str, &str)], expect: &[(&str, &str)]) {
        let expect: Properties = expect
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut read = read(variables);
        read.properties.append(&mut read.derived);
        assert_eq!(read.properties, expect, "{variables:?}");
    }

    #[test]
    fn names_become_keys() {
        check(
            &[
                ("KAFKA_ZOOKEEPER_CONNECT", "zk:2181"),
                (
                    "KAFKA_LISTENER_NAME_SASL__SSL_SCRAM___SHA___512_SASL_JAAS_CONFIG",
                    "x",
                ),
                ("KAFKA_ZOOKEEPER_CLIENT_CNXN_SOCKET", "y"),
                ("KAFKA_LOGS_DIRS", "/d"),
                ("PATH", "/bin"),
            ],
            &[
                ("zookeeper.connect", "zk:2181"),
                ("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config", "x"),
                ("zookeeper.clientCnxnSocket", "y"),
                ("log.dirs", "/d"),
            ],
        );
    }

    #[test]
    fn bitnamis_names_are_repaired_and_lose_to_the_plain_ones() {
        check(
            &[
                (
                    "KAFKA_CFG_LISTENER_NAME_SASL_SSL_PLAIN_SASL_JAAS_CONFIG",
                    "x",
                ),
                ("KAFKA_CFG_BROKER_ID", "1"),
                ("KAFKA_BROKER_ID", "2"),
            ],
            &[
                ("listener.name.sasl_ssl.plain.sasl.jaas.config", "x"),
                ("broker.id", "2"),
            ],
        );
    }

    #[test]
    fn settings_of_the_process_are_no_properties() {
        check(
            &[
                ("KAFKA_HEAP_OPTS", "-Xmx1g"),
                ("KAFKA_OPTS", "-Da=b"),
                ("KAFKA_JMX_PORT", "9101"),
                ("KAFKA_LOG4J_LOGGERS", "kafka.controller=INFO"),
                ("KAFKA_CREATE_TOPICS", "a:1:1"),
                ("KAFKA_SERVICE_HOST", "10.0.0.1"),
                ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
                ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
                ("CONFLUENT_SUPPORT_METRICS_ENABLE", "0"),
            ],
            &[],
        );
    }

    #[test]
    fn listeners_follow_the_advertised_ones_on_every_interface() {
        check(
            &[(
                "KAFKA_ADVERTISED_LISTENERS",
                "PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092",
            )],
            &[
                (
                    "advertised.listeners",
                    "PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092",
                ),
                (
                    "listeners",
                    "PLAINTEXT://0.0.0.0:29092,PLAINTEXT_HOST://0.0.0.0:9092",
                ),
            ],
        );
        check(
            &[
                ("KAFKA_ADVERTISED_LISTENERS", "A://[::1]:1"),
                ("KAFKA_LISTENERS", "A://:2"),
            ],
            &[
                ("advertised.listeners", "A://[::1]:1"),
                ("listeners", "A://:2"),
            ],
        );
    }

    #[test]
    fn old_host_and_port_count_only_without_listeners() {
        check(
            &[
                ("KAFKA_ADVERTISED_HOST_NAME", "h"),
                ("KAFKA_ADVERTISED_PORT", "1234"),
            ],
            &[
                ("listeners", "PLAINTEXT://:9092"),
                ("advertised.listeners", "PLAINTEXT://h:1234"),
            ],
        );
        check(
            &[
                ("KAFKA_ADVERTISED_HOST_NAME", "h"),
                ("KAFKA_LISTENERS", "PLAINTEXT://:1"),
            ],
            &[("listeners", "PLAINTEXT://:1")],
        );
        check(&[("HOST_NAME", "laptop"), ("PORT", "3000")], &[]);
    }

    #[test]
    fn debeziums_names_work_without_the_prefix() {
        check(
            &[
                ("BROKER_ID", "1"),
                ("ZOOKEEPER_CONNECT", "zk:2181"),
                ("ADVERTISED_HOST_NAME", "h"),
            ],
            &[
                ("broker.id", "1"),
                ("zookeeper.connect", "zk:2181"),
                ("listeners", "PLAINTEXT://:9092"),
                ("advertised.listeners", "PLAINTEXT://h:9092"),
            ],
        );
    }

    #[test]
    fn topics_to_create_are_data() {
        let topic =
            |name: &str, partitions, replication_factor, policy: Option<&str>| TopicToCreate {
                name: name.into(),
                partitions,
                replication_factor,
                cleanup_policy: policy.map(str::to_owned),
            };
        assert_eq!(
            read(&[("KAFKA_CREATE_TOPICS", "ping:3:1, events:1:1:compact,bare")]).topics,
            vec![
                topic("ping", Some(3), Some(1), None),
                topic("events", Some(1), Some(1), Some("compact")),
                topic("bare", None, None, None),
            ]
        );
        let newline = [
            ("KAFKA_CREATE_TOPICS", "a:1:1\nb:2:1"),
            ("KAFKA_CREATE_TOPICS_SEPARATOR", "\n"),
        ];
        assert_eq!(read(&newline).topics.len(), 2);
        let error = parse_topics("KAFKA_CREATE_TOPICS", "a:x:1", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "KAFKA_CREATE_TOPICS: `a:x:1`: the number of partitions is no number; expected name:partitions:replicas[:cleanup.policy]"
        );
    }

    #[test]
    fn process_settings_are_read_where_they_mean_something() {
        let read = read(&[
            (
                "KAFKA_OPTS",
                "-Xfoo -javaagent:/opt/jmx_prometheus_javaagent-0.20.jar=0.0.0.0:7071:/opt/k.yml",
            ),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", "WARN"),
            (
                "KAFKA_LOG4J_LOGGERS",
                "kafka.controller=INFO,state.change.logger=TRACE",
            ),
            ("CLUSTER_ID", "MkU3OEVBNTcwNTJENDM2Qk"),
        ]);
        assert_eq!(read.metrics_port, Some(7071));
        assert_eq!(read.root_level.as_deref(), Some("WARN"));
        assert_eq!(
            read.loggers[1],
            ("state.change.logger".to_owned(), "TRACE".to_owned())
        );
        assert_eq!(read.cluster_id.as_deref(), Some("MkU3OEVBNTcwNTJENDM2Qk"));
    }
}
