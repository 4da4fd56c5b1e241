//! Errors of the loader: what we did, to what, the cause, the next step, and whose fault it is.
//!
//! Knows how a failure is told. Must not know any other module. The program prints it, or turns it into its own.

use std::{fmt, io, path::Path};

use vdump_filters::message::Message;
pub use vdump_filters::message::plain_io;

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
    /// What we were doing and to what, why it failed, what to do now.
    pub message: Message,
    /// The kernel's error number, where a system call gave it.
    pub errno: Option<i32>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, message: Message::new(what), errno: None }
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
        self.message.cause = Some(cause.to_string());
        self
    }

    /// Adds what the reader can do now.
    #[must_use]
    pub fn next_step(mut self, next: impl Into<String>) -> Self {
        self.message.next = Some(next.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}
