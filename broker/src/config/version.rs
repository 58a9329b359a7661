//! The releases that `inter.broker.protocol.version` and `message.format.version` name
//! (`MetadataVersion`): a list of names, and the rule by which `3.9` means `3.9-IV0`.

/// Kafka 3.9's default and latest production version.
pub const LATEST_PRODUCTION: &str = "3.9-IV0";
/// The last name the table knows.
pub const LATEST: &str = "4.0-IV1";

const VERSIONS: &[&str] = &[
    "0.8.0",
    "0.8.1",
    "0.8.2",
    "0.9.0",
    "0.10.0-IV0",
    "0.10.0-IV1",
    "0.10.1-IV0",
    "0.10.1-IV1",
    "0.10.1-IV2",
    "0.10.2-IV0",
    "0.11.0-IV0",
    "0.11.0-IV1",
    "0.11.0-IV2",
    "1.0-IV0",
    "1.1-IV0",
    "2.0-IV0",
    "2.0-IV1",
    "2.1-IV0",
    "2.1-IV1",
    "2.1-IV2",
    "2.2-IV0",
    "2.2-IV1",
    "2.3-IV0",
    "2.3-IV1",
    "2.4-IV0",
    "2.4-IV1",
    "2.5-IV0",
    "2.6-IV0",
    "2.7-IV0",
    "2.7-IV1",
    "2.7-IV2",
    "2.8-IV0",
    "2.8-IV1",
    "3.0-IV0",
    "3.0-IV1",
    "3.1-IV0",
    "3.2-IV0",
    "3.3-IV0",
    "3.3-IV1",
    "3.3-IV2",
    "3.3-IV3",
    "3.4-IV0",
    "3.5-IV0",
    "3.5-IV1",
    "3.5-IV2",
    "3.6-IV0",
    "3.6-IV1",
    "3.6-IV2",
    "3.7-IV0",
    "3.7-IV1",
    "3.7-IV2",
    "3.7-IV3",
    "3.7-IV4",
    "3.8-IV0",
    "3.9-IV0",
    "4.0-IV0",
    "4.0-IV1",
];

/// The full name of a version: a release name stands for its last step (`3.9.1` → `3.9-IV0`).
/// Versions from 1.0 on count two numbers, older ones three.
pub fn resolve(name: &str) -> Option<&'static str> {
    if let Some(exact) = VERSIONS.iter().find(|known| **known == name) {
        return Some(exact);
    }
    let segments: Vec<&str> = name.split('.').collect();
    let count = if name.starts_with("0.") { 3 } else { 2 };
    let short = segments.get(..count.min(segments.len()))?.join(".");
    VERSIONS
        .iter()
        .rev()
        .find(|known| release(known) == short)
        .copied()
}

pub(super) fn is_known(name: &str) -> bool {
    resolve(name).is_some()
}

/// True when `name` is `floor` or later; false for unknown names.
pub fn at_least(name: &str, floor: &str) -> bool {
    let index = |name: &str| {
        let full = resolve(name)?;
        VERSIONS.iter().position(|known| *known == full)
    };
    match (index(name), index(floor)) {
        (Some(name), Some(floor)) => name >= floor,
        _ => false,
    }
}

/// `3.9` of `3.9-IV0`.
pub fn release(name: &str) -> &str {
    name.split_once("-IV").map_or(name, |(release, _)| release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_the_last_step_of_the_release() {
        assert_eq!(resolve("3.9"), Some("3.9-IV0"));
        assert_eq!(resolve("3.9.1"), Some("3.9-IV0"));
        assert_eq!(resolve("3.0"), Some("3.0-IV1"));
        assert_eq!(resolve("3.3-IV1"), Some("3.3-IV1"));
        assert_eq!(resolve("0.10.2.1"), Some("0.10.2-IV0"));
        assert_eq!(resolve("0.8.2"), Some("0.8.2"));
        assert_eq!(resolve("0.8.2.0"), Some("0.8.2"));
        assert_eq!(resolve("5.0"), None);
        assert_eq!(resolve(""), None);
    }

    #[test]
    fn versions_are_ordered() {
        assert!(at_least("3.9", "3.0-IV1"));
        assert!(!at_least("2.8", "3.0-IV1"));
        assert!(at_least(LATEST_PRODUCTION, "3.9"));
    }
}
