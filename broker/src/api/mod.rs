//! One file per Kafka API: decode → authorise → ask one room → encode. THE table of APIs is here.
//!
//! To add an API: its `pub mod` line, and one row in the table below. From the row follow what
//! ApiVersions offers, dispatch, the refusal when a handler fails, and `docs/apis.md`; golden frames
//! in `protocol-tests/golden/` are asked for by a test. A row is
//!
//! ```text
//! key  Name  first..=last version  file  Request type  answer;
//! ```
//!
//! with `pub async fn handle(cx: &Context<'_>, request: XRequest) -> XResponse` and
//! `pub fn refuse(request: &XRequest, code: ErrorCode) -> XResponse` in the file, which is `decoded`. The
//! hot paths (Produce, Fetch, OffsetCommit) are read `in_place` and written by hand, by `fn answer<'a>(cx: &'a
//! Context<'_>, body: &'a [u8]) -> Answered<'a>`.

pub mod allocate_producer_ids;
pub mod alter_configs;
pub mod alter_partition;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod authorized;
mod config_resource;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod context;
pub mod controlled_shutdown;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
mod dispatch;
pub mod elect_leaders;
mod endpoint;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leader_and_isr;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod stop_replica;
pub mod sync_group;
pub mod update_features;
pub mod update_metadata;

use kafka_protocol::messages::*;
use kafka_protocol::protocol::HeaderVersion as _;

pub use dispatch::Dispatcher;

use crate::net::Outcome;
use context::Context;
use dispatch::Answered;

/// One API as this broker offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    pub key: i16,
    pub name: &'static str,
    /// Inclusive.
    pub min_version: i16,
    /// Inclusive.
    pub max_version: i16,
}

impl Api {
    /// The row of a key; `None` when the broker does not offer it.
    pub fn of(key: i16) -> Option<&'static Self> {
        APIS.iter().find(|api| api.key == key)
    }

    pub fn offers(&self, version: i16) -> bool {
        (self.min_version..=self.max_version).contains(&version)
    }
}

macro_rules! apis {
    ($($key:literal $name:ident $min:literal..=$max:literal $file:ident $request:ident $answer:ident;)*) => {
        /// Everything this broker offers, by ascending key.
        pub const APIS: &[Api] = &[$(
            Api { key: $key, name: stringify!($name), min_version: $min, max_version: $max },
        )*];

        /// Version of a request's header; `None` when the broker does not offer it.
        pub fn request_header_version(key: i16, version: i16) -> Option<i16> {
            match key {
                $($key if ($min..=$max).contains(&version) => Some($request::header_version(version)),)*
                _ => None,
            }
        }

        /// Decodes the body, calls the handler, encodes the answer.
        async fn call(cx: &Context<'_>, body: &[u8]) -> Outcome {
            match cx.api_key {
                $($key => call!($answer $file $request cx body),)*
                key => Outcome::Close(format!("Unknown API key {key}")),
            }
        }

        #[cfg(test)]
        macro_rules! each_api {
            ($check:ident) => { $($check!($file $request);)* };
        }
    };
}

/// How a row's handler is called.
macro_rules! call {
    (decoded $file:ident $request:ident $cx:ident $body:ident) => {
        match dispatch::decode::<$request>($cx, $body) {
            Err(reason) => Outcome::Close(reason),
            Ok(request) => {
                let mut handling = Box::pin($file::handle($cx, request));
                match dispatch::caught(handling.as_mut()).await {
                    Some(response) => dispatch::respond($cx, &response),
                    None => dispatch::refused($cx, $body, $file::refuse),
                }
            }
        }
    };
    (in_place $file:ident $request:ident $cx:ident $body:ident) => {
        match $file::answer($cx, $body) {
            Answered::Now(outcome) => outcome,
            Answered::Later(answer) => answer.await,
        }
    };
}

