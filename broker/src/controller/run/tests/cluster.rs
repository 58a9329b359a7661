//! Several controllers over one embedded ensemble, each with a broker that is spoken to over a real
//! socket, in the versions the wire is fixed to.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest, UpdateMetadataResponse,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};

use crate::clock::ManualClock;
use crate::cluster::image::{Cluster, Endpoint};
use crate::cluster::update::{ControllerEpochGate, update_metadata};
use crate::net::out::encode;
use crate::net::{Connections, Handler, Limits, Listener, Outcome, Peer, guard};
use crate::zk::CreateMode;
use crate::zk::data::BrokerRegistration;
use crate::zk::embedded::{Embedded, EmbeddedStore};
use crate::zk::session::create_persistent_paths;

use crate::controller::run::*;
use crate::controller::{state, znode};

/// What a replica was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Replica {
    leader: BrokerId,
    leader_epoch: i32,
    isr: Vec<BrokerId>,
    partition_epoch: i32,
}

/// A broker that believes what passes the gate.
struct Fake {
    cluster: Cluster,
    gate: ControllerEpochGate,
    replicas: Mutex<BTreeMap<TopicPartition, Replica>>,
    /// Requests that came over the wire.
    over_wire: AtomicI32,
    stale: AtomicI32,
}

impl Fake {
    fn become_leader_or_follower(&self, request: &LeaderAndIsrRequest) -> LeaderAndIsrResponse {
        let passage = self.gate.enter(
            request.controller_id.0,
            request.controller_epoch,
            request.broker_epoch,
        );
        if let Err(code) = passage {
            self.stale.fetch_add(1, Ordering::SeqCst);
            return LeaderAndIsrResponse::default().with_error_code(code.value());
        }
        let mut replicas = self.replicas.lock();
        let topics = request.topic_states.iter().map(|topic| {
            let errors = topic.partition_states.iter().map(|state| {
                let partition =
                    TopicPartition::new(topic.topic_name.as_str(), state.partition_index);
                let known = replicas
                    .get(&partition)
                    .map_or(-1, |replica| replica.leader_epoch);
                let code = if state.leader_epoch > known {
                    let replica = Replica {
                        leader: state.leader.0,
                        leader_epoch: state.leader_epoch,
                        isr: state.isr.iter().map(|id| id.0).collect(),
                        partition_epoch: state.partition_epoch,
                    };
                    replicas.insert(partition, replica);
                    ErrorCode::None
                } else {
                    ErrorCode::StaleControllerEpoch
                };
                LeaderAndIsrPartitionError::default()
                    .with_partition_index(state.partition_index)
                    .with_error_code(code.value())
            });
            LeaderAndIsrTopicError::default()
                .with_topic_id(topic.topic_id)
                .with_partition_errors(errors.collect())
        });
        LeaderAndIsrResponse::default().with_topics(topics.collect())
    }

    fn stop(&self, request: &StopReplicaRequest) -> StopReplicaResponse {
        let mut errors = Vec::new();
        for topic in &request.topic_states {
            for state in &topic.partition_states {
                if state.delete_partition {
                    let partition =
                        TopicPartition::new(topic.topic_name.as_str(), state.partition_index);
                    self.replicas.lock().remove(&partition);
                }
                errors.push(
                    StopReplicaPartitionError::default()
                        .with_topic_name(topic.topic_name.clone())
                        .with_partition_index(state.partition_index),
                );
            }
        }
        StopReplicaResponse::default().with_partition_errors(errors)
    }

    fn learn(&self, request: &UpdateMetadataRequest) -> UpdateMetadataResponse {
        let code = update_metadata(&self.cluster, &self.gate, request)
            .map_or_else(|code| code.value(), |_| 0);
        UpdateMetadataResponse::default().with_error_code(code)
    }
}

