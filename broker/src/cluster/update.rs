//! UpdateMetadata → a new [`MetadataImage`]; and the gate at which every control request is
//! checked.
//!
//! Rules:
//! 1. Live brokers and the controller's id are replaced whole; partitions are merged.
//! 2. A partition with leader −2 is removed; a topic without partitions too, with its id.
//! 3. A topic told with a zero id loses the id it had.
//! 4. LeaderAndIsr, UpdateMetadata and StopReplica run one at a time, behind [`ControllerEpochGate`].
//!
//! Source: `ZkMetadataCache.updateMetadata`, `ReplicaManager.maybeUpdateMetadataCache`,
//! `KafkaApis.handleUpdateMetadataRequest`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kafka_protocol::messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataPartitionState,
};
use kafka_protocol::messages::{BrokerId as WireBrokerId, UpdateMetadataRequest};
use parking_lot::{Mutex, MutexGuard};
use tracing::{info, warn};

use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicName, TopicPartition, Uuid};

use super::image::{BrokerImage, Cluster, Endpoint, MetadataImage, PartitionImage, TopicImage};

const STATE_CHANGE: &str = "state.change.logger";
/// Leader of a partition that is being deleted.
const LEADER_DURING_DELETE: BrokerId = -2;
/// The broker epoch of a request that does not check it.
const UNKNOWN_BROKER_EPOCH: i64 = -1;

/// Which controller this broker obeys. The three control requests share it: whoever passes holds
/// the broker's replica-state lock until the [`Passage`] is dropped.
#[derive(Debug)]
pub struct ControllerEpochGate {
    /// The highest controller epoch seen; 0 before the first.
    seen: Mutex<i32>,
    /// czxid of our registration, −1 before it.
    broker_epoch: AtomicI64,
}

impl Default for ControllerEpochGate {
    fn default() -> Self {
        Self {
            seen: Mutex::new(0),
            broker_epoch: AtomicI64::new(UNKNOWN_BROKER_EPOCH),
        }
    }
}

impl ControllerEpochGate {
    /// After every registration in the store.
    pub fn set_broker_epoch(&self, epoch: i64) {
        self.broker_epoch.store(epoch, Ordering::SeqCst);
    }

    pub fn broker_epoch(&self) -> i64 {
        self.broker_epoch.load(Ordering::SeqCst)
    }

    /// Lets a control request in, and waits for the one before it. STALE_BROKER_EPOCH when it was
    /// meant for an earlier life of this broker, STALE_CONTROLLER_EPOCH when its controller has
    /// been replaced.
    pub fn enter(
        &self,
        controller_id: BrokerId,
        controller_epoch: i32,
        broker_epoch: i64,
    ) -> Result<Passage<'_>, ErrorCode> {
        let own = self.broker_epoch();
        if broker_epoch != UNKNOWN_BROKER_EPOCH && broker_epoch < own {
            info!(
                target: STATE_CHANGE,
                "Refused a control request with broker epoch {broker_epoch} smaller than the current broker epoch {own} from controller {controller_id} with epoch {controller_epoch}"
            );
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        let mut seen = self.seen.lock();
        if controller_epoch < *seen {
            warn!(
                target: STATE_CHANGE,
                "Refused a control request from an old controller {controller_id} with epoch {controller_epoch}. Latest known controller epoch is {}",
                *seen
            );
            return Err(ErrorCode::StaleControllerEpoch);
        }
        *seen = controller_epoch;
        Ok(Passage { _seen: seen })
    }

    /// Keeps control requests out until the passage is dropped.
    pub fn hold(&self) -> Passage<'_> {
        Passage {
            _seen: self.seen.lock(),
        }
    }

    /// The highest controller epoch seen.
    pub fn controller_epoch(&self) -> i32 {
        *self.seen.lock()
    }
}

/// Proof of having passed the gate; the next control request waits until it is dropped.
#[derive(Debug)]
pub struct Passage<'a> {
    _seen: MutexGuard<'a, i32>,
}

/// Applies an UpdateMetadata that has come through the gate: publishes the new image and answers
/// the partitions that are gone.
pub fn update_metadata(
    cluster: &Cluster,
    gate: &ControllerEpochGate,
    request: &UpdateMetadataRequest,
) -> Result<Vec<TopicPartition>, ErrorCode> {
    let _passage = gate.enter(
        request.controller_id.0,
        request.controller_epoch,
        request.broker_epoch,
    )?;
    let (image, deleted) = apply(&cluster.image(), request);
    cluster.publish(image);
    Ok(deleted)
}

