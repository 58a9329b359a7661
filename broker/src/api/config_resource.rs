//! What the three configuration APIs share: resources, errors with a message, the layout of
//! entities in the store.

use std::fmt;

use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::cluster::image::Cluster;
use crate::config::LiveConfig;
use crate::error::{ErrorCode, KafkaCode};
use crate::types::BrokerId;
use crate::zk::Store;
use crate::zk::configs::{BROKERS, DEFAULT_ENTITY, TOPICS};
use crate::{config, zk};

/// The rooms that configurations are asked of and written to.
#[derive(Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) broker_id: BrokerId,
    pub(super) config: &'a LiveConfig,
    pub(super) cluster: &'a Cluster,
    pub(super) store: &'a dyn Store,
}

impl<'a> Desk<'a> {
    pub(super) fn of(cx: &'a Context) -> Self {
        Self {
            broker_id: cx.rooms.broker_id,
            config: &cx.rooms.config,
            cluster: &cx.rooms.cluster,
            store: &*cx.rooms.store,
        }
    }
}

/// What a configuration belongs to (`ConfigResource.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceType {
    Unknown,
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
}

impl ResourceType {
    pub(super) fn from_id(id: i8) -> Self {
        match id {
            2 => Self::Topic,
            4 => Self::Broker,
            8 => Self::BrokerLogger,
            16 => Self::ClientMetrics,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "UNKNOWN",
            Self::Topic => "TOPIC",
            Self::Broker => "BROKER",
            Self::BrokerLogger => "BROKER_LOGGER",
            Self::ClientMetrics => "CLIENT_METRICS",
        })
    }
}

/// One resource of a request; prints as Kafka's `ConfigResource`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource<'a> {
    pub(super) kind: ResourceType,
    pub(super) name: &'a str,
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ConfigResource(type={}, name='{}')",
            self.kind, self.name
        )
    }
}

/// A code and the text beside it (`ApiError`): none where it would only repeat the code's own, or
/// tell a client of our insides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }

    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    pub(super) fn text(&self) -> Option<StrBytes> {
        self.message.clone().map(StrBytes::from_string)
    }
}

impl From<zk::configs::Error> for Refusal {
    fn from(error: zk::configs::Error) -> Self {
        match &error {
            zk::configs::Error::ControllerMoved { reason } => Self::new(error.code(), reason),
            zk::configs::Error::Store(store) => store.clone().into(),
        }
    }
}

impl From<zk::Error> for Refusal {
    fn from(error: zk::Error) -> Self {
        tracing::error!(target: "kafka.server.ZkAdminManager", "{error}");
        Self {
            code: ErrorCode::UnknownServerError,
            message: None,
        }
    }
}

pub(super) fn invalid_topic(reason: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidTopicException,
        format!("Topic name is invalid: {reason}"),
    )
}

/// `ConfigException`s are introduced by the resource; the others speak for themselves.
pub(super) fn refuse_config(resource: Resource<'_>, error: &config::Error) -> Refusal {
    let message = match error {
        config::Error::Conflict { .. } | config::Error::UnknownTopicKey { .. } => error.to_string(),
        config::Error::Invalid { .. }
        | config::Error::NotDynamic { .. }
        | config::Error::Inconsistent { .. }
        | config::Error::Unreadable { .. } => {
            format!("Invalid config value for resource {resource}: {error}")
        }
    };
    Refusal::new(error.code(), message)
}

/// The broker a resource's name stands for; `None` for the cluster's default. `what` is how this
/// API calls the number.
pub(super) fn broker_of(name: &str, me: BrokerId, what: &str) -> Result<Option<BrokerId>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    let id: BrokerId = name.parse().map_err(|_| {
        Refusal::invalid_request(format!("{what} id must be an integer, but it is: {name}"))
    })?;
    if id != me {
        return Err(Refusal::invalid_request(format!(
            "Unexpected broker id, expected {me}, but received {name}"
        )));
    }
    Ok(Some(id))
}

/// Where a topic's or broker's configuration is kept.
pub(super) fn entity_of(resource: Resource<'_>) -> Option<(&'static str, &str)> {
    match resource.kind {
        ResourceType::Topic => Some((TOPICS, resource.name)),
        ResourceType::Broker if resource.name.is_empty() => Some((BROKERS, DEFAULT_ENTITY)),
        ResourceType::Broker => Some((BROKERS, resource.name)),
        ResourceType::Unknown | ResourceType::BrokerLogger | ResourceType::ClientMetrics => None,
    }
}

/// A desk for tests: broker 1 with topic `t`, the embedded store and a controller in it.
#[cfg(test)]
pub(super) struct TestDesk {
    config: LiveConfig,
    cluster: Cluster,
    pub(super) store: crate::zk::embedded::EmbeddedStore,
}

#[cfg(test)]
impl TestDesk {
    pub(super) async fn new() -> Self {
        use std::sync::Arc;

        use crate::cluster::image::{MetadataImage, TopicImage};
        use crate::zk::CreateMode;
        use crate::zk::embedded::Embedded;

        let store = Embedded::in_memory(Arc::new(crate::clock::SystemClock)).connect();
        let controller = bytes::Bytes::from_static(br#"{"version":2,"brokerid":1}"#);
        store
            .create("/controller", controller, CreateMode::Ephemeral)
            .await
            .unwrap();
        let cluster = Cluster::new("x".to_owned());
        let topic = TopicImage {
            name: "t".into(),
            id: None,
            partitions: Default::default(),
        };
        let mut image = MetadataImage::default();
        image.topics.insert(topic.name.clone(), Arc::new(topic));
        cluster.publish(image);
        let config = config::Config::from_pairs(&[("broker.id", "1")]).unwrap();
        Self {
            config: LiveConfig::new(config),
            cluster,
            store,
        }
    }

    pub(super) fn desk(&self) -> Desk<'_> {
        Desk {
            broker_id: 1,
            config: &self.config,
            cluster: &self.cluster,
            store: &self.store,
        }
    }

    /// What is stored, `key=value …`.
    pub(super) async fn stored(&self, entity_type: &str, name: &str) -> String {
        let stored = zk::configs::read_config(&self.store, entity_type, name).await;
        let set: Vec<String> = stored
            .unwrap()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        set.join(" ")
    }
}
