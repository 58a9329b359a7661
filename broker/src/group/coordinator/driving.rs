//! One step of a group and what it wants done: answers, deadlines, and appends in their order.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{Entry, EntryCore, Shared, Write};
use crate::error::{ErrorCode, KafkaCode};
use crate::group::event::{Acks, Effect, Event, WriteId};
use crate::group::offsets_topic::Append;
use crate::group::record;
use crate::record::batch::BatchHeader;
use crate::record::build::{BatchBuilder, BatchOptions};
use crate::types::Offset;

impl Shared {
    pub(super) fn step(self: &Arc<Self>, entry: &Arc<Entry>, event: Event) {
        let mut core = entry.core.lock();
        let next = self.step_locked(entry, &mut core, event);
        self.after_step(entry, core, next);
    }

    /// One step with its effects; answers the write that the caller must begin to drive.
    pub(super) fn step_locked(
        &self,
        entry: &Arc<Entry>,
        core: &mut EntryCore,
        event: Event,
    ) -> Option<Write> {
        let mut effects = Vec::new();
        core.group.step(self.now(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Answer { token, answer } => {
                    if let Some(waiter) = core.waiters.remove(&token) {
                        // The connection may be gone; its member will time out.
                        let _ = waiter.send(answer);
                    }
                }
                Effect::Append {
                    write,
                    records,
                    acks,
                    producer,
                } => core.writes.push_back(Write {
                    id: write,
                    records,
                    acks,
                    producer,
                }),
                Effect::Forget => core.is_forgotten = true,
            }
        }
        if let Some(deadline) = core.group.next_deadline()
            && core.armed.is_none_or(|armed| deadline < armed)
        {
            core.armed = Some(deadline);
            self.arm(deadline, entry);
        }
        if core.is_driven {
            return None;
        }
        let next = core.writes.pop_front();
        core.is_driven = next.is_some();
        next
    }

    /// What a step leaves to be done without the lock.
    pub(super) fn after_step(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        core: MutexGuard<'_, EntryCore>,
        next: Option<Write>,
    ) {
        let is_done = next.is_none() && core.is_done();
        drop(core);
        if let Some(write) = next {
            self.drive(entry, write);
        } else if is_done {
            self.drop_if_done(entry);
        }
    }

    /// Appends what is queued, in order, until the queue is empty. Most appends end at once: nobody
    /// else has to replicate them, or acks ask for less. After one that waits, a task goes on.
    fn drive(self: &Arc<Self>, entry: &Arc<Entry>, mut write: Write) {
        loop {
            let result = match self.append(entry, &write) {
                Append::Done(result) => result,
                Append::Waiting(replicated) => {
                    let (shared, entry) = (Arc::clone(self), Arc::clone(entry));
                    tokio::spawn(async move {
                        let result = replicated.await;
                        if let Some(next) = shared.appended(&entry, write.id, result) {
                            shared.drive(&entry, next);
                        }
                    });
                    return;
                }
            };
            match self.appended(entry, write.id, result) {
                Some(next) => write = next,
                None => return,
            }
        }
    }

    /// Feeds the end of an append back; answers the next one.
    fn appended(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        write: WriteId,
        result: Result<Offset, ErrorCode>,
    ) -> Option<Write> {
        let mut core = entry.core.lock();
        core.is_driven = false;
        let next = self.step_locked(entry, &mut core, Event::Appended { write, result });
        if next.is_none() {
            self.after_step(entry, core, None);
        }
        next
    }

    fn append(&self, entry: &Entry, write: &Write) -> Append {
        let Some(partition) = entry.partition.upgrade() else {
            return Append::Done(Err(ErrorCode::NotLeaderOrFollower));
        };
        let batch = match self.encode(write) {
            Ok(batch) => batch,
            Err(error) => return Append::Done(Err(error.code())),
        };
        let required_acks = match write.acks {
            Acks::Configured => self.required_acks,
            Acks::None => 0,
        };
        self.topic.append(
            &partition.topic_partition,
            batch,
            required_acks,
            self.commit_timeout_ms,
        )
    }

    fn encode(&self, write: &Write) -> Result<(bytes::Bytes, BatchHeader), record::Error> {
        let timestamp = self.clock.now();
        let mut options = BatchOptions {
            codec: self.codec,
            ..BatchOptions::default()
        };
        if let Some(producer) = write.producer {
            options.producer_id = producer.id;
            options.producer_epoch = producer.epoch;
            options.base_sequence = 0;
            options.transactional = true;
        }
        let mut batch = BatchBuilder::new(&options)?;
        for record in &write.records {
            let (key, value) = (record.encode_key()?, record.encode_value()?);
            batch.append_bare(timestamp, Some(&key), value.as_deref())?;
        }
        Ok(batch.finish()?)
    }

    /// Takes a dead or blank group out of its partition once nothing of it is on its way.
    fn drop_if_done(&self, entry: &Arc<Entry>) {
        let Some(partition) = entry.partition.upgrade() else {
            return;
        };
        // The map is locked before the entry, as everywhere.
        let mut groups = partition.groups.lock();
        let mut core = entry.core.lock();
        if core.is_done() {
            core.is_removed = true;
            groups.remove(core.group.id());
        }
    }
}
