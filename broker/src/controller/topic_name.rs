//! What a topic may be called (`Topic.java`). Core.

/// Longest name: with a partition's suffix it still fits a file name.
const MAX_LENGTH: usize = 249;
/// The log of a KRaft cluster; no client creates it.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Why a name is refused, as clients read it after "Topic name is invalid: ".
pub fn invalid_reason(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Some(format!("'{name}' is not allowed"));
    }
    // Java counts UTF-16 units.
    if name.encode_utf16().count() > MAX_LENGTH {
        return Some(format!(
            "the length of '{name}' is longer than the max allowed length {MAX_LENGTH}"
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(legal) {
        return Some(format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    None
}

/// True when a name could collide with another in metric names, where `.` reads as `_`.
pub fn has_collision_chars(name: &str) -> bool {
    name.contains(['.', '_'])
}

/// True when two names differ at most in `.` and `_`.
pub fn collide(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.replace('.', "_") == b.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for valid in ["t", "a.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(invalid_reason(valid), None, "{valid}");
        }
        for invalid in ["", ".", "..", "a b", "ü", "a/b", "a\0", &"x".repeat(250)] {
            assert!(invalid_reason(invalid).is_some(), "{invalid}");
        }
        assert!(collide("a.b", "a_b") && !collide("a.b", "a_c") && !collide("a.b", "a_bc"));
    }
}
