//! Runes: format, derivation, and conditions.
//!
//! A rune is a SHA-256 state and a list of restrictions. The master state is derived from the node's secret. Each restriction is
//! hashed into it, with padding as if the hash ended there, so the holder of a rune can add restrictions but never remove one.
//! Format and conditions are those of the rune library of Core Lightning and of its `lightningd/runes.c`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bitcoin::hashes::HashEngine as _;
use bitcoin::hashes::sha256::{HashEngine, Midstate};

/// URL-safe base64. Padding is written, but not required.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const CONDITIONS: &str = "!=/^$~<>{}#";

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alternative {
    pub(super) field: String,
    pub(super) condition: char,
    pub(super) value: String,
}

impl Alternative {
    /// Parses `field`, condition, value, in the format of `createrune`. Only the node itself may use an empty field name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (field, rest) = text.split_at(field_len(text));
        let condition = rest.chars().next().filter(|condition| CONDITIONS.contains(*condition))?;
        let value = rest[1..].to_owned();
        (!field.is_empty()).then(|| Self { field: field.to_owned(), condition, value })
    }

    fn encode(&self, into: &mut String) {
        into.push_str(&self.field);
        into.push(self.condition);
        for c in self.value.chars() {
            if matches!(c, '\\' | '|' | '&') {
                into.push('\\');
            }
            into.push(c);
        }
    }

    /// The condition in English.
    pub(super) fn english(&self) -> String {
        let words = match self.condition {
            '!' => return format!("{} is missing", self.field),
            '#' => return format!("comment: {} {}", self.field, self.value),
            '=' => "equal to",
            '/' => "unequal to",
            '^' => "starts with",
            '$' => "ends with",
            '~' => "contains",
            '<' => "<",
            '>' => ">",
            '{' => "sorts before",
            _ => "sorts after",
        };
        format!("{} {words} {}", self.field, self.value)
    }

    /// Checks the condition against a field's value; the error says why it does not hold.
    pub(super) fn test(&self, field: &Field) -> Result<(), String> {
        let Self { field: name, condition, value } = self;
        let text = match (condition, field) {
            ('!', Field::Missing) | ('#', _) => return Ok(()),
            ('!', _) => return Err(format!("{name} is present")),
            (_, Field::Missing) => return Err(format!("{name} not present")),
            ('<' | '>', Field::Text(_)) => return Err(format!("{name} is not an integer field")),
            ('<' | '>', Field::Int(number)) => {
                let bound: i64 =
                    value.trim_start().parse().map_err(|_| format!("{value} is not a valid integer"))?;
                let (holds, complaint) = match condition {
                    '<' => (*number < bound, "is greater or equal to"),
                    _ => (*number > bound, "is less or equal to"),
                };
                return holds.then_some(()).ok_or_else(|| format!("{name} {complaint} {value}"));
            }
            (_, Field::Text(text)) => text.clone(),
            (_, Field::Int(number)) => number.to_string(),
        };
        let (holds, complaint) = match condition {
            '=' => (text == *value, "is not equal to"),
            '/' => (text != *value, "is equal to"),
            '^' => (text.starts_with(value), "does not start with"),
            '$' => (text.ends_with(value), "does not end with"),
            '~' => (text.contains(value), "does not contain"),
            '{' => (text.as_bytes() < value.as_bytes(), "is equal to or ordered after"),
            _ => (text.as_bytes() > value.as_bytes(), "is equal to or ordered before"),
        };
        holds.then_some(()).ok_or_else(|| format!("{name} {complaint} {value}"))
    }
}

/// The value of a field in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Missing,
    Text(String),
    Int(i64),
}

/// Alternatives, of which at least one has to hold.
pub(super) type Restriction = Vec<Alternative>;

/// The reason why a rune is not derived from the master.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotDerived(pub(super) &'static str);

/// A rune, of this node or another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rune {
    state: [u8; 32],
    /// The first one is the unique id, if there is one.
    pub(super) restrictions: Vec<Restriction>,
}

impl Rune {
    /// The rune from which all of a node's runes are derived. `secret` has at most 55 bytes.
    pub(super) fn master(secret: &[u8]) -> Self {
        let mut engine = HashEngine::default();
        engine.input(secret);
        Self { state: pad(engine), restrictions: Vec::new() }
    }

    /// Derives the rune with this unique id.
    pub(super) fn with_id(&self, id: u64) -> Self {
        let id = Alternative { field: String::new(), condition: '=', value: id.to_string() };
        self.restricted(vec![id])
    }

