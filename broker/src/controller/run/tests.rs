//! The event loop over the embedded store and a broker that records what it is told.

use kafka_protocol::messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest, UpdateMetadataResponse,
};

use crate::clock::ManualClock;
use crate::cluster::image::Cluster;
use crate::cluster::update::{ControllerEpochGate, update_metadata};
use crate::controller::recording_store::RecordingStore;
use crate::types::TopicPartition;

use super::*;

mod cluster;

const BROKER: &str = r#"{"version":5,"host":"localhost","port":9092,"jmx_port":-1,"timestamp":"1","endpoints":["PLAINTEXT://localhost:9092"],"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"features":{}}"#;
const TOPIC_ID: &str = "pJ5kLr2uTqWk7oXxkYx1Sg";

#[derive(Debug, Clone)]
enum Told {
    Leader(LeaderAndIsrRequest),
    Metadata(UpdateMetadataRequest),
    Stop(StopReplicaRequest),
}

struct Recorder {
    told: Mutex<Vec<Told>>,
    cluster: Cluster,
    gate: ControllerEpochGate,
}

impl Recorder {
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock())
    }
}

impl LocalBroker for Recorder {
    fn leader_and_isr(&self, request: LeaderAndIsrRequest) -> BoxFuture<'_, LeaderAndIsrResponse> {
        let topics = request
            .topic_states
            .iter()
            .map(|topic| {
                LeaderAndIsrTopicError::default()
                    .with_topic_id(topic.topic_id)
                    .with_partition_errors(
                        topic
                            .partition_states
                            .iter()
                            .map(|state| {
                                LeaderAndIsrPartitionError::default()
                                    .with_partition_index(state.partition_index)
                            })
                            .collect(),
                    )
            })
            .collect();
        self.told.lock().push(Told::Leader(request));
        Box::pin(async move { LeaderAndIsrResponse::default().with_topics(topics) })
    }

    fn update_metadata(
        &self,
        request: UpdateMetadataRequest,
    ) -> BoxFuture<'_, UpdateMetadataResponse> {
        let code = update_metadata(&self.cluster, &self.gate, &request)
            .map_or_else(|error| error.value(), |_| 0);
        self.told.lock().push(Told::Metadata(request));
        Box::pin(async move { UpdateMetadataResponse::default().with_error_code(code) })
    }

    fn stop_replica(&self, request: StopReplicaRequest) -> BoxFuture<'_, StopReplicaResponse> {
        let answers = request
            .topic_states
            .iter()
            .flat_map(|topic| {
                topic.partition_states.iter().map(|state| {
                    StopReplicaPartitionError::default()
                        .with_topic_name(topic.topic_name.clone())
                        .with_partition_index(state.partition_index)
                })
            })
            .collect();
        self.told.lock().push(Told::Stop(request));
        Box::pin(async move { StopReplicaResponse::default().with_partition_errors(answers) })
    }
}

struct Fixture {
    store: Arc<RecordingStore>,
    broker: Arc<Recorder>,
    controller: Arc<Controller>,
}

async fn register(store: &RecordingStore) {
    store.put_ephemeral("/brokers/ids/0", BROKER).await;
}

fn start(store: &Arc<RecordingStore>) -> Fixture {
    let broker = Arc::new(Recorder {
        told: Mutex::default(),
        cluster: Cluster::new("c".to_owned()),
        gate: ControllerEpochGate::default(),
    });
    let registered = Arc::clone(store);
    let controller = Controller::start(ControllerParts {
        settings: Settings {
            controller_id: 0,
            inter_broker_listener: "PLAINTEXT".to_owned(),
            delete_topic_enable: true,
            unclean_leader_election_enable: false,
            leader_imbalance_per_broker_percentage: 10,
        },
        channel: ChannelSettings {
            local_id: 0,
            listener: "PLAINTEXT".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
        },
        store: store.clone(),
        clock: Arc::new(ManualClock::at(1_718_000_000_000)),
        local: broker.clone(),
        register: Arc::new(move || {
            let store = Arc::clone(&registered);
            Box::pin(async move {
                register(&store).await;
                Ok(())
            })
        }),
        rebalance_interval: None,
    });
    Fixture {
        store: Arc::clone(store),
        broker,
        controller,
    }
}

