//! What a check found, for people and for programs.
//!
//! Knows how findings read. Must not judge: that is the rules' and the readers'. Printed by `run`.

use std::fmt;

use serde::Serialize;

use super::{
    Checked,
    findings::Place,
    reader::Opens,
    readers::{self, Prediction},
    rule::Severity,
    rules::ALL,
};
use crate::error::printable;

/// The schema of `--json`: fields are only ever added.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The inputs as they were named; places count them from 0. In the head of the JSON.
    #[serde(skip)]
    pub inputs: Vec<String>,
    /// The format in words.
    pub format: String,
    /// No rule of severity `error` is broken, and some reader opens the dump: exit code 0.
    pub whole: bool,
    /// Pages that were decoded, or read where they are not compressed.
    pub pages: u64,
    /// Every rule, in a fixed order.
    pub rules: Vec<RuleLine>,
    /// Every reader.
    pub readers: Vec<Prediction>,
}

/// What was found about a rule.
#[derive(Debug, Serialize)]
pub struct RuleLine {
    /// Its stable name.
    pub name: &'static str,
    /// `error` or `warning`.
    pub severity: Severity,
    /// `ok`, `broken`, `not-checked` or `not-applicable`.
    pub status: Status,
    /// What must hold.
    pub rule: &'static str,
    /// Where that is known from.
    pub source: &'static str,
    /// How often it is broken.
    pub count: u64,
    /// What of the dump was not checked, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_checked: Option<String>,
    /// The first places where it is broken.
    pub places: Vec<Place>,
}

/// Whether a rule holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It does.
    Ok,
    /// It does not.
    Broken,
    /// It does as far as that was checked, which is not everywhere.
    NotChecked,
    /// The dump has nothing that it is about, or was too damaged to get there.
    NotApplicable,
}

impl Report {
    /// Sums up.
    #[must_use]
    pub fn of(checked: &Checked) -> Self {
        let findings = &checked.findings;
        let line = |rule: &super::rules::Rule| {
            let (info, finding) = (rule.info(), findings.of(*rule));
            let status = match finding {
                finding if finding.count > 0 => Status::Broken,
                finding if finding.not_checked.is_some() => Status::NotChecked,
                finding if finding.applies => Status::Ok,
                _ => Status::NotApplicable,
            };
            let places = finding.places.iter().map(|place| Place { found: printable(&place.found), ..place.clone() });
            RuleLine {
                name: info.name,
                severity: info.severity,
                status,
                rule: info.says,
                source: info.source,
                count: finding.count,
                not_checked: finding.not_checked.clone(),
                places: places.collect(),
            }
        };
        let rules: Vec<RuleLine> = ALL.iter().map(line).collect();
        let lost = rules.iter().any(|line| line.status == Status::Broken && line.severity == Severity::Error);
        Self {
            inputs: checked.inputs.iter().map(|path| path.display().to_string()).collect(),
            format: printable(&checked.format),
            whole: !lost && readers::anybody(&checked.readers),
            pages: checked.pages,
            rules,
            readers: checked.readers.clone(),
        }
    }

    fn broken(&self) -> impl Iterator<Item = &RuleLine> {
        self.rules.iter().filter(|line| line.status == Status::Broken)
    }

    fn verdict(&self) -> String {
        let count = |severity: Severity| self.broken().filter(|line| line.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let kept = self.rules.iter().filter(|line| line.status == Status::Ok).count();
        let rules = |count: usize| if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
        let open = self.rules.iter().filter(|line| line.not_checked.is_some()).count();
        let open = if open > 0 { format!(", {} not checked to the end", rules(open)) } else { String::new() };
        let checked = format!("{} hold{open}, {} pages were read", rules(kept), self.pages);
        match (errors, warnings) {
            (0, _) if !self.whole => format!("no reader opens it; {checked}"),
            (0, 0) => format!("whole; {checked}"),
            (0, _) => format!("whole, but some readers stumble over {}; {checked}", rules(warnings)),
            (_, 0) => format!("damaged: {} broken; {checked}", rules(errors)),
            _ => format!(
                "damaged: {} broken, and {} that some readers stumble over; {checked}",
                rules(errors),
                rules(warnings)
            ),
        }
    }

    fn place(&self, place: &Place) -> String {
        let mut at = Vec::new();
        if self.inputs.len() > 1
            && let Some(input) = self.inputs.get(place.input)
        {
            at.push(printable(input));
        }
        at.extend(place.pfn.map(|pfn| format!("page frame {pfn:#x}")));
        at.extend(place.offset.map(|offset| format!("byte {offset}")));
        if at.is_empty() { place.found.clone() } else { format!("{}: {}", at.join(", "), place.found) }
    }
}

/// Places in the report for people.
const SHOWN: usize = 3;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format    {}", self.format)?;
        for line in self.broken() {
            let severity = if line.severity == Severity::Error { "error" } else { "warning" };
            let places: Vec<String> = line.places.iter().take(SHOWN).map(|place| self.place(place)).collect();
            let more = line.count - places.len() as u64;
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            writeln!(f, "{severity:<8}  {}: {}{more} (the rule: {})", line.name, places.join("; "), line.rule)?;
        }
        for line in &self.rules {
            if let Some(cause) = &line.not_checked {
                writeln!(f, "note      {}: not checked everywhere: {cause} (the rule: {})", line.name, line.rule)?;
            }
        }
        writeln!(f, "readers")?;
        for reader in &self.readers {
            let opens = match reader.opens {
                Opens::Yes => "yes",
                Opens::Partly => "partly",
                Opens::After => "after",
                Opens::Unknown => "unknown",
                Opens::No => "no",
            };
            let since = reader.since.map(|version| format!("since {version}"));
            let words: Vec<String> = since.into_iter().chain(reader.reasons.iter().cloned()).collect();
            writeln!(f, "{}", format!("  {:<14}{opens:<8}{}", reader.reader.name(), words.join(", ")).trim_end())?;
        }
        writeln!(f, "verdict   {}", self.verdict())
    }
}
