//! One connection: one task that reads, asks the handler and writes.
//!
//! C1. Requests are handled in the order they came and one at a time; nothing further is taken off
//!     the socket meanwhile, so what a peer can make us hold is one read's worth of frames (Kafka
//!     mutes the channel).
//! C2. All answers that one read gave rise to leave in one write, unless a request among them has
//!     to wait: those before it are sent first.
//! C3. A connection that is idle for [`HOLD`] holds no buffer; a large one is given back at once, and
//!     so is any beyond those of [`KEEPERS_MAX`] connections.
//! C4. A frame that has begun arrives within [`Limits::frame_deadline`] or at
//!     [`Limits::min_frame_rate`]; one that has not begun may take [`Limits::max_idle`].

use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::frame::Buffer;
use super::wire::Wire;
use super::{Handler, Limits, Outcome, Peer, frame};

/// How long a request that is being handled may still take once the listener stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long small buffers are kept for the next request: getting them anew for each costs more than
/// reading it.
const HOLD: Duration = Duration::from_secs(2);

/// The largest buffer that is kept, in bytes.
const HOLD_MAX: usize = 8 * 1024;

/// How many connections may keep buffers at a time: a burst of many must not leave each of them some.
const KEEPERS_MAX: usize = 1024;

/// A deadline that no connection lives to see.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("the peer closed it")]
    Closed,
    #[error("the broker stops")]
    Stopped,
    #[error("idle for {0:?}")]
    Idle(Duration),
    /// The peer did what no client does; one line in the log.
    #[error("{0}")]
    Hostile(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<frame::Error> for Ending {
    fn from(error: frame::Error) -> Self {
        Self::Hostile(error.to_string())
    }
}

pub(super) async fn run<H: Handler>(
    stream: TcpStream,
    peer: Peer,
    handler: Arc<H>,
    limits: Arc<Limits>,
    keepers: Arc<Keepers>,
    stop: CancellationToken,
) -> Ending {
    let mut state = handler.connect(&peer);
    let mut connection = Connection {
        wire: Wire::new(stream, limits.max_idle),
        input: Input::new(limits, keepers, stop),
    };
    loop {
        let frame = match connection.next_frame().await {
            Ok(frame) => frame,
            Err(ending) => return ending,
        };
        let outcome = {
            let Connection { wire, input } = &mut connection;
            let frame = &input.buffer.bytes[frame];
            let mut handling = pin!(handler.handle(&mut state, &peer, frame));
            match poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    let abandonable = handler.is_abandonable(frame);
                    match wait(wire, &mut input.alarms, handling, abandonable).await {
                        Ok(outcome) => {
                            input.active = Instant::now();
                            outcome
                        }
                        Err(ending) => return ending,
                    }
                }
            }
        };
        let sent = match outcome {
            Outcome::Respond(response) => {
                connection
                    .wire
                    .respond(response, connection.input.active)
                    .await
            }
            Outcome::Silent => Ok(()),
            Outcome::Close(reason) => {
                // What was answered before is still the peer's.
                return match connection.wire.flush().await {
                    Ok(()) => Ending::Refused(reason),
                    Err(error) => Ending::Io(error),
                };
            }
        };
        if let Err(error) = sent {
            return Ending::Io(error);
        }
    }
}

struct Connection {
    wire: Wire,
    input: Input,
}

impl Connection {
    /// Where the next request lies in the buffer. If none is there, the answers so far are sent first,
    /// and then the socket is read.
    async fn next_frame(&mut self) -> Result<Range<usize>, Ending> {
        loop {
            if let Some(frame) = self.input.split()? {
                return Ok(frame);
            }
            self.wire.flush().await?;
            self.input.fill(&mut self.wire).await?;
        }
    }
}

