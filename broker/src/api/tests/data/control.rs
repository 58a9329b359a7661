//! What brokers ask of each other and what only the controller answers, in every version offered.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_partition_request::{
    BrokerState, PartitionData as WantedPartition, TopicData as WantedTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::stop_replica_request::{
    StopReplicaPartitionState, StopReplicaPartitionV0, StopReplicaTopicState, StopReplicaTopicV1,
};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataEndpoint, UpdateMetadataPartitionState,
    UpdateMetadataTopicState,
};

use super::*;
use crate::types::TopicPartition;
use crate::zk::data::BrokerRegistration;
use crate::zk::{CreateMode, data, paths};

const NEW_TOPIC: &str = "n";
const NEW_ID: Uuid = Uuid::from_u128(0x77);

/// Makes this broker leader of partition `version` of a topic, as a controller of that version
/// would.
fn leader_and_isr(version: i16, controller_epoch: i32) -> LeaderAndIsrRequest {
    let state = LeaderAndIsrPartitionState::default()
        .with_partition_index(i32::from(version))
        .with_controller_epoch(controller_epoch)
        .with_leader(WireBrokerId(ME))
        .with_leader_epoch(3)
        .with_isr(vec![WireBrokerId(ME)])
        .with_replicas(vec![WireBrokerId(ME)])
        .with_is_new(version >= 1);
    let request = LeaderAndIsrRequest::default()
        .with_controller_id(WireBrokerId(OTHER))
        .with_controller_epoch(controller_epoch);
    if version < 2 {
        return request
            .with_ungrouped_partition_states(vec![state.with_topic_name(topic_name("old"))]);
    }
    let topic = if version < 5 {
        LeaderAndIsrTopicState::default().with_topic_name(topic_name("old"))
    } else {
        LeaderAndIsrTopicState::default()
            .with_topic_name(topic_name(NEW_TOPIC))
            .with_topic_id(NEW_ID)
    };
    request.with_topic_states(vec![topic.with_partition_states(vec![state])])
}

/// The code of the one partition, wherever the version has it.
fn code_of_partition(version: i16, response: &LeaderAndIsrResponse) -> i16 {
    if version < 5 {
        assert_eq!(response.partition_errors[0].topic_name.as_str(), "old");
        assert_eq!(
            response.partition_errors[0].partition_index,
            i32::from(version)
        );
        return response.partition_errors[0].error_code;
    }
    assert_eq!(response.topics[0].topic_id, NEW_ID);
    response.topics[0].partition_errors[0].error_code
}

#[tokio::test]
async fn every_version_of_leader_and_isr_is_obeyed_once_and_stale_epochs_are_refused() {
    let served = Served::new().await;
    served.rooms.gate.set_broker_epoch(50);
    for version in versions::<LeaderAndIsrRequest>() {
        let request = leader_and_isr(version, 9);
        let response = served.ask(version, &request).await;
        assert_eq!(response.error_code, 0, "v{version}");
        assert_eq!(code_of_partition(version, &response), 0, "v{version}");
        let topic = if version < 5 { "old" } else { NEW_TOPIC };
        let partition = TopicPartition::new(topic, i32::from(version));
        assert!(
            served
                .rooms
                .replicas
                .leader_log(&partition, Some(3))
                .is_ok()
        );

        let again = served.ask(version, &request).await;
        assert_eq!(again.error_code, 0);
        let stale = ErrorCode::StaleControllerEpoch.value();
        assert_eq!(code_of_partition(version, &again), stale, "v{version}");

        let old = served.ask(version, &leader_and_isr(version, 8)).await;
        assert_eq!(old.error_code, stale, "v{version}");
        assert_eq!(code_of_partition(version, &old), stale, "v{version}");
        if version >= 2 {
            let request = leader_and_isr(version, 9).with_broker_epoch(49);
            let earlier_life = served.ask(version, &request).await;
            let stale = ErrorCode::StaleBrokerEpoch.value();
            assert_eq!(earlier_life.error_code, stale, "v{version}");
            assert_eq!(code_of_partition(version, &earlier_life), stale);
        }
    }
}

