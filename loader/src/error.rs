//! Errors of the loader: what we did, to what, the cause, the next step, and whose fault it is.
//!
//! Knows how a failure is told. Must not know any other module. The program prints it, or turns it into its own.

use std::{fmt, io, path::Path};

/// Whose fault a failure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The request cannot be meant.
    Usage,
    /// A file or the machine is not as it must be.
    Input,
    /// The kernel refused.
    Kernel,
}

/// One failure, printed as `what: cause; next step`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Error {
    /// Whose fault it is.
    pub kind: Kind,
    /// What we were doing, to what.
    pub what: String,
    /// Why it failed.
    pub cause: Option<String>,
    /// What to do now.
    pub next: Option<String>,
    /// The kernel's error number, where a system call gave it.
    pub errno: Option<i32>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), cause: None, next: None, errno: None }
    }

    /// A file or the machine is not as it must be.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }

    /// The request cannot be meant.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// A file that an operating system call refused.
    pub fn io(path: &Path, doing: &str, error: &io::Error) -> Self {
        Self::input(format!("cannot {doing} {}", path.display())).because(plain_io(error))
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Adds what the reader can do now.
    #[must_use]
    pub fn next_step(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// An I/O error without Rust's "(os error 28)" tail, which helps nobody at a console.
#[must_use]
pub fn plain_io(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(plain, _)| plain).to_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "; {next}")?;
        }
        Ok(())
    }
}
