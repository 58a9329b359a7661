//! What the tools ask of a cluster: bootstrap, metadata, and the right broker for each question.

use std::collections::{BTreeMap, HashMap};
use std::net::ToSocketAddrs as _;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::Connection;
use super::options::properties_file;
use crate::clock::{Clock as _, SystemClock};
use crate::config::logging::timestamp;
use crate::error::ErrorCode;
use crate::types::BrokerId;

/// An error of the cluster's, printed as Kafka's tools print exceptions.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(code: i16, message: Option<&str>) -> Self {
        let code = ErrorCode::from_value(code);
        Self {
            code,
            message: message.unwrap_or_else(|| code.message()).to_owned(),
        }
    }

    /// The Java class of the error, which Kafka's tools print; most are `<Name>Exception`.
    pub(crate) fn java_class(&self) -> String {
        let name = match self.code {
            ErrorCode::CorruptMessage => "CorruptRecordException".to_owned(),
            ErrorCode::RequestTimedOut => "TimeoutException".to_owned(),
            ErrorCode::MessageTooLarge => "RecordTooLargeException".to_owned(),
            ErrorCode::StaleControllerEpoch => "ControllerMovedException".to_owned(),
            ErrorCode::OffsetMetadataTooLarge => "OffsetMetadataTooLarge".to_owned(),
            ErrorCode::RecordListTooLarge => "RecordBatchTooLargeException".to_owned(),
            ErrorCode::TopicAuthorizationFailed => "TopicAuthorizationException".to_owned(),
            ErrorCode::GroupAuthorizationFailed => "GroupAuthorizationException".to_owned(),
            ErrorCode::ClusterAuthorizationFailed => "ClusterAuthorizationException".to_owned(),
            ErrorCode::TopicAlreadyExists => "TopicExistsException".to_owned(),
            ErrorCode::InvalidConfig => "InvalidConfigurationException".to_owned(),
            ErrorCode::NonEmptyGroup => "GroupNotEmptyException".to_owned(),
            ErrorCode::KafkaStorageError => "KafkaStorageException".to_owned(),
            code => match format!("{code:?}") {
                name if name.ends_with("Exception") => name,
                name => format!("{name}Exception"),
            },
        };
        format!("org.apache.kafka.common.errors.{name}")
    }

    /// As a Java exception prints itself: class and message.
    pub(crate) fn thrown(&self) -> String {
        format!("{}: {self}", self.java_class())
    }
}

/// `Ok` for code 0, else the error with its message.
pub(crate) fn check(code: i16, message: Option<&StrBytes>) -> Result<(), ApiError> {
    if code == 0 {
        return Ok(());
    }
    Err(ApiError::new(code, message.map(|text| text.as_str())))
}

pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub(crate) fn topic_name(value: &str) -> WireTopicName {
    WireTopicName(text(value))
}

/// Between two attempts at what is not ready yet (`retry.backoff.ms`).
pub(crate) const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// What `--command-config` and flags say about the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientConfig {
    pub(crate) client_id: String,
    /// How long to go on when brokers do not answer or are not ready (`default.api.timeout.ms`).
    pub(crate) timeout: Duration,
}

impl ClientConfig {
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            timeout: Duration::from_secs(60),
        }
    }

    /// Takes what a properties file says; what we cannot do is an error rather than ignored.
    pub(crate) fn with_file(mut self, path: Option<&str>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(self);
        };
        let properties = properties_file(path)?;
        if let Some(protocol) = properties.get("security.protocol")
            && protocol != "PLAINTEXT"
        {
            bail!("{path}: security.protocol={protocol}: this tool speaks PLAINTEXT only");
        }
        if let Some(id) = properties.get("client.id").filter(|id| !id.is_empty()) {
            self.client_id = id.clone();
        }
        if let Some(given) = properties.get("default.api.timeout.ms") {
            self.timeout = match given.trim().parse() {
                Ok(millis) => Duration::from_millis(millis),
                Err(_) => bail!("{path}: default.api.timeout.ms={given}: not a number of ms"),
            };
        }
        Ok(self)
    }
}