#[tokio::test]
async fn every_version_of_stop_replica_deletes() {
    let served = Served::new().await;
    for version in versions::<StopReplicaRequest>() {
        // One partition of its own for each.
        let made = leader_and_isr(version, 9);
        assert_eq!(served.ask(version, &made).await.error_code, 0);
        let partition = TopicPartition::new("old", i32::from(version));
        assert!(served.rooms.logs.log(&partition).is_some());
        let index = partition.partition;
        let request = StopReplicaRequest::default()
            .with_controller_id(WireBrokerId(OTHER))
            .with_controller_epoch(9);
        let request = match version {
            0 => request
                .with_delete_partitions(true)
                .with_ungrouped_partitions(vec![
                    StopReplicaPartitionV0::default()
                        .with_topic_name(topic_name("old"))
                        .with_partition_index(index),
                ]),
            1..=2 => request.with_delete_partitions(true).with_topics(vec![
                StopReplicaTopicV1::default()
                    .with_name(topic_name("old"))
                    .with_partition_indexes(vec![index]),
            ]),
            _ => request.with_topic_states(vec![
                StopReplicaTopicState::default()
                    .with_topic_name(topic_name("old"))
                    .with_partition_states(vec![
                        StopReplicaPartitionState::default()
                            .with_partition_index(index)
                            .with_leader_epoch(-2)
                            .with_delete_partition(true),
                    ]),
            ]),
        };
        let response = served.ask(version, &request).await;
        assert_eq!(response.error_code, 0, "v{version}");
        let error = &response.partition_errors[0];
        assert_eq!((error.partition_index, error.error_code), (index, 0));
        assert!(served.rooms.logs.log(&partition).is_none(), "v{version}");
        let old = served.ask(version, &request.with_controller_epoch(8)).await;
        assert_eq!(old.error_code, ErrorCode::StaleControllerEpoch.value());
    }
}

#[tokio::test]
async fn every_version_of_update_metadata_changes_the_image() {
    let served = Served::new().await;
    served.rooms.gate.set_broker_epoch(50);
    for version in versions::<UpdateMetadataRequest>() {
        let state = UpdateMetadataPartitionState::default()
            .with_partition_index(i32::from(version))
            .with_leader(WireBrokerId(7))
            .with_leader_epoch(4)
            .with_isr(vec![WireBrokerId(7)])
            .with_replicas(vec![WireBrokerId(7)]);
        let broker = UpdateMetadataBroker::default().with_id(WireBrokerId(7));
        let broker = if version == 0 {
            broker
                .with_v0_host(StrBytes::from_static_str("h"))
                .with_v0_port(9092)
        } else {
            let listener = if version >= 3 { "PLAINTEXT" } else { "" };
            broker.with_endpoints(vec![
                UpdateMetadataEndpoint::default()
                    .with_host(StrBytes::from_static_str("h"))
                    .with_port(9092)
                    .with_listener(StrBytes::from_static_str(listener)),
            ])
        };
        let request = UpdateMetadataRequest::default()
            .with_controller_id(WireBrokerId(7))
            .with_controller_epoch(9)
            .with_live_brokers(vec![broker]);
        let request = if version < 5 {
            request.with_ungrouped_partition_states(vec![state.with_topic_name(topic_name("m"))])
        } else {
            let id = if version >= 7 { NEW_ID } else { Uuid::nil() };
            request.with_topic_states(vec![
                UpdateMetadataTopicState::default()
                    .with_topic_name(topic_name("m"))
                    .with_topic_id(id)
                    .with_partition_states(vec![state]),
            ])
        };
        let response = served.ask(version, &request).await;
        assert_eq!(response.error_code, 0, "v{version}");
        let image = served.rooms.cluster.image();
        let seen = image.partition(&TopicPartition::new("m", i32::from(version)));
        assert_eq!(seen.expect("known").leader, 7, "v{version}");
        let endpoint = image.brokers[&7].endpoint("PLAINTEXT").expect("known");
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("h", 9092));
        let old = request.clone().with_controller_epoch(8);
        let response = served.ask(version, &old).await;
        assert_eq!(response.error_code, ErrorCode::StaleControllerEpoch.value());
        if version >= 5 {
            let request = request.with_broker_epoch(49);
            let response = served.ask(version, &request).await;
            assert_eq!(response.error_code, ErrorCode::StaleBrokerEpoch.value());
        }
    }
}

