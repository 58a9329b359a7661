//! An immutable picture of brokers, topics and partitions (`ZkMetadataCache`), swapped whole.
//! Readers take an `Arc` and never lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::hash::HashMap;
use crate::types::{AsPartition, BrokerId, LeaderEpoch, PartitionRef, TopicName, Uuid};

/// One listener of a live broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub listener: String,
    /// Id of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
    pub host: String,
    pub port: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    pub id: BrokerId,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
}

impl BrokerImage {
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.listener == listener)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    pub partition: i32,
    /// −1: none.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub controller_epoch: i32,
    /// zkVersion of the state znode ("partition epoch").
    pub partition_epoch: i32,
    pub isr: Vec<BrokerId>,
    pub replicas: Vec<BrokerId>,
    pub offline_replicas: Vec<BrokerId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    pub name: TopicName,
    pub id: Option<Uuid>,
    pub partitions: BTreeMap<i32, PartitionImage>,
}

#[derive(Debug, Clone, Default)]
pub struct MetadataImage {
    /// `None` until the first UpdateMetadata.
    pub controller_id: Option<BrokerId>,
    /// Live brokers by id.
    pub brokers: BTreeMap<BrokerId, Arc<BrokerImage>>,
    pub topics: BTreeMap<TopicName, Arc<TopicImage>>,
    pub topic_names: HashMap<Uuid, TopicName>,
}

impl MetadataImage {
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    pub fn partition(&self, partition: &dyn AsPartition) -> Option<&PartitionImage> {
        let PartitionRef { topic, partition } = partition.as_partition();
        self.topic(topic)?.partitions.get(&partition)
    }

    pub fn contains(&self, partition: &dyn AsPartition) -> bool {
        self.partition(partition).is_some()
    }
}

/// The current image and a signal for those who wait for it to change.
pub struct Cluster {
    cluster_id: String,
    image: ArcSwap<MetadataImage>,
    changes: watch::Sender<u64>,
    features_epoch: AtomicI64,
}

impl Cluster {
    pub fn new(cluster_id: String) -> Self {
        Self {
            cluster_id,
            image: ArcSwap::from_pointee(MetadataImage::default()),
            changes: watch::Sender::new(0),
            features_epoch: AtomicI64::new(-1),
        }
    }

    /// Version of the `/feature` znode, as ApiVersions tells it; −1 before it was read.
    pub fn features_epoch(&self) -> i64 {
        self.features_epoch.load(Ordering::Relaxed)
    }

    pub fn set_features_epoch(&self, epoch: i64) {
        self.features_epoch.store(epoch, Ordering::Relaxed);
    }

    /// 22 characters, from `/cluster/id`.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Replaces the image; only `cluster/update.rs` and tests call it.
    pub fn publish(&self, image: MetadataImage) {
        self.image.store(Arc::new(image));
        self.changes.send_modify(|count| *count += 1);
    }

    /// Changes after every publish: subscribe first, then look at the image, then wait.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
