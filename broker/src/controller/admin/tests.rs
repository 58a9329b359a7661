//! Topic administration over the embedded store.

use std::sync::Arc;

use crate::cluster::image::{BrokerImage, MetadataImage};
use crate::controller::recording_store::RecordingStore;

use super::*;

struct Fixture {
    store: Arc<RecordingStore>,
    cluster: Cluster,
    config: Config,
}

impl Fixture {
    async fn new() -> Self {
        let store = RecordingStore::new().await;
        store
            .put_ephemeral(
                "/controller",
                r#"{"version":2,"brokerid":0,"timestamp":"1","kraftControllerEpoch":-1}"#,
            )
            .await;
        store.take_written();
        let cluster = Cluster::new("c".to_owned());
        let broker = BrokerImage {
            id: 0,
            endpoints: Vec::new(),
            rack: None,
        };
        cluster.publish(MetadataImage {
            brokers: BTreeMap::from([(0, Arc::new(broker))]),
            ..MetadataImage::default()
        });
        Self {
            store,
            cluster,
            config: Config::from_pairs(&[("offsets.topic.replication.factor", "1")])
                .expect("valid"),
        }
    }

    fn admin(&self) -> TopicAdmin<'_> {
        TopicAdmin {
            store: &*self.store,
            cluster: &self.cluster,
            config: &self.config,
        }
    }
}

fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: DEFAULT_COUNT,
        replication_factor: DEFAULT_COUNT,
        ..NewTopic::default()
    }
}

#[tokio::test]
async fn a_topic_is_its_config_and_then_its_assignment() {
    let fixture = Fixture::new().await;
    let mut new = topic("t");
    new.partitions = 2;
    new.configs = vec![("retention.ms".to_owned(), Some("1000".to_owned()))];
    let created = fixture.admin().create(&new, true).await.expect("valid");
    assert_eq!((created.id, created.assignments.len()), (None, 2));
    assert!(fixture.store.take_written().is_empty(), "only validated");

    let created = fixture.admin().create(&new, false).await.expect("valid");
    let written = fixture.store.take_written();
    assert_eq!(
        written.last().map(String::as_str),
        Some("create /brokers/topics/t")
    );
    assert!(written.contains(&"create /config/topics/t".to_owned()));
    assert_eq!(
        fixture.store.json("/config/topics/t").await,
        serde_json::json!({"version":1,"config":{"retention.ms":"1000"}})
    );
    let id = crate::types::format_uuid(created.id.expect("created"));
    assert_eq!(
        fixture.store.json("/brokers/topics/t").await,
        serde_json::json!({"version":3,"topic_id":id,"partitions":{"0":[0],"1":[0]},
            "adding_replicas":{},"removing_replicas":{}})
    );
}

