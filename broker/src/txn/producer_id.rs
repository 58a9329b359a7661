//! Producer ids, out of blocks that the controller gives (`RPCProducerIdManager`, contract §3.11).
//!
//! 1. No id is given twice in a cluster: the controller gives a block to one broker only.
//! 2. A block that was given and not used up before a stop is lost, as in Kafka.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::error::{ErrorCode, KafkaCode};
use crate::types::ProducerId;
use crate::zk::BoxFuture;

/// Gives blocks: the controller, wherever it is.
pub trait BlockSource: Send + Sync + 'static {
    /// Ids that nobody else has or will get; the end is exclusive.
    fn next_block(&self) -> BoxFuture<'_, Result<Range<ProducerId>, String>>;
}

/// Why no id could be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the controller gave no block of producer ids: {0}; the client tries again")]
    NoBlock(String),
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            // Not REQUEST_TIMED_OUT or the like: old clients take those for fatal here.
            Self::NoBlock(_) => ErrorCode::CoordinatorLoadInProgress,
        }
    }
}

/// Gives out the ids of the blocks this broker got.
pub struct ProducerIds {
    source: Arc<dyn BlockSource>,
    /// The next id and the end of the block. Held while a block is asked for, so that those who
    /// come meanwhile share it.
    block: Mutex<Range<ProducerId>>,
}

impl ProducerIds {
    pub fn new(source: Arc<dyn BlockSource>) -> Self {
        Self {
            source,
            block: Mutex::new(0..0),
        }
    }

    /// An id that nobody else has or will get.
    pub async fn next(&self) -> Result<ProducerId, Error> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let next = self.source.next_block().await.map_err(Error::NoBlock)?;
            if next.is_empty() || next.start < 0 {
                return Err(Error::NoBlock(format!("{next:?} holds no id")));
            }
            *block = next;
        }
        let id = block.start;
        block.start += 1;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Blocks of three; every fourth time none.
    #[derive(Default)]
    struct Blocks(AtomicI64);

    impl BlockSource for Blocks {
        fn next_block(&self) -> BoxFuture<'_, Result<Range<ProducerId>, String>> {
            Box::pin(async {
                let n = self.0.fetch_add(1, Ordering::Relaxed);
                if n % 4 == 3 {
                    return Err("NOT_CONTROLLER".to_owned());
                }
                Ok(n * 3..n * 3 + 3)
            })
        }
    }

    #[tokio::test]
    async fn two_brokers_never_give_the_same_id_and_a_refusal_is_passed_over() {
        let source = Arc::new(Blocks::default());
        let brokers = [
            ProducerIds::new(source.clone()),
            ProducerIds::new(source.clone()),
        ];
        let mut given = std::collections::HashSet::new();
        let mut refused = 0;
        for _ in 0..100 {
            for broker in &brokers {
                match broker.next().await {
                    Ok(id) => assert!(given.insert(id), "{id} was given before"),
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.code(), ErrorCode::CoordinatorLoadInProgress);
                    }
                }
            }
        }
        assert!(refused > 0 && given.len() + refused == 200);
    }

    #[tokio::test]
    async fn a_block_without_ids_is_refused() {
        struct Empty;
        impl BlockSource for Empty {
            fn next_block(&self) -> BoxFuture<'_, Result<Range<ProducerId>, String>> {
                Box::pin(async { Ok(7..7) })
            }
        }
        assert!(ProducerIds::new(Arc::new(Empty)).next().await.is_err());
    }
}
