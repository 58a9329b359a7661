//! The blocks of index files that searches read last. A consumer that catches up looks for one entry
//! after the other and should not ask the file each time.
//!
//! Every thread remembers for itself: no lock, and at most [`SLOTS`] blocks of some KiB. Entries of an
//! index never change; an index that lost some takes a new id, and what was remembered of it is found
//! no more.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 64;

struct Block {
    id: u64,
    /// Number of its first entry.
    from: usize,
    entries: Vec<u8>,
}

thread_local! {
    static RECENT: RefCell<[Option<Block>; SLOTS]> = const { RefCell::new([const { None }; SLOTS]) };
}

/// An id that no index had before.
pub(super) fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn slot(id: u64) -> usize {
    (id % SLOTS as u64) as usize
}

/// Shows the block of index `id`, if one is remembered: the number of its first entry and its bytes.
pub(super) fn look<T>(id: u64, found_in: impl FnOnce(usize, &[u8]) -> Option<T>) -> Option<T> {
    RECENT.with_borrow(|recent| match &recent[slot(id)] {
        Some(block) if block.id == id => found_in(block.from, &block.entries),
        _ => None,
    })
}

pub(super) fn remember(id: u64, from: usize, entries: Vec<u8>) {
    let block = Block { id, from, entries };
    RECENT.with_borrow_mut(|recent| recent[slot(id)] = Some(block));
}
