//! Fetch sessions around a fetch: which partitions a request means, and which of them are told
//! (`FetchManager`, `FetchContext`).

use std::sync::atomic::Ordering;

use super::manager::{ReplicaManager, SESSION_SHARDS};
use super::session::{
    FINAL_EPOCH, Found, INITIAL_EPOCH, NO_SESSION, NewSession, PartitionKey, Resumed, Wanted,
};
use crate::error::ErrorCode;

/// Ids of one shard.
const ID_RANGE: i32 = i32::MAX / SESSION_SHARDS as i32;

/// A Fetch request as far as sessions are concerned.
#[derive(Debug)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    pub uses_topic_ids: bool,
    pub is_follower: bool,
    /// Each partition once.
    pub partitions: Vec<(PartitionKey, Wanted)>,
    pub forgotten: Vec<PartitionKey>,
}

/// Which of the partitions that were read are told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    All,
    /// In the order in which they were read.
    Each(Vec<bool>),
}

impl Told {
    pub fn includes(&self, at: usize) -> bool {
        match self {
            Self::All => true,
            Self::Each(told) => told[at],
        }
    }

    /// How many of `read` partitions.
    pub fn count(&self, read: usize) -> usize {
        match self {
            Self::All => read,
            Self::Each(told) => told.iter().filter(|is_told| **is_told).count(),
        }
    }
}

/// What is to be done with a session when the reads are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchContext {
    /// Everything is told, nothing kept.
    Sessionless,
    /// A session is made of it, if there is room.
    Full {
        uses_topic_ids: bool,
        is_follower: bool,
    },
    Incremental {
        session_id: i32,
        /// Of the request.
        session_epoch: i32,
    },
}

impl ReplicaManager {
    /// The partitions to read, in order.
    pub fn open_fetch(
        &self,
        request: SessionRequest,
    ) -> Result<(FetchContext, Vec<(PartitionKey, Wanted)>), ErrorCode> {
        let shard = shard_of(request.session_id);
        let is_full = matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH);
        if is_full {
            if request.session_id != NO_SESSION
                && let Some(shard) = shard
            {
                self.sessions[shard].lock().close(request.session_id);
            }
            let context = if request.session_epoch == FINAL_EPOCH {
                FetchContext::Sessionless
            } else {
                FetchContext::Full {
                    uses_topic_ids: request.uses_topic_ids,
                    is_follower: request.is_follower,
                }
            };
            return Ok((context, request.partitions));
        }
        let shard = shard.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let resumed = self.sessions[shard].lock().resume(
            self.clock().now(),
            (request.session_id, request.session_epoch),
            request.uses_topic_ids,
            &request.partitions,
            &request.forgotten,
        )?;
        Ok(match resumed {
            Resumed::Emptied => (FetchContext::Sessionless, request.partitions),
            Resumed::Incremental(partitions) => (
                FetchContext::Incremental {
                    session_id: request.session_id,
                    session_epoch: request.session_epoch,
                },
                partitions,
            ),
        })
    }

    /// After `size` partitions were read: the session id to answer, and which of them are told. The
    /// error goes with the session's id and an empty answer.
    pub fn close_fetch<'a>(
        &self,
        context: FetchContext,
        size: usize,
        read: impl Iterator<Item = (&'a PartitionKey, Wanted, Found)>,
    ) -> Result<(i32, Told), ErrorCode> {
        match context {
            FetchContext::Sessionless => Ok((NO_SESSION, Told::All)),
            FetchContext::Full {
                uses_topic_ids,
                is_follower,
            } => {
                let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % SESSION_SHARDS;
                let first = ID_RANGE * i32::try_from(shard).unwrap_or(0);
                let session_id = self.sessions[shard].lock().create(
                    NewSession {
                        size,
                        is_follower,
                        uses_topic_ids,
                        now: self.clock().now(),
                    },
                    read.map(|(key, wanted, found)| (key.clone(), wanted, found)),
                    || rand::random_range(first.max(1)..first + ID_RANGE),
                );
                Ok((session_id, Told::All))
            }
            FetchContext::Incremental {
                session_id,
                session_epoch,
            } => {
                let shard = shard_of(session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
                let told = self.sessions[shard].lock().answer(
                    session_id,
                    session_epoch,
                    read.map(|(key, _, found)| (key, found)),
                )?;
                Ok((session_id, Told::Each(told)))
            }
        }
    }
}

/// Where a session would be; `None` for an id that no shard gives.
fn shard_of(session_id: i32) -> Option<usize> {
    usize::try_from(session_id / ID_RANGE)
        .ok()
        .filter(|&shard| session_id >= 0 && shard < SESSION_SHARDS)
}
