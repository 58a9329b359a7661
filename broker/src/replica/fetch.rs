//! Reading for Fetch: many partitions within limits, at once or after a wait
//! (`ReplicaManager.fetchMessages`, `DelayedFetch`).
//!
//! A read answers a stretch of a segment file, not bytes. A request that has to wait keeps what it
//! found, is told which partitions changed, and reads only those again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::manager::{Isolation, ReplicaManager};
use super::partition::{Offsets, Partition};
use super::selector::{Reader, preferred_replica};
use super::session::{PartitionKey, TopicKey, Wanted};
use super::state::FollowerFetch;
use super::truncation::{Fetching, divergence};
use crate::error::{ErrorCode, KafkaCode};
use crate::log::{AbortedTransaction, EpochEndOffset, FileRegion, Log, ReadRequest};
use crate::purgatory::{Registration, Waiter};
use crate::types::{BrokerId, Offset, TopicPartition};

/// How often a follower's read is made again because the leadership or the log changed under it.
const READS: usize = 3;

/// What a Fetch request says for all its partitions.
#[derive(Debug, Clone)]
pub struct FetchParams {
    /// −1: a consumer; −2: a debugger, which any replica answers up to its LEO.
    pub replica_id: BrokerId,
    /// The follower's broker epoch; −1 when it does not say (before v15).
    pub replica_epoch: i64,
    /// Set when a consumer may be sent to a replica in its rack.
    pub reader: Option<Reader>,
    pub max_wait: Duration,
    /// Bytes.
    pub min_bytes: u64,
    /// Bytes, over all partitions.
    pub max_bytes: usize,
    /// Fetch v0–2: never more than the limits, though a batch be cut. Later versions get the first
    /// batch whole (KIP-74).
    pub has_hard_limit: bool,
    pub isolation: Isolation,
    /// Followers, and consumers before Fetch v11, read from the leader only.
    pub only_leader: bool,
}

impl FetchParams {
    fn is_from_follower(&self) -> bool {
        self.replica_id >= 0
    }
}

/// One partition to read.
#[derive(Debug, Clone)]
pub struct ToFetch {
    /// As the fetcher names it.
    pub key: PartitionKey,
    pub partition: TopicPartition,
    pub wanted: Wanted,
}

/// What was read of one partition.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub error: ErrorCode,
    /// −1 beside an error, as the other offsets.
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    pub region: Option<FileRegion>,
    /// `None` unless read_committed.
    pub aborted: Option<Vec<AbortedTransaction>>,
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Where the consumer should read instead; nothing was read then.
    pub preferred_read_replica: Option<BrokerId>,
}

impl Fetched {
    pub fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            region: None,
            aborted: None,
            diverging_epoch: None,
            preferred_read_replica: None,
        }
    }

    /// Bytes of records.
    pub fn len(&self) -> usize {
        self.region.as_ref().map_or(0, |region| region.len)
    }

    pub fn is_empty(&self) -> bool {
        self.region.is_none()
    }

    fn ends_the_wait(&self) -> bool {
        self.error != ErrorCode::None
            || self.diverging_epoch.is_some()
            || self.preferred_read_replica.is_some()
    }
}

/// A partition with what was last read of it.
pub struct Reading {
    pub to_fetch: ToFetch,
    pub fetched: Fetched,
    /// What it was read from; `None` before that, and after an error.
    source: Option<Source>,
}

struct Source {
    partition: Arc<Partition>,
    log: Arc<Log>,
    /// Of the partition, before the read.
    generation: u64,
    /// End of what may be read, before the read.
    bound: Offset,
    /// Records were withheld from a follower. No signal says when the quota allows them again.
    is_throttled: bool,
}

/// What is left of a request's limits.
struct Budget {
    bytes: usize,
    /// The first batch found is returned whole.
    takes_first_whole: bool,
}

impl ReplicaManager {
    /// Reads all partitions in order; when that is not enough (contract §4.4), waits for more.
    /// `readings` hold each partition at most once.
    pub async fn fetch(&self, params: &FetchParams, readings: &mut [Reading]) {
        let began = Instant::now();
        let mut budget = params.budget();
        for reading in readings.iter_mut() {
            self.read(params, reading, &budget, true);
            budget.take(reading.fetched.len());
        }
        let is_enough = params.max_wait.is_zero()
            || readings.is_empty()
            || readings
                .iter()
                .any(|reading| reading.fetched.ends_the_wait())
            || total(readings) >= params.min_bytes;
        if !is_enough {
            self.wait_for_more(params, readings, began + params.max_wait)
                .await;
        }
    }

