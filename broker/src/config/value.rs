//! Values of configuration keys: types, parsing from text, what is allowed, and text again, by
//! the rules of Kafka's `ConfigDef` (parseType, Range, ValidString, …, convertToString).

use std::fmt;

use super::Error;
use super::version;

/// The type of a key (`ConfigDef.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Type {
    /// Kafka's constant, as its error messages and documentation write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }

    /// `DescribeConfigsResponse.ConfigType`, DescribeConfigs v3 and later.
    pub fn wire_id(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// A secret; prints as Kafka's `[hidden]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub const HIDDEN: &'static str = "[hidden]";

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}

/// A parsed value. A Java class is kept by its name.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    String(String),
    Int(i32),
    Short(i16),
    Long(i64),
    Double(f64),
    List(Vec<String>),
    Class(String),
    Password(Password),
}

impl Value {
    /// Text to value. White space around it does not count; lists split at commas.
    pub fn parse(key: &str, kind: Type, text: &str) -> Result<Self, Error> {
        let trimmed = text.trim();
        let number = || Error::invalid(key, text, &format!("Not a number of type {}", kind.name()));
        Ok(match kind {
            Type::Boolean if trimmed.eq_ignore_ascii_case("true") => Self::Boolean(true),
            Type::Boolean if trimmed.eq_ignore_ascii_case("false") => Self::Boolean(false),
            Type::Boolean => {
                return Err(Error::invalid(
                    key,
                    text,
                    "Expected value to be either true or false",
                ));
            }
            Type::String => Self::String(trimmed.to_owned()),
            Type::Int => Self::Int(trimmed.parse().map_err(|_| number())?),
            Type::Short => Self::Short(trimmed.parse().map_err(|_| number())?),
            Type::Long => Self::Long(trimmed.parse().map_err(|_| number())?),
            Type::Double => Self::Double(trimmed.parse().map_err(|_| number())?),
            Type::List if trimmed.is_empty() => Self::List(Vec::new()),
            Type::List => Self::List(
                trimmed
                    .split(',')
                    .map(|item| item.trim().to_owned())
                    .collect(),
            ),
            Type::Class => Self::Class(trimmed.to_owned()),
            Type::Password => Self::Password(Password(trimmed.to_owned())),
        })
    }

    /// Value to text as `ConfigDef.convertToString`; `None` is null. Passwords come out hidden.
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(value) => value.to_string(),
            Self::String(value) | Self::Class(value) => value.clone(),
            Self::Int(value) => value.to_string(),
            Self::Short(value) => value.to_string(),
            Self::Long(value) => value.to_string(),
            Self::Double(value) => java_double(*value),
            Self::List(value) => value.join(","),
            Self::Password(_) => Password::HIDDEN.to_owned(),
        })
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(f64::from(*value)),
            Self::Short(value) => Some(f64::from(*value)),
            // As Kafka, which compares as doubles.
            Self::Long(value) => Some(*value as f64),
            Self::Double(value) => Some(*value),
            _ => None,
        }
    }

    /// How an error message shows the value: Java's `toString`.
    fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::List(items) => format!("[{}]", items.join(", ")),
            other => other.text().unwrap_or_default(),
        }
    }
}

/// A double as Java's `Double.toString` writes it: always a point, exponent from 10^7 and below
/// 10^-3.
pub fn java_double(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{value:?}");
    }
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".to_owned()
        } else if value > 0.0 {
            "Infinity".to_owned()
        } else {
            "-Infinity".to_owned()
        };
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// Which values a key takes (`ConfigDef.Validator`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// Doubles, both ends inclusive.
    Ratio(f64, f64),
    OneOf(&'static [&'static str]),
    /// Each item of a list is one of these.
    EachOf(&'static [&'static str]),
    IgnoringCase(&'static [&'static str]),
    /// Null or not empty.
    NonEmpty,
    NonNull,
    /// −1 or 1 to 9.
    GzipLevel,
    /// −1 or at least 1.
    PoolSize,
    /// A release of Kafka, e.g. `3.9` or `3.9-IV0`.
    Version,
    /// `*`, or `partition:broker,…`.
    ThrottledReplicas,
}