/// Connections to a cluster's brokers.
pub(crate) struct Admin {
    config: ClientConfig,
    /// Where we began.
    servers: Vec<(String, u16)>,
    bootstrap: Connection,
    brokers: BTreeMap<BrokerId, (String, u16)>,
    connections: HashMap<BrokerId, Connection>,
    controller: BrokerId,
}

impl Admin {
    /// `bootstrap` is `host:port[,host:port…]`; the first that answers is used. Like Kafka's
    /// clients it waits for a broker that is not there yet, and says so.
    pub(crate) fn connect(bootstrap: &str, config: ClientConfig) -> Result<Self> {
        let servers = parse_servers(bootstrap)?;
        if !servers.iter().any(resolves) {
            bail!("No resolvable bootstrap urls given in bootstrap.servers");
        }
        let deadline = Instant::now() + config.timeout;
        let connection = reach(&servers, &config, deadline)?;
        let mut admin = Self {
            config,
            servers,
            bootstrap: connection,
            brokers: BTreeMap::new(),
            connections: HashMap::new(),
            controller: -1,
        };
        admin.metadata(Some(&[]))?;
        Ok(admin)
    }

    /// Connects anew after a connection was lost: to a broker that we know of, or where we began.
    pub(crate) fn recover(&mut self, deadline: Instant) -> Result<()> {
        self.connections.clear();
        loop {
            let mut known: Vec<_> = self.brokers.values().cloned().collect();
            known.extend(self.servers.iter().cloned());
            self.bootstrap = reach(&known, &self.config, deadline)?;
            match self.metadata(Some(&[])) {
                Ok(_) => return Ok(()),
                Err(error) if is_lost_connection(&error) && Instant::now() < deadline => {
                    std::thread::sleep(RETRY_BACKOFF);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Until when to try again what is begun now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// Metadata of some topics, or of all; never creates one.
    pub(crate) fn metadata(&mut self, topics: Option<&[&str]>) -> Result<MetadataResponse> {
        let request = MetadataRequest::default()
            .with_topics(topics.map(|names| {
                names
                    .iter()
                    .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
                    .collect()
            }))
            .with_allow_auto_topic_creation(false);
        let response = self.bootstrap.send(&request)?;
        self.brokers = response
            .brokers
            .iter()
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                Some((broker.node_id.0, (broker.host.to_string(), port)))
            })
            .collect();
        self.controller = response.controller_id.0;
        Ok(response)
    }

    /// One topic's metadata, created when the cluster does that on first use.
    pub(crate) fn metadata_or_create(&mut self, topic: &str) -> Result<MetadataResponseTopic> {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![
                MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
            ]))
            .with_allow_auto_topic_creation(true);
        let response = self.bootstrap.send(&request)?;
        response
            .topics
            .into_iter()
            .next()
            .ok_or_else(|| anyhow!("{topic}: the broker said nothing of it"))
    }

    /// All topics in name order, without those that have an error.
    pub(crate) fn topics(&mut self) -> Result<Vec<MetadataResponseTopic>> {
        let mut topics = self.metadata(None)?.topics;
        topics.retain(|topic| topic.error_code == 0 && topic.name.is_some());
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    pub(crate) fn broker_ids(&self) -> Vec<BrokerId> {
        self.brokers.keys().copied().collect()
    }

    pub(crate) fn address(&self, broker: BrokerId) -> Option<&(String, u16)> {
        self.brokers.get(&broker)
    }

    /// Any broker: the one we found first.
    pub(crate) fn any(&mut self) -> &mut Connection {
        &mut self.bootstrap
    }

    pub(crate) fn broker(&mut self, id: BrokerId) -> Result<&mut Connection> {
        if !self.connections.contains_key(&id) {
            let Some((host, port)) = self.brokers.get(&id) else {
                bail!("broker {id} is not a live broker of the cluster");
            };
            let connection = Connection::open(host, *port, &self.config)?;
            self.connections.insert(id, connection);
        }
        self.connections
            .get_mut(&id)
            .ok_or_else(|| anyhow!("broker {id}: no connection"))
    }

    /// Asks the controller; in a ZooKeeper cluster nobody else may change topics.
    pub(crate) fn controller<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        if self.controller < 0 {
            self.metadata(Some(&[]))?;
        }
        let controller = self.controller;
        self.broker(controller)?.send(request)
    }