async fn create_topic(store: &RecordingStore) {
    store
        .put("/config/topics/t", r#"{"version":1,"config":{}}"#)
        .await;
    let topic = format!(
        r#"{{"version":3,"topic_id":"{TOPIC_ID}","partitions":{{"0":[0],"1":[0]}},"adding_replicas":{{}},"removing_replicas":{{}}}}"#
    );
    store.put("/brokers/topics/t", &topic).await;
}

impl Fixture {
    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(self) {
            assert!(Instant::now() < deadline, "waiting for: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_node(&self, path: &str, done: impl Fn(Option<&str>) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(self.store.text(path).await.as_deref()) {
            assert!(Instant::now() < deadline, "waiting for: {path}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn sees(&self, partition: i32) -> bool {
        self.broker
            .cluster
            .image()
            .contains(&TopicPartition::new("t", partition))
    }
}

#[tokio::test]
async fn elects_itself_and_tells_the_broker_of_live_brokers() {
    let store = RecordingStore::new().await;
    register(&store).await;
    let fixture = start(&store);
    fixture
        .until("metadata", |f| f.broker.cluster.image().brokers.len() == 1)
        .await;
    assert!(fixture.controller.is_active());
    assert_eq!(store.text("/controller_epoch").await.as_deref(), Some("1"));
    let node: serde_json::Value = store.json("/controller").await;
    let expected =
        r#"{"version":2,"brokerid":0,"timestamp":"1718000000000","kraftControllerEpoch":-1}"#;
    assert_eq!(
        node,
        serde_json::from_str::<serde_json::Value>(expected).expect("JSON")
    );
    let feature: serde_json::Value = store.json("/feature").await;
    assert_eq!(
        feature,
        serde_json::json!({"version":2,"status":1,"features":{}})
    );
    fixture.controller.shutdown().await;
    assert!(!fixture.controller.is_active());
}

#[tokio::test]
async fn a_new_topic_gets_leaders_and_state_znodes_and_deletion_takes_all_of_it_back() {
    let store = RecordingStore::new().await;
    register(&store).await;
    let fixture = start(&store);
    fixture.until("active", |f| f.controller.is_active()).await;
    create_topic(&store).await;
    fixture.until("metadata", |f| f.sees(0) && f.sees(1)).await;
    let state: serde_json::Value = store.json("/brokers/topics/t/partitions/1/state").await;
    assert_eq!(
        state,
        serde_json::json!({"version":1,"leader":0,"leader_epoch":0,"controller_epoch":1,"isr":[0]})
    );
    let leaders: Vec<LeaderAndIsrRequest> = fixture
        .broker
        .take()
        .into_iter()
        .filter_map(|told| match told {
            Told::Leader(request) => Some(request),
            _ => None,
        })
        .collect();
    assert_eq!(leaders.len(), 1, "one request for both partitions");
    let topic = &leaders[0].topic_states[0];
    assert_eq!(crate::types::format_uuid(topic.topic_id), TOPIC_ID);
    assert_eq!(topic.partition_states.len(), 2);
    assert!(topic.partition_states.iter().all(|state| state.is_new));
    assert_eq!(leaders[0].live_leaders[0].port, 9092);

    store.take_written();
    store.put("/admin/delete_topics/t", "").await;
    fixture
        .until_node("/admin/delete_topics/t", |mark| mark.is_none())
        .await;
    let written = store.take_written();
    assert_eq!(
        written,
        [
            "create /admin/delete_topics/t",
            "set /brokers/topics/t/partitions/0/state",
            "set /brokers/topics/t/partitions/1/state",
            "delete /brokers/topics/t/partitions/1/state",
            "delete /brokers/topics/t/partitions/0/state",
            "delete /brokers/topics/t/partitions/1",
            "delete /brokers/topics/t/partitions/0",
            "delete /brokers/topics/t/partitions",
            "delete /brokers/topics/t",
            "delete /config/topics/t",
            "delete /admin/delete_topics/t",
        ]
    );
    assert!(!fixture.sees(0));
    let told = fixture.broker.take();
    let stops: Vec<(i32, bool)> = told
        .iter()
        .filter_map(|told| match told {
            Told::Stop(request) => Some(&request.topic_states[0].partition_states[0]),
            _ => None,
        })
        .map(|state| (state.leader_epoch, state.delete_partition))
        .collect();
    assert_eq!(stops, [(-2, false), (-2, true)]);
    assert!(
        matches!(&told[0], Told::Metadata(request)
            if request.topic_states[0].partition_states[0].leader.0 == -2),
        "brokers stop serving the topic before its replicas stop"
    );

    create_topic(&store).await;
    fixture.until("made anew", |f| f.sees(0) && f.sees(1)).await;
    fixture.controller.shutdown().await;
}

#[tokio::test]
async fn partitions_added_to_a_topic_get_a_leader() {
    let store = RecordingStore::new().await;
    register(&store).await;
    let fixture = start(&store);
    create_topic(&store).await;
    fixture.until("metadata", |f| f.sees(1)).await;
    store.change(
        "/brokers/topics/t",
        &format!(r#"{{"version":3,"topic_id":"{TOPIC_ID}","partitions":{{"0":[0],"1":[0],"2":[0]}},"adding_replicas":{{}},"removing_replicas":{{}}}}"#),
    ).await;
    fixture.until("the third partition", |f| f.sees(2)).await;
    assert!(
        store
            .text("/brokers/topics/t/partitions/2/state")
            .await
            .is_some()
    );
    fixture.controller.shutdown().await;
}

#[tokio::test]
async fn fail_over_sends_every_state_again_under_the_next_controller_epoch() {
    let store = RecordingStore::new().await;
    register(&store).await;
    create_topic(&store).await;
    let first = start(&store);
    first.until("metadata", |f| f.sees(0) && f.sees(1)).await;
    first.controller.shutdown().await;
    store.expire_session();
    register(&store).await;

    let second = start(&store);
    second.until("metadata", |f| f.sees(0) && f.sees(1)).await;
    assert_eq!(store.text("/controller_epoch").await.as_deref(), Some("2"));
    let told = second.broker.take();
    assert!(
        matches!(&told[0], Told::Metadata(request)
            if request.topic_states.is_empty() && request.live_brokers.len() == 1),
        "live brokers first"
    );
    let Told::Leader(request) = &told[1] else {
        panic!("LeaderAndIsr follows: {told:?}");
    };
    assert_eq!(request.controller_epoch, 2);
    let state = &request.topic_states[0].partition_states[0];
    // The leader is alive: no election, so the state of the first controller stands.
    assert_eq!(
        (state.leader_epoch, state.controller_epoch, state.is_new),
        (0, 1, false)
    );
    second.controller.shutdown().await;
}

#[tokio::test]
async fn a_partition_whose_leader_is_gone_is_elected_again_with_the_next_leader_epoch() {
    let store = RecordingStore::new().await;
    create_topic(&store).await;
    for path in [
        "/brokers/topics/t/partitions",
        "/brokers/topics/t/partitions/0",
    ] {
        store.put(path, "").await;
    }
    store
        .put(
            "/brokers/topics/t/partitions/0/state",
            r#"{"version":1,"leader":-1,"leader_epoch":3,"controller_epoch":7,"isr":[0]}"#,
        )
        .await;
    store.put("/controller_epoch", "7").await;
    register(&store).await;
    let fixture = start(&store);
    fixture.until("metadata", |f| f.sees(0) && f.sees(1)).await;
    let state: serde_json::Value = store.json("/brokers/topics/t/partitions/0/state").await;
    assert_eq!(
        state,
        serde_json::json!({"version":1,"leader":0,"leader_epoch":4,"controller_epoch":8,"isr":[0]})
    );
    fixture.controller.shutdown().await;
}

#[tokio::test]
async fn a_lost_session_ends_the_term_and_the_next_one_registers_and_elects() {
    let store = RecordingStore::new().await;
    register(&store).await;
    create_topic(&store).await;
    let fixture = start(&store);
    fixture.until("metadata", |f| f.sees(0)).await;
    fixture.broker.take();
    store.expire_session();
    fixture
        .until("second term", |f| {
            f.controller.epoch() == 2 && f.controller.is_active()
        })
        .await;
    fixture
        .until("states sent again", |f| {
            f.broker
                .told
                .lock()
                .iter()
                .any(|told| matches!(told, Told::Leader(request) if request.controller_epoch == 2))
        })
        .await;
    assert!(store.text("/brokers/ids/0").await.is_some());
    fixture.controller.shutdown().await;
}

#[tokio::test]
async fn a_controller_that_was_replaced_writes_nothing_and_stands_by() {
    let store = RecordingStore::new().await;
    register(&store).await;
    let fixture = start(&store);
    fixture.until("active", |f| f.controller.is_active()).await;
    // Another broker was elected while we did not look.
    store.change("/controller_epoch", "9").await;
    store
        .change(
            "/controller",
            r#"{"version":2,"brokerid":5,"timestamp":"1","kraftControllerEpoch":-1}"#,
        )
        .await;
    create_topic(&store).await;
    fixture
        .until("standing by", |f| {
            f.controller.active_controller_id() == Some(5)
        })
        .await;
    assert!(!fixture.controller.is_active());
    assert!(store.text("/brokers/topics/t/partitions").await.is_none());
    fixture.controller.shutdown().await;
}

#[tokio::test]
async fn a_broker_that_goes_leaves_its_partitions_without_a_leader() {
    let store = RecordingStore::new().await;
    register(&store).await;
    create_topic(&store).await;
    let fixture = start(&store);
    fixture.until("metadata", |f| f.sees(0)).await;
    let state = "/brokers/topics/t/partitions/0/state";
    let delete = fixture.store.delete("/brokers/ids/0", None);
    delete.await.expect("registered");
    fixture
        .until_node(state, |state| {
            state.is_some_and(|state| state.contains(r#""leader":-1"#) && state.contains("[0]"))
        })
        .await;
    register(&store).await;
    fixture
        .until_node(state, |state| {
            state.is_some_and(|state| {
                state.contains(r#""leader":0"#) && state.contains(r#""leader_epoch":2"#)
            })
        })
        .await;
    fixture.controller.shutdown().await;
}
