//! Producer ids in blocks of 1000 (`ProducerIdManager`, contract §3.11).
//!
//! 1. No id is given twice in a cluster: a block is ours only once `/latest_producer_id_block` says
//!    so, written against the version that was read.
//! 2. A block that was claimed and not used up before a stop is lost, as in Kafka.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::error::{ErrorCode, KafkaCode};
use crate::types::{BrokerId, ProducerId};
use crate::zk::data::ProducerIdBlock;
use crate::zk::{CreateMode, Error as StoreError, Store, paths};

const BLOCK_SIZE: i64 = 1000;

/// Why no id could be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {reason}; no producer id can be given until it is repaired", path = paths::PRODUCER_ID_BLOCK)]
    Unreadable { reason: String },
    #[error("no block of producer ids: {0}")]
    Store(#[from] StoreError),
    #[error("the {BLOCK_SIZE} ids after {last} would pass the largest id there is")]
    Exhausted { last: ProducerId },
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            // Clients try again.
            Self::Store(_) => ErrorCode::CoordinatorLoadInProgress,
            Self::Unreadable { .. } | Self::Exhausted { .. } => ErrorCode::UnknownServerError,
        }
    }
}

/// Gives out the ids of the blocks this broker claimed.
pub struct ProducerIds {
    store: Arc<dyn Store>,
    broker_id: BrokerId,
    /// The next id and the end of the block (exclusive). Held while a block is claimed, so that
    /// those who come meanwhile share it.
    block: Mutex<std::ops::Range<ProducerId>>,
}

impl ProducerIds {
    pub fn new(store: Arc<dyn Store>, broker_id: BrokerId) -> Self {
        Self {
            store,
            broker_id,
            block: Mutex::new(0..0),
        }
    }

    /// An id that nobody else has or will get.
    pub async fn next(&self) -> Result<ProducerId, Error> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = self.claim().await?;
        }
        let id = block.start;
        block.start += 1;
        Ok(id)
    }

    async fn claim(&self) -> Result<std::ops::Range<ProducerId>, Error> {
        loop {
            let (data, version) = match self.store.get(paths::PRODUCER_ID_BLOCK).await {
                Ok((data, stat)) => (data, Some(stat.version)),
                Err(StoreError::NoNode { .. }) => (Bytes::new(), None),
                Err(error) => return Err(error.into()),
            };
            let last = match ProducerIdBlock::decode(&data) {
                Ok(Some(block)) => block.last,
                Ok(None) => -1,
                Err(error) => {
                    return Err(Error::Unreadable {
                        reason: error.to_string(),
                    });
                }
            };
            let next = ProducerIdBlock {
                broker: self.broker_id,
                first: last.checked_add(1).ok_or(Error::Exhausted { last })?,
                last: last
                    .checked_add(BLOCK_SIZE)
                    .ok_or(Error::Exhausted { last })?,
            };
            let written = match version {
                Some(version) => self
                    .store
                    .set(paths::PRODUCER_ID_BLOCK, next.encode(), Some(version))
                    .await
                    .map(drop),
                None => self
                    .store
                    .create(
                        paths::PRODUCER_ID_BLOCK,
                        next.encode(),
                        CreateMode::Persistent,
                    )
                    .await
                    .map(drop),
            };
            match written {
                Ok(()) => return Ok(next.first..next.last + 1),
                // Another broker was faster, or the answer to our own write was lost: read again.
                Err(StoreError::BadVersion { .. } | StoreError::NodeExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::zk::embedded::Embedded;

    async fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(
            Embedded::open(folder.path(), Arc::new(ManualClock::at(1)))
                .unwrap()
                .connect(),
        );
        (folder, store)
    }

    #[tokio::test]
    async fn two_brokers_never_give_the_same_id() {
        let (_folder, store) = store().await;
        let (a, b) = (
            ProducerIds::new(store.clone(), 1),
            ProducerIds::new(store, 2),
        );
        let mut given = std::collections::HashSet::new();
        for _ in 0..1500 {
            assert!(given.insert(a.next().await.unwrap()));
            assert!(given.insert(b.next().await.unwrap()));
        }
        // Two blocks each.
        assert_eq!(given.iter().max(), Some(&3499));
    }

    #[tokio::test]
    async fn the_first_block_is_kafkas() {
        let (_folder, store) = store().await;
        assert_eq!(ProducerIds::new(store.clone(), 7).next().await.unwrap(), 0);
        let (data, _) = store.get(paths::PRODUCER_ID_BLOCK).await.unwrap();
        assert_eq!(
            data,
            r#"{"version":1,"broker":7,"block_start":"0","block_end":"999"}"#
        );
    }

    #[tokio::test]
    async fn garbage_in_the_znode_is_an_error_with_a_code() {
        let (_folder, store) = store().await;
        store
            .create(
                paths::PRODUCER_ID_BLOCK,
                Bytes::from_static(b"{"),
                CreateMode::Persistent,
            )
            .await
            .unwrap();
        let error = ProducerIds::new(store, 1).next().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnknownServerError);
    }
}
