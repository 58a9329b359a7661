//! One connection: one task that reads, asks the handler and writes.
//!
//! C1. Requests are handled in the order they came and one at a time; nothing further is taken off
//!     the socket meanwhile, so what a peer can make us hold is one read's worth of frames (Kafka
//!     mutes the channel).
//! C2. All answers that one read gave rise to leave in one write, unless a request among them has
//!     to wait: those before it are sent first.
//! C3. A connection that is idle for [`HOLD`] holds no buffer; a large one is given back at once.
//! C4. A frame that has begun arrives within [`Limits::frame_deadline`] or at
//!     [`Limits::min_frame_rate`]; one that has not begun may take [`Limits::max_idle`].

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::wire::Wire;
use super::{Handler, Limits, Outcome, Peer, frame};

/// How long a request that is being handled may still take once the listener stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long small buffers are kept for the next request: getting them anew for each costs more than
/// reading it.
const HOLD: Duration = Duration::from_secs(2);

/// The largest buffer that is kept, in bytes.
const HOLD_MAX: usize = 8 * 1024;

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
    stop: CancellationToken,
) -> Ending {
    let mut state = handler.connect(&peer);
    let mut connection = Connection {
        wire: Wire::new(stream, limits.max_idle),
        input: Input::new(limits),
        stop: Box::pin(stop.cancelled_owned()),
    };
    loop {
        let frame = match connection.next_frame().await {
            Ok(frame) => frame,
            Err(ending) => return ending,
        };
        let abandonable = handler.is_abandonable(&frame);
        let outcome = {
            let mut handling = pin!(handler.handle(&mut state, &peer, frame));
            match poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => match connection.wait(handling, abandonable).await {
                    Ok(outcome) => {
                        connection.input.active = Instant::now();
                        outcome
                    }
                    Err(ending) => return ending,
                },
            }
        };
        let sent = match outcome {
            Outcome::Respond(chunks) => connection.wire.respond(chunks).await,
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
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    /// The next request: from the buffer, or else, the answers so far being sent, from the socket.
    async fn next_frame(&mut self) -> Result<Bytes, Ending> {
        loop {
            if let Some(frame) = self.input.split()? {
                return Ok(frame);
            }
            self.wire.flush().await?;
            tokio::select! {
                biased;
                read = self.input.fill(&mut self.wire) => read?,
                () = self.stop.as_mut() => return Err(Ending::Stopped),
            }
        }
    }

    /// Waits for a request that was not answered at once.
    async fn wait(
        &mut self,
        mut handling: Pin<&mut (impl Future<Output = Outcome> + Send)>,
        abandonable: bool,
    ) -> Result<Outcome, Ending> {
        // Keeps C2; a handler that is done meanwhile is seen right after.
        self.wire.flush().await?;
        self.wire.release();
        tokio::select! {
            biased;
            outcome = handling.as_mut() => Ok(outcome),
            // On a stream that is registered for reading and writing this interest is met by
            // nothing but the end of the peer's bytes.
            _ = self.wire.stream.ready(Interest::PRIORITY), if abandonable => Err(Ending::Closed),
            () = self.stop.as_mut() => {
                if abandonable {
                    return Err(Ending::Stopped);
                }
                tokio::time::timeout(STOP_GRACE, handling)
                    .await
                    .map_err(|_| Ending::Stopped)
            }
        }
    }
}

/// The reading half.
struct Input {
    buffer: BytesMut,
    limits: Arc<Limits>,
    /// Of the frames so far, in bytes.
    largest: usize,
    /// See [`frame::reserve`].
    ahead: usize,
    /// When the last byte came.
    active: Instant,
    /// When the frame at the head of the buffer began, if it is not whole.
    began: Option<Instant>,
    /// Fires at or before the earliest deadline; what is due is looked up when it does.
    timer: Pin<Box<Sleep>>,
    /// Buffers are kept, and the timer fires at or before they are due.
    holds: bool,
}

impl Input {
    fn new(limits: Arc<Limits>) -> Self {
        let now = Instant::now();
        let first = limits.max_idle.unwrap_or(NEVER);
        Self {
            buffer: BytesMut::new(),
            limits,
            largest: 0,
            ahead: 0,
            active: now,
            began: None,
            timer: Box::pin(sleep_until(now + first)),
            holds: false,
        }
    }

    fn split(&mut self) -> Result<Option<Bytes>, frame::Error> {
        let frame = frame::split(&mut self.buffer, self.limits.max_frame_bytes)?;
        match &frame {
            Some(frame) => {
                self.largest = self.largest.max(frame.len() + frame::PREFIX);
                self.began = None;
            }
            None if self.buffer.is_empty() => self.began = None,
            None if self.began.is_none() => {
                self.began = Some(self.active);
                let deadline = self.active + self.limits.frame_deadline;
                if deadline < self.timer.deadline() {
                    self.timer.as_mut().reset(deadline);
                }
            }
            None => {}
        }
        Ok(frame)
    }

    /// Reads once. Safe to drop while it waits.
    async fn fill(&mut self, wire: &mut Wire) -> Result<(), Ending> {
        loop {
            let ready = poll_fn(|cx| {
                let ready = wire.stream.poll_read_ready(cx);
                if ready.is_pending() {
                    // Keeps C3.
                    if !(self.holds && self.is_small()) {
                        self.release(wire);
                    }
                    if self.timer.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                }
                ready.map(Some)
            })
            .await;
            match ready {
                None => {
                    let now = Instant::now();
                    let mut next = self.due(now)?;
                    if self.holds && now < self.active + HOLD {
                        next = next.min(self.active + HOLD);
                    } else {
                        self.holds = false;
                        self.release(wire);
                    }
                    self.timer.as_mut().reset(next);
                }
                Some(ready) => {
                    ready?;
                    frame::reserve(
                        &mut self.buffer,
                        self.largest,
                        self.ahead,
                        self.limits.max_frame_bytes,
                    );
                    // Unlike `try_read`, this notices a short read and spares the next one that
                    // would find nothing.
                    let read = poll_fn(|cx| {
                        let mut reading = pin!(wire.stream.read_buf(&mut self.buffer));
                        Poll::Ready(reading.as_mut().poll(cx))
                    })
                    .await;
                    match read {
                        Poll::Pending => {}
                        Poll::Ready(Err(error)) => return Err(Ending::Io(error)),
                        Poll::Ready(Ok(0)) => return Err(Ending::Closed),
                        Poll::Ready(Ok(_)) => {
                            self.active = Instant::now();
                            if !self.holds && self.is_small() {
                                self.hold();
                            }
                            let (arrived, capacity) = (self.buffer.len(), self.buffer.capacity());
                            self.ahead = frame::look_ahead(self.ahead, arrived, capacity);
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Whether what this peer sends is small enough to keep buffers for it.
    fn is_small(&self) -> bool {
        self.largest.max(self.ahead) <= HOLD_MAX
    }

    /// Keeps the buffers from now on, until nothing has come for [`HOLD`].
    fn hold(&mut self) {
        self.holds = true;
        let until = self.active + HOLD;
        if until < self.timer.deadline() {
            self.timer.as_mut().reset(until);
        }
    }

    fn release(&mut self, wire: &mut Wire) {
        wire.release();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The next moment at which something is due, or what is overdue (keeps C4).
    fn due(&self, now: Instant) -> Result<Instant, Ending> {
        let limits = &self.limits;
        match self.began {
            Some(began) => {
                let earned = self.buffer.len() as u64 * 1000 / limits.min_frame_rate.max(1);
                let deadline = began + limits.frame_deadline.max(Duration::from_millis(earned));
                if now >= deadline {
                    return Err(Ending::Hostile(format!(
                        "{} bytes of a frame in {:?}",
                        self.buffer.len(),
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
