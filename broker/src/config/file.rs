//! `server.properties` by Java's rules (`java.util.Properties.load`): ISO 8859-1, `\uXXXX` and
//! backslash escapes, `=`, `:` or white space between key and value, lines continued by a
//! backslash, comments with `#` or `!`. The last of several lines for one key counts.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{Error, Properties};

/// Reads a file of properties.
pub fn read(path: &Path) -> Result<Properties, Error> {
    let unreadable = |reason: String| Error::Unreadable {
        source_name: path.display().to_string(),
        reason,
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    parse(BufReader::new(file)).map_err(unreadable)
}

fn parse(input: impl Read) -> Result<Properties, String> {
    let mut properties = Properties::new();
    java_properties::PropertiesIter::new(input)
        .read_into(|key, value| {
            properties.insert(key, value);
        })
        .map_err(|error| error.to_string())?;
    Ok(properties)
}

/// One `KEY=VALUE`, from `--override` or from the arguments of a container.
pub fn parse_argument(argument: &str) -> Result<(String, String), Error> {
    match argument.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(Error::Unreadable {
            source_name: format!("argument `{argument}`"),
            reason: "not of the form key=value".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_reads_the_same() {
        let text = b"# comment\n! another\n\n\
            a=1\n  b : 2\nc 3\nd=x\\\n   y\ne=\\u00e9\\t!\nf=\xe9\n\
            path=C:\\\\dir\ng\\ h=i\\=j\na=last\nempty=\nalone\ntrailing=kept  \n\
            listeners=PLAINTEXT://:9092,SSL://:9093\n";
        let read = parse(&text[..]).unwrap();
        for (key, value) in [
            ("a", "last"),
            ("b", "2"),
            ("c", "3"),
            ("d", "xy"),
            ("e", "\u{e9}\t!"),
            ("f", "\u{e9}"),
            ("path", "C:\\dir"),
            ("g h", "i=j"),
            ("empty", ""),
            ("alone", ""),
            ("trailing", "kept  "),
            ("listeners", "PLAINTEXT://:9092,SSL://:9093"),
        ] {
            assert_eq!(read.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(read.len(), 12);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/no/such/server.properties")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/no/such/server.properties: ")
        );
    }

    #[test]
    fn arguments_are_pairs() {
        assert_eq!(parse_argument("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_argument("a").is_err());
        assert!(parse_argument("=a").is_err());
    }
}
