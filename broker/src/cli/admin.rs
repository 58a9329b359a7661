//! What the tools ask of a cluster: bootstrap, metadata, and the right broker for each question.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, anyhow, bail};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::Connection;
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

    /// The Java class Kafka's tools name: `TOPIC_ALREADY_EXISTS` is irregular, most are
    /// `<Name>Exception`.
    pub(crate) fn java_class(&self) -> String {
        let name = match self.code {
            ErrorCode::TopicAlreadyExists => "TopicExists".to_owned(),
            ErrorCode::InvalidTopicException => "InvalidTopic".to_owned(),
            ErrorCode::InvalidConfig => "InvalidConfiguration".to_owned(),
            ErrorCode::GroupIdNotFound => "GroupIdNotFound".to_owned(),
            ErrorCode::NonEmptyGroup => "GroupNotEmpty".to_owned(),
            ErrorCode::PolicyViolation => "PolicyViolation".to_owned(),
            code => format!("{code:?}"),
        };
        format!("org.apache.kafka.common.errors.{name}Exception")
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

/// Connections to a cluster's brokers.
pub(crate) struct Admin {
    client_id: String,
    bootstrap: Connection,
    brokers: BTreeMap<BrokerId, (String, u16)>,
    connections: HashMap<BrokerId, Connection>,
    controller: BrokerId,
}

impl Admin {
    /// `bootstrap` is `host:port[,host:port…]`; the first that answers is used.
    pub(crate) fn connect(bootstrap: &str, client_id: &str) -> Result<Self> {
        let mut failures = Vec::new();
        for server in bootstrap
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
        {
            let connected = parse_address(server)
                .and_then(|(host, port)| Connection::open(&host, port, client_id));
            match connected {
                Ok(connection) => {
                    let mut admin = Self {
                        client_id: client_id.to_owned(),
                        bootstrap: connection,
                        brokers: BTreeMap::new(),
                        connections: HashMap::new(),
                        controller: -1,
                    };
                    admin.metadata(Some(&[]))?;
                    return Ok(admin);
                }
                Err(error) => failures.push(format!("{server}: {error:#}")),
            }
        }
        bail!(
            "no broker of {bootstrap} could be reached: {}",
            failures.join("; ")
        )
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
            let connection = Connection::open(host, *port, &self.client_id)?;
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
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
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
                ErrorCode::CoordinatorNotAvailable if std::time::Instant::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(100));
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
        .ok_or_else(|| anyhow!("'{server}' is not host:port"))?;
    let port = port
        .parse()
        .map_err(|_| anyhow!("'{server}': '{port}' is not a port"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}
