//! Progress, and the wish to stop. A phase is shown as a bar that redraws itself, as a line now and then, or not at all.
//! Shared by all threads.

use std::{
    collections::VecDeque,
    env, fs,
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{human_bytes, human_seconds};

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
    /// A bar on a terminal that a person sits at and that can redraw a line; lines on a console or in a log.
    #[must_use]
    pub fn detect() -> Self {
        let fast = |name: &str| name.starts_with("/dev/pts/");
        let stderr = fs::read_link("/proc/self/fd/2");
        let fast = stderr.is_ok_and(|path| path.to_str().is_some_and(fast));
        // What indicatif goes by: on others it would show nothing at all.
        let redraws = env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        if fast && redraws && std::io::stderr().is_terminal() { Self::Bar } else { Self::Plain }
    }
}

const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often the bar's words change.
const WORDS_EVERY: Duration = Duration::from_millis(500);

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
    last_words: Instant,
    recent: Recent,
    bar: Option<ProgressBar>,
}

impl Phase {
    fn new(name: &'static str, total: u64, bar: Option<ProgressBar>) -> Self {
        let now = Instant::now();
        Self { name, total, started: now, last_words: now, recent: Recent::default(), bar }
    }
}

impl Progress {
    /// Starts with no phase; `stop` is set when the user wants to stop.
    #[must_use]
    pub fn new(mode: Mode, page_size: u64, stop: Arc<AtomicBool>) -> Self {
        Self { mode, page_size, done: AtomicU64::new(0), stop, phase: Mutex::new(Phase::new("", 0, None)) }
    }

    /// One that shows nothing and never stops.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(Mode::None, 1, Arc::default())
    }

    /// Starts a phase of `total` pages and ends the one before.
    pub fn start(&self, name: &'static str, total: u64) {
        self.done.store(0, Relaxed);
        if let Ok(mut phase) = self.phase.lock() {
            // The old bar goes before the new one is drawn, or it would stay in the line above.
            if let Some(old) = phase.bar.take() {
                old.finish_and_clear();
            }
            let bar = (self.mode == Mode::Bar).then(|| bar(name, total.saturating_mul(self.page_size)));
            *phase = Phase::new(name, total, bar);
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
            phase.show(done, self.page_size);
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
    fn show(&mut self, done: u64, page_size: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done.saturating_mul(page_size));
        }
        let every = if self.bar.is_some() { WORDS_EVERY } else { LINE_EVERY };
        if self.last_words.elapsed() < every || self.total == 0 {
            return;
        }
        self.last_words = Instant::now();
        self.recent.note(self.started.elapsed(), done);
        let words = self.words(page_size);
        if let Some(bar) = &self.bar {
            bar.set_message(words);
            return;
        }
        let percent = done.min(self.total).saturating_mul(100) / self.total;
        let size = human_bytes(self.total.saturating_mul(page_size));
        // A console that is gone is no reason to lose the dump.
        let _ = writeln!(std::io::stderr(), "vdump: {} {percent} % of {size}{words}", self.name);
    }

    /// How fast it goes, and how long it will take, where that can be said.
    fn words(&self, page_size: u64) -> String {
        let Some(rate) = self.recent.rate() else { return String::new() };
        let speed = human_bytes((rate * page_size as f64) as u64);
        let left = self.recent.left(self.total);
        let left = left.map_or_else(String::new, |left| format!(", {} left", human_seconds(left.round())));
        format!(", {speed}/s{left}")
    }
}

/// How far the work was at the last moments that were noted. What is done first says little of what is left: zero pages
/// come at once, others are compressed.
#[derive(Debug, Default)]
struct Recent {
    moments: VecDeque<(Duration, u64)>,
}

/// Longer than memory of one kind lasts, and shorter than people wait.
const WINDOW: Duration = Duration::from_secs(15);
/// Before this a rate says nothing about what is left.
const SURE_AFTER: Duration = Duration::from_secs(4);

impl Recent {
    /// At this time since the start so much was done.
    fn note(&mut self, at: Duration, done: u64) {
        if self.moments.is_empty() {
            self.moments.push_back((Duration::ZERO, 0));
        }
        self.moments.push_back((at, done));
        // One that is as old as the window stays: rates are taken from it.
        while self.moments.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= WINDOW) {
            self.moments.pop_front();
        }
    }

    /// Pages a second, of late.
    fn rate(&self) -> Option<f64> {
        let ((from, before), (to, now)) = (self.moments.front()?, self.moments.back()?);
        let seconds = to.saturating_sub(*from).as_secs_f64();
        (seconds > 0.0).then(|| now.saturating_sub(*before) as f64 / seconds)
    }

    /// Seconds that the rest takes if it goes on so; `None` until that means something.
    fn left(&self, total: u64) -> Option<f64> {
        let (at, done) = *self.moments.back()?;
        let rate = self.rate().filter(|rate| *rate > 0.0)?;
        (at >= SURE_AFTER).then(|| total.saturating_sub(done) as f64 / rate)
    }
}

fn bar(name: &'static str, bytes: u64) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| size.ws_col);
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    if let Ok(style) = ProgressStyle::with_template(template(width)) {
        bar.set_style(if is_utf8(|name| env::var(name).ok()) { style } else { style.progress_chars("=> ") });
    }
    bar.set_prefix(name);
    bar
}

/// What fits beside a bar that is worth looking at: words take up to 60 columns.
fn template(width: u16) -> &'static str {
    match width {
        0 => "{prefix:>9} {percent:>3} % of {total_bytes}{msg}",
        1..48 => "{prefix} {percent:>3} %",
        48..72 => "{prefix:>9} {percent:>3} %{msg}",
        _ => "{prefix:>9} {wide_bar} {percent:>3} % of {total_bytes}{msg}",
    }
}

/// Whether the terminal's characters are UTF-8, as locale(7) has it: the first of these that is set counts.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tenth of the time for the first half, which is zeros; then compression.
    #[test]
    fn time_left_goes_by_what_is_done_of_late() {
        let (total, mut recent) = (1000u64, Recent::default());
        // 500 pages in the first 10 s, the other 500 in 100 s.
        let done = |second: u64| if second < 10 { second * 50 } else { 500 + (second - 10) * 5 };
        for second in 1..=110 {
            recent.note(Duration::from_secs(second), done(second));
            let (left, truth) = (recent.left(total), 110 - second);
            if second < 4 {
                assert_eq!(left, None, "after {second} s");
            }
            if (26..110).contains(&second) {
                let left = left.unwrap();
                assert!((left - truth as f64).abs() < 1.0, "after {second} s: {left} s left, not {truth}");
            }
        }
        assert!(recent.moments.len() < 20, "{}", recent.moments.len());
    }

    #[test]
    fn what_stands_still_has_no_time_left() {
        let mut recent = Recent::default();
        assert_eq!((recent.rate(), recent.left(10)), (None, None));
        for second in 1..60 {
            recent.note(Duration::from_secs(second), 5);
        }
        assert_eq!((recent.rate(), recent.left(10)), (Some(0.0), None));
    }

    #[test]
    fn the_first_variable_that_is_set_tells_the_characters() {
        let with = |set: &[(&str, &str)]| {
            is_utf8(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(with(&[("LANG", "en_US.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(!with(&[]));
    }
}
