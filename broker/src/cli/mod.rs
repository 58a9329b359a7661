//! The command line: `ottla server`, and Kafka's tools under their own names.
//!
//! A tool is found by its first argument (`ottla topics`) or by the name the binary was called
//! with (`kafka-topics`, `kafka-topics.sh`), so that links to one binary stand in for Kafka's
//! `bin/`. Tools see only `net/`: they are clients like any other
//! (`dump-log` alone reads files).

use std::path::Path;
use std::process::ExitCode;

mod admin;
mod api_names;
mod broker_api_versions;
mod cluster;
mod configs;
mod connection;
mod console_consumer;
mod console_producer;
mod consumer;
mod consumer_groups;
mod delete_records;
mod dump_log;
mod get_offsets;
mod group_admin;
mod log_dirs;
mod options;
mod server_stop;
mod topics;
mod zookeeper_shell;

pub mod server;

/// One tool: the name after `ottla` and after `kafka-`, what it does, and how it runs.
struct Tool {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> ExitCode,
}

/// THE table of tools; `ottla --help` lists it in this order.
const TOOLS: &[Tool] = &[
    Tool {
        name: "topics",
        about: "create, list, describe, alter and delete topics",
        run: topics::run,
    },
    Tool {
        name: "configs",
        about: "describe and alter configs of topics, brokers and loggers",
        run: configs::run,
    },
    Tool {
        name: "consumer-groups",
        about: "list, describe, reset and delete consumer groups",
        run: consumer_groups::run,
    },
    Tool {
        name: "console-producer",
        about: "lines of standard input become records",
        run: console_producer::run,
    },
    Tool {
        name: "console-consumer",
        about: "records become lines of standard output",
        run: console_consumer::run,
    },
    Tool {
        name: "get-offsets",
        about: "offsets of partitions, by time",
        run: get_offsets::run,
    },
    Tool {
        name: "broker-api-versions",
        about: "which versions of which APIs each broker offers",
        run: broker_api_versions::run,
    },
    Tool {
        name: "cluster",
        about: "the cluster's id",
        run: cluster::run,
    },
    Tool {
        name: "delete-records",
        about: "delete records up to an offset",
        run: delete_records::run,
    },
    Tool {
        name: "log-dirs",
        about: "sizes of replicas by log dir",
        run: log_dirs::run,
    },
    Tool {
        name: "dump-log",
        about: "the contents of segments, indexes and producer snapshots",
        run: dump_log::run,
    },
    Tool {
        name: "server-stop",
        about: "end the brokers of this machine",
        run: server_stop::run,
    },
    Tool {
        name: "zookeeper-shell",
        about: "list, read and write ZooKeeper's nodes",
        run: zookeeper_shell::run,
    },
];

const HELP_HEAD: &str = "\
Ottla is a Kafka broker for ZooKeeper clusters: it speaks Kafka 3.9.

  ottla                                    a broker on localhost:9092, data in ./ottla-data,
                                           no ZooKeeper needed
  ottla server server.properties           a broker as the file says
  ottla server --override KEY=VALUE        … with single settings changed

Try it, in a second terminal:
  kcat -b localhost:9092 -P -t quick <<<hello
  kcat -b localhost:9092 -C -t quick -o beginning -e

Settings are Kafka's, from (later wins) built-in defaults, the file, KAFKA_* in the environment
(KAFKA_LOG_DIRS is log.dirs), and --override. Without zookeeper.connect the broker keeps its
coordination data itself, beside its logs.

Kafka's tools are here too, with Kafka's flags (ottla topics --help):
";

/// Runs what the command line asks for.
pub fn main(arguments: &[String]) -> ExitCode {
    let (called_as, rest) = match arguments.split_first() {
        Some((first, rest)) => (tool_name(first), rest),
        None => (None, arguments),
    };
    if let Some(name) = called_as {
        return run(&name, rest);
    }
    match rest.split_first() {
        None => server::run(&[]),
        Some((word, _)) if matches!(word.as_str(), "--help" | "-h" | "help") => {
            print!("{}", help());
            ExitCode::SUCCESS
        }
        Some((word, _)) if matches!(word.as_str(), "--version" | "-V") => {
            println!("ottla {} (speaks Kafka 3.9)", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some((word, _)) if word.starts_with('-') => server::run(rest),
        Some((word, rest)) => run(word, rest),
    }
}

/// `kafka-topics.sh` in any folder → `topics`, `zookeeper-shell.sh` → `zookeeper-shell`; `None` when
/// called as `ottla` or anything else.
fn tool_name(called_as: &str) -> Option<String> {
    let file = Path::new(called_as).file_name()?.to_str()?;
    let name = file.strip_suffix(".sh").unwrap_or(file);
    if name == "zookeeper-shell" {
        return Some(name.to_owned());
    }
    let name = name.strip_prefix("kafka-")?;
    Some(name.to_owned())
}

fn run(name: &str, arguments: &[String]) -> ExitCode {
    match name {
        "server" | "server-start" => server::run(arguments),
        _ => match TOOLS.iter().find(|tool| tool.name == name) {
            Some(tool) => (tool.run)(arguments),
            None => {
                eprintln!("ottla: there is no command '{name}'. Commands:\n");
                eprint!("{}", commands());
                ExitCode::from(1)
            }
        },
    }
}

fn help() -> String {
    format!("{HELP_HEAD}{}", commands())
}

fn commands() -> String {
    TOOLS
        .iter()
        .map(|tool| format!("  {:<22} {}\n", tool.name, tool.about))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_its_links_in_the_image() {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docker/usr/bin/install-tool-links"
        );
        let root = tempfile::tempdir().expect("a temp dir");
        let ran = std::process::Command::new("sh")
            .arg(script)
            .env("ROOT", root.path())
            .status()
            .expect("runs the script");
        assert!(ran.success());
        for tool in TOOLS {
            let name = match tool.name {
                "zookeeper-shell" => tool.name.to_owned(),
                name => format!("kafka-{name}"),
            };
            for folder in [
                "usr/bin",
                "opt/kafka/bin",
                "opt/bitnami/kafka/bin",
                "kafka/bin",
            ] {
                for file in [name.clone(), format!("{name}.sh")] {
                    let link = root.path().join(folder).join(file);
                    let target = std::fs::read_link(&link);
                    assert!(
                        target.is_ok_and(|target| target.ends_with("ottla")),
                        "no link to ottla at {}",
                        link.display()
                    );
                }
            }
        }
    }

    #[test]
    fn tools_are_found_by_the_name_they_are_called_with() {
        for (called_as, tool) in [
            ("kafka-topics", Some("topics")),
            ("/opt/kafka/bin/kafka-topics.sh", Some("topics")),
            ("kafka-server-start.sh", Some("server-start")),
            ("zookeeper-shell.sh", Some("zookeeper-shell")),
            ("/usr/bin/ottla", None),
            ("target/release/ottla", None),
        ] {
            assert_eq!(tool_name(called_as).as_deref(), tool, "{called_as}");
        }
    }
}