/// The image after `request`, and the partitions it removed.
pub fn apply(
    image: &MetadataImage,
    request: &UpdateMetadataRequest,
) -> (MetadataImage, Vec<TopicPartition>) {
    let mut next = image.clone();
    next.controller_id = Some(request.controller_id.0).filter(|id| *id >= 0);
    next.brokers = request
        .live_brokers
        .iter()
        .map(|broker| (broker.id.0, Arc::new(broker_image(broker))))
        .collect();

    let mut deleted = BTreeSet::new();
    let mut updated = 0usize;
    for topic in &request.topic_states {
        let id = Some(topic.topic_id).filter(|id| !id.is_nil());
        let (u, d) = merge_topic(
            &mut next,
            &topic.topic_name,
            Some(id),
            &topic.partition_states,
        );
        updated += u;
        deleted.extend(d);
    }
    // Versions 0 to 4 list partitions without grouping them, and know no ids.
    let mut ungrouped: BTreeMap<&str, Vec<UpdateMetadataPartitionState>> = BTreeMap::new();
    for state in &request.ungrouped_partition_states {
        ungrouped
            .entry(state.topic_name.as_str())
            .or_default()
            .push(state.clone());
    }
    for (name, states) in ungrouped {
        let (u, d) = merge_topic(&mut next, name, None, &states);
        updated += u;
        deleted.extend(d);
    }
    if updated + deleted.len() > 0 {
        info!(
            target: STATE_CHANGE,
            "Add {updated} partitions and deleted {} partitions from metadata cache in response to UpdateMetadata request sent by controller {} epoch {}",
            deleted.len(),
            request.controller_id.0,
            request.controller_epoch
        );
    }
    (next, deleted.into_iter().collect())
}

/// `id` is `None` when the request's version knows no ids. Answers how many partitions were
/// written and which were removed.
fn merge_topic(
    image: &mut MetadataImage,
    name: &str,
    id: Option<Option<Uuid>>,
    states: &[UpdateMetadataPartitionState],
) -> (usize, Vec<TopicPartition>) {
    let mut topic = match image.topics.get(name) {
        Some(known) => TopicImage::clone(known),
        None => TopicImage {
            name: TopicName::new(name),
            id: None,
            partitions: BTreeMap::new(),
        },
    };
    if let Some(id) = id
        && topic.id != id
    {
        if let Some(old) = topic.id {
            image.topic_names.remove(&old);
        }
        topic.id = id;
    }
    let mut written = 0;
    let mut deleted = Vec::new();
    for state in states {
        if state.leader.0 == LEADER_DURING_DELETE {
            topic.partitions.remove(&state.partition_index);
            deleted.push(TopicPartition::new(
                topic.name.clone(),
                state.partition_index,
            ));
        } else {
            topic
                .partitions
                .insert(state.partition_index, partition_image(state));
            written += 1;
        }
    }
    if topic.partitions.is_empty() {
        image.topics.remove(name);
        if let Some(id) = topic.id {
            image.topic_names.remove(&id);
        }
    } else {
        if let Some(id) = topic.id {
            image.topic_names.insert(id, topic.name.clone());
        }
        image.topics.insert(topic.name.clone(), Arc::new(topic));
    }
    (written, deleted)
}

fn partition_image(state: &UpdateMetadataPartitionState) -> PartitionImage {
    PartitionImage {
        partition: state.partition_index,
        leader: state.leader.0,
        leader_epoch: state.leader_epoch,
        controller_epoch: state.controller_epoch,
        partition_epoch: state.zk_version,
        isr: ids(&state.isr),
        replicas: ids(&state.replicas),
        offline_replicas: ids(&state.offline_replicas),
    }
}

/// Version 0 has one PLAINTEXT endpoint beside the list.
fn broker_image(broker: &UpdateMetadataBroker) -> BrokerImage {
    let mut endpoints: Vec<Endpoint> = broker
        .endpoints
        .iter()
        .map(|endpoint| Endpoint {
            listener: if endpoint.listener.is_empty() {
                listener_of(endpoint.security_protocol).to_owned()
            } else {
                endpoint.listener.to_string()
            },
            security_protocol: endpoint.security_protocol,
            host: endpoint.host.to_string(),
            port: endpoint.port,
        })
        .collect();
    if endpoints.is_empty() && !broker.v0_host.is_empty() {
        endpoints.push(Endpoint {
            listener: listener_of(0).to_owned(),
            security_protocol: 0,
            host: broker.v0_host.to_string(),
            port: broker.v0_port,
        });
    }
    BrokerImage {
        id: broker.id.0,
        endpoints,
        rack: broker.rack.as_ref().map(|rack| rack.to_string()),
    }
}

/// Versions 1 and 2 name no listener: it is the security protocol's.
fn listener_of(security_protocol: i16) -> &'static str {
    const NAMES: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
    usize::try_from(security_protocol)
        .ok()
        .and_then(|index| NAMES.get(index))
        .unwrap_or(&"")
}