impl LocalBroker for Fake {
    fn leader_and_isr(&self, request: LeaderAndIsrRequest) -> BoxFuture<'_, LeaderAndIsrResponse> {
        Box::pin(async move { self.become_leader_or_follower(&request) })
    }
    fn update_metadata(
        &self,
        request: UpdateMetadataRequest,
    ) -> BoxFuture<'_, UpdateMetadataResponse> {
        Box::pin(async move { self.learn(&request) })
    }
    fn stop_replica(&self, request: StopReplicaRequest) -> BoxFuture<'_, StopReplicaResponse> {
        Box::pin(async move { self.stop(&request) })
    }
}

/// Over the wire.
struct Wire(Arc<Fake>);

impl Handler for Wire {
    type Connection = ();

    fn connect(&self, _: &Peer) {}

    async fn handle(&self, (): &mut (), _: &Peer, frame: &[u8]) -> Outcome {
        let (key, version) = guard::peek(frame).expect("a header");
        self.0.over_wire.fetch_add(1, Ordering::SeqCst);
        match (key, version) {
            (4, 7) => answer(frame, version, |r: &LeaderAndIsrRequest| {
                self.0.become_leader_or_follower(r)
            }),
            (5, 4) => answer(frame, version, |r: &StopReplicaRequest| self.0.stop(r)),
            (6, 8) => answer(frame, version, |r: &UpdateMetadataRequest| self.0.learn(r)),
            other => panic!("the wire is fixed to other versions: {other:?}"),
        }
    }
}

fn answer<R: Request>(frame: &[u8], version: i16, ask: impl Fn(&R) -> R::Response) -> Outcome
where
    R::Response: Encodable + HeaderVersion,
{
    let header_version = R::header_version(version);
    let header = guard::request_header(frame, header_version).expect("a header");
    let client = header.client_id.map(|id| id.as_bytes().to_vec());
    let client = String::from_utf8(client.expect("a client id")).expect("text");
    assert!(
        client.parse::<i32>().is_ok(),
        "the controller's id: {client}"
    );
    let body = &mut Bytes::copy_from_slice(&frame[header.len..]);
    let request = R::decode(body, version).expect("a request");
    let response = ask(&request);
    let chunks = encode(
        header.correlation_id,
        R::Response::header_version(version),
        &response,
        version,
    );
    Outcome::Respond(chunks.expect("encodes"))
}

struct Node {
    id: BrokerId,
    store: Arc<EmbeddedStore>,
    broker: Arc<Fake>,
    controller: Arc<Controller>,
    connections: Arc<Connections>,
    /// Not served yet.
    listener: Option<Listener>,
}

impl Node {
    fn serve(&mut self) {
        let limits = tokio::sync::watch::channel(Arc::new(Limits::default())).1;
        if let Some(listener) = self.listener.take() {
            listener
                .accept(
                    Arc::new(Wire(Arc::clone(&self.broker))),
                    limits,
                    &self.connections,
                )
                .expect("listens");
        }
    }

    /// As kill -9 looks to the others once the session is over.
    async fn kill(self) {
        self.connections.stop().await;
        self.controller.shutdown().await;
        self.store.close().await;
    }
}

struct World {
    ensemble: Arc<Embedded>,
    nodes: BTreeMap<BrokerId, Node>,
    admin: EmbeddedStore,
}

impl World {
    async fn new(brokers: i32) -> Self {
        let ensemble = Embedded::in_memory(Arc::new(ManualClock::at(1)));
        let admin = ensemble.connect();
        create_persistent_paths(&admin).await.expect("creates");
        let mut world = Self {
            ensemble,
            nodes: BTreeMap::new(),
            admin,
        };
        for id in 1..=brokers {
            world.start(id, true).await;
            // The first is controller, so that each test knows who is.
            world.until("a controller", |w| w.active().is_some()).await;
        }
        world
            .until("all brokers known to all", |w| {
                w.nodes
                    .values()
                    .all(|node| node.broker.cluster.image().brokers.len() == w.nodes.len())
            })
            .await;
        world
    }

