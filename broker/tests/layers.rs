//! The plan of the house: a room imports only from rows above its own, and a file marked `[core]`
//! in its header neither waits nor reads the world.
//!
//! Reads the source as text: `use crate::…` and other mentions of `crate::<room>`, outside
//! comments and tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by row. Rooms of one row do not know each other, but for the first and the last row.
const ROWS: [&[&str]; 12] = [
    &["types", "clock", "error", "hash"],
    &["config", "metrics"],
    &["record"],
    &["log"],
    &["purgatory", "cluster"],
    &["zk"],
    &["security", "quota"],
    &["net"],
    &["replica"],
    &["group", "txn", "controller"],
    &["api"],
    &["http", "cli", "broker", "main", "lib"],
];

/// What a core may not mention.
const NOT_IN_A_CORE: [&str; 10] = [
    "async ",
    "tokio",
    "std::fs",
    "std::net",
    "Instant::now",
    "SystemTime",
    "Mutex",
    "RwLock",
    "rand::",
    "random_uuid",
];

fn row(room: &str) -> Option<usize> {
    ROWS.iter().position(|rooms| rooms.contains(&room))
}

/// The room of a source file, by its path below `src`.
fn room(path: &Path) -> String {
    let first = path.components().next().expect("a path below src");
    let first = Path::new(first.as_os_str());
    let stem = first.file_stem().expect("a name");
    stem.to_string_lossy().into_owned()
}

/// Lines of code with their numbers: no comments, nothing from the test module on.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_start()))
        .filter(|(_, line)| !line.starts_with("//"))
}

/// What a file does against the plan.
fn offences(room: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some(own) = row(room) else {
        return vec![format!("room `{room}` is in no row")];
    };
    for (number, line) in code(source) {
        for mention in line.split("crate::").skip(1) {
            // `crate::{config, zk}` or `crate::zk`.
            let named = match mention.strip_prefix('{') {
                Some(list) => list.split(',').collect(),
                None => vec![mention],
            };
            for other in named {
                let other = other.trim_start();
                let end = other.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let other = &other[..end.unwrap_or(other.len())];
                let apart = other != room && own != 0 && own != ROWS.len() - 1;
                if row(other).is_some_and(|row| row > own || (row == own && apart)) {
                    found.push(format!("line {number}: `{room}` imports `{other}`"));
                }
            }
        }
    }
    let header = source.lines().take_while(|line| line.starts_with("//!"));
    if header.into_iter().any(|line| line.contains("[core]")) {
        for (number, line) in code(source) {
            for word in NOT_IN_A_CORE.iter().filter(|word| line.contains(**word)) {
                found.push(format!("line {number}: `{}` in a core", word.trim()));
            }
        }
    }
    found
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn rooms_import_from_above_and_cores_are_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let below = path.strip_prefix(&root).expect("a path below src");
        let is_test = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
        if below.iter().any(is_test) {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a readable file");
        for offence in offences(&room(below), &source) {
            found.push(format!("{}: {offence}", below.display()));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn offences_are_found() {
    let check = |room: &str, source: &str, expected: &[&str]| {
        assert_eq!(offences(room, source), expected, "{room}: {source}");
    };
    check("log", "use crate::record::batch;\nuse super::index;", &[]);
    check("log", "// crate::net\n#[cfg(test)]\nuse crate::net;", &[]);
    check(
        "log",
        "use crate::net::frame;",
        &["line 1: `log` imports `net`"],
    );
    check(
        "group",
        "x(crate::txn::Y)",
        &["line 1: `group` imports `txn`"],
    );
    check("types", "use crate::clock::Clock;", &[]);
    check(
        "log",
        "use crate::{config, net};",
        &["line 1: `log` imports `net`"],
    );
    check("misc", "", &["room `misc` is in no row"]);
    check(
        "group",
        "//! A group [core].\nuse std::fs;",
        &["line 2: `std::fs` in a core"],
    );
}
