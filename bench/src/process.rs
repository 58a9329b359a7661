//! A child process that is measured: what it burns, what it holds, and its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use rustix::process::{Pid as RustixPid, Signal, kill_process};

const END: Duration = Duration::from_secs(90);

/// Killed when it is dropped; by the kernel when this process dies first.
pub struct Process {
    child: Child,
    clock: ClockId,
    log: PathBuf,
}

impl Process {
    /// Output of both kinds goes into `log`.
    pub fn spawn(command: &Command, log: &Path) -> Result<Self> {
        let program = command.get_program();
        // The signal that a child gets when the thread that started it ends.
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL", "--"]);
        wrapped.arg(program).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("setpriv (package util-linux) with {}", program.display()))?;
        let clock = cpu_clock(child.id())?;
        Ok(Self {
            child,
            clock,
            log: log.to_owned(),
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Seconds of all its threads so far, those that ended too: utime + stime.
    pub fn cpu_seconds(&self) -> Result<f64> {
        clock_seconds(self.clock)
    }

    /// Waits until `is_ready`; fails when the process ends meanwhile.
    pub fn wait_until(
        &mut self,
        patience: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("not ready within {patience:?}:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// What it printed.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> Result<()> {
        if let Some(pid) = RustixPid::from_raw(i32::try_from(self.child.id())?) {
            kill_process(pid, Signal::TERM)?;
        }
        let deadline = Instant::now() + END;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("no end {END:?} after SIGTERM:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cpu_clock(pid: u32) -> Result<ClockId> {
    Ok(clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?)
}

fn clock_seconds(clock: ClockId) -> Result<f64> {
    Ok(clock.now()?.num_nanoseconds() as f64 / 1e9)
}

/// Of any process on this machine.
pub fn cpu_seconds_of(pid: u32) -> Result<f64> {
    clock_seconds(cpu_clock(pid)?)
}

/// Seconds this process has burnt: the generator.
pub fn own_cpu_seconds() -> Result<f64> {
    clock_seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// A field of `/proc/<pid>/status` that counts memory, in bytes: `VmRSS`, `VmHWM`.
pub fn memory_of(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .with_context(|| format!("{field} in /proc/{pid}/status"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}

/// What the host took from this machine, and all time there was, in ticks since it started.
#[derive(Debug, Clone, Copy)]
pub struct MachineTime {
    steal: u64,
    all: u64,
}

impl MachineTime {
    pub fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            steal: ticks.get(7).copied().unwrap_or(0),
            all: ticks.iter().sum(),
        })
    }

    /// Share of the time since that was stolen, 0 to 1.
    pub fn stolen_since(&self) -> Result<f64> {
        let now = Self::now()?;
        let all = (now.all - self.all).max(1);
        Ok((now.steal - self.steal) as f64 / all as f64)
    }
}
