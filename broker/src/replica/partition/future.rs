//! A partition's copy on its way to another log dir (KIP-113), and the swap. Leader and follower
//! alike: the copy follows the log beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{FETCHER, Partition};
use crate::log::Log;
use crate::log::manager::LogManager;
use crate::purgatory::ANY_WEIGHT;
use crate::replica::fetcher::core::{Followed, LeaderData, LogFailure};
use crate::types::{LeaderEpoch, Offset};

impl Partition {
    pub fn future_log(&self) -> Option<Arc<Log>> {
        self.inner.read().future.clone()
    }

    /// Copies into `future` from now on; false when there is nothing to copy, or when it has taken
    /// the place of the log meanwhile.
    pub(in crate::replica) fn hold_future(&self, future: Arc<Log>) -> bool {
        let mut inner = self.inner.write();
        let is_copied = inner.log.is_some() && future.is_future();
        if is_copied {
            inner.future = Some(future);
        }
        is_copied
    }

    /// The move is off. Its files are not touched.
    pub(in crate::replica) fn drop_future(&self) {
        self.inner.write().future = None;
        // DeleteRecords waits for it no more.
        self.waiting.low_watermark.signal(ANY_WEIGHT);
    }

    /// Appends to the copy what the log holds at `fetch_offset`. The lock keeps the copy in its
    /// place meanwhile.
    pub(in crate::replica) fn append_to_future(
        &self,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        data: LeaderData<'_>,
    ) -> Result<Followed, LogFailure> {
        let inner = self.inner.read();
        let future = inner.future.as_ref().ok_or(LogFailure::Failed)?;
        if future.log_end_offset() != fetch_offset {
            tracing::error!(
                target: FETCHER,
                "Offset mismatch for the future replica {}: fetched offset = {fetch_offset}, log end offset = {}.",
                self.topic_partition,
                future.log_end_offset()
            );
            return Err(LogFailure::Failed);
        }
        let before = future.log_start_offset();
        if !data.records.is_empty() {
            Self::append_or_begin_earlier(future, data.records, leader_epoch)
                .map_err(|error| self.log_failure(&error))?;
        }
        future.advance_high_watermark(data.high_watermark);
        future
            .follow_log_start_offset(data.log_start_offset)
            .map_err(|error| self.log_failure(&error))?;
        let followed = Followed {
            log_end_offset: future.log_end_offset(),
            last_epoch: future.latest_epoch(),
        };
        let has_new_start = future.log_start_offset() != before;
        drop(inner);
        if has_new_start {
            self.waiting.low_watermark.signal(ANY_WEIGHT);
        }
        Ok(followed)
    }

    pub(in crate::replica) fn truncate_future_to(&self, offset: Offset) -> Result<(), LogFailure> {
        let inner = self.inner.read();
        let future = inner.future.as_ref().ok_or(LogFailure::Failed)?;
        future
            .truncate_to(offset)
            .map_err(|error| self.log_failure(&error))
    }

    pub(in crate::replica) fn truncate_future_fully_and_start_at(
        &self,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        let inner = self.inner.read();
        let future = inner.future.as_ref().ok_or(LogFailure::Failed)?;
        future
            .truncate_fully_and_start_at(offset)
            .map_err(|error| self.log_failure(&error))
    }

    /// Log and copy, when the copy reaches as far as the log does.
    pub(in crate::replica) fn caught_up_future(&self) -> Option<(Arc<Log>, Arc<Log>)> {
        let inner = self.inner.read();
        let (current, future) = (inner.log.as_ref()?, inner.future.as_ref()?);
        (current.log_end_offset() == future.log_end_offset())
            .then(|| (Arc::clone(current), Arc::clone(future)))
    }

    /// Puts `future` in the place of the log, if it is the copy and still has caught up; whether it
    /// did. To be prepared before: [`LogManager::prepare_replacement`].
    pub(in crate::replica) fn maybe_replace_current_with_future(
        &self,
        future: &Arc<Log>,
        logs: &LogManager,
    ) -> Result<bool, crate::log::Error> {
        let old = {
            let mut inner = self.inner.write();
            let is_held = inner
                .future
                .as_ref()
                .is_some_and(|held| Arc::ptr_eq(held, future));
            let has_caught_up = inner
                .log
                .as_ref()
                .is_some_and(|current| future.has_caught_up_with(current));
            if !is_held || !has_caught_up {
                return Ok(false);
            }
            let old = logs.replace_current_with_future(&self.topic_partition)?;
            inner.log = inner.future.take();
            old
        };
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.waiting.signal_all();
        // An error here is of one dir, which is offline now, and was logged there.
        let _ = logs.finish_replacement(&old, future);
        Ok(true)
    }
}
