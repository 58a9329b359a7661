//! `__consumer_offsets` as the coordinator sees it: partitions to append to and to read whole.
//! Over the replica manager in a broker, over memory in tests.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Clock;
use crate::error::{ErrorCode, KafkaCode};
use crate::log::ReadRequest;
use crate::record::validate::{Origin, prepare};
use crate::replica::manager::ReplicaManager;
use crate::types::{GROUP_METADATA_TOPIC, Millis, Offset, TopicPartition};
use crate::zk::BoxFuture;

/// Where the records of groups live.
pub trait OffsetsTopic: Send + Sync + 'static {
    /// Appends one batch (base offset 0) to a partition this broker leads; answers the offset of
    /// its first record.
    fn append(
        &self,
        partition: i32,
        batch: Bytes,
        required_acks: i16,
        timeout_ms: Millis,
    ) -> BoxFuture<'static, Result<Offset, ErrorCode>>;

    /// First offset and the next one to be written.
    fn bounds(&self, partition: i32) -> Result<(Offset, Offset), ErrorCode>;

    /// Batches from the one that holds `offset` on, at least one whole, at most about `max_bytes`.
    /// Blocks on the disk.
    fn read(&self, partition: i32, offset: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode>;
}

/// The topic in this broker's logs.
pub struct ReplicatedOffsetsTopic {
    pub replicas: Arc<ReplicaManager>,
    pub clock: Arc<dyn Clock>,
}

fn topic_partition(partition: i32) -> TopicPartition {
    TopicPartition::new(GROUP_METADATA_TOPIC, partition)
}

impl OffsetsTopic for ReplicatedOffsetsTopic {
    fn append(
        &self,
        partition: i32,
        batch: Bytes,
        required_acks: i16,
        timeout_ms: Millis,
    ) -> BoxFuture<'static, Result<Offset, ErrorCode>> {
        let replicas = Arc::clone(&self.replicas);
        let now = self.clock.now();
        Box::pin(async move {
            let partition = topic_partition(partition);
            let log = replicas.leader_log(&partition, None)?;
            let prepared = prepare(&partition, batch, Origin::Coordinator, &log.config(), now)
                .map_err(|rejected| rejected.code())?
                .ok_or(ErrorCode::UnknownServerError)?;
            let appended = replicas
                .append(&partition, prepared, required_acks, timeout_ms)
                .await?;
            Ok(appended.base_offset)
        })
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
