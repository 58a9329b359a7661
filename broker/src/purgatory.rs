//! Delayed operations (`DelayedOperationPurgatory`): requests that wait until something happens to
//! one of many keys, or until their time is over.
//!
//! A request is one [`Waiter`]. It registers with what may complete it, looks once more, and then
//! sleeps. Whoever changes a key signals its watchers; that only notes *which* key changed and
//! wakes the task, which looks for itself. So the producer whose append completes a Fetch does not
//! pay for the Fetch's work.
//!
//! Invariants:
//! 1. Register first, then look: with the fences in `register` and in [`Watchers::signal`], either
//!    the change is seen by the look, or the signal sees the watcher.
//! 2. With nobody waiting, a signal is one load.
//! 3. A waiter is woken only when the weights it was told of could add up to what it misses.
//! 4. Dropping a [`Registration`] (answered, timed out, connection gone) removes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::types::Offset;

/// A signal that wakes whatever a waiter misses.
pub const ANY_WEIGHT: u64 = u64::MAX;

/// One delayed request, over keys `0..n` of its own numbering.
#[derive(Debug)]
pub struct Waiter {
    id: u64,
    notify: Notify,
    pending: Mutex<Pending>,
}

#[derive(Debug)]
struct Pending {
    /// By key: it is in `changed`.
    is_changed: Vec<bool>,
    changed: Vec<usize>,
    gathered: u64,
    missing: u64,
}

impl Waiter {
    /// `missing` is the weight of signals that is worth a look.
    pub fn new(keys: usize, missing: u64) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            notify: Notify::new(),
            pending: Mutex::new(Pending {
                is_changed: vec![false; keys],
                changed: Vec::new(),
                gathered: 0,
                missing,
            }),
        })
    }

    fn signal(&self, key: usize, weight: u64) {
        let mut pending = self.pending.lock();
        if let Some(is_changed) = pending.is_changed.get_mut(key)
            && !*is_changed
        {
            *is_changed = true;
            pending.changed.push(key);
        }
        pending.gathered = pending.gathered.saturating_add(weight);
        if pending.gathered >= pending.missing {
            drop(pending);
            self.notify.notify_one();
        }
    }

    /// The keys that were signalled since the last call, in the order of their first signal.
    pub fn take_changed(&self) -> Vec<usize> {
        let mut pending = self.pending.lock();
        pending.gathered = 0;
        let changed = std::mem::take(&mut pending.changed);
        for &key in &changed {
            pending.is_changed[key] = false;
        }
        changed
    }

    /// Sleeps until signals of weight `missing` came since [`Self::take_changed`]; false when
    /// `deadline` came first. May return early without cause.
    pub async fn wait(&self, missing: u64, deadline: Instant) -> bool {
        {
            let mut pending = self.pending.lock();
            pending.missing = missing;
            if pending.gathered >= missing {
                return true;
            }
        }
        tokio::time::timeout_at(deadline, self.notify.notified())
            .await
            .is_ok()
    }
}

/// A waiter and its key.
type Watcher = (Arc<Waiter>, usize);

/// Those who wait for any change of one thing.
#[derive(Debug, Default)]
pub struct Watchers {
    count: AtomicUsize,
    entries: Mutex<HashMap<u64, Watcher>>,
}

impl Watchers {
    /// `waiter` is told from now on, by its `key`. One registration of a waiter per `Watchers`.
    pub fn register(self: &Arc<Self>, waiter: &Arc<Waiter>, key: usize) -> Registration {
        let mut entries = self.entries.lock();
        entries.insert(waiter.id, (Arc::clone(waiter), key));
        self.count.store(entries.len(), Ordering::SeqCst);
        drop(entries);
        // Keeps 1.
        fence(Ordering::SeqCst);
        Registration(Watched::Any(Arc::clone(self), waiter.id))
    }

    /// After a change. `weight`: at most how much more there is now (bytes), or [`ANY_WEIGHT`].
    pub fn signal(&self, weight: u64) {
        // Keeps 1.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for (waiter, key) in self.entries.lock().values() {
            waiter.signal(*key, weight);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove(&self, id: u64) {
        let mut entries = self.entries.lock();
        entries.remove(&id);
        self.count.store(entries.len(), Ordering::SeqCst);
    }
}

/// Those who wait until an offset that only grows reaches theirs.
#[derive(Debug, Default)]
pub struct OffsetWatchers {
    count: AtomicUsize,
    entries: Mutex<BTreeMap<(Offset, u64), Watcher>>,
}

impl OffsetWatchers {
    /// `waiter` is told, by its `key`, once the offset is `at_least`. One registration of a waiter
    /// and offset per `OffsetWatchers`.
    pub fn register(
        self: &Arc<Self>,
        at_least: Offset,
        waiter: &Arc<Waiter>,
        key: usize,
    ) -> Registration {
        let mut entries = self.entries.lock();
        entries.insert((at_least, waiter.id), (Arc::clone(waiter), key));
        self.count.store(entries.len(), Ordering::SeqCst);
        drop(entries);
        // Keeps 1.
        fence(Ordering::SeqCst);
        Registration(Watched::Offset(Arc::clone(self), (at_least, waiter.id)))
    }

