//! An `ottla` of its own for a test: on a free port, its data in a temporary folder, killed when it
//! is dropped.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);
/// The line of a broker that serves.
const STARTED: &str = "started (kafka.server.KafkaServer)";

pub struct Ottla {
    folder: TempDir,
    address: SocketAddr,
    process: Child,
}

/// `OTTLA_BIN`, else the binary of this build (`cargo build -p ottla`).
fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("OTTLA_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?
            .parent()
            .and_then(Path::parent)
            .context("a test binary is in target/<profile>/deps")?
            .join("ottla"),
    };
    if !path.exists() {
        bail!(
            "{} does not exist; `cargo build -p ottla` first",
            path.display()
        );
    }
    Ok(path)
}

impl Ottla {
    /// Starts one and waits until it serves.
    pub fn start(overrides: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(binary()?);
        command
            .arg("server")
            .args(["--override", "broker.id=0"])
            .args([
                "--override",
                &format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
            ])
            .args([
                "--override",
                &format!("log.dirs={}", folder.path().join("data").display()),
            ])
            .args(["--override", "offsets.topic.replication.factor=1"])
            .args(["--override", "offsets.topic.num.partitions=3"]);
        for pair in overrides {
            command.args(["--override", pair]);
        }
        // Those would be settings: KAFKA_LIBS of the test script is a property `libs`.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KAFKA_") {
                command.env_remove(name);
            }
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut broker = Self {
            folder,
            address: ([127, 0, 0, 1], port).into(),
            process,
        };
        let deadline = Instant::now() + START;
        while !broker.log()?.contains(STARTED) {
            if let Some(status) = broker.process.try_wait()? {
                bail!("ottla ended with {status}:\n{}", broker.log()?);
            }
            if Instant::now() > deadline {
                bail!("ottla did not start:\n{}", broker.log()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it wrote so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most it ever was, in KiB.
    pub fn peak_kib(&self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .with_context(|| format!("no {field} in /proc/<pid>/status"))?
            .trim()
            .parse()
            .context("a number of KiB")
    }
}

impl Drop for Ottla {
    fn drop(&mut self) {
        // A process that has ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