#[tokio::test]
async fn refusals_say_what_kafka_says() {
    let fixture = Fixture::new().await;
    let admin = fixture.admin();
    admin.create(&topic("a.b"), false).await.expect("created");
    let check = async |new: NewTopic, code: ErrorCode, message: Option<&str>| {
        let error = admin.create(&new, false).await.expect_err("refused");
        assert_eq!((error.code(), error.message().as_deref()), (code, message));
    };
    check(
        topic("a.b"),
        ErrorCode::TopicAlreadyExists,
        Some("Topic 'a.b' already exists."),
    )
    .await;
    check(
        topic("a_b"),
        ErrorCode::InvalidTopicException,
        Some("Topic 'a_b' collides with existing topics: a.b"),
    )
    .await;
    check(
        topic("a b"),
        ErrorCode::InvalidTopicException,
        Some(
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
    )
    .await;
    let mut new = topic("n");
    new.replication_factor = 2;
    check(
        new,
        ErrorCode::InvalidReplicationFactor,
        Some("Replication factor: 2 larger than available brokers: 1."),
    )
    .await;
    let mut new = topic("n");
    new.partitions = 0;
    check(
        new,
        ErrorCode::InvalidPartitions,
        Some("Number of partitions must be larger than 0."),
    )
    .await;
    let mut new = topic("n");
    new.configs = vec![("no.such".to_owned(), Some("1".to_owned()))];
    check(
        new,
        ErrorCode::InvalidConfig,
        Some("Unknown topic config name: no.such"),
    )
    .await;
    let mut new = topic("n");
    new.assignments = BTreeMap::from([(0, vec![0]), (2, vec![0])]);
    check(
        new,
        ErrorCode::InvalidReplicaAssignment,
        Some("partitions should be a consecutive 0-based integer sequence"),
    )
    .await;
    let mut new = topic("n");
    new.assignments = BTreeMap::from([(0, vec![0, 0])]);
    check(
        new,
        ErrorCode::InvalidReplicaAssignment,
        Some("Duplicate replica assignment found: HashMap(0 -> ArrayBuffer(0, 0))"),
    )
    .await;
    assert!(fixture.store.text("/brokers/topics/n").await.is_none());
}

#[tokio::test]
async fn a_marked_topic_may_be_marked_again_but_not_made() {
    let fixture = Fixture::new().await;
    let admin = fixture.admin();
    admin.create(&topic("t"), false).await.expect("created");
    admin.delete("t").await.expect("marked");
    admin.delete("t").await.expect("marked already");
    let error = admin.create(&topic("t"), false).await.expect_err("marked");
    assert_eq!(error, Error::MarkedForDeletion("t".to_owned()));
    let error = admin.delete("x").await.expect_err("unknown");
    assert_eq!(error.code(), ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn partitions_are_added_and_the_id_stays() {
    let fixture = Fixture::new().await;
    let admin = fixture.admin();
    let created = admin.create(&topic("t"), false).await.expect("created");
    let id = crate::types::format_uuid(created.id.expect("created"));
    assert_eq!(admin.add_partitions("t", 3, None, false).await, Ok(3));
    let node = fixture.store.json("/brokers/topics/t").await;
    assert_eq!(node["topic_id"], id);
    assert_eq!(
        node["partitions"],
        serde_json::json!({"0":[0],"1":[0],"2":[0]})
    );
    let check = async |count, given: Option<&[Vec<BrokerId>]>, message: &str| {
        let error = admin.add_partitions("t", count, given, false).await;
        assert_eq!(error.expect_err(message).to_string(), message);
    };
    check(3, None, "Topic already has 3 partitions.").await;
    check(
        1,
        None,
        "Topic currently has 3 partitions, which is higher than the requested 1.",
    )
    .await;
    check(
        4,
        Some(&[vec![9]]),
        "Unknown broker(s) in replica assignment: 9.",
    )
    .await;
    check(
        5,
        Some(&[vec![0]]),
        "Increasing the number of partitions by 2 but 1 assignments provided.",
    )
    .await;
}

#[tokio::test]
async fn internal_topics_get_their_own_settings() {
    let fixture = Fixture::new().await;
    let admin = fixture.admin();
    let code = admin.auto_create(GROUP_METADATA_TOPIC).await;
    assert_eq!(code, ErrorCode::LeaderNotAvailable);
    assert_eq!(
        fixture
            .store
            .json("/config/topics/__consumer_offsets")
            .await["config"],
        serde_json::json!({"cleanup.policy":"compact","compression.type":"producer","segment.bytes":"104857600"})
    );
    let node = fixture
        .store
        .json("/brokers/topics/__consumer_offsets")
        .await;
    assert_eq!(
        node["partitions"].as_object().map(serde_json::Map::len),
        Some(50)
    );
    // Three replicas are wanted, and there is one broker.
    let code = admin.auto_create(TRANSACTION_STATE_TOPIC).await;
    assert_eq!(code, ErrorCode::InvalidReplicationFactor);
    assert_eq!(
        admin.auto_create("a b").await,
        ErrorCode::InvalidTopicException
    );
}

#[tokio::test]
async fn waiting_ends_with_the_time_or_with_the_leaders() {
    let fixture = Fixture::new().await;
    let admin = fixture.admin();
    let wanted = [("t".to_owned(), 1)];
    let late = admin
        .wait_for_leaders(&wanted, Duration::from_millis(5))
        .await;
    assert_eq!(late, BTreeSet::from(["t".to_owned()]));
    let none = admin
        .wait_for_deletion(&["t".to_owned()], Duration::from_secs(60))
        .await;
    assert!(none.is_empty());
}