    async fn start(&mut self, id: BrokerId, serve: bool) {
        let store = Arc::new(self.ensemble.connect());
        let listener =
            Listener::bind("PLAINTEXT", Some("127.0.0.1"), 0, &Limits::default()).expect("binds");
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            security_protocol: 0,
            host: "127.0.0.1".to_owned(),
            port: i32::from(listener.local_addr().port()),
        };
        let registration = BrokerRegistration::new(vec![endpoint], None).encode(1);
        let broker = Arc::new(Fake {
            cluster: Cluster::new("c".to_owned()),
            gate: ControllerEpochGate::default(),
            replicas: Mutex::default(),
            over_wire: AtomicI32::new(0),
            stale: AtomicI32::new(0),
        });
        let register: Register = {
            let (store, broker) = (Arc::clone(&store), Arc::clone(&broker));
            Arc::new(move || {
                let (store, broker) = (Arc::clone(&store), Arc::clone(&broker));
                let data = registration.clone();
                Box::pin(async move {
                    let path = paths::broker(id);
                    let (_, stat) = store.create(&path, data, CreateMode::Ephemeral).await?;
                    broker.gate.set_broker_epoch(stat.czxid);
                    Ok(())
                })
            })
        };
        register().await.expect("registers");
        let settings = Settings {
            controller_id: id,
            inter_broker_listener: "PLAINTEXT".to_owned(),
            delete_topic_enable: true,
            unclean_leader_election_enable: false,
            leader_imbalance_per_broker_percentage: 10,
        };
        let controller = Controller::start(ControllerParts {
            settings,
            channel: ChannelSettings {
                local_id: id,
                listener: "PLAINTEXT".to_owned(),
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(5),
            },
            store: store.clone(),
            clock: Arc::new(ManualClock::at(1)),
            local: broker.clone(),
            register,
            rebalance_interval: None,
        });
        let mut node = Node {
            id,
            store,
            broker,
            controller,
            connections: Connections::new(),
            listener: Some(listener),
        };
        if serve {
            node.serve();
        }
        self.nodes.insert(id, node);
    }

    async fn kill(&mut self, id: BrokerId) {
        self.nodes.remove(&id).expect("runs").kill().await;
    }

    fn active(&self) -> Option<&Node> {
        self.nodes.values().find(|node| node.controller.is_active())
    }

    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < deadline, "waiting for: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Partition n of topic `t` gets the replicas of row n.
    async fn create_topic(&self, replicas: &[&[BrokerId]]) {
        let topic = state::TopicAssignment {
            name: TopicName::new("t"),
            id: Some(crate::types::Uuid::from_u128(77)),
            partitions: (0..)
                .zip(replicas)
                .map(|(n, ids)| (n, ReplicaAssignment::of(ids.to_vec())))
                .collect(),
        };
        let config = Bytes::from_static(br#"{"version":1,"config":{}}"#);
        let persistent = CreateMode::Persistent;
        let created = self.admin.create("/config/topics/t", config, persistent);
        created.await.expect("creates");
        let data = znode::encode_topic(&topic);
        let created = self.admin.create("/brokers/topics/t", data, persistent);
        created.await.expect("creates");
    }

    fn told(&self, broker: BrokerId, partition: i32) -> Option<Replica> {
        let partition = TopicPartition::new("t", partition);
        let replicas = self.nodes.get(&broker)?.broker.replicas.lock();
        replicas.get(&partition).cloned()
    }

    /// Every live broker's image says so.
    fn everybody_sees(&self, partition: i32, leader: BrokerId) -> bool {
        let partition = TopicPartition::new("t", partition);
        self.nodes.values().all(|node| {
            node.broker
                .cluster
                .image()
                .partition(&partition)
                .is_some_and(|seen| seen.leader == leader)
        })
    }

    async fn stop(mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            node.kill().await;
        }
    }
}

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