fn ids(ids: &[WireBrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| id.0).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName as WireTopicName;
    use kafka_protocol::messages::update_metadata_request::{
        UpdateMetadataEndpoint, UpdateMetadataTopicState,
    };
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn state(partition: i32, leader: BrokerId, epoch: i32) -> UpdateMetadataPartitionState {
        UpdateMetadataPartitionState::default()
            .with_partition_index(partition)
            .with_leader(WireBrokerId(leader))
            .with_leader_epoch(epoch)
            .with_isr(vec![WireBrokerId(0)])
            .with_replicas(vec![WireBrokerId(0)])
    }

    fn request(
        name: &str,
        id: u128,
        states: Vec<UpdateMetadataPartitionState>,
    ) -> UpdateMetadataRequest {
        UpdateMetadataRequest::default()
            .with_controller_id(WireBrokerId(0))
            .with_controller_epoch(1)
            .with_broker_epoch(-1)
            .with_topic_states(vec![
                UpdateMetadataTopicState::default()
                    .with_topic_name(WireTopicName(StrBytes::from_string(name.to_owned())))
                    .with_topic_id(Uuid::from_u128(id))
                    .with_partition_states(states),
            ])
    }

    #[test]
    fn partitions_are_merged_and_leader_minus_two_removes() {
        let (image, _) = apply(
            &MetadataImage::default(),
            &request("t", 9, vec![state(0, 0, 0), state(1, 0, 0)]),
        );
        let (image, deleted) = apply(&image, &request("t", 9, vec![state(1, 0, 5)]));
        assert!(deleted.is_empty());
        let topic = image.topic_by_id(Uuid::from_u128(9)).expect("known by id");
        assert_eq!(topic.partitions.len(), 2);
        assert_eq!(topic.partitions[&1].leader_epoch, 5);

        let (image, deleted) = apply(&image, &request("t", 9, vec![state(0, -2, 0)]));
        assert_eq!(deleted, [TopicPartition::new("t", 0)]);
        assert!(image.contains(&TopicPartition::new("t", 1)));
        let (image, _) = apply(&image, &request("t", 9, vec![state(1, -2, 0)]));
        assert!(image.topics.is_empty() && image.topic_names.is_empty());
    }

    #[test]
    fn a_topic_made_anew_has_its_new_id_only() {
        let (image, _) = apply(
            &MetadataImage::default(),
            &request("t", 9, vec![state(0, 0, 0)]),
        );
        let (image, _) = apply(&image, &request("t", 10, vec![state(0, 0, 0)]));
        assert!(image.topic_by_id(Uuid::from_u128(9)).is_none());
        assert!(image.topic_by_id(Uuid::from_u128(10)).is_some());
    }

    #[test]
    fn live_brokers_and_controller_are_replaced_whole() {
        let broker = UpdateMetadataBroker::default()
            .with_id(WireBrokerId(3))
            .with_endpoints(vec![
                UpdateMetadataEndpoint::default()
                    .with_host(StrBytes::from_static_str("h"))
                    .with_port(9092)
                    .with_listener(StrBytes::from_static_str("PLAINTEXT")),
            ]);
        let with_broker = UpdateMetadataRequest::default()
            .with_controller_id(WireBrokerId(3))
            .with_live_brokers(vec![broker]);
        let (image, _) = apply(&MetadataImage::default(), &with_broker);
        assert_eq!(image.controller_id, Some(3));
        let endpoint = image.brokers[&3].endpoint("PLAINTEXT").expect("there");
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("h", 9092));
        let none = UpdateMetadataRequest::default().with_controller_id(WireBrokerId(-1));
        let (image, _) = apply(&image, &none);
        assert!(image.brokers.is_empty() && image.controller_id.is_none());
    }

    #[test]
    fn old_controllers_and_requests_for_an_earlier_life_are_refused() {
        let gate = ControllerEpochGate::default();
        gate.set_broker_epoch(40);
        assert!(gate.enter(1, 5, 40).is_ok());
        assert!(gate.enter(1, 5, -1).is_ok());
        assert!(gate.enter(1, 5, 41).is_ok());
        assert_eq!(
            gate.enter(1, 9, 39).err(),
            Some(ErrorCode::StaleBrokerEpoch)
        );
        assert_eq!(gate.controller_epoch(), 5);
        assert_eq!(
            gate.enter(2, 4, 40).err(),
            Some(ErrorCode::StaleControllerEpoch)
        );
        assert!(gate.enter(2, 6, 40).is_ok());
        assert_eq!(gate.controller_epoch(), 6);
    }
}