    async fn wait_for_more(
        &self,
        params: &FetchParams,
        readings: &mut [Reading],
        deadline: Instant,
    ) {
        let waiter = Waiter::new(readings.len(), params.min_bytes);
        let registrations: Vec<Registration> = readings
            .iter()
            .enumerate()
            .filter_map(|(key, reading)| {
                let waiting = &reading.source.as_ref()?.partition.waiting;
                let watchers = match params.isolation {
                    Isolation::LogEnd => &waiting.log_end,
                    Isolation::HighWatermark | Isolation::TxnCommitted => &waiting.committed,
                };
                Some(watchers.register(&waiter, key))
            })
            .collect();
        let mut is_changed: Vec<bool> = readings
            .iter()
            .map(|reading| reading.is_outdated(params.isolation))
            .collect();
        let mut changed: Vec<usize> = (0..readings.len()).filter(|&key| is_changed[key]).collect();
        // Bytes by partition that could be answered, each by itself.
        let mut available: Vec<u64> = readings
            .iter()
            .map(|reading| reading.fetched.len() as u64)
            .collect();
        // Data of an older segment is not joined by what is appended: there is no use in waiting.
        let mut is_done = readings.iter().any(Reading::is_behind);
        while !is_done {
            for key in changed {
                is_changed[key] = true;
                let reading = &mut readings[key];
                self.read(params, reading, &params.budget(), false);
                available[key] = reading.fetched.len() as u64;
                is_done |= reading.fetched.ends_the_wait() || reading.is_behind();
            }
            let sum: u64 = available.iter().sum();
            if is_done || sum >= params.min_bytes {
                break;
            }
            is_done = !waiter.wait(params.min_bytes - sum, deadline).await;
            changed = waiter.take_changed();
            for &key in &changed {
                is_changed[key] = true;
            }
        }
        drop(registrations);
        // Once more in order, now that the limits apply to all of them together.
        let mut budget = params.budget();
        for (reading, is_changed) in readings.iter_mut().zip(is_changed) {
            if is_changed || reading.is_throttled() || !reading.fetched.is_empty() {
                self.read(params, reading, &budget, false);
            } else {
                reading.refresh_offsets();
            }
            budget.take(reading.fetched.len());
        }
    }

    /// Reads one partition. `is_first`: a follower's progress is noted.
    fn read(&self, params: &FetchParams, reading: &mut Reading, budget: &Budget, is_first: bool) {
        match self.read_unchanged(params, &reading.to_fetch, budget, is_first) {
            Ok((source, fetched)) => {
                reading.source = Some(source);
                reading.fetched = fetched;
            }
            Err(code) => {
                reading.source = None;
                reading.fetched = Fetched::failed(code);
            }
        }
    }

    /// A follower must get what continues its log as it was compared: not bytes that were appended
    /// after a cut, which a change of leadership brings. Consumers are bounded by what no cut removes.
    fn read_unchanged(
        &self,
        params: &FetchParams,
        to_fetch: &ToFetch,
        budget: &Budget,
        is_first: bool,
    ) -> Result<(Source, Fetched), ErrorCode> {
        if params.is_from_follower() {
            for _ in 1..READS {
                let read = self.try_read(params, to_fetch, budget, is_first)?;
                if read.0.generation == read.0.partition.generation() {
                    return Ok(read);
                }
            }
        }
        self.try_read(params, to_fetch, budget, is_first)
    }

    fn try_read(
        &self,
        params: &FetchParams,
        to_fetch: &ToFetch,
        budget: &Budget,
        is_first: bool,
    ) -> Result<(Source, Fetched), ErrorCode> {
        let wanted = &to_fetch.wanted;
        let partition = self.online_partition(&to_fetch.partition)?;
        let generation = partition.generation();
        if let TopicKey::Id(asked) = to_fetch.key.topic
            && partition.topic_id().is_some_and(|ours| ours != asked)
        {
            return Err(ErrorCode::InconsistentTopicId);
        }
        let preferred = params
            .reader
            .as_ref()
            .and_then(|reader| self.preferred_replica(reader, &partition, wanted.fetch_offset));
        let log = partition.log_for(wanted.current_leader_epoch, params.only_leader)?;
        if params.is_from_follower() {
            partition.check_follower(params.replica_id, wanted.current_leader_epoch)?;
        }
        let offsets = Offsets::of(&log);
        let bound = offsets.bound(params.isolation);
        let mut fetched = Fetched {
            error: ErrorCode::None,
            high_watermark: offsets.high_watermark,
            last_stable_offset: offsets.last_stable,
            log_start_offset: offsets.log_start,
            region: None,
            aborted: None,
            diverging_epoch: None,
            preferred_read_replica: preferred,
        };
        if preferred.is_none() {
            fetched.diverging_epoch = diverging_epoch(&log, wanted, offsets)?;
        }
        if preferred.is_none() && fetched.diverging_epoch.is_none() {
            let limit = usize::try_from(wanted.max_bytes).unwrap_or(0);
            let read = log
                .read(ReadRequest {
                    offset: wanted.fetch_offset,
                    max_bytes: limit.min(budget.bytes),
                    upper_bound: bound,
                    min_one_message: budget.takes_first_whole,
                    with_aborted: params.isolation == Isolation::TxnCommitted,
                })
                .map_err(|error| error.code())?;
            fetched.aborted = read.aborted;
            // From v3 on a consumer makes progress without a cut batch.
            if params.has_hard_limit || !read.first_batch_incomplete {
                fetched.region = read.region;
            }
            if is_first && params.is_from_follower() {
                let proposal = partition.on_follower_fetch(
                    params.replica_id,
                    wanted.current_leader_epoch,
                    FollowerFetch {
                        fetch_offset: wanted.fetch_offset,
                        log_start_offset: wanted.log_start_offset,
                        leader_end_offset: offsets.log_end,
                        broker_epoch: params.replica_epoch,
                        now: self.clock().now(),
                    },
                    self.config().load().replica_lag_time_max_ms(),
                )?;
                if let Some(proposal) = proposal {
                    self.isr.submit(&partition, proposal);
                }
            }
        }
        let is_throttled = fetched.region.is_some() && self.is_throttled(params, &partition);
        if is_throttled {
            fetched.region = None;
        }
        let source = Source {
            partition,
            log,
            generation,
            bound,
            is_throttled,
        };
        Ok((source, fetched))
    }
}

