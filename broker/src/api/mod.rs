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
//! `pub fn refuse(request: &XRequest, code: ErrorCode) -> XResponse` in the file. The answer is
//! `boxed` for all but the hot paths, whose futures are part of the connection's: `inline`, and
//! `produce`, which reads and writes its messages by itself, and may go unanswered (acks=0). A handler whose answer holds file regions (Fetch)
//! gives back a type of its own that implements [`dispatch::Answer`] by [`dispatch::respond`].

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

use context::Context;
use dispatch::Answer;

use crate::net::Outcome;

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
        async fn call(cx: &Context<'_>, body: bytes::Bytes) -> Outcome {
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
    (boxed $file:ident $request:ident $cx:ident $body:ident) => {
        Box::pin(async move { call!(inline $file $request $cx $body) }).await
    };
    (inline $file:ident $request:ident $cx:ident $body:ident) => {
        match dispatch::decode::<$request>($cx, &$body) {
            Err(reason) => Outcome::Close(reason),
            Ok(request) => match dispatch::caught($file::handle($cx, request)).await {
                Some(answer) => answer.outcome($cx),
                None => dispatch::refused($cx, &$body, $file::refuse),
            },
        }
    };
    (produce $file:ident $request:ident $cx:ident $body:ident) => {
        $file::answer($cx, $body).await
    };
}

apis! {
    0 Produce 0..=11 produce ProduceRequest produce;
    1 Fetch 0..=17 fetch FetchRequest inline;
    2 ListOffsets 0..=9 list_offsets ListOffsetsRequest boxed;
    3 Metadata 0..=12 metadata MetadataRequest boxed;
    4 LeaderAndIsr 0..=7 leader_and_isr LeaderAndIsrRequest boxed;
    5 StopReplica 0..=4 stop_replica StopReplicaRequest boxed;
    6 UpdateMetadata 0..=8 update_metadata UpdateMetadataRequest boxed;
    7 ControlledShutdown 0..=3 controlled_shutdown ControlledShutdownRequest boxed;
    8 OffsetCommit 0..=9 offset_commit OffsetCommitRequest boxed;
    9 OffsetFetch 0..=9 offset_fetch OffsetFetchRequest boxed;
    10 FindCoordinator 0..=6 find_coordinator FindCoordinatorRequest boxed;
    11 JoinGroup 0..=9 join_group JoinGroupRequest boxed;
    12 Heartbeat 0..=4 heartbeat HeartbeatRequest boxed;
    13 LeaveGroup 0..=5 leave_group LeaveGroupRequest boxed;
    14 SyncGroup 0..=5 sync_group SyncGroupRequest boxed;
    15 DescribeGroups 0..=5 describe_groups DescribeGroupsRequest boxed;
    16 ListGroups 0..=5 list_groups ListGroupsRequest boxed;
    18 ApiVersions 0..=4 api_versions ApiVersionsRequest boxed;
    19 CreateTopics 0..=7 create_topics CreateTopicsRequest boxed;
    20 DeleteTopics 0..=6 delete_topics DeleteTopicsRequest boxed;
    21 DeleteRecords 0..=2 delete_records DeleteRecordsRequest boxed;
    22 InitProducerId 0..=5 init_producer_id InitProducerIdRequest boxed;
    23 OffsetForLeaderEpoch 0..=4 offset_for_leader_epoch OffsetForLeaderEpochRequest boxed;
    32 DescribeConfigs 0..=4 describe_configs DescribeConfigsRequest boxed;
    33 AlterConfigs 0..=2 alter_configs AlterConfigsRequest boxed;
    34 AlterReplicaLogDirs 0..=2 alter_replica_log_dirs AlterReplicaLogDirsRequest boxed;
    35 DescribeLogDirs 0..=4 describe_log_dirs DescribeLogDirsRequest boxed;
    37 CreatePartitions 0..=3 create_partitions CreatePartitionsRequest boxed;
    42 DeleteGroups 0..=2 delete_groups DeleteGroupsRequest boxed;
    43 ElectLeaders 0..=2 elect_leaders ElectLeadersRequest boxed;
    44 IncrementalAlterConfigs 0..=1 incremental_alter_configs IncrementalAlterConfigsRequest boxed;
    45 AlterPartitionReassignments 0..=0 alter_partition_reassignments AlterPartitionReassignmentsRequest boxed;
    46 ListPartitionReassignments 0..=0 list_partition_reassignments ListPartitionReassignmentsRequest boxed;
    47 OffsetDelete 0..=0 offset_delete OffsetDeleteRequest boxed;
    56 AlterPartition 0..=3 alter_partition AlterPartitionRequest boxed;
    57 UpdateFeatures 0..=1 update_features UpdateFeaturesRequest boxed;
    60 DescribeCluster 0..=1 describe_cluster DescribeClusterRequest boxed;
    61 DescribeProducers 0..=0 describe_producers DescribeProducersRequest boxed;
    67 AllocateProducerIds 0..=0 allocate_producer_ids AllocateProducerIdsRequest boxed;
    68 ConsumerGroupHeartbeat 0..=0 consumer_group_heartbeat ConsumerGroupHeartbeatRequest boxed;
    69 ConsumerGroupDescribe 0..=0 consumer_group_describe ConsumerGroupDescribeRequest boxed;
}

#[cfg(test)]
mod tests;
