//! One step of a group and what it wants done: answers, deadlines, and appends in their order.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{Entry, EntryCore, Shared, Write};
use crate::error::{ErrorCode, KafkaCode};
use crate::group::event::{Acks, Answer, Effect, Event, Now, Token, WriteId};
use crate::group::offsets_topic::Append;
use crate::group::record;
use crate::record::batch::BatchHeader;
use crate::record::build::{BatchBuilder, BatchOptions};
use crate::types::Offset;

/// Most steps have one or two effects; a rebalance of many members has one for each.
const EFFECTS_KEPT: usize = 4;

/// What a step leaves to be done.
pub(super) struct Stepped {
    /// Its first append, which the caller must begin to drive.
    pub(super) write: Option<Write>,
    /// The answer to the request that was fed.
    pub(super) answer: Option<Answer>,
}

impl Shared {
    pub(super) fn step(self: &Arc<Self>, entry: &Arc<Entry>, event: Event) {
        let now = self.now();
        let mut core = entry.core.lock();
        let write = self.step_locked(entry, &mut core, now, event, None).write;
        self.after_step(entry, core, write, now);
    }

    /// One step with its effects. The answer to `asked`, the request that is just fed, goes to the
    /// caller; all others go to who waits for them.
    pub(super) fn step_locked(
        &self,
        entry: &Arc<Entry>,
        core: &mut EntryCore,
        now: Now,
        event: Event,
        asked: Option<Token>,
    ) -> Stepped {
        let mut effects = std::mem::take(&mut core.effects);
        let mut own = None;
        core.group.step(now, event, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer { token, answer } if asked == Some(token) => own = Some(answer),
                Effect::Answer { token, answer } => core.answer(token, answer),
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
        core.effects = effects;
        core.effects.shrink_to(EFFECTS_KEPT);
        if let Some(deadline) = core.group.next_deadline()
            && core.armed.is_none_or(|armed| deadline < armed)
        {
            core.armed = Some(deadline);
            self.arm(deadline, entry);
        }
        let write = if core.is_driven {
            None
        } else {
            core.writes.pop_front()
        };
        core.is_driven |= write.is_some();
        Stepped { write, answer: own }
    }

    /// What a step leaves to be done without the lock.
    pub(super) fn after_step(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        core: MutexGuard<'_, EntryCore>,
        write: Option<Write>,
        now: Now,
    ) {
        let is_done = write.is_none() && core.is_done();
        drop(core);
        if let Some(write) = write {
            self.drive(entry, write, now);
        } else if is_done {
            self.drop_if_done(entry);
        }
    }

    /// Appends what is queued, in order, until the queue is empty. Most appends end at once: nobody
    /// else has to replicate them, or acks ask for less. After one that waits, a task goes on.
    pub(super) fn drive(self: &Arc<Self>, entry: &Arc<Entry>, mut write: Write, now: Now) {
        loop {
            let result = match self.append(entry, &write, now) {
                Append::Done(result) => result,
                Append::Waiting(replicated) => {
                    let (shared, entry) = (Arc::clone(self), Arc::clone(entry));
                    tokio::spawn(async move {
                        let result = replicated.await;
                        let now = shared.now();
                        if let Some(next) = shared.appended(&entry, write.id, result, now) {
                            shared.drive(&entry, next, now);
                        }
                    });
                    return;
                }
            };
            match self.appended(entry, write.id, result, now) {
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
        now: Now,
    ) -> Option<Write> {
        let mut core = entry.core.lock();
        core.is_driven = false;
        let event = Event::Appended { write, result };
        let next = self.step_locked(entry, &mut core, now, event, None).write;
        if next.is_none() {
            self.after_step(entry, core, None, now);
        }
        next
    }

    fn append(&self, entry: &Entry, write: &Write, now: Now) -> Append {
        let Some(partition) = entry.partition.upgrade() else {
            return Append::Done(Err(ErrorCode::NotLeaderOrFollower));
        };
        let (bytes, header) = match self.encode(write, now) {
            Ok(batch) => batch,
            Err(error) => return Append::Done(Err(error.code())),
        };
        let required_acks = match write.acks {
            Acks::Configured => self.required_acks,
            Acks::None => 0,
        };
        self.topic.append(
            &partition.topic_partition,
            (&bytes, header),
            required_acks,
            self.commit_timeout_ms,
        )
    }

    fn encode(&self, write: &Write, now: Now) -> Result<(Vec<u8>, BatchHeader), record::Error> {
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
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for record in &write.records {
            key.clear();
            value.clear();
            record.put_key(&mut key)?;
            let value = record.put_value(&mut value)?.then_some(&*value);
            batch.append_bare(now.wall, Some(&key), value)?;
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
