//! `kafka-broker-api-versions`: what each broker offers, and what of it we could use
//! (`BrokerApiVersionsCommand`).

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use super::admin::{Admin, ClientConfig};
use super::api_names::API_NAMES;
use super::options::parse;

/// Retrieves broker version information.
#[derive(Parser)]
#[command(name = "kafka-broker-api-versions", disable_version_flag = true)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: String,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(long, value_name = "FILE")]
    command_config: Option<String>,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    match print_versions(&options.bootstrap_server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn print_versions(bootstrap: &str) -> Result<()> {
    let mut admin = Admin::connect(bootstrap, ClientConfig::new("admin"))?;
    for id in admin.broker_ids() {
        let (host, port) = admin.address(id).cloned().unwrap_or_default();
        match admin.broker(id) {
            Ok(connection) => {
                let lines: Vec<_> = API_NAMES
                    .iter()
                    .map(|(key, name, newest)| {
                        let offered = connection
                            .offered()
                            .get(key)
                            .map(|range| (range.min, range.max));
                        line(*key, name, *newest, offered)
                    })
                    .collect();
                println!(
                    "{host}:{port} (id: {id} rack: null) -> (\n{}\n)",
                    lines.join(",\n")
                );
            }
            Err(error) => println!("{host}:{port} (id: {id} rack: null) -> ERROR: {error:#}"),
        }
    }
    Ok(())
}

/// `Produce(0): 0 to 11 [usable: 11]`.
fn line(key: i16, name: &str, newest: i16, offered: Option<(i16, i16)>) -> String {
    let Some((min, max)) = offered else {
        return format!("\t{name}({key}): UNSUPPORTED");
    };
    let range = if min == max {
        min.to_string()
    } else {
        format!("{min} to {max}")
    };
    if newest < min {
        format!("\t{name}({key}): {range} [unusable: node too new]")
    } else {
        format!("\t{name}({key}): {range} [usable: {}]", newest.min(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_kafkas_tool() {
        assert_eq!(
            line(0, "Produce", 11, Some((0, 11))),
            "\tProduce(0): 0 to 11 [usable: 11]"
        );
        assert_eq!(
            line(45, "AlterPartitionReassignments", 0, Some((0, 0))),
            "\tAlterPartitionReassignments(45): 0 [usable: 0]"
        );
        assert_eq!(
            line(55, "DescribeQuorum", 2, None),
            "\tDescribeQuorum(55): UNSUPPORTED"
        );
        assert_eq!(
            line(0, "Produce", 2, Some((3, 11))),
            "\tProduce(0): 3 to 11 [unusable: node too new]"
        );
    }
}
