//! Errors as a person at a console needs them: what we did, to which file, offset or PFN, the cause, the next step.
//!
//! Knows how an error reads and which exit code it gives. Must not know any room. Every fallible function ends here.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use vdump_filters::message::Message;
pub use vdump_filters::message::{plain_io, printable};

use crate::sys::stop::{Signal, Stopped};

/// What a failure means for the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The command line asked for something that cannot be (exit code 2).
    Usage,
    /// The input is missing, damaged or not what was expected.
    Input,
    /// The output could not be written.
    Output,
    /// The output's device is full.
    NoSpace,
    /// The user or the system asked us to stop, with this signal (exit code 128 and its number).
    Interrupted(Signal),
    /// Not enough memory within the limit.
    Memory,
    /// The dump does not say enough about its kernel; its vmlinux, BTF or a layout file may.
    Unsaid,
    /// The command's own output has said what is wrong already: it is not printed again.
    Said,
}

impl Kind {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Input => "input",
            Self::Output => "output",
            Self::NoSpace => "no-space",
            Self::Interrupted(_) => "interrupted",
            Self::Memory => "memory",
            Self::Unsaid => "unknown-kernel",
            Self::Said => "said",
        }
    }
}

/// One failure, printed as `what: cause; next step`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Error {
    kind: Kind,
    message: Message,
    /// Files that have what could be written.
    partial: Vec<PathBuf>,
    /// The operating system's reason.
    io: Option<io::ErrorKind>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `what` says what we were doing and to what.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self::with_message(kind, Message::new(what))
    }

    /// The same of a whole message.
    pub fn with_message(kind: Kind, message: Message) -> Self {
        Self { kind, message, partial: Vec::new(), io: None }
    }

    /// What cannot be unless vdump is wrong.
    pub fn unexpected(what: &str) -> Self {
        Self::new(Kind::Output, format!("internal error: {what}"))
            .next_step("please report this together with the output of 'vdump info'")
    }

    /// An input error.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }

    /// An output error; a full device becomes [`Kind::NoSpace`].
    pub fn output(path: &Path, doing: &str, error: &io::Error) -> Self {
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let kind = if full { Kind::NoSpace } else { Kind::Output };
        Self::file(kind, path, doing, error)
    }

    /// A file of the input that an operating system call refused.
    pub fn io(path: &Path, doing: &str, error: &io::Error) -> Self {
        Self::file(Kind::Input, path, doing, error)
    }

    /// Where the limit on open files is reached no other name helps.
    fn freeing_files(self, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE) => self.next_step("this process may open no more files: raise the limit (ulimit -n)"),
            Some(libc::ENFILE) => {
                self.next_step("the system has too many files open: close some, or raise fs.file-max")
            }
            _ => self,
        }
    }

    /// A file that an operating system call refused, or at which a signal ended a wait; else it is of `kind`.
    pub fn file(kind: Kind, path: &Path, doing: &str, error: &io::Error) -> Self {
        let kind = Stopped::signal_in(error).map_or(kind, Kind::Interrupted);
        let refused = Self::new(kind, format!("cannot {doing} {}", path.display())).because(plain_io(error));
        Self { io: Some(error.kind()), ..refused.freeing_files(error) }
    }

    /// A signal ended what we did.
    pub fn stopped(signal: Signal, how_far: impl fmt::Display) -> Self {
        Self::new(Kind::Interrupted(signal), format!("stopped by {signal} {how_far}"))
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

    /// Adds a next step unless there is one already.
    #[must_use]
    pub fn or_next_step(self, next: impl Into<String>) -> Self {
        if self.message.next.is_some() { self } else { self.next_step(next) }
    }

    /// The same with its parts worded by `word`: for those who speak another program's language.
    #[must_use]
    pub fn reworded(self, word: impl Fn(&str) -> String) -> Self {
        Self { message: self.message.reworded(word), ..self }
    }

    /// Adds the files that have what could be written, for programs; people are told by the next step.
    #[must_use]
    pub fn leaving(mut self, partial: &[PathBuf]) -> Self {
        self.partial = partial.to_vec();
        self
    }

    /// The files that have what could be written.
    #[must_use]
    pub fn partial(&self) -> &[PathBuf] {
        &self.partial
    }

    /// What was done, the cause and the next step.
    #[must_use]
    pub fn parts(&self) -> (&str, Option<&str>, Option<&str>) {
        (&self.message.what, self.message.cause.as_deref(), self.message.next.as_deref())
    }

    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The operating system's reason, where it refused a file.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.io
    }

    /// The process's exit code: 2 for usage, 128 and the number for a signal, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Interrupted(signal) => signal.exit_code(),
            _ => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_what_cause_next() {
        let error = Error::input("cannot read page 0x1a2b3 of /proc/vmcore")
            .because("Input/output error")
            .next_step("the page was left out");
        assert_eq!(
            error.to_string(),
            "cannot read page 0x1a2b3 of /proc/vmcore: Input/output error; the page was left out"
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn a_full_device_is_told_apart() {
        let full = io::Error::from_raw_os_error(28);
        let error = Error::output(Path::new("/mnt/vmcore"), "write", &full);
        assert_eq!(error.kind(), Kind::NoSpace);
        assert_eq!(error.to_string(), "cannot write /mnt/vmcore: No space left on device");
    }
}
