//! `__consumer_offsets` as the coordinator sees it: partitions to append to and to read whole.
//! Over the replica manager in a broker, over memory in tests.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{ErrorCode, KafkaCode};
use crate::log::ReadRequest;
use crate::record::batch::BatchHeader;
use crate::replica::manager::ReplicaManager;
use crate::types::{GROUP_METADATA_TOPIC, Millis, Offset, TopicPartition};
use crate::zk::BoxFuture;

/// Where the records of groups live.
pub trait OffsetsTopic: Send + Sync + 'static {
    /// Appends one batch that was just built (base offset 0) to a partition this broker leads.
    fn append(
        &self,
        partition: &TopicPartition,
        batch: (&[u8], BatchHeader),
        required_acks: i16,
        timeout_ms: Millis,
    ) -> Append;

    /// First offset and the next one to be written.
    fn bounds(&self, partition: i32) -> Result<(Offset, Offset), ErrorCode>;

    /// Batches from the one that holds `offset` on, at least one whole, at most about `max_bytes`.
    /// Blocks on the disk.
    fn read(&self, partition: i32, offset: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode>;
}

/// What became of an append: the offset of its first record, or why it failed.
pub enum Append {
    Done(Result<Offset, ErrorCode>),
    /// It is in our log, and others have to replicate it.
    Waiting(BoxFuture<'static, Result<Offset, ErrorCode>>),
}

/// The topic in this broker's logs.
pub struct ReplicatedOffsetsTopic {
    pub replicas: Arc<ReplicaManager>,
}

pub(super) fn topic_partition(partition: i32) -> TopicPartition {
    TopicPartition::new(GROUP_METADATA_TOPIC, partition)
}

impl OffsetsTopic for ReplicatedOffsetsTopic {
    fn append(
        &self,
        partition: &TopicPartition,
        batch: (&[u8], BatchHeader),
        required_acks: i16,
        timeout_ms: Millis,
    ) -> Append {
        let appended = self.replicas.append_built(partition, batch, required_acks);
        match appended {
            Err(code) => Append::Done(Err(code)),
            Ok((offset, None)) => Append::Done(Ok(offset)),
            Ok((offset, Some(unreplicated))) => {
                let replicas = Arc::clone(&self.replicas);
                let timeout = Duration::from_millis(timeout_ms.max(0).unsigned_abs());
                Append::Waiting(Box::pin(async move {
                    replicas.replicated(unreplicated, timeout).await?;
                    Ok(offset)
                }))
            }
        }
    }

    fn bounds(&self, partition: i32) -> Result<(Offset, Offset), ErrorCode> {
        let log = self
            .replicas
            .leader_log(&topic_partition(partition), None)?;
        Ok((log.log_start_offset(), log.log_end_offset()))
    }

    fn read(&self, partition: i32, offset: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let log = self
            .replicas
            .leader_log(&topic_partition(partition), None)?;
        let request = ReadRequest {
            offset,
            max_bytes,
            upper_bound: log.log_end_offset(),
            min_one_message: true,
            with_aborted: false,
        };
        let read = log.read(request).map_err(|error| error.code())?;
        let Some(region) = read.region else {
            return Ok(Bytes::new());
        };
        let mut bytes = vec![0; region.len];
        region
            .file
            .read_exact_at(&mut bytes, region.position)
            .map_err(|_| ErrorCode::KafkaStorageError)?;
        Ok(bytes.into())
    }
}
