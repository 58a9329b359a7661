//! Incremental fetch sessions (KIP-227): what a fetcher asked for last time, so that it need only
//! say what changed and need only be told what changed. [core]
//!
//! One [`SessionCache`] is one of Kafka's shards; the caller spreads sessions over several and
//! holds a lock for one call.
//!
//! Invariants:
//! 1. A session holds each partition once, in the order in which they are to be read; a partition
//!    that returned records goes to the end, so that none starves behind the size limit.
//! 2. There are at most `slots` sessions. For a new one, first a session idle for longer than
//!    [`EVICTION_MS`] goes; else the least valuable one that may go and is not worth more than the
//!    new one. Worth: followers over consumers, then more partitions over fewer. A consumer's
//!    session may only be evicted for another consumer's once it is older than [`EVICTION_MS`]; a
//!    follower may evict any consumer.
//! 3. The epoch of a session grows by one with every request (from 2³¹−1 to 1).
//!
//! Source: `FetchSession.scala`, `FetchMetadata.java`.

use std::collections::BTreeSet;

use crate::error::ErrorCode;
use crate::hash::HashMap;
use crate::types::{LeaderEpoch, Millis, Offset, TopicName, Uuid};

/// The session id of a fetch without a session.
pub const NO_SESSION: i32 = 0;
/// Epoch of a full request that wants a session.
pub const INITIAL_EPOCH: i32 = 0;
/// Epoch of a full request that wants none.
pub const FINAL_EPOCH: i32 = -1;
/// Milliseconds a session is safe from eviction by its like, or may be idle.
pub const EVICTION_MS: Millis = 120_000;

/// The epoch after `epoch`.
pub fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        epoch if epoch < 0 => FINAL_EPOCH,
        epoch => epoch + 1,
    }
}

/// A topic as the fetcher names it: by id from Fetch v13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicKey {
    Id(Uuid),
    Name(TopicName),
}

/// A partition as the fetcher names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    pub topic: TopicKey,
    pub partition: i32,
}

/// What is asked for of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub fetch_offset: Offset,
    /// Bytes.
    pub max_bytes: i32,
    pub current_leader_epoch: Option<LeaderEpoch>,
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// A follower's own; −1 from consumers.
    pub log_start_offset: Offset,
}

/// What was found for one partition, as far as it decides whether it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub has_records: bool,
    pub has_error: bool,
    /// A preferred read replica or a diverging epoch: told always.
    pub is_redirected: bool,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
}

/// How a request with a session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// All partitions of the session, in reading order.
    Incremental(Vec<(PartitionKey, Wanted)>),
    /// The request took the last partition away; the session is gone.
    Emptied,
}

const NIL: usize = usize::MAX;

#[derive(Debug)]
struct Cached {
    key: PartitionKey,
    wanted: Wanted,
    /// Last told; −1 when never or after an error, so that it is told again.
    high_watermark: Offset,
    log_start_offset: Offset,
    previous: usize,
    next: usize,
}

/// Partitions by key and in order: a list over a slab.
#[derive(Debug, Default)]
struct Partitions {
    slots: Vec<Option<Cached>>,
    free: Vec<usize>,
    by_key: HashMap<PartitionKey, usize>,
    ends: Option<(usize, usize)>,
}

impl Partitions {
    fn len(&self) -> usize {
        self.by_key.len()
    }

    fn at(&mut self, slot: usize) -> &mut Cached {
        self.slots[slot]
            .as_mut()
            .expect("slots in the list and in the map are taken")
    }

    fn get(&mut self, key: &PartitionKey) -> Option<&mut Cached> {
        let slot = *self.by_key.get(key)?;
        Some(self.at(slot))
    }

    fn push(&mut self, key: PartitionKey, wanted: Wanted) -> &mut Cached {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.by_key.insert(key.clone(), slot);
        self.slots[slot] = Some(Cached {
            key,
            wanted,
            high_watermark: -1,
            log_start_offset: -1,
            previous: NIL,
            next: NIL,
        });
        self.link_last(slot);
        self.at(slot)
    }

