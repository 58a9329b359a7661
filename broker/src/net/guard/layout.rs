//! Reads `layouts.txt`: what the fields of one message are in one version, as a program for the
//! walk.

use std::iter::Peekable;
use std::str::Chars;
use std::sync::OnceLock;

use super::Direction;

const LAYOUTS: &str = include_str!("layouts.txt");

/// Highest API key and version with a slot below.
const KEYS: usize = 70;
const VERSIONS: usize = 18;

/// One message in one version.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) flexible: bool,
    pub(super) body: Struct,
}

#[derive(Debug, Default)]
pub(super) struct Struct {
    pub(super) steps: Vec<Step>,
    /// Bytes that the decoded struct takes, what its fields point to apart.
    pub(super) memory: usize,
    /// Bytes on the wire at least.
    pub(super) min_wire: usize,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Fixed-size fields in a row, in bytes.
    Skip(usize),
    Text {
        nullable: bool,
    },
    Data {
        nullable: bool,
    },
    Array {
        nullable: bool,
        element: Element,
    },
    /// A struct with a byte before it that says whether it is there.
    Maybe(Struct),
    /// A tag section with the tags we know; each holds one value.
    Tags(Vec<(u32, Struct)>),
}

#[derive(Debug)]
pub(super) enum Element {
    /// Of this many bytes.
    Fixed(usize),
    Text,
    Data,
    Struct(Struct),
}

/// Memory of the decoded form.
pub(super) const STRING_MEMORY: usize = 32;
const VEC_MEMORY: usize = 24;
const TAG_MAP_MEMORY: usize = 24;

/// The program of a message; `None` when its key or version is not in the table.
pub(super) fn program(direction: Direction, key: i16, version: i16) -> Option<&'static Program> {
    static PROGRAMS: [[OnceLock<Option<Program>>; VERSIONS]; 2 * KEYS] =
        [const { [const { OnceLock::new() }; VERSIONS] }; 2 * KEYS];
    let key_index = usize::try_from(key).ok().filter(|key| *key < KEYS)?;
    let version_index = usize::try_from(version).ok()?;
    PROGRAMS[2 * key_index + direction as usize]
        .get(version_index)?
        .get_or_init(|| compile(direction, key, version))
        .as_ref()
}

fn compile(direction: Direction, key: i16, version: i16) -> Option<Program> {
    let row = rows().find(|row| row.key == key && row.direction == direction)?;
    if !row.versions.contains(version) {
        return None;
    }
    let flexible = row.flexible_from.is_some_and(|first| version >= first);
    let mut parser = Parser {
        chars: row.fields.chars().peekable(),
        version,
        flexible,
    };
    let body = parser.fields(None)?;
    Some(Program { flexible, body })
}

/// One line of the table.
pub(super) struct Row {
    pub(super) key: i16,
    pub(super) direction: Direction,
    pub(super) versions: Range,
    pub(super) flexible_from: Option<i16>,
    fields: &'static str,
}

pub(super) fn rows() -> impl Iterator<Item = Row> {
    LAYOUTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (head, fields) = line.split_once(':')?;
            let mut head = head.split(' ');
            let key = head.next()?.parse().ok()?;
            let direction = match head.next()? {
                "q" => Direction::Request,
                _ => Direction::Response,
            };
            let _name = head.next()?;
            let (first, last) = head.next()?.split_once('-')?;
            Some(Row {
                key,
                direction,
                versions: Range {
                    first: first.parse().ok()?,
                    last: last.parse().ok()?,
                },
                flexible_from: head.next()?.parse().ok(),
                fields: fields.trim(),
            })
        })
}

/// Versions, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) first: i16,
    pub(super) last: i16,
}

impl Range {
    const ALL: Self = Self {
        first: 0,
        last: i16::MAX,
    };

    pub(super) fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

struct Parser {
    chars: Peekable<Chars<'static>>,
    version: i16,
    flexible: bool,
}

/// A field's type, with what it takes when it stands in a struct.
enum Type {
    Fixed(usize),
    Text,
    Data,
    Array(Element),
    Struct(Struct),
}

impl Type {
    fn memory(&self) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Text | Self::Data => STRING_MEMORY,
            Self::Array(_) => VEC_MEMORY,
            Self::Struct(inner) => inner.memory,
        }
    }
}

impl Parser {
    /// Fields up to `end`, as one struct.
    fn fields(&mut self, end: Option<char>) -> Option<Struct> {
        let mut out = Struct {
            memory: TAG_MAP_MEMORY,
            ..Struct::default()
        };
        let mut tags = Vec::new();
        loop {
            while self.chars.next_if_eq(&' ').is_some() {}
            if self.chars.peek().copied() == end {
                self.chars.next();
                break;
            }
            self.field(&mut out, &mut tags)?;
        }
        if self.flexible {
            out.min_wire += 1;
            out.steps.push(Step::Tags(tags));
        }
        out.memory = out.memory.next_multiple_of(8);
        Some(out)
    }

