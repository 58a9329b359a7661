//! Appending for Produce and for the coordinators (`ReplicaManager.appendRecords`,
//! `DelayedProduce`).

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::manager::ReplicaManager;
use super::partition::Partition;
use crate::error::{ErrorCode, KafkaCode};
use crate::log::AppendInfo;
use crate::purgatory::Waiter;
use crate::record::batch::BatchHeader;
use crate::record::validate::{Origin, Rejected, prepare, prepare_built};
use crate::types::{Offset, PartitionRef, TopicPartition};

/// Bytes after which an appending task lets others run.
const YIELD_BYTES: usize = 1 << 20;

/// Records for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToAppend<'a> {
    pub partition: PartitionRef<'a>,
    /// As they came.
    pub records: &'a [u8],
}

/// What became of one partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// `None`: the set was empty, or nothing was appended.
    pub info: Option<AppendInfo>,
    /// With acks=all an append may have been made and still have an error: it was not replicated
    /// in time.
    pub failure: Option<Box<AppendFailure>>,
}

/// Why records were not appended, or not replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendFailure {
    pub code: ErrorCode,
    /// −1 where Kafka does not tell.
    pub log_start_offset: Offset,
    pub message: Option<String>,
    /// Index of the record in the batch, message.
    pub record_errors: Vec<(i32, Option<String>)>,
}

impl AppendFailure {
    pub fn new(code: ErrorCode) -> Self {
        Self {
            code,
            log_start_offset: -1,
            message: None,
            record_errors: Vec::new(),
        }
    }
}

impl Appended {
    pub fn failed(failure: AppendFailure) -> Self {
        Self {
            info: None,
            failure: Some(Box::new(failure)),
        }
    }
}

/// An append that waits for replicas: its place among the answers, its partition, and the offset
/// (exclusive) that the high watermark must reach.
pub struct Unreplicated {
    at: usize,
    partition: Arc<Partition>,
    required_offset: Offset,
}

/// The appends of one request, under way.
#[derive(Default)]
pub struct Appends {
    /// What became of the first entries, in their order.
    answers: SmallVec<[Appended; 1]>,
    unreplicated: Vec<Unreplicated>,
    /// So much was appended that others shall run first.
    is_turn_over: bool,
}

impl Appends {
    /// The answers, unless there is something to wait for.
    pub fn done(self) -> Result<SmallVec<[Appended; 1]>, Self> {
        if self.unreplicated.is_empty() && !self.is_turn_over {
            Ok(self.answers)
        } else {
            Err(self)
        }
    }

    fn fail(&mut self, failures: Vec<(usize, ErrorCode)>) {
        for (at, code) in failures {
            self.answers[at].failure = Some(Box::new(AppendFailure::new(code)));
        }
    }
}

impl From<SmallVec<[Appended; 1]>> for Appends {
    fn from(answers: SmallVec<[Appended; 1]>) -> Self {
        Self {
            answers,
            ..Self::default()
        }
    }
}

