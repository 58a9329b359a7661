//! `ottla server`.
use std::process::ExitCode;
/// Runs the broker.
pub fn run(_arguments: &[String]) -> ExitCode {
    ExitCode::SUCCESS
}
