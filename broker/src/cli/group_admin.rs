//! What the tools ask about consumer groups, each time of the broker that coordinates the group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Result, anyhow};
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::admin::{Admin, ApiError, RETRY_BACKOFF, check, text, topic_name};
use crate::error::ErrorCode;
use crate::types::{BrokerId, Offset, TopicPartition};

/// What became of each partition's offset.
pub(crate) type DeletedOffsets = BTreeMap<TopicPartition, Result<(), ApiError>>;

impl Admin {
    /// The groups of all brokers, by id. The filters are names of states and types; brokers too
    /// old to filter answer with all.
    pub(crate) fn list_groups(
        &mut self,
        states: &[&str],
        types: &[&str],
    ) -> Result<BTreeMap<String, ListedGroup>> {
        let mut found = BTreeMap::new();
        for broker in self.broker_ids() {
            let connection = self.broker(broker)?;
            let version = connection.version::<ListGroupsRequest>()?;
            let mut request = ListGroupsRequest::default();
            if version >= 4 {
                request = request.with_states_filter(states.iter().map(|s| text(s)).collect());
            }
            if version >= 5 {
                request = request.with_types_filter(types.iter().map(|t| text(t)).collect());
            }
            let deadline = self.deadline();
            let groups = loop {
                let response = self.broker(broker)?.send(&request)?;
                if moves(response.error_code) && Instant::now() < deadline {
                    std::thread::sleep(RETRY_BACKOFF);
                    continue;
                }
                check(response.error_code, None)?;
                break response.groups;
            };
            for group in groups {
                found.insert(group.group_id.to_string(), group);
            }
        }
        Ok(found)
    }

    /// A group as its coordinator sees it, and the coordinator.
    pub(crate) fn describe_group(&mut self, group: &str) -> Result<(BrokerId, DescribedGroup)> {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        let (coordinator, response) = self.at_coordinator(group, &request, |response| {
            response.groups.first().map_or(0, |group| group.error_code)
        })?;
        let described = response
            .groups
            .into_iter()
            .next()
            .ok_or_else(|| anyhow!("{group}: the coordinator described nothing"))?;
        check(described.error_code, None)?;
        Ok((coordinator, described))
    }

    /// All offsets that a group has committed.
    pub(crate) fn committed_offsets(
        &mut self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        // One group: the form before batched requests says all there is to say.
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(None);
        let (_, response) =
            self.at_coordinator_up_to(7, group, &request, |response| response.error_code)?;
        check(response.error_code, None)?;
        let mut committed = BTreeMap::new();
        for topic in response.topics {
            for partition in topic.partitions {
                check(partition.error_code, None)?;
                if partition.committed_offset >= 0 {
                    committed.insert(
                        TopicPartition::new(topic.name.0.as_str(), partition.partition_index),
                        partition.committed_offset,
                    );
                }
            }
        }
        Ok(committed)
    }

    /// Commits for a group from outside of it, which the coordinator accepts while it has no
    /// members.
    pub(crate) fn alter_offsets(
        &mut self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<()> {
        let partitions = by_topic(offsets.keys());
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_retention_time_ms(-1)
            .with_topics(
                partitions
                    .into_iter()
                    .map(|(topic, partitions)| {
                        OffsetCommitRequestTopic::default()
                            .with_name(topic_name(topic))
                            .with_partitions(
                                partitions
                                    .into_iter()
                                    .map(|partition| {
                                        OffsetCommitRequestPartition::default()
                                            .with_partition_index(partition.partition)
                                            .with_committed_offset(offsets[partition])
                                            .with_committed_leader_epoch(-1)
                                            .with_committed_metadata(Some(StrBytes::default()))
                                    })
                                    .collect(),
                            )
                    })
                    .collect(),
            );
        let (_, response) = self.at_coordinator(group, &request, |response| {
            let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .find(|partition| partition.error_code != 0)
                .map_or(0, |partition| partition.error_code)
        })?;
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            check(partition.error_code, None)?;
        }
        Ok(())
    }

    /// Removes committed offsets; the outer error is the group's, the inner ones are partitions'.
    pub(crate) fn delete_offsets(
        &mut self,
        group: &str,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<Result<DeletedOffsets, ApiError>> {
        let request = OffsetDeleteRequest::default()
            .with_group_id(group_id(group))
            .with_topics(
                by_topic(partitions)
                    .into_iter()
                    .map(|(topic, partitions)| {
                        OffsetDeleteRequestTopic::default()
                            .with_name(topic_name(topic))
                            .with_partitions(
                                partitions
                                    .into_iter()
                                    .map(|partition| {
                                        OffsetDeleteRequestPartition::default()
                                            .with_partition_index(partition.partition)
                                    })
                                    .collect(),
                            )
                    })
                    .collect(),
            );
        let (_, response) = self.at_coordinator(group, &request, |response| response.error_code)?;
        if let Err(error) = check(response.error_code, None) {
            return Ok(Err(error));
        }
        let mut results = BTreeMap::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                results.insert(
                    TopicPartition::new(topic.name.0.as_str(), partition.partition_index),
                    check(partition.error_code, None),
                );
            }
        }
        Ok(Ok(results))
    }

    /// Deletes a group that has no members, with all it has committed.
    pub(crate) fn delete_group(&mut self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        let (_, response) = self.at_coordinator(group, &request, |response| {
            response.results.first().map_or(0, |group| group.error_code)
        })?;
        for result in &response.results {
            check(result.error_code, None)?;
        }
        Ok(())
    }

    fn at_coordinator<R: Request>(
        &mut self,
        group: &str,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<(BrokerId, R::Response)> {
        self.at_coordinator_up_to(i16::MAX, group, request, code)
    }

    /// Asks the group's coordinator, in no later version than given; asks anew while the group is
    /// loading or moves to another broker.
    fn at_coordinator_up_to<R: Request>(
        &mut self,
        newest: i16,
        group: &str,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<(BrokerId, R::Response)> {
        let deadline = self.deadline();
        loop {
            let coordinator = self.coordinator(group)?;
            let connection = self.broker(coordinator)?;
            let version = connection.version::<R>()?.min(newest);
            let response = connection.send_version(request, version)?;
            if !moves(code(&response)) || Instant::now() >= deadline {
                return Ok((coordinator, response));
            }
            std::thread::sleep(RETRY_BACKOFF);
        }
    }
}

/// The coordinator is not ready or not the one: asked again a moment later, another answer comes.
fn moves(code: i16) -> bool {
    matches!(
        ErrorCode::from_value(code),
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<&'a str, Vec<&'a TopicPartition>> {
    let mut topics: BTreeMap<&str, Vec<&TopicPartition>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition);
    }
    topics
}