impl Allowed {
    /// Checks a value; the error is Kafka's text.
    pub fn check(self, key: &str, value: &Value) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::invalid(key, &value.shown(), reason));
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(min) => in_range(key, value, Some((min as f64, min.to_string())), None),
            Self::Between(min, max) => in_range(
                key,
                value,
                Some((min as f64, min.to_string())),
                Some((max as f64, max.to_string())),
            ),
            Self::Ratio(min, max) => in_range(
                key,
                value,
                Some((min, whole_or_double(min))),
                Some((max, whole_or_double(max))),
            ),
            Self::OneOf(allowed) => match value {
                Value::String(text) if allowed.contains(&text.as_str()) => Ok(()),
                _ => refuse(&format!("String must be one of: {}", allowed.join(", "))),
            },
            Self::EachOf(allowed) => {
                let Value::List(items) = value else {
                    return Ok(());
                };
                match items.iter().find(|item| !allowed.contains(&item.as_str())) {
                    None => Ok(()),
                    Some(item) => Err(Error::invalid(
                        key,
                        item,
                        &format!("String must be one of: {}", allowed.join(", ")),
                    )),
                }
            }
            Self::IgnoringCase(allowed) => match value {
                Value::String(text)
                    if allowed.iter().any(|item| item.eq_ignore_ascii_case(text)) =>
                {
                    Ok(())
                }
                _ => refuse(&format!(
                    "String must be one of (case insensitive): {}",
                    allowed.join(", ")
                )),
            },
            Self::NonEmpty => match value {
                Value::String(text) if text.is_empty() => refuse("String must be non-empty"),
                _ => Ok(()),
            },
            Self::NonNull => match value {
                Value::Null => refuse("entry must be non null"),
                _ => Ok(()),
            },
            Self::GzipLevel => match value {
                Value::Int(-1 | 1..=9) => Ok(()),
                _ => refuse("Value must be between 1 and 9 or equal to -1"),
            },
            Self::PoolSize => match value {
                Value::Int(-1) => Ok(()),
                _ => in_range(key, value, Some((1.0, "1".to_owned())), None),
            },
            Self::Version => match value {
                Value::String(text) if version::is_known(text) => Ok(()),
                _ => refuse(&format!("Version {} is not a valid version", value.shown())),
            },
            Self::ThrottledReplicas => match value {
                Value::List(items) if throttled_replicas_are_valid(items) => Ok(()),
                _ => refuse(&format!(
                    "{key} must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                )),
            },
        }
    }

    /// What is allowed, as Kafka's documentation writes it; empty for anything.
    pub fn describe(self) -> String {
        match self {
            Self::Any => String::new(),
            Self::AtLeast(min) => format!("[{min},...]"),
            Self::Between(min, max) => format!("[{min},...,{max}]"),
            Self::Ratio(min, max) => {
                format!("[{},...,{}]", whole_or_double(min), whole_or_double(max))
            }
            Self::OneOf(allowed) | Self::EachOf(allowed) => format!("[{}]", allowed.join(", ")),
            Self::IgnoringCase(allowed) => format!("(case insensitive) [{}]", allowed.join(", ")),
            Self::NonEmpty => "non-empty string".to_owned(),
            Self::NonNull => "non-null".to_owned(),
            Self::GzipLevel => "[1,...,9] or -1".to_owned(),
            Self::PoolSize => "[1,...] or -1".to_owned(),
            Self::Version => format!("0.8.0 to {}", version::LATEST),
            Self::ThrottledReplicas => {
                "* or [partitionId]:[brokerId],[partitionId]:[brokerId],...".to_owned()
            }
        }
    }
}