    /// Derives a rune with an additional restriction.
    pub(super) fn restricted(&self, restriction: Restriction) -> Self {
        // The secret's block, then every restriction, each padded to whole blocks.
        let hashed =
            self.restrictions.iter().fold(64, |sum, restriction| sum + padded(encode(restriction).len()));
        let mut engine = HashEngine::from_midstate(Midstate::from_byte_array(self.state), hashed);
        engine.input(encode(&restriction).as_bytes());
        let mut restrictions = self.restrictions.clone();
        restrictions.push(restriction);
        Self { state: pad(engine), restrictions }
    }

    /// Returns whether this rune is derived from `master` by adding restrictions.
    pub(super) fn derives_from(&self, master: &Self) -> Result<(), NotDerived> {
        if self.unique_id().is_some_and(|id| id.contains('-')) {
            return Err(NotDerived("Version mismatch"));
        }
        let rebuilt = self
            .restrictions
            .iter()
            .fold(master.clone(), |rune, restriction| rune.restricted(restriction.clone()));
        if rebuilt.state == self.state { Ok(()) } else { Err(NotDerived("Not derived from master")) }
    }

    /// The id shared by all runes derived from the same one.
    pub(super) fn unique_id(&self) -> Option<&str> {
        match self.restrictions.first()?.as_slice() {
            [only] if only.field.is_empty() => Some(&only.value),
            _ => None,
        }
    }

    /// The unique id as a number, as Core Lightning assigns them.
    pub(super) fn numeric_id(&self) -> Option<u64> {
        let id: u64 = self.unique_id()?.parse().ok()?;
        i64::try_from(id).is_ok().then_some(id)
    }

    /// The restrictions other than the unique id.
    pub(super) fn conditions(&self) -> &[Restriction] {
        &self.restrictions[usize::from(self.unique_id().is_some())..]
    }

    /// Checks every restriction with `check`, in order, until one has no alternative that holds.
    pub(super) fn test(
        &self,
        mut check: impl FnMut(&Alternative) -> Result<(), String>,
    ) -> Result<(), String> {
        for restriction in self.conditions() {
            let mut problems = Vec::new();
            let held = restriction.iter().any(|alternative| match check(alternative) {
                Ok(()) => true,
                Err(problem) => {
                    problems.push(problem);
                    false
                }
            });
            if !held {
                return Err(problems.join(" AND "));
            }
        }
        Ok(())
    }

    fn body(&self) -> String {
        self.restrictions.iter().map(encode).collect::<Vec<_>>().join("&")
    }

    /// The text form: the state in hex, a colon, the restrictions.
    pub(super) fn to_text(&self) -> String {
        let state = self.state.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a String takes everything");
            hex
        });
        format!("{state}:{}", self.body())
    }

    pub(super) fn to_base64(&self) -> String {
        BASE64.encode([&self.state[..], self.body().as_bytes()].concat())
    }

    pub(super) fn from_base64(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let (state, body) = bytes.split_first_chunk()?;
        let body = std::str::from_utf8(body).ok().filter(|body| !body.contains('\0'))?;
        let mut rest = body;
        let mut restrictions: Vec<Restriction> = Vec::new();
        while !rest.is_empty() {
            let restriction = decode(&mut rest)?;
            // An empty field name is the unique id. It must be alone, first, and compared for equality.
            let id = restriction.iter().find(|alternative| alternative.field.is_empty());
            if id.is_some_and(|id| restriction.len() != 1 || !restrictions.is_empty() || id.condition != '=')
            {
                return None;
            }
            restrictions.push(restriction);
        }
        Some(Self { state: *state, restrictions })
    }
}

/// Length of a field name, which ends at the first ASCII punctuation other than an underscore.
fn field_len(text: &str) -> usize {
    text.find(|c: char| c.is_ascii_punctuation() && c != '_').unwrap_or(text.len())
}

fn encode(restriction: &Restriction) -> String {
    let mut text = String::new();
    for (index, alternative) in restriction.iter().enumerate() {
        if index > 0 {
            text.push('|');
        }
        alternative.encode(&mut text);
    }
    text
}

/// Decodes the first restriction, with the `&` after it.
fn decode(rest: &mut &str) -> Option<Restriction> {
    let mut restriction = Vec::new();
    loop {
        let (field, tail) = rest.split_at(field_len(rest));
        let mut chars = tail.chars();
        let condition = chars.next().filter(|condition| CONDITIONS.contains(*condition))?;
        let mut value = String::new();
        let mut more = false;
        while let Some(c) = chars.next() {
            match c {
                '|' => more = true,
                '&' => {}
                '\\' => {
                    value.push(chars.next()?);
                    continue;
                }
                c => {
                    value.push(c);
                    continue;
                }
            }
            break;
        }
        restriction.push(Alternative { field: field.to_owned(), condition, value });
        *rest = chars.as_str();
        if !more {
            return Some(restriction);
        }
    }
}

/// Length of `length` bytes with SHA-256's padding: a 1 bit, zeros, the length in 8 bytes.
fn padded(length: usize) -> usize {
    (length + 1 + 8).next_multiple_of(64)
}

