//! ReplicaManager: the partitions this broker holds, and everything that reads or writes them.

use std::sync::Arc;

use crate::error::ErrorCode;
use crate::log::{AppendInfo, EpochEndOffset, Log};
use crate::record::validate::Prepared;
use crate::types::{LeaderEpoch, Offset, TopicPartition};

/// Which offsets a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the LEO: followers.
    LogEnd,
    /// Up to the high watermark: `read_uncommitted`.
    HighWatermark,
    /// Up to the last stable offset: `read_committed`.
    TxnCommitted,
}

/// A change of leadership of one partition, told to the coordinators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadershipChange {
    BecameLeader {
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
    },
    ResignedLeader {
        partition: TopicPartition,
        leader_epoch: Option<LeaderEpoch>,
    },
}

pub struct ReplicaManager {
    _private: (),
}

impl ReplicaManager {
    /// The log of a partition this broker leads, or the code a client gets (contract §4.2:
    /// NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, KAFKA_STORAGE_ERROR, FENCED/UNKNOWN
    /// LEADER_EPOCH when `current_leader_epoch` is given and differs).
    pub fn leader_log(
        &self,
        partition: &TopicPartition,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Arc<Log>, ErrorCode> {
        let _ = (partition, current_leader_epoch);
        todo!()
    }

    /// Appends one prepared batch as leader. `required_acks` −1 waits for the high watermark to
    /// pass it, or for `timeout_ms`. The error is the code for the client or the coordinator.
    pub async fn append(
        &self,
        partition: &TopicPartition,
        batch: Prepared,
        required_acks: i16,
        timeout_ms: i64,
    ) -> Result<AppendInfo, ErrorCode> {
        let _ = (partition, batch, required_acks, timeout_ms);
        todo!()
    }

    /// OffsetForLeaderEpoch on the leader.
    pub fn end_offset_for_epoch(
        &self,
        partition: &TopicPartition,
        current_leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<EpochEndOffset, ErrorCode> {
        let _ = (partition, current_leader_epoch, epoch);
        todo!()
    }

    /// DeleteRecords on the leader: `offset` −1 is the high watermark. Returns the low watermark
    /// once every live replica has passed it, or REQUEST_TIMED_OUT.
    pub async fn delete_records(
        &self,
        partition: &TopicPartition,
        offset: Offset,
        timeout_ms: i64,
    ) -> Result<Offset, ErrorCode> {
        let _ = (partition, offset, timeout_ms);
        todo!()
    }

    /// The offset a client's LATEST means, by isolation.
    pub fn latest_offset(
        &self,
        partition: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Offset, ErrorCode> {
        let _ = (partition, isolation);
        todo!()
    }

    /// Leadership changes from now on; the group coordinator loads and unloads by it.
    pub fn leadership_changes(&self) -> tokio::sync::mpsc::UnboundedReceiver<LeadershipChange> {
        todo!()
    }
}