    /// After the offset grew to `reached`; wakes and forgets those who waited for it or less.
    pub fn signal(&self, reached: Offset) {
        // Keeps 1.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut entries = self.entries.lock();
        while let Some(entry) = entries.first_entry()
            && entry.key().0 <= reached
        {
            let (waiter, key) = entry.remove();
            waiter.signal(key, ANY_WEIGHT);
        }
        self.count.store(entries.len(), Ordering::SeqCst);
    }

    /// Everybody looks, whatever offset they wait for, and stays registered.
    pub fn signal_all(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for (waiter, key) in self.entries.lock().values() {
            waiter.signal(*key, ANY_WEIGHT);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove(&self, key: (Offset, u64)) {
        let mut entries = self.entries.lock();
        entries.remove(&key);
        self.count.store(entries.len(), Ordering::SeqCst);
    }
}

/// A waiter's place among the watchers of one thing, until dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the registration"]
pub struct Registration(Watched);

#[derive(Debug)]
enum Watched {
    Any(Arc<Watchers>, u64),
    Offset(Arc<OffsetWatchers>, (Offset, u64)),
}

impl Drop for Registration {
    fn drop(&mut self) {
        match &self.0 {
            Watched::Any(watchers, id) => watchers.remove(*id),
            Watched::Offset(watchers, key) => watchers.remove(*key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn a_signal_between_registration_and_sleep_is_not_missed() {
        let watchers = Arc::new(Watchers::default());
        let waiter = Waiter::new(1, 1);
        let _registration = watchers.register(&waiter, 0);
        watchers.signal(1);
        assert!(waiter.wait(1, later()).await);
        assert_eq!(waiter.take_changed(), [0]);
    }

    #[tokio::test]
    async fn weights_below_what_is_missing_do_not_wake() {
        let watchers = Arc::new(Watchers::default());
        let waiter = Waiter::new(2, 100);
        let _a = watchers.register(&waiter, 1);
        watchers.signal(60);
        assert!(!waiter.wait(100, soon()).await);
        watchers.signal(40);
        assert!(waiter.wait(100, later()).await);
        assert_eq!(waiter.take_changed(), [1]);
        assert_eq!(waiter.take_changed(), [0usize; 0]);
    }

    #[tokio::test]
    async fn any_weight_wakes_whatever_is_missing() {
        let watchers = Arc::new(Watchers::default());
        let waiter = Waiter::new(1, u64::MAX);
        let _registration = watchers.register(&waiter, 0);
        watchers.signal(ANY_WEIGHT);
        assert!(waiter.wait(u64::MAX, later()).await);
    }

    #[test]
    fn dropping_a_registration_leaves_nobody_waiting() {
        let watchers = Arc::new(Watchers::default());
        let offsets = Arc::new(OffsetWatchers::default());
        let waiter = Waiter::new(2, 1);
        let registrations = [
            watchers.register(&waiter, 0),
            offsets.register(7, &waiter, 1),
        ];
        assert_eq!((watchers.len(), offsets.len()), (1, 1));
        drop(registrations);
        assert!(watchers.is_empty() && offsets.is_empty());
    }

    #[test]
    fn offsets_wake_those_up_to_what_was_reached() {
        let offsets = Arc::new(OffsetWatchers::default());
        let waiter = Waiter::new(3, 1);
        let _registrations = [
            offsets.register(30, &waiter, 2),
            offsets.register(10, &waiter, 0),
            offsets.register(20, &waiter, 1),
        ];
        offsets.signal(9);
        assert_eq!(waiter.take_changed(), [0usize; 0]);
        offsets.signal(20);
        assert_eq!(waiter.take_changed(), [0, 1]);
        assert_eq!(offsets.len(), 1);
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        use std::sync::atomic::AtomicI64;
        for _ in 0..200 {
            let watchers = Arc::new(Watchers::default());
            let end = Arc::new(AtomicI64::new(0));
            let writer = std::thread::spawn({
                let (watchers, end) = (Arc::clone(&watchers), Arc::clone(&end));
                move || {
                    end.store(1, Ordering::Release);
                    watchers.signal(1);
                }
            });
            let waiter = Waiter::new(1, 1);
            let _registration = watchers.register(&waiter, 0);
            let seen_at_once = end.load(Ordering::Acquire) == 1;
            writer.join().expect("the writer does not panic");
            assert!(seen_at_once || waiter.take_changed() == [0]);
        }
    }
}
