//! Metadata (key 3), v0–12. v0 empty list = all topics, v1 null = all, v4 auto-creation flag,
//! v5 offline replicas, v6 LISTENER_NOT_FOUND, v7 leader epoch, v8 authorised operations (of the
//! cluster until v10), v10 topic ids in answers, v12 topics asked for by id.
//!
//! Source: `KafkaApis.handleTopicMetadataRequest`, `ZkMetadataCache.getTopicMetadata`.

use std::collections::HashSet;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, MetadataRequest, MetadataResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::image::{Endpoint, MetadataImage, PartitionImage, TopicImage};
use crate::controller::admin::TopicAdmin;
use crate::controller::topic_name;
use crate::error::ErrorCode;
use crate::types::{BrokerId, Uuid, is_internal_topic};

use super::authorized;
use super::context::Context;

pub async fn handle(cx: &Context<'_>, request: MetadataRequest) -> MetadataResponse {
    if !is_valid(cx.version, &request) {
        return refuse(&request, ErrorCode::InvalidRequest);
    }
    let image = cx.rooms.cluster.image();
    let ask = Ask {
        version: cx.version,
        listener: &cx.peer.listener,
        cluster_id: cx.rooms.cluster.cluster_id(),
        topic_operations: request.include_topic_authorized_operations,
        cluster_operations: request.include_cluster_authorized_operations,
    };
    let (mut response, unknown) = answer(&image, &ask, &request);
    let config = cx.rooms.config.load();
    let auto_create = config.auto_create_topics_enable() && request.allow_auto_topic_creation;
    for name in unknown {
        let code = if auto_create {
            let admin = TopicAdmin {
                store: &*cx.rooms.store,
                cluster: &cx.rooms.cluster,
                config: &config,
            };
            admin.auto_create(&name).await
        } else if topic_name::invalid_reason(&name).is_some() {
            ErrorCode::InvalidTopicException
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
        let topic = topic_error(&name, code);
        response.topics.push(with_operations(topic, &ask));
    }
    response
}

/// The same refusal for every topic asked for.
pub fn refuse(request: &MetadataRequest, code: ErrorCode) -> MetadataResponse {
    let topics = request
        .topics
        .iter()
        .flatten()
        .map(|topic| {
            MetadataResponseTopic::default()
                .with_name(Some(topic.name.clone().unwrap_or_default()))
                .with_topic_id(topic.topic_id)
                .with_error_code(code.value())
        })
        .collect();
    MetadataResponse::default()
        .with_controller_id(WireBrokerId(-1))
        .with_topics(topics)
}

struct Ask<'a> {
    version: i16,
    listener: &'a str,
    cluster_id: &'a str,
    topic_operations: bool,
    cluster_operations: bool,
}

/// Ids are in the request from v10 on, but are served from v12 on only.
fn is_valid(version: i16, request: &MetadataRequest) -> bool {
    version >= 12
        || asks_for_all(version, request)
        || request
            .topics
            .iter()
            .flatten()
            .all(|topic| topic.name.is_some() && topic.topic_id.is_nil())
}

fn asks_for_all(version: i16, request: &MetadataRequest) -> bool {
    request
        .topics
        .as_ref()
        .is_none_or(|topics| version == 0 && topics.is_empty())
}

/// Everything the image knows of what is asked, and the names it does not know.
fn answer(
    image: &MetadataImage,
    ask: &Ask<'_>,
    request: &MetadataRequest,
) -> (MetadataResponse, Vec<String>) {
    let mut topics = Vec::new();
    let mut unknown = Vec::new();
    if asks_for_all(ask.version, request) {
        topics.extend(
            image
                .topics
                .values()
                .map(|topic| topic_answer(image, ask, topic)),
        );
    } else {
        let asked = request.topics.as_deref().unwrap_or_default();
        let ids: Vec<Uuid> = asked
            .iter()
            .map(|topic| topic.topic_id)
            .filter(|id| !id.is_nil())
            .collect();
        if ids.is_empty() {
            by_name(image, ask, asked, &mut topics, &mut unknown);
        } else {
            by_id(image, ask, &ids, &mut topics);
        }
    }
    let brokers = image
        .brokers
        .values()
        .filter_map(|broker| {
            let endpoint: &Endpoint = broker.endpoint(ask.listener)?;
            Some(
                MetadataResponseBroker::default()
                    .with_node_id(WireBrokerId(broker.id))
                    .with_host(text(&endpoint.host))
                    .with_port(endpoint.port)
                    .with_rack(broker.rack.as_deref().map(text)),
            )
        })
        .collect();
    let cluster_operations = if (8..=10).contains(&ask.version) && ask.cluster_operations {
        authorized::CLUSTER
    } else {
        authorized::NOT_ASKED
    };
    let response = MetadataResponse::default()
        .with_brokers(brokers)
        .with_cluster_id(Some(text(ask.cluster_id)))
        .with_controller_id(WireBrokerId(image.controller_id.unwrap_or(-1)))
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations);
    (response, unknown)
}