fn in_range(
    key: &str,
    value: &Value,
    min: Option<(f64, String)>,
    max: Option<(f64, String)>,
) -> Result<(), Error> {
    let Some(number) = value.number() else {
        return Err(Error::invalid(key, "null", "Value must be non-null"));
    };
    if let Some((min, text)) = min
        && number < min
    {
        let reason = format!("Value must be at least {text}");
        return Err(Error::invalid(key, &value.shown(), &reason));
    }
    if let Some((max, text)) = max
        && number > max
    {
        let reason = format!("Value must be no more than {text}");
        return Err(Error::invalid(key, &value.shown(), &reason));
    }
    Ok(())
}

/// Kafka gives the ends of its two ratios as 0 and 1, and 0 and 0.5.
fn whole_or_double(value: f64) -> String {
    value.to_string()
}

fn throttled_replicas_are_valid(items: &[String]) -> bool {
    let pair = |item: &str| {
        item.is_empty()
            || item.split_once(':').is_some_and(|(partition, broker)| {
                let digits =
                    |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                digits(partition) && digits(broker)
            })
    };
    items.iter().all(|item| pair(item.trim())) || items.concat().trim() == "*"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Type, text: &str) -> Result<Value, String> {
        Value::parse("k", kind, text).map_err(|error| error.to_string())
    }

    #[test]
    fn text_becomes_typed_values_as_in_config_def() {
        assert_eq!(parse(Type::Boolean, " TRUE "), Ok(Value::Boolean(true)));
        assert_eq!(parse(Type::Int, " +7 "), Ok(Value::Int(7)));
        assert_eq!(parse(Type::Long, "-1"), Ok(Value::Long(-1)));
        assert_eq!(parse(Type::Double, "1e3"), Ok(Value::Double(1000.0)));
        assert_eq!(parse(Type::List, ""), Ok(Value::List(vec![])));
        assert_eq!(
            parse(Type::List, "a , b,,c"),
            Ok(Value::List(vec![
                "a".into(),
                "b".into(),
                "".into(),
                "c".into()
            ]))
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_kafkas_text() {
        assert_eq!(
            parse(Type::Int, "abc"),
            Err("Invalid value abc for configuration k: Not a number of type INT".to_owned())
        );
        assert_eq!(
            parse(Type::Int, "2147483648"),
            Err(
                "Invalid value 2147483648 for configuration k: Not a number of type INT".to_owned()
            )
        );
        assert_eq!(
            parse(Type::Boolean, "yes"),
            Err(
                "Invalid value yes for configuration k: Expected value to be either true or false"
                    .to_owned()
            )
        );
    }

    #[test]
    fn allowed_values_are_checked_with_kafkas_text() {
        let check = |allowed: Allowed, value: Value| {
            allowed
                .check("k", &value)
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(Allowed::AtLeast(14), Value::Int(14)), Ok(()));
        assert_eq!(
            check(Allowed::AtLeast(14), Value::Int(13)),
            Err("Invalid value 13 for configuration k: Value must be at least 14".to_owned())
        );
        assert_eq!(
            check(Allowed::Ratio(0.0, 1.0), Value::Double(1.5)),
            Err("Invalid value 1.5 for configuration k: Value must be no more than 1".to_owned())
        );
        assert_eq!(
            check(
                Allowed::EachOf(&["compact", "delete"]),
                Value::List(vec!["compact".into(), "x".into()])
            ),
            Err(
                "Invalid value x for configuration k: String must be one of: compact, delete"
                    .to_owned()
            )
        );
        assert_eq!(check(Allowed::Version, Value::String("3.9".into())), Ok(()));
        assert!(check(Allowed::Version, Value::String("5.0".into())).is_err());
        for good in ["*", "0:1", "0:1,1:2", ""] {
            let list = parse(Type::List, good).unwrap();
            assert_eq!(check(Allowed::ThrottledReplicas, list), Ok(()), "{good}");
        }
        let bad = parse(Type::List, "0:1,x").unwrap();
        assert!(check(Allowed::ThrottledReplicas, bad).is_err());
    }

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (value, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (0.9, "0.9"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e7, "1.0E7"),
            (1e-4, "1.0E-4"),
            (123456.5, "123456.5"),
        ] {
            assert_eq!(java_double(value), text);
        }
    }
}