/// Waits for a request that was not answered at once.
async fn wait(
    wire: &mut Wire,
    alarms: &mut Alarms,
    mut handling: Pin<&mut (impl Future<Output = Outcome> + Send)>,
    abandonable: bool,
) -> Result<Outcome, Ending> {
    // Keeps C2; a handler that is done meanwhile is seen right after.
    wire.flush().await?;
    wire.release();
    tokio::select! {
        biased;
        outcome = handling.as_mut() => Ok(outcome),
        // On a stream that is registered for reading and writing this interest is met by nothing
        // but the end of the peer's bytes.
        _ = wire.stream.ready(Interest::PRIORITY), if abandonable => Err(Ending::Closed),
        () = alarms.stop.as_mut() => {
            if abandonable {
                return Err(Ending::Stopped);
            }
            tokio::time::timeout(STOP_GRACE, handling)
                .await
                .map_err(|_| Ending::Stopped)
        }
    }
}

/// What ends the wait for a request but the request itself.
struct Alarms {
    /// Fires at or before the earliest deadline; what is due is looked up when it does.
    timer: Pin<Box<Sleep>>,
    token: CancellationToken,
    /// Of `token`.
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom both wake already: to ask them again for each request costs more than to read it.
    woken: Option<Waker>,
}

enum Alarm {
    Timer,
    Stop,
}

impl Alarms {
    fn new(first: Instant, token: CancellationToken) -> Self {
        Self {
            timer: Box::pin(sleep_until(first)),
            stop: Box::pin(token.clone().cancelled_owned()),
            token,
            woken: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        if let Some(waker) = &self.woken
            && waker.will_wake(cx.waker())
            && !self.timer.is_elapsed()
            && !self.token.is_cancelled()
        {
            return Poll::Pending;
        }
        self.woken = None;
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Alarm::Stop);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Alarm::Timer);
        }
        self.woken = Some(cx.waker().clone());
        Poll::Pending
    }

    fn set_timer(&mut self, at: Instant) {
        self.timer.as_mut().reset(at);
        self.woken = None;
    }

    /// Brings the timer forward.
    fn set_timer_by(&mut self, at: Instant) {
        if at < self.timer.deadline() {
            self.set_timer(at);
        }
    }
}

/// How many connections keep buffers between requests.
#[derive(Debug, Default)]
pub(super) struct Keepers(AtomicUsize);

/// Counts one connection that does.
struct Keeper(Arc<Keepers>);