impl ReplicaManager {
    /// [`Self::append_some`] and [`Self::append_rest`] in one, as Produce goes through them.
    #[cfg(test)]
    pub async fn append_records(
        &self,
        entries: &[ToAppend<'_>],
        refuse: impl Fn(&ToAppend<'_>) -> Option<ErrorCode>,
        required_acks: i16,
        timeout: Duration,
    ) -> SmallVec<[Appended; 1]> {
        let appends = self.append_some(entries, &refuse, required_acks, Appends::default());
        self.append_rest(entries, refuse, required_acks, timeout, appends)
            .await
    }

    /// Validates and appends records of a client, all partitions of a request but those that `refuse`
    /// has a code for, and waits for nothing: those entries that have no answer yet, until it is time to
    /// let others run. `required_acks` must be −1, 0 or 1 where `refuse` has no code. `entries` hold each
    /// partition at most once.
    pub fn append_some(
        &self,
        entries: &[ToAppend<'_>],
        refuse: impl Fn(&ToAppend<'_>) -> Option<ErrorCode>,
        required_acks: i16,
        mut appends: Appends,
    ) -> Appends {
        let mut taken = 0;
        appends
            .answers
            .reserve_exact(entries.len() - appends.answers.len());
        for entry in &entries[appends.answers.len()..] {
            let appended = match refuse(entry) {
                None => self.append_one(entry, required_acks),
                Some(code) => Err(AppendFailure::new(code)),
            };
            let answer = match appended {
                Ok(Some((partition, info))) => {
                    if required_acks == -1 {
                        appends.unreplicated.push(Unreplicated {
                            at: appends.answers.len(),
                            partition,
                            required_offset: info.last_offset + 1,
                        });
                    }
                    Appended {
                        info: Some(info),
                        failure: None,
                    }
                }
                Ok(None) => Appended {
                    info: None,
                    failure: None,
                },
                Err(failure) => Appended::failed(failure),
            };
            appends.answers.push(answer);
            taken += entry.records.len();
            if taken >= YIELD_BYTES {
                appends.is_turn_over = true;
                break;
            }
        }
        if !appends.unreplicated.is_empty() {
            self.take_replicated(&mut appends);
        }
        appends
    }

    /// Alone in the ISR, the append itself has moved the high watermark.
    fn take_replicated(&self, appends: &mut Appends) {
        let mut failures = Vec::new();
        appends
            .unreplicated
            .retain(|append| self.is_unreplicated(append, &mut failures));
        appends.fail(failures);
    }

    /// What [`Self::append_some`] left, then, with −1, waits at most `timeout` for the high watermark to
    /// pass what was appended. The answers are in the order of `entries`.
    pub async fn append_rest(
        &self,
        entries: &[ToAppend<'_>],
        refuse: impl Fn(&ToAppend<'_>) -> Option<ErrorCode>,
        required_acks: i16,
        timeout: Duration,
        mut appends: Appends,
    ) -> SmallVec<[Appended; 1]> {
        while std::mem::take(&mut appends.is_turn_over) {
            tokio::task::yield_now().await;
            appends = self.append_some(entries, &refuse, required_acks, appends);
        }
        let unreplicated = std::mem::take(&mut appends.unreplicated);
        appends.fail(self.wait_for_replicas(unreplicated, timeout).await);
        appends.answers
    }

    fn append_one(
        &self,
        entry: &ToAppend<'_>,
        required_acks: i16,
    ) -> Result<Option<(Arc<Partition>, AppendInfo)>, AppendFailure> {
        let partition = self
            .online_partition(&entry.partition)
            .map_err(AppendFailure::new)?;
        let topic_partition = partition.topic_partition();
        let log_start_offset = || {
            partition
                .log_for(None, true)
                .map_or(-1, |log| log.log_start_offset())
        };
        let refuse = |code| {
            let mut failure = AppendFailure::new(code);
            if tells_log_start(code) {
                failure.log_start_offset = log_start_offset();
            }
            failure
        };
        let log = partition.check_append(required_acks).map_err(refuse)?;
        let lag = self.lag();
        let prepared = prepare(
            topic_partition,
            entry.records,
            Origin::Client,
            &log.config(),
            lag.now,
        )
        .map_err(|rejected| {
            tracing::info!(
                "[ReplicaManager broker={}] Error processing append operation on partition {topic_partition}: {rejected}",
                self.broker_id()
            );
            let Rejected {
                code,
                message,
                record_errors,
                ..
            } = rejected;
            AppendFailure {
                message,
                record_errors,
                ..refuse(code)
            }
        })?;
        let Some(prepared) = prepared else {
            return Ok(None);
        };
        let info = partition
            .append_as_leader(&prepared, required_acks, lag)
            .map_err(|error| {
                tracing::info!(
                    "[ReplicaManager broker={}] Error processing append operation on partition {topic_partition}: {error}",
                    self.broker_id()
                );
                refuse(error.code())
            })?;
        Ok(Some((partition, info)))
    }

    /// Appends one batch that a coordinator has built, as leader; answers the offset of its first
    /// record. `required_acks` −1: what is not replicated at once is for [`Self::replicated`] to wait
    /// for. The error is the code for the coordinator.
    pub fn append_built(
        &self,
        topic_partition: &TopicPartition,
        batch: (&[u8], BatchHeader),
        required_acks: i16,
    ) -> Result<(Offset, Option<Unreplicated>), ErrorCode> {
        let partition = self.online_partition(topic_partition)?;
        let log = partition.check_append(required_acks)?;
        let lag = self.lag();
        let prepared = prepare_built(topic_partition, batch, &log.config(), lag.now)
            .map_err(|rejected| rejected.code())?;
        let info = partition
            .append_as_leader(&prepared, required_acks, lag)
            .map_err(|error| error.code())?;
        if required_acks != -1 {
            return Ok((info.base_offset, None));
        }
        let append = Unreplicated {
            at: 0,
            partition,
            required_offset: info.last_offset + 1,
        };
        match self.outcome(&append) {
            None => Ok((info.base_offset, Some(append))),
            Some(outcome) => outcome.map(|()| (info.base_offset, None)),
        }
    }

    /// Waits until the append is replicated or has failed, at most `timeout`.
    pub async fn replicated(
        &self,
        append: Unreplicated,
        timeout: Duration,
    ) -> Result<(), ErrorCode> {
        let failures = self.wait_for_replicas(vec![append], timeout).await;
        failures.first().map_or(Ok(()), |(_, code)| Err(*code))
    }

    /// Waits until every append is replicated or has failed, or until the time is over; answers
    /// the failures by their place.
    async fn wait_for_replicas(
        &self,
        mut appends: Vec<Unreplicated>,
        timeout: Duration,
    ) -> Vec<(usize, ErrorCode)> {
        let mut failures = Vec::new();
        appends.retain(|append| self.is_unreplicated(append, &mut failures));
        if appends.is_empty() {
            return failures;
        }
        let deadline = Instant::now() + timeout;
        let waiter = Waiter::new(appends.len(), 1);
        let registrations: Vec<_> = appends
            .iter()
            .enumerate()
            .map(|(key, append)| {
                append.partition.waiting.high_watermark.register(
                    append.required_offset,
                    &waiter,
                    key,
                )
            })
            .collect();
        // Registered: now look once more, then at what was signalled.
        let mut is_open: Vec<bool> = appends
            .iter()
            .map(|append| self.is_unreplicated(append, &mut failures))
            .collect();
        while is_open.contains(&true) {
            let is_signalled = waiter.wait(1, deadline).await;
            for key in waiter.take_changed() {
                is_open[key] = is_open[key] && self.is_unreplicated(&appends[key], &mut failures);
            }
            if !is_signalled {
                break;
            }
        }
        drop(registrations);
        for (append, is_open) in appends.iter().zip(is_open) {
            if is_open {
                failures.push((append.at, ErrorCode::RequestTimedOut));
            }
        }
        failures
    }

    fn is_unreplicated(
        &self,
        append: &Unreplicated,
        failures: &mut Vec<(usize, ErrorCode)>,
    ) -> bool {
        match self.outcome(append) {
            None => true,
            Some(Ok(())) => false,
            Some(Err(code)) => {
                failures.push((append.at, code));
                false
            }
        }
    }

    /// `None`: not replicated yet.
    fn outcome(&self, append: &Unreplicated) -> Option<Result<(), ErrorCode>> {
        let outcome = append.partition.acknowledged(append.required_offset)?;
        // A deleted or offline partition has its own code.
        Some(outcome.or_else(|code| {
            self.online_partition(append.partition.topic_partition())
                .and(Err(code))
        }))
    }
}

/// Whether Kafka tells the log start offset beside this error.
fn tells_log_start(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::CorruptMessage
            | ErrorCode::KafkaStorageError
    )
}
