//! FindCoordinator (key 10), v0–6. v1 coordinator type, v3 flexible, v4 many keys (KIP-699), v6 share
//! groups. Asking for a coordinator creates its topic; until that has leaders, and always when too
//! few brokers live for its replication factor, the answer is COORDINATOR_NOT_AVAILABLE.
//!
//! Source: `KafkaApis.getCoordinator`, `FindCoordinatorResponse`.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, FindCoordinatorRequest, FindCoordinatorResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::cluster::image::MetadataImage;
use crate::controller::admin::TopicAdmin;
use crate::error::ErrorCode;
use crate::types::GROUP_METADATA_TOPIC;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// `Node.noNode`.
const NOWHERE: Node = Node {
    id: -1,
    host: String::new(),
    port: -1,
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    id: i32,
    host: String,
    port: i32,
}

pub async fn handle(cx: &Context<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let is_known = matches!(request.key_type, GROUP | TRANSACTION | SHARE);
    if cx.version < 4 {
        let found = if is_known {
            find(cx, request.key_type, &request.key).await
        } else {
            Err(ErrorCode::InvalidRequest)
        };
        return single(found);
    }
    if !is_known {
        return refuse_keys(&request, ErrorCode::InvalidRequest);
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in &request.coordinator_keys {
        let found = find(cx, request.key_type, key).await;
        coordinators.push(coordinator(key, found));
    }
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

/// The same refusal in the shape of the version, which shows in what was asked.
pub fn refuse(request: &FindCoordinatorRequest, code: ErrorCode) -> FindCoordinatorResponse {
    if request.key.is_empty() {
        refuse_keys(request, code)
    } else {
        single(Err(code))
    }
}

fn refuse_keys(request: &FindCoordinatorRequest, code: ErrorCode) -> FindCoordinatorResponse {
    let coordinators = request
        .coordinator_keys
        .iter()
        .map(|key| {
            coordinator(key, Err(code))
                .with_error_message(Some(StrBytes::from_static_str(code.message())))
        })
        .collect();
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

async fn find(cx: &Context<'_>, key_type: i8, key: &str) -> Result<Node, ErrorCode> {
    match key_type {
        SHARE if cx.version < 6 => return Err(ErrorCode::InvalidRequest),
        // No coordinator of these is in this broker or can be in another one of this kind.
        SHARE | TRANSACTION => return Err(ErrorCode::CoordinatorNotAvailable),
        _ => {}
    }
    let image = cx.rooms.cluster.image();
    if image.topic(GROUP_METADATA_TOPIC).is_none() {
        let config = cx.rooms.config.load();
        let admin = TopicAdmin {
            store: &*cx.rooms.store,
            cluster: &cx.rooms.cluster,
            config: &config,
        };
        let code = admin.auto_create(GROUP_METADATA_TOPIC).await;
        tracing::debug!("Created {GROUP_METADATA_TOPIC} for FindCoordinator: {code}");
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    let partition = cx.rooms.groups.partition_for(key);
    leader(&image, partition, &cx.peer.listener).ok_or(ErrorCode::CoordinatorNotAvailable)
}

/// The live leader of a partition of the topic, as clients of this listener reach it.
fn leader(image: &MetadataImage, partition: i32, listener: &str) -> Option<Node> {
    let topic = image.topic(GROUP_METADATA_TOPIC)?;
    let leader = topic.partitions.get(&partition)?.leader;
    let endpoint = image.brokers.get(&leader)?.endpoint(listener)?;
    Some(Node {
        id: leader,
        host: endpoint.host.clone(),
        port: endpoint.port,
    })
}

/// v0–3. Kafka's message of no error is its name.
fn single(found: Result<Node, ErrorCode>) -> FindCoordinatorResponse {
    let (code, node) = split(found);
    let message = if code.is_none() {
        code.name()
    } else {
        code.message()
    };
    FindCoordinatorResponse::default()
        .with_error_code(code.value())
        .with_error_message(Some(StrBytes::from_static_str(message)))
        .with_node_id(WireBrokerId(node.id))
        .with_host(StrBytes::from_string(node.host))
        .with_port(node.port)
}

/// v4 and later.
fn coordinator(key: &StrBytes, found: Result<Node, ErrorCode>) -> Coordinator {
    let (code, node) = split(found);
    Coordinator::default()
        .with_key(key.clone())
        .with_error_code(code.value())
        .with_node_id(WireBrokerId(node.id))
        .with_host(StrBytes::from_string(node.host))
        .with_port(node.port)
}

fn split(found: Result<Node, ErrorCode>) -> (ErrorCode, Node) {
    match found {
        Ok(node) => (ErrorCode::None, node),
        Err(code) => (code, NOWHERE),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::cluster::image::{BrokerImage, Endpoint, PartitionImage, TopicImage};
    use crate::types::TopicName;

    fn node() -> Node {
        Node {
            id: 1,
            host: "localhost".into(),
            port: 9092,
        }
    }

    #[test]
    fn every_answer_encodes_in_every_version() {
        let key = StrBytes::from_static_str("g");
        let single_key = FindCoordinatorRequest::default().with_key(key.clone());
        let many_keys =
            FindCoordinatorRequest::default().with_coordinator_keys(vec![key.clone(), key.clone()]);
        for version in 0..=6 {
            let mut responses = Vec::new();
            for found in [Ok(node()), Err(ErrorCode::CoordinatorNotAvailable)] {
                responses.push(if version < 4 {
                    single(found)
                } else {
                    FindCoordinatorResponse::default()
                        .with_coordinators(vec![coordinator(&key, found)])
                });
            }
            let request = if version < 4 { &single_key } else { &many_keys };
            responses.push(refuse(request, ErrorCode::GroupAuthorizationFailed));
            for response in responses {
                response.encode(&mut BytesMut::new(), version).unwrap();
            }
        }
        assert_eq!(
            single(Ok(node())).error_message,
            Some(StrBytes::from_static_str("NONE"))
        );
        assert_eq!(single(Err(ErrorCode::NotCoordinator)).port, -1);
    }

    #[test]
    fn the_coordinator_is_the_live_leader_on_the_listener() {
        let image = |leader, listener: &str| {
            let endpoint = Endpoint {
                listener: listener.into(),
                security_protocol: 0,
                host: "localhost".into(),
                port: 9092,
            };
            let broker = BrokerImage {
                id: 1,
                endpoints: vec![endpoint],
                rack: None,
            };
            let partition = PartitionImage {
                partition: 0,
                leader,
                leader_epoch: 0,
                controller_epoch: 1,
                partition_epoch: 0,
                isr: vec![1],
                replicas: vec![1],
                offline_replicas: Vec::new(),
            };
            let name = TopicName::new(GROUP_METADATA_TOPIC);
            let topic = TopicImage {
                name: name.clone(),
                id: None,
                partitions: BTreeMap::from([(0, partition)]),
            };
            MetadataImage {
                brokers: BTreeMap::from([(1, Arc::new(broker))]),
                topics: BTreeMap::from([(name, Arc::new(topic))]),
                ..MetadataImage::default()
            }
        };
        let find = |leader, listener, partition| {
            super::leader(&image(leader, listener), partition, "PLAINTEXT")
        };
        assert_eq!(find(1, "PLAINTEXT", 0), Some(node()));
        assert_eq!(find(-1, "PLAINTEXT", 0), None);
        assert_eq!(find(2, "PLAINTEXT", 0), None, "not alive");
        assert_eq!(find(1, "INTERNAL", 0), None);
        assert_eq!(find(1, "PLAINTEXT", 1), None);
    }
}
