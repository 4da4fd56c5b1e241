//! The self-check in the report: a line for each violation, all of them with `-v` and in JSON.
//!
//! Knows how it is told. Must not know how it was made.

use std::fmt::Write as _;

use serde::Serialize;
use vdump_filters::PageClass;

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckLine {
    /// What was checked.
    pub name: &'static str,
    /// `sound`, `fewer` (some of what the kernel counted is not in the dump), `violated` or `unknown`.
    pub verdict: &'static str,
    /// Pages that there should be; absent where that is not known.
    pub expected: Option<u64>,
    /// Pages that there may be more by rights: what was on its way when the machine stopped.
    pub slack: u64,
    /// Pages that there are.
    pub found: u64,
    /// Pages that are kept because of this check.
    pub kept: u64,
    /// Of a violation: the classes that the pages seem to be of.
    pub seem: Vec<SeemLine>,
    /// Why it, or some of it, could not be checked.
    pub gap: Option<String>,
    /// Whether it is about memory that is kept whatever its struct pages say.
    #[serde(skip)]
    pub is_part: bool,
}

/// Pages that seem to be of one class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SeemLine {
    /// The class's name.
    pub class: &'static str,
    /// Pages.
    pub pages: u64,
}

/// All checks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SelfCheck {
    /// How many are violated.
    pub violated: usize,
    /// Classes that were to be dropped and are kept, as they cannot be believed.
    pub kept_classes: Vec<&'static str>,
    /// All of them.
    pub checks: Vec<CheckLine>,
}

impl SelfCheck {
    /// A line for each violation; empty if there is none.
    #[must_use]
    pub fn violations(&self) -> String {
        let violated = self.checks.iter().filter(|check| check.verdict == "violated");
        let mut text: String = violated.map(|check| format!("vdump: self-check: {}\n", check.violation())).collect();
        if !self.kept_classes.is_empty() {
            let classes = self.kept_classes.join(", ");
            let _ =
                writeln!(text, "vdump: self-check: kept all pages of the classes {classes}; --strict stops instead");
        }
        text
    }

    /// A line for each check.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = String::new();
        for CheckLine { name, verdict, expected, slack, found, gap, .. } in &self.checks {
            let _ = write!(text, "vdump: self-check of {name}: {verdict}, {found} pages");
            if let Some(expected) = expected {
                let _ = write!(text, ", {expected} expected");
            }
            if *slack > 0 {
                let _ = write!(text, " (up to {slack} more may be on their way)");
            }
            if let Some(gap) = gap {
                let _ = write!(text, "; {gap}");
            }
            text.push('\n');
        }
        text
    }
}

impl CheckLine {
    fn violation(&self) -> String {
        let Self { name, expected, slack, found, kept, seem, is_part, .. } = self;
        let expected = expected.unwrap_or(0);
        if *is_part {
            let seem: Vec<_> = seem.iter().map(|line| format!("{} ({})", line.class, line.pages)).collect();
            return format!("{kept} pages of the {name} looked {}: kept", seem.join(", "));
        }
        if seem.iter().any(|line| line.class == PageClass::HwPoison.name()) {
            return format!(
                "{found} pages are marked as bad memory, but the kernel counted none: they are excluded, as reading bad \
                 memory may end the capture"
            );
        }
        let more = if *slack > 0 { format!(" and may have {slack} more on their way") } else { String::new() };
        format!(
            "there seem to be {found} {name}, but the kernel counted {expected}{more}: some of them are something else"
        )
    }
}