    fn link_last(&mut self, slot: usize) {
        match self.ends {
            None => self.ends = Some((slot, slot)),
            Some((first, last)) => {
                self.at(last).next = slot;
                self.at(slot).previous = last;
                self.ends = Some((first, slot));
            }
        }
    }

    fn unlink(&mut self, slot: usize) {
        let cached = self.at(slot);
        let (previous, next) = (cached.previous, cached.next);
        cached.previous = NIL;
        cached.next = NIL;
        if previous != NIL {
            self.at(previous).next = next;
        }
        if next != NIL {
            self.at(next).previous = previous;
        }
        self.ends = match self.ends {
            Some((first, last)) if first == slot && last == slot => None,
            Some((first, last)) if first == slot => Some((next, last)),
            Some((first, last)) if last == slot => Some((first, previous)),
            ends => ends,
        };
    }

    fn remove(&mut self, key: &PartitionKey) -> bool {
        let Some(slot) = self.by_key.remove(key) else {
            return false;
        };
        self.unlink(slot);
        self.slots[slot] = None;
        self.free.push(slot);
        true
    }

    fn move_last(&mut self, key: &PartitionKey) {
        if let Some(&slot) = self.by_key.get(key) {
            self.unlink(slot);
            self.link_last(slot);
        }
    }

    fn in_order(&self) -> impl Iterator<Item = &Cached> {
        let mut at = self.ends.map_or(NIL, |(first, _)| first);
        std::iter::from_fn(move || {
            let cached = self.slots.get(at)?.as_ref()?;
            at = cached.next;
            Some(cached)
        })
    }
}

#[derive(Debug)]
struct Session {
    is_follower: bool,
    uses_topic_ids: bool,
    created_ms: Millis,
    last_used_ms: Millis,
    /// Expected of the next request.
    epoch: i32,
    /// Number of partitions it is ranked with.
    ranked_size: usize,
    partitions: Partitions,
}

/// Worth of a session, least first: follower or not, partitions, id.
type Rank = (bool, usize, i32);

/// The sessions of one shard.
#[derive(Debug)]
pub struct SessionCache {
    slots: usize,
    sessions: HashMap<i32, Session>,
    by_last_use: BTreeSet<(Millis, i32)>,
    evictable_by_all: BTreeSet<Rank>,
    evictable_by_followers: BTreeSet<Rank>,
}

/// A session to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// Number of partitions.
    pub size: usize,
    pub is_follower: bool,
    pub uses_topic_ids: bool,
    pub now: Millis,
}

impl SessionCache {
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            sessions: HashMap::default(),
            by_last_use: BTreeSet::new(),
            evictable_by_all: BTreeSet::new(),
            evictable_by_followers: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Makes a session of what was asked for and found, when there is room; answers its id, or
    /// [`NO_SESSION`]. `draw_id` draws from the shard's range of ids, without [`NO_SESSION`].
    pub fn create(
        &mut self,
        new: NewSession,
        partitions: impl Iterator<Item = (PartitionKey, Wanted, Found)>,
        mut draw_id: impl FnMut() -> i32,
    ) -> i32 {
        let rank = (new.is_follower, new.size, 0);
        if self.sessions.len() >= self.slots && !self.evict_for(rank, new.now) {
            return NO_SESSION;
        }
        let id = loop {
            let id = draw_id();
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut list = Partitions::default();
        for (key, wanted, found) in partitions {
            if list.get(&key).is_some() {
                continue;
            }
            let cached = list.push(key, wanted);
            cached.high_watermark = found.high_watermark;
            cached.log_start_offset = found.log_start_offset;
        }
        self.sessions.insert(
            id,
            Session {
                is_follower: new.is_follower,
                uses_topic_ids: new.uses_topic_ids,
                created_ms: new.now,
                last_used_ms: new.now,
                epoch: next_epoch(INITIAL_EPOCH),
                ranked_size: 0,
                partitions: list,
            },
        );
        self.touch(id, new.now);
        id
    }

    /// Closes a session, if there.
    pub fn close(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.unrank(id, &session);
        }
    }

