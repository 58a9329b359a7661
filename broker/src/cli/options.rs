//! How the tools read their flags: as Kafka's tools do (jopt-simple), into clap's typed structs.
//!
//! jopt-simple differs from clap in what scripts may rely on: `-topic t` is `--topic t`; the word
//! after a flag that wants a value is its value even when it begins with a dash; words that belong
//! to no flag are ignored; a flag that is given twice counts once. What is wrong is said in Kafka's
//! words, with the usage after it, on stderr, and the exit code is 1.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Parser};

/// The release whose tools these stand in for; what `--version` answers, in the form of Kafka's.
const KAFKA_VERSION: &str = "3.9.1";

/// Parses a tool's flags. `Err` holds the exit code after help, version or a complaint was printed.
pub(crate) fn parse<T: Parser>(arguments: &[String]) -> Result<T, ExitCode> {
    let mut command = T::command();
    command.build();
    let words = match spell_out(&command, arguments) {
        Ok(words) => words,
        Err(complaint) => return Err(usage_error::<T>(&complaint)),
    };
    if words.iter().any(|word| word == "--help") {
        print!("{}", T::command().render_help());
        return Err(ExitCode::SUCCESS);
    }
    if words.iter().any(|word| word == "--version") {
        println!("{KAFKA_VERSION}");
        return Err(ExitCode::SUCCESS);
    }
    if words.is_empty() {
        eprint!("{}", T::command().render_help());
        return Err(ExitCode::from(1));
    }
    let line = std::iter::once(command.get_name().to_owned()).chain(words);
    T::try_parse_from(line).map_err(|error| usage_error::<T>(&complaint(&error)))
}

/// Parses the flags of the tools that Kafka builds on argparse4j instead: subcommands, short names,
/// and words that belong to no flag are wrong.
pub(crate) fn parse_subcommands<T: Parser>(arguments: &[String]) -> Result<T, ExitCode> {
    let name = T::command().get_name().to_owned();
    T::try_parse_from(std::iter::once(name).chain(arguments.iter().cloned())).map_err(|error| {
        let asked_for = !error.use_stderr();
        // Nothing can be done about a closed stdout or stderr.
        let _ = error.print();
        ExitCode::from(u8::from(!asked_for))
    })
}

/// Prints what is wrong with the flags and how they go, as Kafka's tools do.
pub(crate) fn usage_error<T: Parser>(message: &str) -> ExitCode {
    let help = T::command().render_help().to_string();
    let usage = help.find("Usage:").map_or("", |at| &help[at..]);
    eprint!("{message}\n\n{usage}");
    ExitCode::from(1)
}

/// A flag's name, and whether it is given.
pub(crate) type Flag<'a> = (&'a str, bool);

/// The first two flags that do not go together, in Kafka's words. A row is a flag, whether it is
/// given, and the flags that it excludes, each with whether it is given.
pub(crate) fn clash(rules: &[(&str, bool, &[Flag<'_>])]) -> Option<String> {
    rules
        .iter()
        .filter(|(_, given, _)| *given)
        .find_map(|(one, _, others)| {
            let (other, _) = others.iter().find(|(_, given)| *given)?;
            Some(format!(
                "Option \"[{one}]\" can't be used with option \"[{other}]\""
            ))
        })
}

/// Every flag as `--name` or `--name=value`, which clap understands whatever the value is.
fn spell_out(command: &Command, arguments: &[String]) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            break;
        }
        let Some(body) = flag_body(word) else {
            continue;
        };
        let (name, attached) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        if name == "version" || name == "help" {
            return Ok(vec![format!("--{name}")]);
        }
        let Some(flag) = named(command, name) else {
            return Err(format!("{name} is not a recognized option"));
        };
        let again = seen.contains(&name);
        seen.push(name);
        let value = match takes_value(flag) {
            TakesValue::No if again => continue,
            TakesValue::No => None,
            TakesValue::Optional => {
                attached.or_else(|| rest.next_if(|next| flag_body(next).is_none()).cloned())
            }
            TakesValue::Yes => match attached.or_else(|| rest.next().cloned()) {
                Some(value) => Some(value),
                None => return Err(format!("Option {name} requires an argument")),
            },
        };
        if again && !matches!(flag.get_action(), ArgAction::Append) {
            return Err(format!(
                "Found multiple arguments for option {name}, but you asked for only one"
            ));
        }
        words.push(match value {
            Some(value) => format!("--{name}={value}"),
            None => format!("--{name}"),
        });
    }
    Ok(words)
}

