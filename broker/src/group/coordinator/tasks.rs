//! What happens to groups when nobody asks: deadlines, the expiry of offsets, deleted topics.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Entry, LOG, Shared};
use crate::cluster::image::MetadataImage;
use crate::group::event::Event;
use crate::types::{Millis, TopicPartition};

#[derive(Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Millis, u64), Weak<Entry>>,
    next: u64,
}

impl Shared {
    pub(super) fn arm(&self, deadline: Millis, entry: &Arc<Entry>) {
        let mut timers = self.timers.lock();
        let is_first = timers
            .queue
            .first_key_value()
            .is_none_or(|((first, _), _)| deadline < *first);
        timers.next += 1;
        let key = (deadline, timers.next);
        timers.queue.insert(key, Arc::downgrade(entry));
        drop(timers);
        if is_first {
            self.timers_changed.notify_one();
        }
    }

    pub(super) async fn run_timers(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        loop {
            let now = self.now();
            let (due, next) = {
                let mut timers = self.timers.lock();
                let later = timers.queue.split_off(&(now.steady + 1, 0));
                let due = std::mem::replace(&mut timers.queue, later);
                let next = timers.queue.first_key_value().map(|((at, _), _)| *at);
                (due, next)
            };
            let has_fired = !due.is_empty();
            for entry in due.into_values().filter_map(|entry| entry.upgrade()) {
                let mut core = entry.core.lock();
                // An entry may be in the queue twice; the earlier one looks for both.
                core.armed = None;
                let stepped = self.step_locked(&entry, &mut core, now, Event::Timeout, None);
                self.after_step(&entry, core, stepped.write, now);
            }
            if has_fired {
                continue;
            }
            let wait =
                next.map(|at| Duration::from_millis((at - now.steady).max(1).unsigned_abs()));
            tokio::select! {
                () = self.timers_changed.notified() => {}
                () = sleep_or_forever(wait) => {}
                _ = stopped.changed() => return,
            }
        }
    }

    pub(super) async fn run_expiry(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut ticks = tokio::time::interval(self.retention_check_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopped.changed() => return,
            }
            let before = self.offset_count();
            for entry in self.loaded_entries() {
                self.step(&entry, Event::Expire);
            }
            let expired = before.saturating_sub(self.offset_count());
            if expired > 0 {
                tracing::info!(target: LOG, "Removed {expired} expired offsets.");
            }
        }
    }

    /// Forgets what was committed for partitions that are deleted.
    pub(super) async fn follow_deletions(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut changes = self.cluster.changes();
        let mut before = self.cluster.image();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = stopped.changed() => return,
            }
            let after = self.cluster.image();
            let deleted = deleted_partitions(&before, &after);
            before = after;
            if deleted.is_empty() {
                continue;
            }
            for entry in self.loaded_entries() {
                self.step(&entry, Event::PartitionsDeleted(deleted.clone()));
            }
        }
    }
}

async fn sleep_or_forever(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Partitions of the earlier image that are not in the later one, or only under another topic id.
pub(super) fn deleted_partitions(
    before: &MetadataImage,
    after: &MetadataImage,
) -> Vec<TopicPartition> {
    let mut deleted = Vec::new();
    for (name, topic) in &before.topics {
        let now = after.topics.get(name);
        if now.is_some_and(|now| Arc::ptr_eq(now, topic)) {
            continue;
        }
        let is_same =
            now.is_some_and(|now| now.id.is_none() || topic.id.is_none() || now.id == topic.id);
        for index in topic.partitions.keys() {
            if !is_same || now.is_some_and(|now| !now.partitions.contains_key(index)) {
                deleted.push(TopicPartition {
                    topic: name.clone(),
                    partition: *index,
                });
            }
        }
    }
    deleted
}
