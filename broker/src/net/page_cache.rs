//! What is in the page cache, so that a file region can be sent without waiting for the disk.
//!
//! The kernel is asked once for a block of [`BLOCK`] bytes, by its last byte, and what it said counts
//! for [`FRESH`]: a consumer that catches up sends many regions of one block. Every thread remembers
//! for itself, a few blocks of whichever files; a wrong memory costs one wait for the disk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::time::Instant;

/// Bytes that are looked at together.
pub(super) const BLOCK: u64 = 512 * 1024;
/// Pages that were just seen stay, unless memory is very short.
const FRESH: Duration = Duration::from_secs(1);
const SLOTS: usize = 64;
/// Bytes of one read that only brings pages into the cache.
const READ_AHEAD: usize = 64 * 1024;

#[derive(Clone, Copy)]
struct Seen {
    /// Where the file's handle is: another file there later makes a wrong memory, no more.
    file: usize,
    block: u64,
    until: Instant,
    /// Whether all of the block is there. If not, or if the file ends in it, each region is asked for.
    whole: bool,
}

thread_local! {
    static RECENT: [Cell<Option<Seen>>; SLOTS] = const { [const { Cell::new(None) }; SLOTS] };
}

/// Whether the stretch up to `end` (exclusive; of at most [`BLOCK`] bytes) can be read at once. What
/// cannot be told (the file system does not say) counts as there, and so does what is beyond the end.
pub(super) fn holds(file: &File, end: u64, now: Instant) -> bool {
    let last = end.saturating_sub(1);
    let (file_at, block) = (std::ptr::from_ref(file) as usize, last / BLOCK);
    let slot = (file_at / align_of::<usize>()).wrapping_add(block as usize) % SLOTS;
    let remembered = RECENT.with(|recent| recent[slot].get());
    let whole = match remembered {
        Some(seen) if seen.file == file_at && seen.block == block && now < seen.until => seen.whole,
        _ => {
            let whole = ask(file, (block + 1) * BLOCK - 1) == Answer::There;
            let seen = Seen {
                file: file_at,
                block,
                until: now + FRESH,
                whole,
            };
            RECENT.with(|recent| recent[slot].set(Some(seen)));
            whole
        }
    };
    whole || ask(file, last) != Answer::OnDisk
}

#[derive(PartialEq)]
enum Answer {
    There,
    OnDisk,
    /// Beyond the end of the file, or the file system does not say.
    Unknown,
}

fn ask(file: &File, position: u64) -> Answer {
    let mut byte = [0];
    match preadv2(
        file,
        &mut [IoSliceMut::new(&mut byte)],
        position,
        ReadWriteFlags::NOWAIT,
    ) {
        Ok(1) => Answer::There,
        Err(Errno::AGAIN) => Answer::OnDisk,
        Ok(_) | Err(_) => Answer::Unknown,
    }
}

/// Brings a stretch of a file into the page cache. The disk is waited for on another thread: the
/// worker of this connection serves producers, too. Reads in order, so that the kernel reads ahead.
pub(super) async fn read_ahead(file: Arc<File>, position: u64, len: u64) -> io::Result<()> {
    let read = move || {
        let mut scratch = vec![0; READ_AHEAD];
        let end = position + len;
        let mut at = position;
        while at < end {
            let count = usize::try_from(end - at).map_or(READ_AHEAD, |left| left.min(READ_AHEAD));
            match file.read_at(&mut scratch[..count], at)? {
                // Truncated since: `sendfile` will tell.
                0 => break,
                read => at += read as u64,
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{Advice, fadvise};

    use super::*;

    /// A file of `size` bytes of which nothing is in the page cache; none on a file system that lives
    /// there (tmpfs) or cannot tell.
    fn cold_file(size: usize) -> Option<Arc<File>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; size]).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        (ask(&file, 0) == Answer::OnDisk).then(|| Arc::new(file))
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_there() {
        let Some(file) = cold_file(1 << 20) else {
            return;
        };
        let now = Instant::now();
        read_ahead(Arc::clone(&file), 0, 1 << 20).await.unwrap();
        assert!(holds(&file, 1, now));
        assert!(holds(&file, 1 << 20, now));
        // Beyond the end there is nothing to wait for.
        assert!(holds(&file, 1 << 21, now));
    }

    #[tokio::test]
    async fn a_block_that_is_there_is_asked_for_once_a_while() {
        let Some(file) = cold_file(1 << 20) else {
            return;
        };
        let now = Instant::now();
        read_ahead(Arc::clone(&file), 0, BLOCK).await.unwrap();
        assert!(holds(&file, 1000, now));
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let soon = now + FRESH - Duration::from_millis(1);
        assert!(holds(&file, 2000, soon), "is remembered");
        assert!(!holds(&file, 2000, now + FRESH), "is asked again");
        assert!(!holds(&file, BLOCK + 1, soon), "another block");
    }

    #[tokio::test]
    async fn a_block_that_is_there_in_part_is_asked_for_each_time() {
        // Too far apart for the kernel to bring the one with the other.
        let Some(file) = cold_file(4 << 20) else {
            return;
        };
        let now = Instant::now();
        fadvise(&file, 0, None, Advice::Random).unwrap();
        file.read_exact_at(&mut [0; 4096], 0).unwrap();
        assert!(holds(&file, 4096, now));
        assert!(!holds(&file, BLOCK / 2, now));
        assert!(holds(&file, 4096, now));
    }

    #[tokio::test]
    async fn the_end_of_a_file_does_not_speak_for_its_last_block() {
        let Some(file) = cold_file(BLOCK as usize + 9000) else {
            return;
        };
        assert!(!holds(&file, BLOCK + 9000, Instant::now()));
    }
}
