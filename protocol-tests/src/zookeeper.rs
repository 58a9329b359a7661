//! A ZooKeeper server of its own for a test: a Java process on a free port with its data in a
//! temporary folder, killed by its pid when it is dropped.
//!
//! Needs `java` and ZooKeeper's jars: `ZOOKEEPER_CLASSPATH`, else where Debian's package `zookeeper`
//! puts them. Without them a test says that it was not run; with `CI=true` it fails.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

const DEBIAN: &str = "/usr/share/java/zookeeper.jar";
const DEBIAN_CLASS_PATH: &str = "/usr/share/java/*";
const START: Duration = Duration::from_secs(30);
/// What ZooKeeper derives session passwords with (`SessionTrackerImpl.superSecret`).
const SUPER_SECRET: i64 = 0xB341_5C00;

/// A running server, or a stopped one that keeps its port and data.
pub struct ZooKeeper {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

/// The class path to run ZooKeeper with. `None`, and a line that says so, when there is none.
///
/// # Panics
/// Under `CI=true` when there is none: a test that silently does not run proves nothing.
pub fn class_path() -> Option<String> {
    let found = std::env::var("ZOOKEEPER_CLASSPATH").ok().or_else(|| {
        Path::new(DEBIAN)
            .exists()
            .then(|| DEBIAN_CLASS_PATH.to_owned())
    });
    let java = Command::new("java")
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if let Some(found) = found.filter(|_| java) {
        return Some(found);
    }
    let missing = "needs java and ZooKeeper's jars (apt install zookeeper, or ZOOKEEPER_CLASSPATH)";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
    eprintln!("NOT RUN: {missing}");
    None
}

impl ZooKeeper {
    /// Starts a server; `None` when there is none on this machine, see [`class_path`].
    pub fn start() -> Result<Option<Self>> {
        let Some(class_path) = class_path() else {
            return Ok(None);
        };
        let mut server = Self {
            folder: tempfile::tempdir()?,
            port: free_port()?,
            process: None,
        };
        server.launch(&class_path)?;
        Ok(Some(server))
    }

    pub fn connect_string(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the process; data and port are kept for [`ZooKeeper::restart`].
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let class_path = class_path().context("the server ran before")?;
        self.launch(&class_path)
    }

    fn launch(&mut self, class_path: &str) -> Result<()> {
        let folder = self.folder.path();
        let config = folder.join("zoo.cfg");
        fs::write(
            &config,
            format!(
                "tickTime=200\ndataDir={}/data\nclientPort={}\nclientPortAddress=127.0.0.1\n\
                 admin.enableServer=false\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n\
                 minSessionTimeout=400\nmaxSessionTimeout=60000\n",
                folder.display(),
                self.port
            ),
        )?;
        let log = fs::File::create(folder.join("log"))?;
        let process = Command::new("java")
            .args(["-Xmx128m", "-cp", class_path])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()?;
        let process = self.process.insert(process);
        let deadline = Instant::now() + START;
        while !is_ok(self.port) {
            if let Some(status) = process.try_wait()? {
                bail!("ZooKeeper ended with {status}: {}", read_log(folder));
            }
            if Instant::now() > deadline {
                bail!("ZooKeeper does not answer: {}", read_log(folder));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends a client's session behind its back: takes the session over on another connection, and
    /// closes it. The client wants it back meanwhile, so this takes some attempts.
    pub fn expire(&self, session: i64) -> Result<()> {
        let mut requests = Vec::new();
        requests.extend(44i32.to_be_bytes()); // length
        requests.extend(0i32.to_be_bytes()); // protocol version
        requests.extend(0i64.to_be_bytes()); // last zxid seen
        requests.extend(10_000i32.to_be_bytes()); // timeout
        requests.extend(session.to_be_bytes());
        requests.extend(16i32.to_be_bytes());
        requests.extend(password(session));
        requests.extend(8i32.to_be_bytes()); // length
        requests.extend(1i32.to_be_bytes()); // xid
        requests.extend((-11i32).to_be_bytes()); // closeSession
        let attempt = || -> io::Result<bool> {
            let mut connection = TcpStream::connect(self.address())?;
            connection.set_read_timeout(Some(Duration::from_secs(10)))?;
            connection.write_all(&requests)?;
            // Length, protocol version, timeout, session: 0 when the server knows it no more.
            let mut response = [0; 20];
            connection.read_exact(&mut response)?;
            Ok(response[12..] != session.to_be_bytes())
        };
        let deadline = Instant::now() + START;
        while !attempt().unwrap_or(false) {
            if Instant::now() > deadline {
                bail!("session 0x{session:x} does not end");
            }
        }
        Ok(())
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn is_ok(port: u16) -> bool {
    let ask = || -> io::Result<Vec<u8>> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection.write_all(b"ruok")?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer == b"imok")
}

fn read_log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The password of a session: sixteen bytes of `java.util.Random`, seeded with its id.
fn password(session: i64) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((session ^ SUPER_SECRET) as u64 ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for chunk in password.chunks_mut(4) {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        chunk.copy_from_slice(&((seed >> 16) as u32).to_le_bytes());
    }
    password
}
