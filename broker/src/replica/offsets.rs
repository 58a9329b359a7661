//! ListOffsets and DeleteRecords: offsets by time, and the log start offset on request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::manager::{Isolation, ReplicaManager};
use super::partition::Partition;
use crate::error::{ErrorCode, KafkaCode};
use crate::log::Log;
use crate::purgatory::{Registration, Waiter};
use crate::types::{LeaderEpoch, Millis, Offset, TopicPartition, is_internal_topic};

/// ListOffsets: the next offset a reader will see.
pub const LATEST: Millis = -1;
/// ListOffsets: the log start offset.
pub const EARLIEST: Millis = -2;
/// ListOffsets: the record with the largest timestamp.
pub const MAX_TIMESTAMP: Millis = -3;
/// ListOffsets: the first offset on local disks; without tiering as [`EARLIEST`].
pub const EARLIEST_LOCAL: Millis = -4;
/// ListOffsets: the last offset in tiered storage, of which there is none.
pub const LATEST_TIERED: Millis = -5;
/// DeleteRecords: up to the high watermark.
const TO_HIGH_WATERMARK: Offset = -1;

/// An offset by time; −1 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    pub timestamp: Millis,
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
}

/// What DeleteRecords did to a partition: its low watermark, or why not.
pub type Deleted = Result<Offset, ErrorCode>;

impl ReplicaManager {
    /// The offset for a timestamp or one of the special values. `isolation` `None`: not a client,
    /// bounded by the LEO.
    pub fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Millis,
        isolation: Option<Isolation>,
        current_leader_epoch: Option<LeaderEpoch>,
        only_leader: bool,
    ) -> Result<Option<FoundOffset>, ErrorCode> {
        let partition = self.online_partition(partition)?;
        let (log, leader_epoch, epoch_start) =
            partition.log_and_epoch_start(current_leader_epoch, only_leader)?;
        let end = match isolation {
            Some(Isolation::TxnCommitted) => log.last_stable_offset(),
            Some(Isolation::HighWatermark) => log.high_watermark(),
            Some(Isolation::LogEnd) | None => log.log_end_offset(),
        };
        // A new leader does not know yet how far its predecessor's high watermark was.
        let is_catching_up =
            isolation.is_some() && epoch_start.is_some_and(|start| start > log.high_watermark());
        let found = match timestamp {
            LATEST if is_catching_up => return Err(ErrorCode::OffsetNotAvailable),
            LATEST => {
                return Ok(Some(FoundOffset {
                    timestamp: -1,
                    offset: end,
                    leader_epoch: Some(leader_epoch),
                }));
            }
            EARLIEST | EARLIEST_LOCAL => return Ok(Some(earliest(&log))),
            LATEST_TIERED => Some(FoundOffset {
                timestamp: -1,
                offset: -1,
                leader_epoch: Some(-1),
            }),
            MAX_TIMESTAMP => log
                .max_timestamp()
                .map_err(|error| error.code())?
                .map(found),
            _ => log
                .offset_for_timestamp(timestamp)
                .map_err(|error| error.code())?
                .map(found),
        };
        match found.filter(|found| found.offset < end) {
            None if is_catching_up => Err(ErrorCode::OffsetNotAvailable),
            found => Ok(found),
        }
    }

    /// ListOffsets v0: base offsets of segments, newest first, at most `max`.
    pub fn legacy_offsets(
        &self,
        partition: &TopicPartition,
        timestamp: Millis,
        max: usize,
        is_consumer: bool,
        only_leader: bool,
    ) -> Result<Vec<Offset>, ErrorCode> {
        let log = self
            .online_partition(partition)?
            .log_for(None, only_leader)?;
        let mut offsets = log.legacy_offsets_before(timestamp, max);
        let high_watermark = log.high_watermark();
        if is_consumer && offsets.iter().any(|&offset| offset > high_watermark) {
            let below = offsets.iter().position(|&offset| offset <= high_watermark);
            offsets.drain(..below.unwrap_or(offsets.len()));
            offsets.insert(0, high_watermark);
        }
        Ok(offsets)
    }

    /// Raises the log start offsets (−1: to the high watermark), then waits at most `timeout` until
    /// all replicas that live have done so. Answers in the order of `requests`.
    pub async fn delete_records(
        &self,
        requests: Vec<(TopicPartition, Offset)>,
        timeout: Duration,
    ) -> Vec<Deleted> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut open = Vec::new();
        for (at, (topic_partition, offset)) in requests.iter().enumerate() {
            match self.delete_on_leader(topic_partition, *offset) {
                Err(code) => answers.push(Err(code)),
                Ok((partition, offset)) => {
                    answers.push(Err(ErrorCode::RequestTimedOut));
                    open.push((at, partition, offset));
                }
            }
        }
        open.retain(|(at, partition, offset)| {
            self.is_undone(partition, *offset, &mut answers[*at])
        });
        if open.is_empty() {
            return answers;
        }
        let deadline = Instant::now() + timeout;
        let waiter = Waiter::new(open.len(), 1);
        let registrations: Vec<Registration> = open
            .iter()
            .enumerate()
            .map(|(key, (_, partition, _))| partition.waiting.low_watermark.register(&waiter, key))
            .collect();
        loop {
            open.retain(|(at, partition, offset)| {
                self.is_undone(partition, *offset, &mut answers[*at])
            });
            if open.is_empty() || !waiter.wait(1, deadline).await {
                break;
            }
            waiter.take_changed();
        }
        drop(registrations);
        answers
    }

    fn delete_on_leader(
        &self,
        topic_partition: &TopicPartition,
        offset: Offset,
    ) -> Result<(Arc<Partition>, Offset), ErrorCode> {
        if is_internal_topic(&topic_partition.topic) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let partition = self.online_partition(topic_partition)?;
        let log = partition.log_for(None, true)?;
        if !log.config().cleanup_policy.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let offset = if offset == TO_HIGH_WATERMARK {
            log.high_watermark()
        } else {
            offset
        };
        if offset < 0 {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        log.advance_log_start_offset(offset)
            .map_err(|error| error.code())?;
        Ok((partition, offset))
    }

    /// Whether a replica that lives has not deleted up to `offset` yet; else notes the answer.
    fn is_undone(&self, partition: &Partition, offset: Offset, answer: &mut Deleted) -> bool {
        let low_watermark = self
            .online_partition(partition.topic_partition())
            .and_then(|_| partition.low_watermark(|broker| self.is_alive(broker)));
        match low_watermark {
            Ok(low_watermark) if low_watermark < offset => true,
            done => {
                *answer = done;
                false
            }
        }
    }
}

fn earliest(log: &Log) -> FoundOffset {
    let start = log.log_start_offset();
    FoundOffset {
        timestamp: -1,
        offset: start,
        leader_epoch: log
            .earliest_epoch()
            .filter(|(_, epoch_start)| *epoch_start <= start)
            .map(|(epoch, _)| epoch),
    }
}

fn found(at: crate::log::TimestampOffset) -> FoundOffset {
    FoundOffset {
        timestamp: at.timestamp,
        offset: at.offset,
        leader_epoch: at.leader_epoch,
    }
}