#[tokio::test]
async fn partitions_are_led_on_every_broker_and_everybody_knows() {
    let world = World::new(3).await;
    world.create_topic(&[&[1], &[2], &[3], &[2, 3, 1]]).await;
    for (partition, leader) in [(0, 1), (1, 2), (2, 3), (3, 2)] {
        world
            .until("metadata", |w| w.everybody_sees(partition, leader))
            .await;
        assert_eq!(world.told(leader, partition).expect("told").leader, leader);
    }
    for broker in 1..=3 {
        let replica = world.told(broker, 3).expect("each has a replica");
        assert_eq!((replica.leader, replica.isr), (2, vec![2, 3, 1]));
    }
    assert!(world.told(1, 1).is_none(), "only replicas are told");
    let wire = |id: BrokerId| world.nodes[&id].broker.over_wire.load(Ordering::SeqCst);
    assert_eq!(wire(1), 0, "the controller's own broker is told in process");
    assert!(wire(2) > 0 && wire(3) > 0);
    for node in world.nodes.values() {
        assert_eq!(node.broker.cluster.image().controller_id, Some(1));
        assert_eq!(node.controller.active_controller_id(), Some(1));
    }
    // Only the controller answers; the others say so.
    let asked = world.nodes[&2].controller.list_reassignments(None).await;
    assert_eq!(asked, Err(ErrorCode::NotController));
    world.stop().await;
}

#[tokio::test]
async fn another_broker_takes_over_when_the_controller_is_killed() {
    let mut world = World::new(3).await;
    world
        .create_topic(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]])
        .await;
    for (partition, leader) in [(0, 1), (1, 2), (2, 3)] {
        world
            .until("metadata", |w| w.everybody_sees(partition, leader))
            .await;
    }
    world.kill(1).await;
    world
        .until("another controller", |w| w.active().is_some())
        .await;
    let active = world.active().map(|node| node.id);
    world
        .until("the dead leader's partition is led by the next", |w| {
            w.everybody_sees(0, 2)
        })
        .await;
    let replica = world.told(3, 0).expect("a follower");
    assert_eq!((replica.leader, replica.isr), (2, vec![2, 3]));
    assert!(replica.leader_epoch > 0);
    for node in world.nodes.values() {
        assert_eq!(node.broker.cluster.image().controller_id, active);
        assert_eq!(node.broker.gate.controller_epoch(), 2);
        assert_eq!(node.broker.cluster.image().brokers.len(), 2);
    }
    // It comes back: told of all its replicas and back in metadata, though not in the ISR yet.
    world.start(1, true).await;
    world
        .until("told of all three", |w| {
            (0..3).all(|partition| w.told(1, partition).is_some())
        })
        .await;
    assert_eq!(world.told(1, 0).expect("told").leader, 2);
    world.stop().await;
}

#[tokio::test]
async fn a_broker_that_does_not_answer_yet_gets_everything_once_it_does() {
    let mut world = World::new(2).await;
    world.start(3, false).await;
    world.create_topic(&[&[3, 1], &[1, 3]]).await;
    world
        .until("the others know", |w| {
            w.told(1, 0).is_some_and(|replica| replica.leader == 3)
        })
        .await;
    assert!(world.told(3, 0).is_none());
    world.nodes.get_mut(&3).expect("runs").serve();
    world
        .until("told", |w| {
            w.told(3, 0).is_some_and(|replica| replica.leader == 3)
                && w.told(3, 1).is_some_and(|replica| replica.leader == 1)
        })
        .await;
    world.stop().await;
}

#[tokio::test]
async fn controlled_shutdown_hands_over_what_others_can_lead() {
    let world = World::new(3).await;
    world.create_topic(&[&[2, 3], &[3, 2], &[2]]).await;
    world.until("metadata", |w| w.everybody_sees(2, 2)).await;
    world.until("metadata", |w| w.everybody_sees(0, 2)).await;
    let controller = Arc::clone(&world.nodes[&1].controller);
    let epoch = world.nodes[&2].broker.gate.broker_epoch();
    assert_eq!(
        controller.controlled_shutdown(2, epoch - 1).await,
        Err(ErrorCode::StaleBrokerEpoch)
    );
    assert_eq!(
        controller.controlled_shutdown(9, -1).await,
        Err(ErrorCode::BrokerNotAvailable)
    );
    // The partition with one replica has nowhere to go and does not count.
    assert_eq!(
        controller.controlled_shutdown(2, epoch).await,
        Ok(Vec::new())
    );
    world.until("moved", |w| w.everybody_sees(0, 3)).await;
    world
        .until("out of both ISRs", |w| {
            (0..2).all(|partition| {
                w.told(3, partition)
                    .is_some_and(|replica| replica.isr == [3])
            })
        })
        .await;
    // Now the last one that could lead these says goodbye as well.
    let epoch = world.nodes[&3].broker.gate.broker_epoch();
    let remaining = controller.controlled_shutdown(3, epoch).await;
    assert_eq!(remaining, Ok(vec![t(0), t(1)]));
    world.stop().await;
}

