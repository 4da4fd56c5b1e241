//! Command lines as getopt_long reads them, for the spellings of other programs.
//!
//! Knows how words become options with their values. Must not know what an option does. The parsed words go to `compat` and
//! `kexec`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use crate::error::{Error, Result};

/// An option: its letter, its long name, what it does.
pub(super) type Row<D> = (Option<char>, Option<&'static str>, D);

/// All options of a program.
pub(super) struct Table<D: 'static> {
    pub(super) rows: &'static [Row<D>],
    /// Whether an option is followed by a value.
    pub(super) takes_value: fn(D) -> bool,
    /// The error that says so, with where to look.
    pub(super) usage: fn(String) -> Error,
}

/// What a word or two turned out to be.
pub(super) enum Word<D> {
    /// No option. File names may have any bytes.
    Plain(OsString),
    /// An option as it was spelled, and its value; empty if it takes none.
    Option(String, D, OsString),
}

impl<D: Copy> Table<D> {
    /// Tells options from the rest; after `--` nothing is an option.
    pub(super) fn parse(&self, words: impl IntoIterator<Item = OsString>) -> Result<Vec<Word<D>>> {
        let mut words = words.into_iter();
        let mut parsed = Vec::new();
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--" => parsed.extend(words.by_ref().map(Word::Plain)),
                [b'-', b'-', long @ ..] => {
                    let end = long.iter().position(|byte| *byte == b'=');
                    let name = String::from_utf8_lossy(&long[..end.unwrap_or(long.len())]);
                    let value = end.map(|end| OsStr::from_bytes(&long[end + 1..]).to_owned());
                    parsed.push(self.option(format!("--{name}"), self.find_long(&name)?, value, &mut words)?);
                }
                [b'-', shorts @ ..] if !shorts.is_empty() => self.shorts(shorts, &mut words, &mut parsed)?,
                _ => parsed.push(Word::Plain(word)),
            }
        }
        Ok(parsed)
    }

    /// `-cd31`: letters may share a dash, and a value may follow its letter.
    fn shorts(
        &self,
        shorts: &[u8],
        words: &mut impl Iterator<Item = OsString>,
        parsed: &mut Vec<Word<D>>,
    ) -> Result<()> {
        for (at, letter) in shorts.iter().map(|byte| char::from(*byte)).enumerate() {
            let found = self.rows.iter().find(|(short, ..)| *short == Some(letter));
            let does =
                found.map(|(.., does)| *does).ok_or_else(|| (self.usage)(format!("unknown option -{letter}")))?;
            let rest = &shorts[at + 1..];
            let attached = ((self.takes_value)(does) && !rest.is_empty()).then(|| OsString::from_vec(rest.to_vec()));
            let ends = attached.is_some();
            parsed.push(self.option(format!("-{letter}"), does, attached, words)?);
            if ends {
                break;
            }
        }
        Ok(())
    }

    fn option(
        &self,
        name: String,
        does: D,
        attached: Option<OsString>,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<Word<D>> {
        let value = match ((self.takes_value)(does), attached) {
            (true, None) => words.next().ok_or_else(|| (self.usage)(format!("{name} needs a value")))?,
            (true, Some(value)) => value,
            (false, None) => OsString::new(),
            (false, Some(_)) => return Err((self.usage)(format!("{name} takes no value"))),
        };
        Ok(Word::Option(name, does, value))
    }

    /// By its whole name, or by a beginning that only one option has.
    fn find_long(&self, name: &str) -> Result<D> {
        let whole = self.rows.iter().find(|option| option.1 == Some(name));
        let mut beginnings = self.rows.iter().filter(|option| option.1.is_some_and(|long| long.starts_with(name)));
        match (whole, beginnings.next(), beginnings.next()) {
            (Some(option), ..) | (None, Some(option), None) => Ok(option.2),
            (None, Some(_), Some(_)) => Err((self.usage)(format!("--{name} is ambiguous"))),
            (None, None, _) => Err((self.usage)(format!("unknown option --{name}"))),
        }
    }
}
