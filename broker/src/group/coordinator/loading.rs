//! Which partitions of `__consumer_offsets` are ours: the loading of their groups, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::{Entry, LOG, Partition, Shared};
use crate::group::event::Event;
use crate::group::group::Group;
use crate::group::loader::Loader;
use crate::group::offsets_topic::topic_partition;
use crate::replica::manager::LeadershipChange;
use crate::types::{GROUP_METADATA_TOPIC, LeaderEpoch};

/// Between attempts to load a partition that cannot be read.
const LOAD_RETRY: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) async fn follow_leadership(
        self: Arc<Self>,
        mut leadership: UnboundedReceiver<LeadershipChange>,
    ) {
        while let Some(change) = leadership.recv().await {
            match change {
                LeadershipChange::BecameLeader {
                    partition,
                    leader_epoch,
                } if &*partition.topic == GROUP_METADATA_TOPIC => {
                    self.load(partition.partition, leader_epoch);
                }
                LeadershipChange::ResignedLeader {
                    partition,
                    leader_epoch,
                } if &*partition.topic == GROUP_METADATA_TOPIC => {
                    self.unload(partition.partition, leader_epoch);
                }
                LeadershipChange::BecameLeader { .. } | LeadershipChange::ResignedLeader { .. } => {
                }
            }
        }
    }

    /// Notes the epoch; false for a change that a later one has overtaken.
    fn advance_epoch(&self, index: i32, epoch: Option<LeaderEpoch>) -> bool {
        let mut epochs = self.epochs.lock();
        match (epoch, epochs.get(&index).copied()) {
            (None, _) => true,
            (Some(epoch), Some(known)) if epoch < known => false,
            (Some(epoch), _) => {
                epochs.insert(index, epoch);
                true
            }
        }
    }

    fn load(self: &Arc<Self>, index: i32, epoch: LeaderEpoch) {
        tracing::info!(
            target: LOG,
            "Elected as the group coordinator for partition {index} in epoch {epoch}"
        );
        if !self.advance_epoch(index, Some(epoch)) {
            tracing::info!(
                target: LOG,
                "Not loading offsets and group metadata for {GROUP_METADATA_TOPIC}-{index} in \
                 epoch {epoch}, a later one is known"
            );
            return;
        }
        let partition = Arc::new(Partition {
            index,
            topic_partition: topic_partition(index),
            is_loaded: AtomicBool::new(false),
            is_resigned: AtomicBool::new(false),
            groups: Mutex::default(),
        });
        {
            let mut partitions = self.partitions.write();
            if partitions.contains_key(&index) {
                // Leader before and after: what we have in memory is what is in the log.
                return;
            }
            partitions.insert(index, Arc::clone(&partition));
        }
        tokio::spawn(Arc::clone(self).load_until_done(partition, epoch));
    }

    async fn load_until_done(self: Arc<Self>, partition: Arc<Partition>, epoch: LeaderEpoch) {
        let index = partition.index;
        loop {
            let begun = Instant::now();
            let reading = {
                let shared = Arc::clone(&self);
                let partition = Arc::clone(&partition);
                tokio::task::spawn_blocking(move || shared.read_groups(&partition))
            };
            match reading.await {
                Ok(Ok(groups)) => {
                    if !partition.is_resigned.load(Ordering::SeqCst) {
                        let count = groups.len();
                        self.install(&partition, groups);
                        tracing::info!(
                            target: LOG,
                            "Finished loading offsets and group metadata of {count} groups from \
                             {GROUP_METADATA_TOPIC}-{index} in {} milliseconds for epoch {epoch}.",
                            begun.elapsed().as_millis()
                        );
                    }
                    return;
                }
                Ok(Err(error)) => tracing::error!(
                    target: LOG,
                    "Error loading offsets from {GROUP_METADATA_TOPIC}-{index}: {error}; its \
                     groups are not served, trying again"
                ),
                Err(error) => tracing::error!(
                    target: LOG,
                    "The load of {GROUP_METADATA_TOPIC}-{index} broke off: {error}; trying again"
                ),
            }
            tokio::time::sleep(LOAD_RETRY).await;
            if partition.is_resigned.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Replays the whole partition. Blocks on the disk.
    fn read_groups(&self, partition: &Partition) -> Result<Vec<Group>, String> {
        let index = partition.index;
        let (start, _) = self.topic.bounds(index).map_err(|it| it.to_string())?;
        let mut loader = Loader::new(Arc::clone(&self.settings), self.now(), start);
        loop {
            if partition.is_resigned.load(Ordering::SeqCst) {
                return Ok(Vec::new());
            }
            let (_, end) = self.topic.bounds(index).map_err(|it| it.to_string())?;
            let offset = loader.next_offset();
            if offset >= end {
                return Ok(loader.finish());
            }
            let bytes = self
                .topic
                .read(index, offset, self.load_buffer_bytes)
                .map_err(|error| format!("reading at offset {offset}: {error}"))?;
            if bytes.is_empty() {
                // Compaction may leave the end of the log empty.
                return Ok(loader.finish());
            }
            loader.feed(&bytes).map_err(|error| error.to_string())?;
            if loader.next_offset() == offset {
                return Err(format!("offset {offset}: no whole batch is there"));
            }
        }
    }

    fn install(self: &Arc<Self>, partition: &Arc<Partition>, groups: Vec<Group>) {
        let mut entries = Vec::with_capacity(groups.len());
        {
            let mut map = partition.groups.lock();
            for group in groups {
                let id = Arc::clone(group.id());
                let entry = Arc::new(Entry::new(partition, group));
                map.insert(id, Arc::clone(&entry));
                entries.push(entry);
            }
        }
        for entry in entries {
            self.step(&entry, Event::Loaded);
        }
        partition.is_loaded.store(true, Ordering::SeqCst);
        // It may have been resigned between the check and here.
        if partition.is_resigned.load(Ordering::SeqCst) {
            self.drop_groups(partition);
        }
    }

    pub(super) fn unload(self: &Arc<Self>, index: i32, epoch: Option<LeaderEpoch>) {
        if !self.advance_epoch(index, epoch) {
            return;
        }
        let Some(partition) = self.partitions.write().remove(&index) else {
            return;
        };
        tracing::info!(
            target: LOG,
            "Resigned as the group coordinator for partition {index} in epoch {epoch:?}"
        );
        partition.is_resigned.store(true, Ordering::SeqCst);
        let count = self.drop_groups(&partition);
        tracing::info!(
            target: LOG,
            "Finished unloading {GROUP_METADATA_TOPIC}-{index}. Removed {count} cached groups."
        );
    }

    fn drop_groups(self: &Arc<Self>, partition: &Partition) -> usize {
        let entries: Vec<Arc<Entry>> = partition.groups.lock().drain().map(|it| it.1).collect();
        for entry in &entries {
            let mut core = entry.core.lock();
            core.is_removed = true;
            let now = self.now();
            let stepped = self.step_locked(entry, &mut core, now, Event::Unloaded, None);
            self.after_step(entry, core, stepped.write, now);
        }
        entries.len()
    }
}
