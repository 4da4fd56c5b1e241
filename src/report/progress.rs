//! Progress, and the wish to stop.
//!
//! Knows the three ways to show progress. Must not know what is counted. Shared by all threads.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::human_bytes;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A bar that redraws itself.
    Bar,
    /// A line every few seconds: a serial console at 115200 baud cannot take more.
    Plain,
    /// Nothing.
    None,
}

impl Mode {
    /// A bar on a terminal that a person sits at, lines on a console or in a log.
    #[must_use]
    pub fn detect() -> Self {
        let fast = |name: &str| name.starts_with("/dev/pts/");
        let stderr = fs::read_link("/proc/self/fd/2");
        let fast = stderr.is_ok_and(|path| path.to_str().is_some_and(fast));
        if fast && std::io::stderr().is_terminal() { Self::Bar } else { Self::Plain }
    }
}

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of the current phase, in pages. All methods may be called from any thread.
#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    page_size: u64,
    done: AtomicU64,
    stop: Arc<AtomicBool>,
    phase: Mutex<Phase>,
}

#[derive(Debug)]
struct Phase {
    name: &'static str,
    total: u64,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts with no phase; `stop` is set when the user wants to stop.
    #[must_use]
    pub fn new(mode: Mode, page_size: u64, stop: Arc<AtomicBool>) -> Self {
        let now = Instant::now();
        let phase = Phase { name: "", total: 0, started: now, last_line: now, bar: None };
        Self { mode, page_size, done: AtomicU64::new(0), stop, phase: Mutex::new(phase) }
    }

    /// One that shows nothing and never stops.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(Mode::None, 1, Arc::default())
    }

    /// Starts a phase of `total` pages and ends the one before.
    pub fn start(&self, name: &'static str, total: u64) {
        self.done.store(0, Relaxed);
        let now = Instant::now();
        let bar = (self.mode == Mode::Bar).then(|| bar(name, total.saturating_mul(self.page_size)));
        if let Ok(mut phase) = self.phase.lock() {
            if let Some(old) = phase.bar.take() {
                old.finish_and_clear();
            }
            *phase = Phase { name, total, started: now, last_line: now, bar };
        }
    }

    /// Counts pages of the current phase as done.
    pub fn add(&self, pages: u64) {
        let done = self.done.fetch_add(pages, Relaxed) + pages;
        if self.mode == Mode::None {
            return;
        }
        // Whoever finds the lock taken leaves the drawing to its holder.
        if let Ok(mut phase) = self.phase.try_lock() {
            match &phase.bar {
                Some(bar) => bar.set_position(done.saturating_mul(self.page_size)),
                None => phase.maybe_line(done, self.page_size),
            }
        }
    }

    /// Ends the last phase and removes its bar.
    pub fn finish(&self) {
        if let Ok(mut phase) = self.phase.lock()
            && let Some(bar) = phase.bar.take()
        {
            bar.finish_and_clear();
        }
    }

    /// Whether the user wants to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

impl Phase {
    fn maybe_line(&mut self, done: u64, page_size: u64) {
        if self.last_line.elapsed() < LINE_EVERY || self.total == 0 {
            return;
        }
        self.last_line = Instant::now();
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = done as f64 / seconds;
        let left = self.total.saturating_sub(done) as f64 / rate.max(1.0);
        // A console that is gone is no reason to lose the dump.
        let _ = writeln!(
            std::io::stderr(),
            "vdump: {} {} % of {}, {}/s, {left:.0} s left",
            self.name,
            done.min(self.total) * 100 / self.total,
            human_bytes(self.total.saturating_mul(page_size)),
            human_bytes((rate * page_size as f64) as u64),
        );
    }
}

fn bar(name: &'static str, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr_with_hz(5));
    let template = "{prefix:>9} {wide_bar} {percent:>3} % of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(name);
    bar
}