/// Each name once, known ones first.
fn by_name(
    image: &MetadataImage,
    ask: &Ask<'_>,
    asked: &[MetadataRequestTopic],
    topics: &mut Vec<MetadataResponseTopic>,
    unknown: &mut Vec<String>,
) {
    let mut seen = HashSet::new();
    for name in asked.iter().filter_map(|topic| topic.name.as_ref()) {
        if !seen.insert(name.as_str()) {
            continue;
        }
        match image.topic(name) {
            Some(topic) => topics.push(topic_answer(image, ask, topic)),
            None => unknown.push(name.to_string()),
        }
    }
}

/// Each id once, unknown ones first.
fn by_id(
    image: &MetadataImage,
    ask: &Ask<'_>,
    ids: &[Uuid],
    topics: &mut Vec<MetadataResponseTopic>,
) {
    let mut seen = HashSet::new();
    let mut known = Vec::new();
    for id in ids.iter().filter(|id| seen.insert(**id)) {
        match image.topic_by_id(*id) {
            Some(topic) => known.push(topic_answer(image, ask, topic)),
            None => topics.push(
                MetadataResponseTopic::default()
                    .with_name(None)
                    .with_topic_id(*id)
                    .with_error_code(ErrorCode::UnknownTopicId.value()),
            ),
        }
    }
    topics.append(&mut known);
}

fn topic_answer(image: &MetadataImage, ask: &Ask<'_>, topic: &TopicImage) -> MetadataResponseTopic {
    let partitions = topic
        .partitions
        .values()
        .map(|partition| partition_answer(image, ask, partition))
        .collect();
    let answer = MetadataResponseTopic::default()
        .with_name(Some(WireTopicName(text(&topic.name))))
        .with_topic_id(topic.id.unwrap_or(Uuid::nil()))
        .with_is_internal(is_internal_topic(&topic.name))
        .with_partitions(partitions);
    with_operations(answer, ask)
}

fn topic_error(name: &str, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_name(Some(WireTopicName(text(name))))
        .with_is_internal(is_internal_topic(name))
        .with_error_code(code.value())
}

fn with_operations(topic: MetadataResponseTopic, ask: &Ask<'_>) -> MetadataResponseTopic {
    let operations = if ask.version >= 8 && ask.topic_operations {
        authorized::TOPIC
    } else {
        authorized::NOT_ASKED
    };
    topic.with_topic_authorized_operations(operations)
}

fn partition_answer(
    image: &MetadataImage,
    ask: &Ask<'_>,
    partition: &PartitionImage,
) -> MetadataResponsePartition {
    let reachable = |id: &BrokerId| {
        image
            .brokers
            .get(id)
            .is_some_and(|broker| broker.endpoint(ask.listener).is_some())
    };
    // v0 leaves out brokers that cannot be reached, and says so.
    let shown = |ids: &[BrokerId]| -> Vec<WireBrokerId> {
        ids.iter()
            .filter(|id| ask.version > 0 || reachable(id))
            .copied()
            .map(WireBrokerId)
            .collect()
    };
    let replicas = shown(&partition.replicas);
    let isr = shown(&partition.isr);
    let (leader, code) = if reachable(&partition.leader) {
        let missing = replicas.len() < partition.replicas.len() || isr.len() < partition.isr.len();
        let code = if missing {
            ErrorCode::ReplicaNotAvailable
        } else {
            ErrorCode::None
        };
        (partition.leader, code)
    } else if ask.version >= 6 && image.brokers.contains_key(&partition.leader) {
        (-1, ErrorCode::ListenerNotFound)
    } else {
        (-1, ErrorCode::LeaderNotAvailable)
    };
    MetadataResponsePartition::default()
        .with_error_code(code.value())
        .with_partition_index(partition.partition)
        .with_leader_id(WireBrokerId(leader))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(replicas)
        .with_isr_nodes(isr)
        .with_offline_replicas(shown_all(&partition.offline_replicas))
}