    /// The broker that coordinates `group`.
    pub(crate) fn coordinator(&mut self, group: &str) -> Result<BrokerId, anyhow::Error> {
        let deadline = self.deadline();
        loop {
            let version = self.bootstrap.version::<FindCoordinatorRequest>()?;
            let request = if version >= 4 {
                FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)])
            } else {
                FindCoordinatorRequest::default().with_key(text(group))
            };
            let response = self.bootstrap.send(&request)?;
            let (code, message, id) = match response.coordinators.first() {
                Some(found) => (
                    found.error_code,
                    found.error_message.clone(),
                    found.node_id.0,
                ),
                None => (
                    response.error_code,
                    response.error_message.clone(),
                    response.node_id.0,
                ),
            };
            match ErrorCode::from_value(code) {
                ErrorCode::CoordinatorNotAvailable if Instant::now() < deadline => {
                    std::thread::sleep(RETRY_BACKOFF);
                }
                _ => {
                    check(code, message.as_ref())?;
                    return Ok(id);
                }
            }
        }
    }
}

/// `host:port` or `[ipv6]:port`.
fn parse_address(server: &str) -> Result<(String, u16)> {
    let (host, port) = server
        .rsplit_once(':')
        .ok_or_else(|| anyhow!("Invalid url in bootstrap.servers: {server}"))?;
    let port = port
        .parse()
        .map_err(|_| anyhow!("Invalid url in bootstrap.servers: {server}"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// The servers of a list; each must be host and port.
pub(crate) fn parse_servers(bootstrap: &str) -> Result<Vec<(String, u16)>> {
    let servers: Vec<_> = bootstrap
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .map(parse_address)
        .collect::<Result<_>>()?;
    if servers.is_empty() {
        bail!("No resolvable bootstrap urls given in bootstrap.servers");
    }
    Ok(servers)
}

fn resolves((host, port): &(String, u16)) -> bool {
    let found = (host.as_str(), *port).to_socket_addrs();
    let found = found.is_ok_and(|mut addresses| addresses.next().is_some());
    if !found {
        log(
            "WARN",
            &format!(
                "Couldn't resolve server {host}:{port} from bootstrap.servers as DNS resolution failed for {host}"
            ),
            "org.apache.kafka.clients.ClientUtils",
        );
    }
    found
}

/// The first server that answers, waited for until the deadline.
fn reach(
    servers: &[(String, u16)],
    config: &ClientConfig,
    deadline: Instant,
) -> Result<Connection> {
    let mut pause = Duration::from_millis(50);
    loop {
        for (index, (host, port)) in (1..).zip(servers) {
            match Connection::open(host, *port, config) {
                Ok(connection) => return Ok(connection),
                Err(error) => log(
                    "WARN",
                    &format!(
                        "[AdminClient clientId={}] Connection to node -{index} ({host}:{port}) could not be established. Node may not be available: {error:#}",
                        config.client_id
                    ),
                    "org.apache.kafka.clients.NetworkClient",
                ),
            }
        }
        if Instant::now() + pause >= deadline {
            return Err(ApiError::new(
                ErrorCode::RequestTimedOut.value(),
                Some("Timed out waiting for a node assignment."),
            )
            .into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// True when the broker went away, which a new connection may mend.
pub(crate) fn is_lost_connection(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<std::io::Error>())
}

/// A line on stderr as the log4j of Kafka's tools writes it.
pub(crate) fn log(level: &str, message: &str, logger: &str) {
    let now = timestamp(SystemClock.now(), ' ', ',');
    eprintln!("[{now}] {level} {message} ({logger})");
}
