//! The wish to stop, as signals tell it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
};

use crate::error::{Error, Kind, Result, plain_io};

/// Set by the first signal; the second one ends the process at once.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    wanted: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens to SIGINT, SIGTERM and SIGHUP. SIGXFSZ (file size limit) is taken too, so that the write fails like on a full
    /// device instead of killing us.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn on_signals() -> Result<Self> {
        let stop = Self::default();
        stop.listen()
            .map_err(|error| Error::new(Kind::Output, "cannot listen to signals").because(plain_io(&error)))?;
        Ok(stop)
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
    pub fn signal(&self) -> Option<&'static str> {
        if !self.wanted.load(Relaxed) {
            return None;
        }
        Some(match self.signal.load(Relaxed) as i32 {
            SIGTERM => "SIGTERM",
            SIGHUP => "SIGHUP",
            _ => "SIGINT",
        })
    }

    /// Whether what was written so far should stay: a person who presses Ctrl-C wants nothing left, a service that is told
    /// to end by a time-out has only this.
    #[must_use]
    pub fn keeps_partial(&self) -> bool {
        self.signal().is_some_and(|signal| signal != "SIGINT")
    }
}