apis! {
    0 Produce 0..=11 produce ProduceRequest in_place;
    1 Fetch 0..=17 fetch FetchRequest in_place;
    2 ListOffsets 0..=9 list_offsets ListOffsetsRequest decoded;
    3 Metadata 0..=12 metadata MetadataRequest decoded;
    4 LeaderAndIsr 0..=7 leader_and_isr LeaderAndIsrRequest decoded;
    5 StopReplica 0..=4 stop_replica StopReplicaRequest decoded;
    6 UpdateMetadata 0..=8 update_metadata UpdateMetadataRequest decoded;
    7 ControlledShutdown 0..=3 controlled_shutdown ControlledShutdownRequest decoded;
    8 OffsetCommit 0..=9 offset_commit OffsetCommitRequest in_place;
    9 OffsetFetch 0..=9 offset_fetch OffsetFetchRequest decoded;
    10 FindCoordinator 0..=6 find_coordinator FindCoordinatorRequest decoded;
    11 JoinGroup 0..=9 join_group JoinGroupRequest decoded;
    12 Heartbeat 0..=4 heartbeat HeartbeatRequest decoded;
    13 LeaveGroup 0..=5 leave_group LeaveGroupRequest decoded;
    14 SyncGroup 0..=5 sync_group SyncGroupRequest decoded;
    15 DescribeGroups 0..=5 describe_groups DescribeGroupsRequest decoded;
    16 ListGroups 0..=5 list_groups ListGroupsRequest decoded;
    18 ApiVersions 0..=4 api_versions ApiVersionsRequest decoded;
    19 CreateTopics 0..=7 create_topics CreateTopicsRequest decoded;
    20 DeleteTopics 0..=6 delete_topics DeleteTopicsRequest decoded;
    21 DeleteRecords 0..=2 delete_records DeleteRecordsRequest decoded;
    22 InitProducerId 0..=5 init_producer_id InitProducerIdRequest decoded;
    23 OffsetForLeaderEpoch 0..=4 offset_for_leader_epoch OffsetForLeaderEpochRequest decoded;
    32 DescribeConfigs 0..=4 describe_configs DescribeConfigsRequest decoded;
    33 AlterConfigs 0..=2 alter_configs AlterConfigsRequest decoded;
    34 AlterReplicaLogDirs 0..=2 alter_replica_log_dirs AlterReplicaLogDirsRequest decoded;
    35 DescribeLogDirs 0..=4 describe_log_dirs DescribeLogDirsRequest decoded;
    37 CreatePartitions 0..=3 create_partitions CreatePartitionsRequest decoded;
    42 DeleteGroups 0..=2 delete_groups DeleteGroupsRequest decoded;
    43 ElectLeaders 0..=2 elect_leaders ElectLeadersRequest decoded;
    44 IncrementalAlterConfigs 0..=1 incremental_alter_configs IncrementalAlterConfigsRequest decoded;
    45 AlterPartitionReassignments 0..=0 alter_partition_reassignments AlterPartitionReassignmentsRequest decoded;
    46 ListPartitionReassignments 0..=0 list_partition_reassignments ListPartitionReassignmentsRequest decoded;
    47 OffsetDelete 0..=0 offset_delete OffsetDeleteRequest decoded;
    56 AlterPartition 0..=3 alter_partition AlterPartitionRequest decoded;
    57 UpdateFeatures 0..=1 update_features UpdateFeaturesRequest decoded;
    60 DescribeCluster 0..=1 describe_cluster DescribeClusterRequest decoded;
    61 DescribeProducers 0..=0 describe_producers DescribeProducersRequest decoded;
    67 AllocateProducerIds 0..=0 allocate_producer_ids AllocateProducerIdsRequest decoded;
    68 ConsumerGroupHeartbeat 0..=0 consumer_group_heartbeat ConsumerGroupHeartbeatRequest decoded;
    69 ConsumerGroupDescribe 0..=0 consumer_group_describe ConsumerGroupDescribeRequest decoded;
}

#[cfg(test)]
mod tests;