/// Applies SHA-256's padding and returns the state.
fn pad(mut engine: HashEngine) -> [u8; 32] {
    let hashed = engine.n_bytes_hashed();
    let fill = padded(hashed % 64) - hashed % 64 - 8;
    let mut marker = vec![0u8; fill];
    marker[0] = 0x80;
    engine.input(&marker);
    engine.input(&((hashed as u64) << 3).to_be_bytes());
    engine.midstate().to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alternative(text: &str) -> Alternative {
        Alternative::parse(text).expect("a condition")
    }

    /// Test vectors of the reference implementation, for a secret of 16 zero bytes.
    #[test]
    fn agrees_with_published_vectors() {
        let master = Rune::master(&[0; 16]);
        assert_eq!(master.to_text(), "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb:");
        assert_eq!(master.to_base64(), "N0cI__dxndWXnsh11WzSKG9tPPfsMXo7JWMqqyjsN7s=");
        let one = master.restricted(vec![alternative("f1=1")]);
        assert_eq!(Rune::from_base64(&one.to_base64()), Some(one));
    }

    #[test]
    fn reads_back_what_it_writes_at_every_length() {
        let master = Rune::master(&[7; 32]);
        for length in 0..200 {
            let value: String = "ab|c&d\\e".chars().cycle().take(length).collect();
            let first = Alternative { field: "pname_x".into(), condition: '~', value };
            let rune = master
                .with_id(3)
                .restricted(vec![first, alternative("method^list")])
                .restricted(vec![alternative("rate=60")]);
            let read = Rune::from_base64(&rune.to_base64()).expect("our own");
            assert_eq!(read, rune);
            assert_eq!(read.derives_from(&master), Ok(()), "length {length}");
            assert_eq!(read.numeric_id(), Some(3));
        }
    }

    #[test]
    fn a_changed_rune_is_not_ours() {
        let master = Rune::master(&[7; 32]);
        let mut rune = master.with_id(0).restricted(vec![alternative("method=getinfo")]);
        rune.restrictions.pop();
        assert_eq!(rune.derives_from(&master), Err(NotDerived("Not derived from master")));
        assert_eq!(
            master.with_id(0).derives_from(&Rune::master(&[8; 32])),
            Err(NotDerived("Not derived from master"))
        );
    }

    #[test]
    fn refuses_malformed_text_without_panic() {
        for text in ["", "AAAA", "****", "N0cI__dxndWXnsh11WzSKG9tPPfsMXo7JWMqqyjsN7t"] {
            assert_eq!(Rune::from_base64(text), None, "{text}");
        }
        let state = [0u8; 32];
        for body in ["=1&=2", "a=1&=2", "=1|a=2", "^1", "a", "a=\\", "a?1", "a=1\0"] {
            assert_eq!(
                Rune::from_base64(&BASE64.encode([&state[..], body.as_bytes()].concat())),
                None,
                "{body:?}"
            );
        }
    }

    #[test]
    fn conditions_hold_or_say_why_not() {
        let text = |text: &str| Field::Text(text.into());
        for (condition, field, expected) in [
            ("m=a", text("a"), Ok(())),
            ("m=a", text("b"), Err("m is not equal to a")),
            ("m/a", text("a"), Err("m is equal to a")),
            ("m^ab", text("abc"), Ok(())),
            ("m^ab", text("xab"), Err("m does not start with ab")),
            ("m$bc", text("abc"), Ok(())),
            ("m$bc", text("bcd"), Err("m does not end with bc")),
            ("m~b", text("abc"), Ok(())),
            ("m~x", text("abc"), Err("m does not contain x")),
            ("m!", Field::Missing, Ok(())),
            ("m!", text("a"), Err("m is present")),
            ("m=a", Field::Missing, Err("m not present")),
            ("m#anything", Field::Missing, Ok(())),
            ("m<5", Field::Int(4), Ok(())),
            ("m<5", Field::Int(5), Err("m is greater or equal to 5")),
            ("m>5", Field::Int(5), Err("m is less or equal to 5")),
            ("m>5", text("9"), Err("m is not an integer field")),
            ("m<x", Field::Int(1), Err("x is not a valid integer")),
            ("m{b", text("a"), Ok(())),
            ("m{b", text("b"), Err("m is equal to or ordered after b")),
            ("m{ab", text("a"), Ok(())),
            ("m}a", text("b"), Ok(())),
            ("m}b", text("b"), Err("m is equal to or ordered before b")),
            ("m=5", Field::Int(5), Ok(())),
        ] {
            assert_eq!(
                alternative(condition).test(&field),
                expected.map_err(str::to_owned),
                "{condition} on {field:?}"
            );
        }
    }
}
