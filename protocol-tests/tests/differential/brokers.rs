//! What brokers and the controller send each other, here from a controller and a broker of the past:
//! it must be refused, and change nothing.

use anyhow::Result;
use bytes::Bytes;
use kafka_protocol::messages::alter_partition_request::{PartitionData, TopicData};
use kafka_protocol::messages::{
    AllocateProducerIdsRequest, AlterPartitionRequest, BrokerId, ControlledShutdownRequest,
    EnvelopeRequest, LeaderAndIsrRequest, StopReplicaRequest, UpdateMetadataRequest,
};
use protocol_tests::differential::{Case, Test};

use crate::make::{metadata, topic};

pub(crate) const CASES: &[Test] = &[
    ("brokers: a controller of the past", past_controller),
    ("brokers: a broker of the past", past_broker),
];

/// The first controller of a cluster has epoch 1.
const PAST: i32 = 0;

fn past_controller(case: &mut Case<'_>) -> Result<()> {
    topic(case, "inter-broker", 1, &[])?;
    for version in case.versions::<LeaderAndIsrRequest>() {
        let request = LeaderAndIsrRequest::default()
            .with_controller_id(BrokerId(0))
            .with_controller_epoch(PAST);
        case.ask(version, "leaders", request)?;
    }
    for version in case.versions::<StopReplicaRequest>() {
        let request = StopReplicaRequest::default()
            .with_controller_id(BrokerId(0))
            .with_controller_epoch(PAST);
        case.ask(version, "replicas to stop", request)?;
    }
    for version in case.versions::<UpdateMetadataRequest>() {
        let request = UpdateMetadataRequest::default()
            .with_controller_id(BrokerId(0))
            .with_controller_epoch(PAST);
        case.ask(version, "metadata", request)?;
    }
    case.ask(9, "nothing has changed", metadata(&["inter-broker"]))?;
    Ok(())
}

fn past_broker(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<ControlledShutdownRequest>() {
        let request = ControlledShutdownRequest::default().with_broker_id(BrokerId(99));
        case.ask(version, "an unknown broker shuts down", request)?;
        if version >= 2 {
            let request = ControlledShutdownRequest::default()
                .with_broker_id(BrokerId(0))
                .with_broker_epoch(1);
            case.ask(version, "a broker of the past shuts down", request)?;
        }
    }
    for version in case.versions::<AlterPartitionRequest>() {
        let partitions = vec![PartitionData::default()];
        let request = AlterPartitionRequest::default()
            .with_broker_id(BrokerId(0))
            .with_broker_epoch(1)
            .with_topics(vec![TopicData::default().with_partitions(partitions)]);
        case.ask(version, "an ISR of a broker of the past", request)?;
    }
    for version in case.versions::<AllocateProducerIdsRequest>() {
        for (id, epoch) in [(0, 1), (99, 1)] {
            let request = AllocateProducerIdsRequest::default()
                .with_broker_id(BrokerId(id))
                .with_broker_epoch(epoch);
            case.ask(
                version,
                &format!("ids for broker {id} of epoch {epoch}"),
                request,
            )?;
        }
    }
    for version in case.versions::<EnvelopeRequest>() {
        let request = EnvelopeRequest::default().with_request_data(Bytes::from_static(&[0; 10]));
        case.ask(version, "an envelope", request)?;
    }
    Ok(())
}