impl Keepers {
    fn add(self: &Arc<Self>) -> Option<Keeper> {
        let added = self
            .0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |keepers| {
                (keepers < KEEPERS_MAX).then_some(keepers + 1)
            });
        added.is_ok().then(|| Keeper(Arc::clone(self)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The reading half.
struct Input {
    buffer: Buffer,
    limits: Arc<Limits>,
    /// Of the frames so far, in bytes.
    largest: usize,
    /// See [`frame::look_ahead`].
    ahead: usize,
    /// When the last byte came.
    active: Instant,
    /// When the frame at the head of the buffer began, if it is not whole.
    began: Option<Instant>,
    alarms: Alarms,
    keepers: Arc<Keepers>,
    /// Set while buffers are kept; the timer fires at or before they are due.
    keeper: Option<Keeper>,
}

impl Input {
    fn new(limits: Arc<Limits>, keepers: Arc<Keepers>, stop: CancellationToken) -> Self {
        let now = Instant::now();
        let first = limits.max_idle.unwrap_or(NEVER);
        Self {
            buffer: Buffer::default(),
            limits,
            largest: 0,
            ahead: 0,
            active: now,
            began: None,
            alarms: Alarms::new(now + first, stop),
            keepers,
            keeper: None,
        }
    }

    fn split(&mut self) -> Result<Option<Range<usize>>, frame::Error> {
        let frame = self.buffer.split(self.limits.max_frame_bytes)?;
        match &frame {
            Some(frame) => {
                self.largest = self.largest.max(frame.len() + frame::PREFIX);
                self.began = None;
            }
            None if self.buffer.left().is_empty() => self.began = None,
            None if self.began.is_none() => {
                self.began = Some(self.active);
                self.alarms
                    .set_timer_by(self.active + self.limits.frame_deadline);
            }
            None => {}
        }
        Ok(frame)
    }

    /// Reads once.
    async fn fill(&mut self, wire: &mut Wire) -> Result<(), Ending> {
        loop {
            let read = poll_fn(|cx| match self.poll_read(cx, wire) {
                Poll::Ready(read) => Poll::Ready(Ok(read)),
                Poll::Pending => {
                    // Keeps C3.
                    if !self.keeps_buffers() {
                        self.release(wire);
                    }
                    self.alarms.poll(cx).map(Err)
                }
            });
            match read.await {
                Err(Alarm::Stop) => return Err(Ending::Stopped),
                Err(Alarm::Timer) => {
                    let now = Instant::now();
                    let mut next = self.due(now)?;
                    if self.keeper.is_some() && now < self.active + HOLD {
                        next = next.min(self.active + HOLD);
                    } else {
                        self.keeper = None;
                        self.release(wire);
                    }
                    self.alarms.set_timer(next);
                }
                Ok(Err(error)) => return Err(Ending::Io(error)),
                Ok(Ok(0)) => return Err(Ending::Closed),
                Ok(Ok(_)) => {
                    self.active = Instant::now();
                    if self.keeper.is_none() && self.is_small() {
                        self.keep();
                    }
                    self.ahead = frame::look_ahead(self.ahead, &self.buffer);
                    return Ok(());
                }
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<io::Result<usize>> {
        // No buffer is made, and none grows, before there is something to put into it.
        if !(self.keeps_buffers() && self.buffer.left().is_empty()) {
            ready!(wire.stream.poll_read_ready(cx))?;
        }
        let limit = self.limits.max_frame_bytes;
        self.buffer.reserve(self.largest, self.ahead, limit);
        // Unlike `try_read`, this notices a short read and spares the next one that would find nothing.
        pin!(wire.stream.read_buf(&mut self.buffer.bytes)).poll(cx)
    }

    /// Whether what this peer sends is small enough to keep buffers for it.
    fn is_small(&self) -> bool {
        self.largest.max(self.ahead) <= HOLD_MAX
    }

    fn keeps_buffers(&self) -> bool {
        self.keeper.is_some() && self.is_small()
    }

    /// Keeps the buffers from now on, until nothing has come for [`HOLD`].
    fn keep(&mut self) {
        self.keeper = self.keepers.add();
        if self.keeper.is_some() {
            self.alarms.set_timer_by(self.active + HOLD);
        }
    }

    fn release(&mut self, wire: &mut Wire) {
        wire.release();
        if self.buffer.left().is_empty() {
            self.buffer = Buffer::default();
        }
    }

    /// The next moment at which something is due, or what is overdue (keeps C4).
    fn due(&self, now: Instant) -> Result<Instant, Ending> {
        let limits = &self.limits;
        match self.began {
            Some(began) => {
                let arrived = self.buffer.left().len();
                let earned = arrived as u64 * 1000 / limits.min_frame_rate.max(1);
                let deadline = began + limits.frame_deadline.max(Duration::from_millis(earned));
                if now >= deadline {
                    return Err(Ending::Hostile(format!(
                        "{arrived} bytes of a frame in {:?}",
                        now - began
                    )));
                }
                Ok(deadline)
            }
            None => {
                let Some(max_idle) = limits.max_idle else {
                    return Ok(now + NEVER);
                };
                let next = self.active + max_idle;
                if now >= next {
                    return Err(Ending::Idle(max_idle));
                }
                Ok(next)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_connections_keep_buffers() {
        let keepers = Arc::new(Keepers::default());
        let mut kept: Vec<_> = (0..KEEPERS_MAX).map(|_| keepers.add().unwrap()).collect();
        assert!(keepers.add().is_none());
        kept.pop();
        assert!(keepers.add().is_some());
    }
}
