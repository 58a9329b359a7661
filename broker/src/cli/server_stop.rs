//! `kafka-server-stop`: SIGTERM (or `$SIGNAL`) to every broker of this machine that runs from this
//! binary, as Kafka's script ends every `kafka.Kafka` it finds.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Pid, Signal, kill_process};

pub(crate) fn run(_arguments: &[String]) -> ExitCode {
    let signal = match std::env::var("SIGNAL").unwrap_or_default().as_str() {
        "" | "TERM" | "15" => Signal::TERM,
        "INT" | "2" => Signal::INT,
        "KILL" | "9" => Signal::KILL,
        other => {
            eprintln!("SIGNAL={other}: TERM, INT or KILL");
            return ExitCode::from(1);
        }
    };
    let brokers = brokers();
    if brokers.is_empty() {
        println!("No kafka server to stop");
        return ExitCode::from(1);
    }
    for pid in brokers {
        if let Err(error) = kill_process(pid, signal) {
            eprintln!("process {}: {error}", pid.as_raw_nonzero());
        }
    }
    ExitCode::SUCCESS
}

/// Processes of this binary that are brokers.
fn brokers() -> Vec<Pid> {
    let Ok(ours) = std::env::current_exe() else {
        return Vec::new();
    };
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let pid: i32 = folder.file_name()?.to_str()?.parse().ok()?;
            let same = std::fs::read_link(folder.join("exe")).ok()? == ours;
            let command = std::fs::read(folder.join("cmdline")).ok()?;
            (same && is_broker(&command)).then(|| Pid::from_raw(pid))?
        })
        .collect()
}

/// Whether a command line, its words ended by zero bytes, runs a broker.
fn is_broker(command: &[u8]) -> bool {
    let words: Vec<_> = command
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    let called_as = words
        .first()
        .and_then(|word| Path::new(&**word).file_name());
    let called_as = called_as.map(|name| name.to_string_lossy().into_owned());
    match called_as.as_deref() {
        Some("kafka-server-start" | "kafka-server-start.sh") => true,
        Some("ottla") => match words.get(1).map(|word| &**word) {
            None | Some("" | "server" | "server-start") => true,
            Some(word) => word.starts_with("--override"),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_told_from_tools() {
        for (command, broker) in [
            ("ottla\0", true),
            ("/usr/bin/ottla\0server\0a.properties\0", true),
            ("bin/kafka-server-start.sh\0a.properties\0", true),
            ("kafka-topics\0--list\0", false),
            ("ottla\0topics\0--list\0", false),
            ("kafka-server-stop\0", false),
        ] {
            assert_eq!(is_broker(command.as_bytes()), broker, "{command}");
        }
    }
}