fn flag_body(word: &str) -> Option<&str> {
    let body = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!body.is_empty()).then_some(body)
}

fn named<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|flag| flag.get_long() == Some(name))
}

enum TakesValue {
    No,
    Optional,
    Yes,
}

fn takes_value(flag: &Arg) -> TakesValue {
    match flag.get_num_args() {
        Some(range) if range.max_values() == 0 => TakesValue::No,
        Some(range) if range.min_values() == 0 => TakesValue::Optional,
        _ => TakesValue::Yes,
    }
}

/// What clap found wrong, in jopt-simple's words where there are such.
fn complaint(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let name = |flag: &str| {
        let flag = flag.trim_start_matches('-');
        flag.split([' ', '=', '['])
            .next()
            .unwrap_or(flag)
            .to_owned()
    };
    match (
        context(ContextKind::InvalidArg),
        context(ContextKind::InvalidValue),
    ) {
        (Some(flag), Some(value)) => {
            format!("Cannot parse argument '{value}' of option {}", name(&flag))
        }
        (Some(flag), None) if error.kind() == ErrorKind::MissingRequiredArgument => {
            format!("Missing required argument \"[{}]\"", name(&flag))
        }
        _ => error.to_string(),
    }
}

/// What flags that may be repeated say as `KEY=VALUE`; without a value it is empty.
pub(crate) fn key_values(given: &[String]) -> std::collections::BTreeMap<String, String> {
    given
        .iter()
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[derive(Parser)]
    #[command(name = "kafka-example", disable_version_flag = true)]
    struct Options {
        #[arg(long)]
        list: bool,
        #[arg(long)]
        topic: Vec<String>,
        #[arg(long, value_name = "HOST:PORT")]
        bootstrap_server: String,
        #[arg(long)]
        shift_by: Option<i64>,
        #[arg(long, num_args = 0..=1, default_missing_value = "")]
        state: Option<String>,
    }

    fn spelled(line: &str) -> Result<Vec<String>, String> {
        let mut command = Options::command();
        command.build();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        spell_out(&command, &words)
    }

    #[test]
    fn flags_are_read_as_by_kafkas_tools() {
        for (line, words) in [
            ("--list --topic t", &["--list", "--topic=t"][..]),
            ("-list -topic t", &["--list", "--topic=t"]),
            ("--topic=a=b --topic -c", &["--topic=a=b", "--topic=-c"]),
            ("--shift-by -10", &["--shift-by=-10"]),
            ("stray --list words --list", &["--list"]),
            ("--state --list", &["--state", "--list"]),
            (
                "--list --state stable,empty",
                &["--list", "--state=stable,empty"],
            ),
            ("--list -- --topic t", &["--list"]),
            ("--nonsense --help", &["--help"]),
        ] {
            let expected = words.iter().map(|word| (*word).to_owned()).collect();
            match line {
                "--nonsense --help" => assert!(spelled(line).is_err()),
                _ => assert_eq!(spelled(line), Ok(expected), "{line}"),
            }
        }
    }

    #[test]
    fn wrong_flags_are_complained_of_in_kafkas_words() {
        for (line, complaint) in [
            ("--lst", "lst is not a recognized option"),
            ("--list --topic", "Option topic requires an argument"),
            (
                "--shift-by 1 --shift-by 2",
                "Found multiple arguments for option shift-by, but you asked for only one",
            ),
        ] {
            assert_eq!(spelled(line), Err(complaint.to_owned()), "{line}");
        }
        for (flag, said) in [
            (
                "--shift-by=ten",
                "Cannot parse argument 'ten' of option shift-by",
            ),
            ("--list", "Missing required argument \"[bootstrap-server]\""),
        ] {
            let error = Options::try_parse_from(["kafka-example", flag])
                .err()
                .expect("the flags are wrong");
            assert_eq!(complaint(&error), said, "{flag}");
        }
    }
}