#[tokio::test]
async fn isrs_change_by_the_leaders_word_and_producer_ids_come_in_blocks() {
    let world = World::new(2).await;
    world.create_topic(&[&[1, 2]]).await;
    world.until("metadata", |w| w.everybody_sees(0, 1)).await;
    let controller = Arc::clone(&world.nodes[&1].controller);
    let epoch = world.nodes[&1].broker.gate.broker_epoch();
    let change = |isr: &[BrokerId], partition_epoch| {
        let change = IsrChange {
            partition: 0,
            leader_epoch: 0,
            isr: isr.to_vec(),
            recovering: false,
            partition_epoch,
        };
        vec![(TopicRef::Name(TopicName::new("t")), vec![change])]
    };
    let answers = controller.alter_partition(1, epoch, change(&[1], 0)).await;
    let (_, results) = &answers.expect("answered")[0];
    let state = results[0].1.as_ref().expect("accepted");
    assert_eq!((state.leader_epoch, state.partition_epoch), (0, 1));
    world
        .until("everybody knows", |w| {
            w.nodes.values().all(|node| {
                let image = node.broker.cluster.image();
                let seen = image.partition(&t(0)).expect("known");
                seen.isr == [1] && seen.partition_epoch == 1
            })
        })
        .await;
    let (data, stat) = world
        .admin
        .get("/brokers/topics/t/partitions/0/state")
        .await
        .expect("there");
    assert_eq!(stat.version, 1);
    assert!(String::from_utf8_lossy(&data).contains(r#""isr":[1]"#));
    let answers = controller
        .alter_partition(1, epoch, change(&[1, 2], 0))
        .await;
    assert_eq!(
        answers.expect("answered")[0].1,
        [(0, Err(ErrorCode::InvalidUpdateVersion))]
    );

    let first = controller.allocate_producer_ids(1, epoch).await;
    let other = world.nodes[&2].broker.gate.broker_epoch();
    let second = controller.allocate_producer_ids(2, other).await;
    assert_eq!((first, second), (Ok(0), Ok(1000)));
    let (block, _) = world
        .admin
        .get("/latest_producer_id_block")
        .await
        .expect("there");
    assert_eq!(
        block,
        r#"{"version":1,"broker":2,"block_start":"1000","block_end":"1999"}"#
    );
    assert_eq!(
        controller.allocate_producer_ids(2, other + 1).await,
        Err(ErrorCode::StaleBrokerEpoch)
    );
    assert_eq!(
        controller.allocate_producer_ids(5, 1).await,
        Err(ErrorCode::BrokerIdNotRegistered)
    );
    world.stop().await;
}

#[tokio::test]
async fn replicas_move_when_the_new_ones_have_caught_up() {
    let world = World::new(3).await;
    world.create_topic(&[&[1, 2]]).await;
    world.until("metadata", |w| w.everybody_sees(0, 1)).await;
    let controller = Arc::clone(&world.nodes[&1].controller);
    let begun = controller
        .reassign(vec![(t(0), Some(vec![3, 2])), (t(9), Some(vec![3]))])
        .await
        .expect("answered");
    assert_eq!(begun[0], (t(0), Ok(())));
    assert_eq!(
        begun[1].1.as_ref().expect_err("no such partition").code,
        ErrorCode::UnknownTopicOrPartition
    );
    let listed = controller.list_reassignments(None).await.expect("answered");
    let expected = ReplicaAssignment {
        replicas: vec![3, 2, 1],
        adding: vec![3],
        removing: vec![1],
    };
    assert_eq!(listed, [(t(0), expected)]);
    world
        .until("told", |w| {
            w.told(3, 0).is_some() && w.told(1, 0).is_some_and(|told| told.leader_epoch == 1)
        })
        .await;
    let told = world.told(1, 0).expect("the leader");
    assert_eq!(told.leader, 1);

    let epoch = world.nodes[&1].broker.gate.broker_epoch();
    let change = IsrChange {
        partition: 0,
        leader_epoch: 1,
        isr: vec![1, 2, 3],
        recovering: false,
        partition_epoch: told.partition_epoch,
    };
    let topic = TopicRef::Id(crate::types::Uuid::from_u128(77));
    let answers = controller
        .alter_partition(1, epoch, vec![(topic, vec![change])])
        .await
        .expect("answered");
    assert!(answers[0].1[0].1.is_ok(), "{answers:?}");
    world.until("moved", |w| w.everybody_sees(0, 3)).await;
    world
        .until("the old replica is deleted", |w| w.told(1, 0).is_none())
        .await;
    world
        .until("out of the ISR", |w| {
            w.told(3, 0)
                .is_some_and(|told| told.leader == 3 && told.isr == [2, 3])
        })
        .await;
    // Answered after the reassignment was worked off.
    assert_eq!(controller.list_reassignments(None).await, Ok(Vec::new()));
    let (data, _) = world.admin.get("/brokers/topics/t").await.expect("there");
    let node: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
    assert_eq!(node["partitions"]["0"], serde_json::json!([3, 2]));
    assert_eq!(node["adding_replicas"], serde_json::json!({}));
    world.stop().await;
}

#[tokio::test]
async fn tools_of_old_ask_by_znodes() {
    let world = World::new(3).await;
    world.create_topic(&[&[1, 2], &[2, 1]]).await;
    world.until("metadata", |w| w.everybody_sees(1, 2)).await;
    let asked = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[2,1]},{"topic":"u","partition":0,"replicas":[1]}]}"#;
    let persistent = CreateMode::Persistent;
    let path = paths::REASSIGN_PARTITIONS;
    let created = world
        .admin
        .create(path, Bytes::from_static(asked.as_bytes()), persistent);
    created.await.expect("creates");
    // The target is in the ISR already; the topic that is not there is dropped from the request.
    gone(&world, path).await;
    let path = paths::PREFERRED_REPLICA_ELECTION;
    let asked = r#"{"version":1,"partitions":[{"topic":"t","partition":0}]}"#;
    let created = world
        .admin
        .create(path, Bytes::from_static(asked.as_bytes()), persistent);
    created.await.expect("creates");
    gone(&world, path).await;
    world
        .until("the preferred leads", |w| w.everybody_sees(0, 2))
        .await;
    // Once more: the second creation is seen too.
    let path = paths::REASSIGN_PARTITIONS;
    let asked = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1]}]}"#;
    let created = world
        .admin
        .create(path, Bytes::from_static(asked.as_bytes()), persistent);
    created.await.expect("creates");
    gone(&world, path).await;
    world.until("moved", |w| w.everybody_sees(0, 1)).await;
    world.stop().await;
}

async fn gone(world: &World, path: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.admin.exists(path).await.expect("asks").is_some() {
        assert!(Instant::now() < deadline, "waiting for {path} to go");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_broker_whose_session_expires_comes_back_by_itself() {
    let world = World::new(2).await;
    world.create_topic(&[&[2, 1]]).await;
    world.until("metadata", |w| w.everybody_sees(0, 2)).await;
    let before = world.nodes[&2].broker.gate.broker_epoch();
    world.nodes[&2].store.expire();
    world
        .until("registered anew", |w| {
            w.nodes[&2].broker.gate.broker_epoch() > before
        })
        .await;
    world
        .until("live for everybody, and the other leads", |w| {
            w.nodes
                .values()
                .all(|node| node.broker.cluster.image().brokers.len() == 2)
                && w.everybody_sees(0, 1)
        })
        .await;
    world
        .until("told again", |w| {
            w.told(2, 0)
                .is_some_and(|replica| replica.leader == 1 && replica.isr == [1])
        })
        .await;
    world.stop().await;
}
