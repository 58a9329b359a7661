//! What the guard lets through costs no more memory than it says: golden frames, damaged in many
//! ways, decoded under an allocator that counts (reliability H7, H8).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use ottla::net::guard::{self, Direction};
use protocol_tests::each_request;
use protocol_tests::golden::{Frame, frames};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every method hands its arguments to `System` as they are and returns what that returns.
#[expect(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait over `System`"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes what the guard lets through; the bytes that took at the peak.
fn decode<R: Request>(version: i16, body: &Bytes) -> Option<usize> {
    guard::check(Direction::Request, R::KEY, version, body).ok()?;
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let decoded = R::decode(&mut body.clone(), version);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    if let Err(error) = decoded {
        // The codec closes where Kafka skips: a tag of another version of the message.
        let reason = error.to_string();
        assert!(
            reason.contains("is not valid for version"),
            "API {} v{version}: {reason} {:02x?}",
            R::KEY,
            &body[..body.len().min(500)]
        );
    }
    Some(peak)
}

/// The codec's error values and small rounding of vectors.
const SLACK: usize = 64 * 1024;

fn check<R: Request>(frame: &Frame, passed: &mut usize) {
    let header =
        guard::request_header(&frame.bytes, R::header_version(frame.version)).expect("golden");
    let mut body = frame.bytes.clone();
    body.advance(header.len);
    let mut bound = |bytes: Vec<u8>| {
        let bytes = Bytes::from(bytes);
        if let Some(peak) = decode::<R>(frame.version, &bytes) {
            *passed += 1;
            let limit = 4 * bytes.len() + (4 << 20) + SLACK;
            assert!(
                peak <= limit,
                "API {} v{}: {peak} > {limit}",
                R::KEY,
                frame.version
            );
        }
    };
    bound(body.to_vec());
    for at in (0..body.len()).step_by(7) {
        // A count or a length anywhere, of every size.
        for number in [
            [0x7f, 0xff, 0xff, 0xff],
            [0, 0x0f, 0xff, 0xff],
            [0, 0, 0, 0xff],
        ] {
            let mut bytes = body.to_vec();
            let end = (at + 4).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
            bound(bytes.clone());
            // The same with much behind it to count.
            bytes.extend(std::iter::repeat_n(0, 20_000));
            bound(bytes);
        }
        for varint in [
            &[0xff, 0xff, 0xff, 0xff, 0x0f][..],
            &[0xff, 0xff, 3],
            &[0x7f],
        ] {
            let mut bytes = body.to_vec();
            bytes.splice(at..=at, varint.iter().copied());
            bytes.extend(std::iter::repeat_n(1, 20_000));
            bound(bytes);
        }
        let mut cut = body.to_vec();
        cut.truncate(at);
        bound(cut);
    }
}

#[test]
fn decoding_what_passed_stays_under_the_bound() {
    let frames = frames().unwrap();
    let mut passed = 0;
    macro_rules! check {
        ($request:ident) => {
            for frame in frames.iter().filter(|frame| frame.key == $request::KEY) {
                check::<$request>(frame, &mut passed);
            }
        };
    }
    each_request!(check);
    assert!(passed > 2_000, "{passed}");
}
