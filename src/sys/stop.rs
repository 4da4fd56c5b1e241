//! The wish to stop, as signals tell it, and waits that always end with it.
//!
//! Signals are for the whole process, and so is the wish: whoever waits for a pipe asks here. Must not know what is done.

use std::{
    error, fmt, io,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
};

/// A signal that asks a program to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(i32);

impl Signal {
    /// What a shell shows for a program that this signal ended: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(1)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SIGTERM => "SIGTERM",
            SIGHUP => "SIGHUP",
            _ => "SIGINT",
        })
    }
}

/// Set by the first signal; the second one ends the process at once.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    wanted: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

/// What [`Stop::on_signals`] has registered.
static REGISTERED: OnceLock<Stop> = OnceLock::new();

impl Stop {
    /// Listens to SIGINT, SIGTERM and SIGHUP. SIGXFSZ (file size limit) is taken too, so that the write fails like on a full
    /// device instead of killing us.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn on_signals() -> io::Result<Self> {
        if let Some(stop) = REGISTERED.get() {
            return Ok(stop.clone());
        }
        let stop = Self::default();
        stop.listen()?;
        Ok(REGISTERED.get_or_init(|| stop).clone())
    }

    fn listen(&self) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the shutdown acts only on a signal that finds the flag set already.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.wanted))?;
            // Whoever sees the flag sees which signal set it.
            flag::register_usize(signal, Arc::clone(&self.signal), signal as usize)?;
            flag::register(signal, Arc::clone(&self.wanted))?;
        }
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(())
    }

    /// The flag, for the threads that look at it.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.wanted)
    }

    /// The signal that was caught; `None`: none so far.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.wanted.load(Relaxed).then(|| Signal(self.signal.load(Relaxed) as i32))
    }
}

/// The signal that asked this process to end: SIGINT where none was caught.
#[must_use]
pub fn caught() -> Signal {
    REGISTERED.get().and_then(Stop::signal).unwrap_or(Signal(SIGINT))
}

/// The cause in an [`io::Error`] of a wait that a signal ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped(pub Signal);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by {}", self.0)
    }
}

impl error::Error for Stopped {}

impl Stopped {
    /// The signal that ended what failed with `error`, if one did.
    #[must_use]
    pub fn signal_in(error: &io::Error) -> Option<Signal> {
        error.get_ref()?.downcast_ref::<Self>().map(|stopped| stopped.0)
    }
}

/// How long a wait may go on before it looks whether it is still wanted, milliseconds: a signal that another thread gets
/// does not end a system call of this one.
const PATIENCE: i64 = 200;

/// Waits until `file` can be read from, or nothing more will come.
///
/// # Errors
/// A signal came: [`Stopped`].
pub fn until_readable(file: impl AsFd) -> io::Result<()> {
    until(&file, PollFlags::IN)
}

/// Waits until `file` takes more, or nobody reads it any more.
///
/// # Errors
/// A signal came: [`Stopped`].
pub fn until_writable(file: impl AsFd) -> io::Result<()> {
    until(&file, PollFlags::OUT)
}

fn until(file: &impl AsFd, ready: PollFlags) -> io::Result<()> {
    loop {
        if let Some(signal) = REGISTERED.get().and_then(Stop::signal) {
            return Err(io::Error::other(Stopped(signal)));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: PATIENCE * 1_000_000 };
        match poll(&mut [PollFd::new(file, ready)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            // Where it cannot be waited for, the call itself waits.
            _ => return Ok(()),
        }
    }
}