/// Registers this broker and creates a topic of two partitions, for the controller to see.
/// Answers the broker's epoch.
async fn governed(served: &Served) -> i64 {
    let store = &served.rooms.store;
    let endpoint = Endpoint {
        listener: "PLAINTEXT".to_owned(),
        security_protocol: 0,
        host: "h".to_owned(),
        port: 9092,
    };
    let registration = BrokerRegistration::new(vec![endpoint], None).encode(1);
    let path = paths::broker(ME);
    let created = store.create(&path, registration, CreateMode::Ephemeral);
    let (_, stat) = created.await.unwrap();
    let partitions = (0..2).map(|partition| {
        let replicas = data::PartitionReplicas {
            replicas: vec![ME],
            ..data::PartitionReplicas::default()
        };
        (partition, replicas)
    });
    let topic = data::TopicAssignment {
        topic_id: Some(NEW_ID),
        partitions: partitions.collect::<BTreeMap<_, _>>(),
    };
    let path = paths::topic(NEW_TOPIC);
    let created = store.create(&path, topic.encode(), CreateMode::Persistent);
    created.await.unwrap();
    let state = paths::partition_state(&TopicPartition::new(NEW_TOPIC, 1));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while store.exists(&state).await.unwrap().is_none() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waiting for {state}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stat.czxid
}

#[tokio::test]
async fn the_controller_answers_every_version_of_alter_partition() {
    let served = Served::new().await;
    let epoch = governed(&served).await;
    for version in versions::<AlterPartitionRequest>() {
        let wanted = |epoch: i32| {
            let wanted = WantedPartition::default()
                .with_partition_index(0)
                .with_leader_epoch(epoch);
            if version < 3 {
                wanted.with_new_isr(vec![WireBrokerId(ME)])
            } else {
                wanted.with_new_isr_with_epochs(vec![
                    BrokerState::default().with_broker_id(WireBrokerId(ME)),
                ])
            }
        };
        let request = |epoch: i64, wanted: WantedPartition| {
            let topic = if version < 2 {
                WantedTopic::default().with_topic_name(topic_name(NEW_TOPIC))
            } else {
                WantedTopic::default().with_topic_id(NEW_ID)
            };
            AlterPartitionRequest::default()
                .with_broker_id(WireBrokerId(ME))
                .with_broker_epoch(epoch)
                .with_topics(vec![topic.with_partitions(vec![wanted])])
        };
        let response = served.ask(version, &request(epoch, wanted(0))).await;
        assert_eq!(response.error_code, 0, "v{version}");
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0, "v{version}");
        assert_eq!(partition.leader_id, WireBrokerId(ME));
        assert_eq!(partition.isr, [WireBrokerId(ME)]);
        let later = served.ask(version, &request(epoch, wanted(7))).await;
        assert_eq!(
            later.topics[0].partitions[0].error_code,
            ErrorCode::NotController.value(),
            "a leader that knows more than we do"
        );
        let earlier = served.ask(version, &request(epoch - 1, wanted(0))).await;
        assert_eq!(earlier.error_code, ErrorCode::StaleBrokerEpoch.value());
    }
}