fn shown_all(ids: &[BrokerId]) -> Vec<WireBrokerId> {
    ids.iter().copied().map(WireBrokerId).collect()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use crate::cluster::image::BrokerImage;
    use crate::types::TopicName;

    use super::*;

    fn image(leader: BrokerId) -> MetadataImage {
        let endpoint = |listener: &str, port| Endpoint {
            listener: listener.to_owned(),
            security_protocol: 0,
            host: "h".to_owned(),
            port,
        };
        let broker = |id, endpoints| {
            let rack = None;
            (
                id,
                Arc::new(BrokerImage {
                    id,
                    endpoints,
                    rack,
                }),
            )
        };
        let partition = PartitionImage {
            partition: 0,
            leader,
            leader_epoch: 3,
            controller_epoch: 1,
            partition_epoch: 0,
            isr: vec![0, 2],
            replicas: vec![0, 2],
            offline_replicas: vec![2],
        };
        let name = TopicName::new("t");
        let id = Uuid::from_u128(9);
        let topic = TopicImage {
            name: name.clone(),
            id: Some(id),
            partitions: BTreeMap::from([(0, partition)]),
        };
        MetadataImage {
            controller_id: Some(0),
            brokers: BTreeMap::from([
                broker(0, vec![endpoint("A", 1), endpoint("B", 2)]),
                broker(1, vec![endpoint("B", 3)]),
            ]),
            topics: BTreeMap::from([(name.clone(), Arc::new(topic))]),
            topic_names: [(id, name)].into_iter().collect(),
        }
    }

    fn ask(version: i16, listener: &str) -> Ask<'_> {
        Ask {
            version,
            listener,
            cluster_id: "c",
            topic_operations: true,
            cluster_operations: true,
        }
    }

    fn named(names: &[&str]) -> MetadataRequest {
        MetadataRequest::default().with_topics(Some(
            names
                .iter()
                .map(|name| {
                    MetadataRequestTopic::default().with_name(Some(WireTopicName(text(name))))
                })
                .collect(),
        ))
    }

    #[test]
    fn errors_of_partitions_by_version_and_listener() {
        let check = |leader, version, listener, expect: ErrorCode| {
            let (response, _) = answer(&image(leader), &ask(version, listener), &named(&["t"]));
            let partition = &response.topics[0].partitions[0];
            assert_eq!(
                ErrorCode::from_value(partition.error_code),
                expect,
                "leader {leader}, v{version}, {listener}"
            );
        };
        check(0, 1, "A", ErrorCode::None);
        check(0, 0, "A", ErrorCode::ReplicaNotAvailable);
        check(-1, 12, "A", ErrorCode::LeaderNotAvailable);
        check(1, 5, "A", ErrorCode::LeaderNotAvailable);
        check(1, 6, "A", ErrorCode::ListenerNotFound);
        check(2, 6, "A", ErrorCode::LeaderNotAvailable);
    }

    #[test]
    fn only_brokers_with_the_clients_listener_are_shown() {
        let (response, _) = answer(&image(0), &ask(9, "A"), &named(&[]));
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(response.brokers[0].port, 1);
        let (response, _) = answer(&image(0), &ask(9, "B"), &named(&[]));
        assert_eq!(response.brokers.len(), 2);
    }

    #[test]
    fn empty_list_is_all_topics_in_v0_only_and_null_always() {
        let count = |version, request: &MetadataRequest| {
            answer(&image(0), &ask(version, "A"), request)
                .0
                .topics
                .len()
        };
        assert_eq!(count(0, &named(&[])), 1);
        assert_eq!(count(1, &named(&[])), 0);
        assert_eq!(count(1, &MetadataRequest::default().with_topics(None)), 1);
    }

    #[test]
    fn unknown_names_are_left_to_creation_and_ids_are_not() {
        let (response, unknown) = answer(&image(0), &ask(12, "A"), &named(&["x", "t", "x"]));
        assert_eq!(unknown, ["x"]);
        assert_eq!(response.topics.len(), 1);
        let by_id = |id| {
            let topic = MetadataRequestTopic::default()
                .with_name(None)
                .with_topic_id(Uuid::from_u128(id));
            MetadataRequest::default().with_topics(Some(vec![topic]))
        };
        let (response, unknown) = answer(&image(0), &ask(12, "A"), &by_id(7));
        assert!(unknown.is_empty());
        assert_eq!(
            response.topics[0].error_code,
            ErrorCode::UnknownTopicId.value()
        );
        let (response, _) = answer(&image(0), &ask(12, "A"), &by_id(9));
        assert_eq!(
            response.topics[0].name.as_deref().map(|n| n.as_str()),
            Some("t")
        );
        assert!(!is_valid(11, &by_id(9)) && is_valid(12, &by_id(9)));
        assert!(is_valid(11, &named(&["t"])));
    }

    #[test]
    fn every_version_encodes() {
        for version in 0..=12 {
            let ask = ask(version, "A");
            let (mut response, _) = answer(&image(0), &ask, &named(&["t"]));
            let missing = topic_error("x", ErrorCode::LeaderNotAvailable);
            response.topics.push(with_operations(missing, &ask));
            for response in [response, refuse(&named(&["t"]), ErrorCode::InvalidRequest)] {
                response
                    .encode(&mut BytesMut::new(), version)
                    .unwrap_or_else(|error| panic!("v{version}: {error}"));
            }
        }
    }
}