impl ReplicaManager {
    /// Whether a follower gets no records for now. Only one that is out of the ISR: the others have
    /// to stay in it.
    fn is_throttled(&self, params: &FetchParams, partition: &Partition) -> bool {
        let quota = &self.throttles().leader;
        params.is_from_follower()
            && quota.is_in_use()
            && !partition.is_in_sync(params.replica_id)
            && quota.is_throttled(partition.topic_partition())
            && quota.is_exceeded(self.clock().now())
    }

    fn preferred_replica(
        &self,
        reader: &Reader,
        partition: &Partition,
        fetch_offset: Offset,
    ) -> Option<BrokerId> {
        let candidates = partition.read_candidates(fetch_offset, self.clock().now());
        if candidates.is_empty() {
            return None;
        }
        preferred_replica(
            reader,
            self.broker_id(),
            &candidates,
            &self.cluster().image(),
        )
    }
}

impl FetchParams {
    fn budget(&self) -> Budget {
        Budget {
            bytes: self.max_bytes,
            takes_first_whole: !self.has_hard_limit,
        }
    }
}

impl Budget {
    fn take(&mut self, bytes: usize) {
        if bytes > 0 {
            self.takes_first_whole = false;
        }
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Offsets {
    fn bound(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::LogEnd => self.log_end,
            Isolation::HighWatermark => self.high_watermark,
            Isolation::TxnCommitted => self.last_stable,
        }
    }
}

impl Reading {
    /// One that is still to be made.
    pub fn of(to_fetch: ToFetch) -> Self {
        Self {
            to_fetch,
            fetched: Fetched::failed(ErrorCode::None),
            source: None,
        }
    }

    /// Whether something changed since the read, which a signal may have told nobody of.
    fn is_outdated(&self, isolation: Isolation) -> bool {
        self.source.as_ref().is_some_and(|source| {
            source.generation != source.partition.generation()
                || source.bound != Offsets::of(&source.log).bound(isolation)
        })
    }

    fn is_throttled(&self) -> bool {
        self.source
            .as_ref()
            .is_some_and(|source| source.is_throttled)
    }

    /// There is data, and newer data is in a later segment, which a read does not reach.
    fn is_behind(&self) -> bool {
        !self.fetched.is_empty()
            && self.source.as_ref().is_some_and(|source| {
                let active = source.log.active_segment_base_offset();
                self.to_fetch.wanted.fetch_offset < active && active < source.bound
            })
    }

    /// Nothing new to read; the offsets may have moved all the same.
    fn refresh_offsets(&mut self) {
        if let Some(source) = &self.source {
            let offsets = Offsets::of(&source.log);
            self.fetched.high_watermark = offsets.high_watermark;
            self.fetched.last_stable_offset = offsets.last_stable;
            self.fetched.log_start_offset = offsets.log_start;
        }
    }
}

fn total(readings: &[Reading]) -> u64 {
    readings
        .iter()
        .map(|reading| reading.fetched.len() as u64)
        .sum()
}

/// Where the fetcher's log parts from ours, if it does (contract §4.2).
fn diverging_epoch(
    log: &Log,
    wanted: &Wanted,
    offsets: Offsets,
) -> Result<Option<EpochEndOffset>, ErrorCode> {
    let Some(last_fetched_epoch) = wanted.last_fetched_epoch else {
        return Ok(None);
    };
    divergence(
        Fetching {
            fetch_offset: wanted.fetch_offset,
            last_fetched_epoch,
        },
        log.end_offset_for_epoch(last_fetched_epoch),
        offsets.log_start,
    )
}
