//! A listener: one port, its accept loop and the quotas of connections (`Acceptor`,
//! `ConnectionQuotas`).
//!
//! A port is bound early, to learn its number, and opened only when the broker is ready: until
//! [`Listener::accept`] a client is refused by the system, as before Kafka has started.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, Ending, Keepers};
use super::{Handler, Limits, Peer};

const SOCKET_SERVER: &str = "kafka.network.SocketServer";
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

static NEXT_CONNECTION_ID: AtomicU64 = AtomicU64::new(0);

/// A bound port that nobody can connect to yet.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    /// As configured; for the log.
    host: String,
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Binds. No host means every interface; port 0 a free one.
    pub fn bind(name: &str, host: Option<&str>, port: u16, limits: &Limits) -> io::Result<Self> {
        let mut failure = None;
        for address in candidates(host, port)? {
            match bind(address, limits) {
                Ok(socket) => {
                    let address = socket
                        .local_addr()?
                        .as_socket()
                        .ok_or_else(|| io::Error::other("a TCP socket without an IP address"))?;
                    return Ok(Self {
                        name: name.into(),
                        host: host
                            .filter(|host| !host.is_empty())
                            .unwrap_or("0.0.0.0")
                            .into(),
                        socket,
                        address,
                    });
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable)))
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// With the port that the system gave, when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Opens the port and serves it, on tasks of `connections` in the current runtime, until
    /// `connections` is stopped. A connection keeps the limits it was accepted under.
    pub fn accept<H: Handler>(
        self,
        handler: Arc<H>,
        limits: watch::Receiver<Arc<Limits>>,
        connections: &Arc<Connections>,
    ) -> io::Result<()> {
        self.socket.listen(limits.borrow().listen_backlog)?;
        self.socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(self.socket.into())?;
        tracing::info!(
            target: SOCKET_SERVER,
            "Awaiting socket connections on {}:{}.",
            self.host,
            self.address.port()
        );
        let acceptor = Acceptor {
            name: self.name,
            listener,
            handler,
            limits,
            connections: Arc::clone(connections),
            log: Arc::new(LogLimit::default()),
        };
        let stop = connections.stop.child_token();
        connections.tasks.spawn(async move {
            stop.run_until_cancelled(acceptor.run()).await;
        });
        Ok(())
    }
}

fn candidates(host: Option<&str>, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host {
        None | Some("") => Ok(vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]),
        Some(host) => Ok((host, port).to_socket_addrs()?.collect()),
    }
}

fn bind(address: SocketAddr, limits: &Limits) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // Before `listen`, so that the window of accepted sockets is scaled for it.
    if let Some(bytes) = limits.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// All connections of the process: who is counted, and what ends with them.
#[derive(Debug, Default)]
pub struct Connections {
    counts: Mutex<Counts>,
    /// Told when a connection has gone.
    gone: Notify,
    keepers: Arc<Keepers>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
    /// Creation rate: connections accepted in the second that began at the instant.
    second: Option<(Instant, u32)>,
}

impl Connections {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Open connections, over all listeners.
    pub fn count(&self) -> usize {
        self.counts.lock().total
    }

    /// Closes ports and idle connections at once and the others when their request is answered,
    /// two seconds later at the latest; returns when all are closed.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until the broker may hold one more connection.
    async fn wait_for_slot(&self, limits: &mut watch::Receiver<Arc<Limits>>) {
        loop {
            let gone = self.gone.notified();
            let most = limits.borrow_and_update().max_connections;
            if self.counts.lock().total < most {
                return;
            }
            tokio::select! {
                () = gone => {}
                Ok(()) = limits.changed() => {}
            }
        }
    }

    /// When a connection may be made under `max.connection.creation.rate`; counts it.
    fn creation_slot(&self, now: Instant, limits: &Limits) -> Option<Instant> {
        let mut counts = self.counts.lock();
        let (began, count) = match counts.second {
            Some((began, count)) if now < began + Duration::from_secs(1) => (began, count),
            _ => (now, 0),
        };
        if count >= limits.max_connection_creation_rate {
            return Some(began + Duration::from_secs(1));
        }
        counts.second = Some((began, count + 1));
        None
    }

    fn add(self: &Arc<Self>, ip: IpAddr, limits: &Limits) -> Result<Counted, usize> {
        let limit = limits
            .max_connections_per_ip_overrides
            .get(&ip)
            .copied()
            .unwrap_or(limits.max_connections_per_ip);
        let mut counts = self.counts.lock();
        let of_ip = counts.per_ip.get(&ip).copied().unwrap_or(0);
        if of_ip >= limit {
            return Err(limit);
        }
        counts.per_ip.insert(ip, of_ip + 1);
        counts.total += 1;
        Ok(Counted {
            connections: Arc::clone(self),
            ip,
        })
    }
}

