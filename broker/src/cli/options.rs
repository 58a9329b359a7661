//! How the tools read their flags: clap, with the exit code of Kafka's tools.

use std::process::ExitCode;

use clap::Parser;

/// Parses a tool's flags. A wrong flag prints why and how, and ends with 1 (clap's own 2 would
/// surprise scripts that were written for Kafka's tools).
pub(crate) fn parse<T: Parser>(name: &str, arguments: &[String]) -> Result<T, ExitCode> {
    let line = std::iter::once(format!("kafka-{name}")).chain(arguments.iter().cloned());
    T::try_parse_from(line).map_err(|error| {
        let asked_for = !error.use_stderr();
        // Nothing can be done about a closed stdout or stderr.
        let _ = error.print();
        if asked_for {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        }
    })
}

/// Prints a flag combination that makes no sense, as Kafka's tools do.
pub(crate) fn usage_error(name: &str, message: &str) -> ExitCode {
    eprintln!("{message}");
    eprintln!("For the flags: kafka-{name} --help");
    ExitCode::from(1)
}

/// `key=value` pairs of a properties file given by `--command-config` and its kin.
pub(crate) fn properties_file(
    path: &str,
) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    let file = std::fs::File::open(path).map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
    let read = java_properties::read(std::io::BufReader::new(file))
        .map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
    Ok(read.into_iter().collect())
}