    fn field(&mut self, out: &mut Struct, tags: &mut Vec<(u32, Struct)>) -> Option<()> {
        let kind = self.kind()?;
        let present = self.range('@')?.unwrap_or(Range::ALL);
        let nullable = self.suffix('?')?;
        let tag = if self.chars.next_if_eq(&'#').is_some() {
            let number = self.number()?;
            let versions = self.range('@')?.unwrap_or(present);
            Some((u32::try_from(number).ok()?, versions))
        } else {
            None
        };
        // The decoded struct has the fields of every version.
        out.memory += kind.memory();
        if !present.contains(self.version) {
            return Some(());
        }
        match tag {
            Some((number, versions)) if self.flexible && versions.contains(self.version) => {
                let mut inner = Struct::default();
                push(&mut inner, kind, nullable, self.flexible);
                tags.push((number, inner));
            }
            _ => push(out, kind, nullable, self.flexible),
        }
        Some(())
    }

    fn kind(&mut self) -> Option<Type> {
        Some(match self.chars.next()? {
            'b' => Type::Fixed(1),
            'h' => Type::Fixed(2),
            'i' => Type::Fixed(4),
            'l' => Type::Fixed(8),
            'u' => Type::Fixed(16),
            's' => Type::Text,
            'y' => Type::Data,
            '{' => Type::Struct(self.fields(Some('}'))?),
            '[' => {
                let element = match self.kind()? {
                    Type::Fixed(bytes) => Element::Fixed(bytes),
                    Type::Text => Element::Text,
                    Type::Data => Element::Data,
                    Type::Struct(inner) => Element::Struct(inner),
                    Type::Array(_) => return None,
                };
                self.chars.next_if_eq(&']')?;
                Type::Array(element)
            }
            _ => return None,
        })
    }

    /// A mark alone means every version.
    fn suffix(&mut self, mark: char) -> Option<bool> {
        if self.chars.next_if_eq(&mark).is_none() {
            return Some(false);
        }
        match self.chars.peek() {
            Some(digit) if digit.is_ascii_digit() => Some(self.versions()?.contains(self.version)),
            _ => Some(true),
        }
    }

    fn range(&mut self, mark: char) -> Option<Option<Range>> {
        if self.chars.next_if_eq(&mark).is_none() {
            return Some(None);
        }
        self.versions().map(Some)
    }

    fn versions(&mut self) -> Option<Range> {
        let first = self.number()?;
        let last = if self.chars.next_if_eq(&'+').is_some() {
            i16::MAX
        } else if self.chars.next_if_eq(&'-').is_some() {
            self.number()?
        } else {
            first
        };
        Some(Range { first, last })
    }

    fn number(&mut self) -> Option<i16> {
        let mut value = None;
        while let Some(digit) = self.chars.peek().and_then(|char| char.to_digit(10)) {
            value = Some(value.unwrap_or(0) * 10 + i16::try_from(digit).ok()?);
            self.chars.next();
        }
        value
    }
}

fn push(out: &mut Struct, kind: Type, nullable: bool, flexible: bool) {
    // A length: one byte as a varint, two for an old string, four for the rest.
    let length = |old| if flexible { 1 } else { old };
    match kind {
        Type::Fixed(bytes) => {
            out.min_wire += bytes;
            match out.steps.last_mut() {
                Some(Step::Skip(before)) => *before += bytes,
                _ => out.steps.push(Step::Skip(bytes)),
            }
        }
        Type::Text => {
            out.min_wire += length(2);
            out.steps.push(Step::Text { nullable });
        }
        Type::Data => {
            out.min_wire += length(4);
            out.steps.push(Step::Data { nullable });
        }
        Type::Array(element) => {
            out.min_wire += length(4);
            out.steps.push(Step::Array { nullable, element });
        }
        Type::Struct(inner) if nullable => {
            out.min_wire += 1;
            out.steps.push(Step::Maybe(inner));
        }
        Type::Struct(inner) => {
            out.min_wire += inner.min_wire;
            for step in inner.steps {
                match (out.steps.last_mut(), step) {
                    (Some(Step::Skip(before)), Step::Skip(bytes)) => *before += bytes,
                    (_, step) => out.steps.push(step),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_compiles_in_every_version() {
        for row in rows() {
            assert!((row.versions.last as usize) < VERSIONS);
            for version in row.versions.first..=row.versions.last {
                assert!(
                    program(row.direction, row.key, version).is_some(),
                    "{:?} {} v{version}: {}",
                    row.direction,
                    row.key,
                    row.fields
                );
            }
            assert!(program(row.direction, row.key, row.versions.last + 1).is_none());
        }
        assert_eq!(rows().count(), 124);
        assert!(program(Direction::Request, -1, 0).is_none());
        assert!(program(Direction::Request, 52, 0).is_none());
    }
}