    /// Continues a session: takes in what the request changed, and answers what to read.
    pub fn resume(
        &mut self,
        now: Millis,
        (id, epoch): (i32, i32),
        uses_topic_ids: bool,
        changed: &[(PartitionKey, Wanted)],
        forgotten: &[PartitionKey],
    ) -> Result<Resumed, ErrorCode> {
        let session = self
            .sessions
            .get_mut(&id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for (key, wanted) in changed {
            match session.partitions.get(key) {
                Some(cached) => cached.wanted = *wanted,
                None => drop(session.partitions.push(key.clone(), *wanted)),
            }
        }
        for key in forgotten {
            session.partitions.remove(key);
        }
        if session.partitions.len() == 0 {
            self.close(id);
            return Ok(Resumed::Emptied);
        }
        session.epoch = next_epoch(session.epoch);
        let partitions = session
            .partitions
            .in_order()
            .map(|cached| (cached.key.clone(), cached.wanted))
            .collect();
        self.touch(id, now);
        Ok(Resumed::Incremental(partitions))
    }

    /// After the reads of a request with `request_epoch`: which of `found` are told. An error when
    /// another request of the same session came in between.
    pub fn answer<'a>(
        &mut self,
        id: i32,
        request_epoch: i32,
        found: impl Iterator<Item = (&'a PartitionKey, Found)>,
    ) -> Result<Vec<bool>, ErrorCode> {
        let Some(session) = self.sessions.get_mut(&id) else {
            // Evicted meanwhile: this answer still stands, the next request will be refused.
            return Ok(found.map(|_| true).collect());
        };
        if session.epoch != next_epoch(request_epoch) {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        Ok(found.map(|(key, found)| session.tell(key, found)).collect())
    }

    fn evict_for(&mut self, new: Rank, now: Millis) -> bool {
        let Some(&(last_used, oldest)) = self.by_last_use.first() else {
            return false;
        };
        let victim = if now - last_used > EVICTION_MS {
            oldest
        } else {
            let evictable = if new.0 {
                &self.evictable_by_followers
            } else {
                &self.evictable_by_all
            };
            match evictable.first() {
                Some(&least) if new >= least => least.2,
                _ => return false,
            }
        };
        self.close(victim);
        true
    }

    fn unrank(&mut self, id: i32, session: &Session) {
        self.by_last_use.remove(&(session.last_used_ms, id));
        let rank = (session.is_follower, session.ranked_size, id);
        self.evictable_by_all.remove(&rank);
        self.evictable_by_followers.remove(&rank);
    }

    /// Notes a use, and ranks the session anew.
    fn touch(&mut self, id: i32, now: Millis) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        self.unrank(id, &session);
        session.last_used_ms = now;
        session.ranked_size = session.partitions.len();
        self.by_last_use.insert((now, id));
        let rank = (session.is_follower, session.ranked_size, id);
        let is_old = now - session.created_ms > EVICTION_MS;
        if !session.is_follower || is_old {
            self.evictable_by_followers.insert(rank);
        }
        if is_old {
            self.evictable_by_all.insert(rank);
        }
        self.sessions.insert(id, session);
    }
}

impl Session {
    fn tell(&mut self, key: &PartitionKey, found: Found) -> bool {
        let Some(cached) = self.partitions.get(key) else {
            return true;
        };
        let is_told = found.has_records
            || found.has_error
            || found.is_redirected
            || cached.high_watermark != found.high_watermark
            || cached.log_start_offset != found.log_start_offset;
        cached.high_watermark = if found.has_error {
            -1
        } else {
            found.high_watermark
        };
        cached.log_start_offset = found.log_start_offset;
        if found.has_records {
            self.partitions.move_last(key);
        }
        is_told
    }
}

#[cfg(test)]
mod tests;