#[tokio::test]
async fn the_controller_answers_every_version_of_what_administrators_ask() {
    let served = Served::new().await;
    let epoch = governed(&served).await;
    for version in versions::<ControlledShutdownRequest>() {
        let request = ControlledShutdownRequest::default().with_broker_id(WireBrokerId(9));
        // From v2 on the broker epoch is looked up first, as Kafka does.
        let (request, code) = if version < 2 {
            (request, ErrorCode::BrokerNotAvailable)
        } else {
            let request = request.with_broker_epoch(3);
            (request, ErrorCode::UnknownServerError)
        };
        let response = served.ask(version, &request).await;
        assert_eq!(response.error_code, code.value(), "v{version}");
    }
    let request = AllocateProducerIdsRequest::default()
        .with_broker_id(WireBrokerId(ME))
        .with_broker_epoch(epoch);
    let response = served.ask(0, &request).await;
    assert_eq!((response.error_code, response.producer_id_len), (0, 1000));

    for version in versions::<ElectLeadersRequest>() {
        let topics = vec![
            TopicPartitions::default()
                .with_topic(topic_name(NEW_TOPIC))
                .with_partitions(vec![0, 8]),
        ];
        let request = ElectLeadersRequest::default()
            .with_topic_partitions(Some(topics))
            .with_timeout_ms(10_000);
        let response = served.ask(version, &request).await;
        let results = &response.replica_election_results[0].partition_result;
        let codes: Vec<(i32, i16)> = results
            .iter()
            .map(|result| (result.partition_id, result.error_code))
            .collect();
        let expected = [
            (0, ErrorCode::ElectionNotNeeded.value()),
            (8, ErrorCode::UnknownTopicOrPartition.value()),
        ];
        assert_eq!(codes, expected, "v{version}");
    }

    let reassign = |replicas: Option<Vec<BrokerId>>| {
        let replicas = replicas.map(|ids| ids.into_iter().map(WireBrokerId).collect());
        let partition = ReassignablePartition::default().with_replicas(replicas);
        AlterPartitionReassignmentsRequest::default().with_topics(vec![
            ReassignableTopic::default()
                .with_name(topic_name(NEW_TOPIC))
                .with_partitions(vec![partition]),
        ])
    };
    for (replicas, code, message) in [
        (
            Some(vec![]),
            ErrorCode::InvalidReplicaAssignment,
            "Empty replica list specified in partition reassignment.",
        ),
        (
            Some(vec![1, 1]),
            ErrorCode::InvalidReplicaAssignment,
            "Duplicate replica ids in partition reassignment replica list: ArrayBuffer(1, 1)",
        ),
        (
            Some(vec![1, 5]),
            ErrorCode::InvalidReplicaAssignment,
            "Replica assignment has brokers that are not alive. Replica list: ArrayBuffer(5), live broker list: Set(1)",
        ),
        (
            None,
            ErrorCode::NoReassignmentInProgress,
            "No partition reassignment is in progress.",
        ),
    ] {
        let response = served.ask(0, &reassign(replicas)).await;
        assert_eq!(response.error_code, 0);
        let answer = &response.responses[0].partitions[0];
        assert_eq!(answer.error_code, code.value());
        assert_eq!(answer.error_message.as_deref(), Some(message));
    }
    let response = served.ask(0, &reassign(Some(vec![1]))).await;
    let answer = &response.responses[0].partitions[0];
    assert_eq!((answer.error_code, &answer.error_message), (0, &None));
    let list = ListPartitionReassignmentsRequest::default().with_topics(Some(vec![
        ListPartitionReassignmentsTopics::default()
            .with_name(topic_name(NEW_TOPIC))
            .with_partition_indexes(vec![0]),
    ]));
    let response = served.ask(0, &list).await;
    assert_eq!((response.error_code, response.topics.len()), (0, 0));

    for version in versions::<UpdateFeaturesRequest>() {
        let update = FeatureUpdateKey::default()
            .with_feature(StrBytes::from_static_str("metadata.version"))
            .with_max_version_level(7);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
        let response = served.ask(version, &request).await;
        let code = ErrorCode::InvalidRequest.value();
        assert_eq!(response.results[0].error_code, code, "v{version}");
    }
}

#[tokio::test]
async fn who_is_not_controller_says_so() {
    let served = Served::new().await;
    governed(&served).await;
    // Another broker takes the office.
    served.rooms.controller.shutdown().await;
    let code = ErrorCode::NotController.value();
    let request = ControlledShutdownRequest::default();
    let response = served.ask(3, &request).await;
    // `ControllerMovedException` has the code of a stale controller epoch.
    assert_eq!(response.error_code, ErrorCode::StaleControllerEpoch.value());
    assert_eq!(
        served
            .ask(3, &AlterPartitionRequest::default())
            .await
            .error_code,
        code
    );
    assert_eq!(
        served
            .ask(0, &AllocateProducerIdsRequest::default())
            .await
            .error_code,
        code
    );
    let request = AlterPartitionReassignmentsRequest::default();
    assert_eq!(served.ask(0, &request).await.error_code, code);
    let request = ListPartitionReassignmentsRequest::default();
    assert_eq!(served.ask(0, &request).await.error_code, code);
    let request = UpdateFeaturesRequest::default();
    assert_eq!(served.ask(1, &request).await.error_code, code);
    let request = ElectLeadersRequest::default().with_topic_partitions(None);
    let response = served.ask(2, &request).await;
    assert_eq!(response.error_code, 0);
    let results = response.replica_election_results;
    assert!(!results.is_empty(), "each partition says it");
    for partition in results.iter().flat_map(|topic| &topic.partition_result) {
        assert_eq!(partition.error_code, code);
        assert_eq!(partition.error_message, None);
    }
}