/// Counts one connection for as long as it lives.
struct Counted {
    connections: Arc<Connections>,
    ip: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        {
            let mut counts = self.connections.counts.lock();
            counts.total -= 1;
            if let Some(count) = counts.per_ip.get_mut(&self.ip) {
                *count -= 1;
                if *count == 0 {
                    counts.per_ip.remove(&self.ip);
                }
            }
        }
        self.connections.gone.notify_waiters();
    }
}

struct Acceptor<H> {
    name: Arc<str>,
    listener: TcpListener,
    handler: Arc<H>,
    limits: watch::Receiver<Arc<Limits>>,
    connections: Arc<Connections>,
    log: Arc<LogLimit>,
}

impl<H: Handler> Acceptor<H> {
    async fn run(mut self) {
        loop {
            self.connections.wait_for_slot(&mut self.limits).await;
            while let Some(later) = self.creation_slot() {
                sleep_until(later).await;
            }
            match self.listener.accept().await {
                Ok((stream, address)) => self.serve(stream, address),
                Err(error) => {
                    self.log.warn(|more| {
                        tracing::warn!(
                            target: SOCKET_SERVER,
                            "[listener {}] Error while accepting connection: {error}{more}; \
                             raise the limit of open files if this is it (ulimit -n)",
                            self.name
                        );
                    });
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn creation_slot(&self) -> Option<Instant> {
        self.connections
            .creation_slot(Instant::now(), &self.limits.borrow())
    }

    fn serve(&self, stream: TcpStream, address: SocketAddr) {
        let limits = Arc::clone(&self.limits.borrow());
        // An IPv4 peer of a dual-stack port.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let counted = match self.connections.add(address.ip(), &limits) {
            Ok(counted) => counted,
            Err(limit) => {
                self.log.warn(|more| {
                    tracing::info!(
                        target: SOCKET_SERVER,
                        "Rejected connection from /{}, address already has the configured \
                         maximum of {limit} connections.{more}",
                        address.ip()
                    );
                });
                return;
            }
        };
        if let Err(error) = prepare(&stream, &limits) {
            tracing::debug!(target: SOCKET_SERVER, "{address}: {error}");
            return;
        }
        let peer = Peer {
            connection_id: NEXT_CONNECTION_ID.fetch_add(1, Ordering::Relaxed),
            address,
            listener: Arc::clone(&self.name),
            principal: anonymous(),
        };
        let handler = Arc::clone(&self.handler);
        let keepers = Arc::clone(&self.connections.keepers);
        let stop = self.connections.stop.child_token();
        let name = Arc::clone(&self.name);
        let log = Arc::clone(&self.log);
        // A panic ends the task, and with it this connection and no other; the panic hook logs it.
        self.connections.tasks.spawn(async move {
            // Made here rather than outside: a future that is captured and then awaited takes its
            // room twice, on every connection.
            let ending = connection::run(stream, peer, handler, limits, keepers, stop).await;
            drop(counted);
            report(&name, address, &ending, &log);
        });
    }
}

fn prepare(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_keepalive(true)?;
    if let Some(bytes) = limits.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(())
}

fn anonymous() -> Arc<str> {
    static ANONYMOUS: std::sync::OnceLock<Arc<str>> = std::sync::OnceLock::new();
    Arc::clone(ANONYMOUS.get_or_init(|| "User:ANONYMOUS".into()))
}

fn report(listener: &str, address: SocketAddr, ending: &Ending, log: &LogLimit) {
    match ending {
        Ending::Hostile(_) | Ending::Refused(_) => log.warn(|more| {
            tracing::warn!(
                target: SOCKET_SERVER,
                "[listener {listener}] Closing the connection of {address}: {ending}{more}"
            );
        }),
        Ending::Closed | Ending::Stopped | Ending::Idle(_) | Ending::Io(_) => tracing::debug!(
            target: SOCKET_SERVER,
            "[listener {listener}] Connection of {address} ended: {ending}"
        ),
    }
}

/// One line a second for what a peer can cause at will.
#[derive(Debug, Default)]
struct LogLimit {
    last: Mutex<Option<Instant>>,
    suppressed: AtomicU64,
}

impl LogLimit {
    fn warn(&self, line: impl FnOnce(&str)) {
        let now = Instant::now();
        {
            let mut last = self.last.lock();
            if last.is_some_and(|last| now < last + Duration::from_secs(1)) {
                self.suppressed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            *last = Some(now);
        }
        match self.suppressed.swap(0, Ordering::Relaxed) {
            0 => line(""),
            count => line(&format!(" ({count} more of this kind were not logged)")),
        }
    }
}
