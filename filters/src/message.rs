//! What went wrong, as a person at a console needs it: what was done and to what, the cause, the next step.
//!
//! Both halves' errors are one of these with what they know besides.

use std::{fmt, io};

/// One failure, printed as `what: cause; next step` on one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// What was done, and to which file, offset or PFN.
    pub what: String,
    /// Why it failed.
    pub cause: Option<String>,
    /// What to do now.
    pub next: Option<String>,
}

impl Message {
    /// A message that says only what was done.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None, next: None }
    }

    /// The same with its parts worded by `word`: for those who speak another program's language.
    #[must_use]
    pub fn reworded(self, word: impl Fn(&str) -> String) -> Self {
        let again = |text: Option<String>| text.map(|text| word(&text));
        Self { what: word(&self.what), cause: again(self.cause), next: again(self.next) }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, &self.what)?;
        if let Some(cause) = &self.cause {
            f.write_str(": ")?;
            write_line(f, cause)?;
        }
        if let Some(next) = &self.next {
            f.write_str("; ")?;
            write_line(f, next)?;
        }
        Ok(())
    }
}

/// Text from a dump or a file name without characters that would drive the terminal or break the line.
#[must_use]
pub fn printable(text: &str) -> String {
    struct Line<'a>(&'a str);
    impl fmt::Display for Line<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_line(f, self.0)
        }
    }
    Line(text).to_string()
}

/// Keeps a message on its line and the terminal safe: file names and dumps may hold any character.
fn write_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for piece in text.split_inclusive(char::is_control) {
        match piece.char_indices().next_back() {
            Some((at, last)) if last.is_control() => write!(f, "{}{}", &piece[..at], last.escape_default())?,
            _ => f.write_str(piece)?,
        }
    }
    Ok(())
}

/// An I/O error without Rust's "(os error 28)" tail, which helps nobody at a console.
#[must_use]
pub fn plain_io(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(plain, _)| plain).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_on_one_line_whatever_a_file_is_called() {
        let mut message = Message::new("cannot read a\nb\u{1b}[31m");
        assert_eq!(message.to_string(), "cannot read a\\nb\\u{1b}[31m");
        message.cause = Some("\t".to_owned());
        message.next = Some("look".to_owned());
        assert_eq!(message.to_string(), "cannot read a\\nb\\u{1b}[31m: \\t; look");
        assert_eq!(message.reworded(str::to_uppercase).to_string(), "CANNOT READ A\\nB\\u{1b}[31M: \\t; LOOK");
    }

    #[test]
    fn io_errors_are_plain() {
        assert_eq!(plain_io(&io::Error::from_raw_os_error(28)), "No space left on device");
        assert_eq!(plain_io(&io::Error::other("torn")), "torn");
    }
}
