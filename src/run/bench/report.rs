//! What was measured, as a table for people and JSON for programs.

use std::fmt;

use serde::Serialize;

use super::{
    measured::{Measured, Stage},
    predict::{Prediction, Shares},
};
use crate::{error::printable, report::human_bytes};

/// All of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    pub(super) input: String,
    pub(super) dump_level: u8,
    pub(super) threads: usize,
    /// Pages held in memory and compressed, bytes.
    pub(super) sample_bytes: u64,
    #[serde(flatten)]
    pub(super) shares: Shares,
    pub(super) stages: Vec<Measured>,
    pub(super) predictions: Vec<Prediction>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shares { ram_bytes, kept_bytes, zero_bytes, .. } = self.shares;
        writeln!(
            f,
            "{}: {} of {} kept at level {}, {} of that zero; sample {}",
            printable(&self.input),
            human_bytes(kept_bytes),
            human_bytes(ram_bytes),
            self.dump_level,
            human_bytes(zero_bytes),
            human_bytes(self.sample_bytes)
        )?;
        let all = if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        writeln!(f, "\n{:<20} {all:>14} {:>14} {:>10}", "stage", "one thread", "ratio")?;
        for Measured { stage, all, one, packed, .. } in &self.stages {
            let rate = |rate: f64| human_bytes(rate as u64) + "/s";
            let one = one.map_or_else(|| "-".to_owned(), rate);
            let ratio = packed.map(|packed| format!("{:.2} to 1", 1.0 / packed.max(1e-9))).unwrap_or_default();
            let line = format!("{:<20} {:>14} {:>14} {ratio:>10}", stage.to_string(), rate(*all), one);
            writeln!(f, "{}", line.trim_end())?;
        }
        self.predicted(f)
    }
}

impl Report {
    fn predicted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.predictions.iter().find_map(|line| line.machine);
        let other = machine.map_or_else(String::new, |machine| format!("of {} RAM", human_bytes(machine.ram_bytes)));
        writeln!(f, "\n{:<20} {:>24} {other:>24}", "a dump would take", "of this input")?;
        for Prediction { format, codec, seconds, bytes, machine } in &self.predictions {
            let cell = |seconds: f64, bytes: u64| format!("{seconds:.1} s, {:>10}", human_bytes(bytes));
            let other = machine.map(|machine| cell(machine.seconds, machine.bytes)).unwrap_or_default();
            let name = format!("{format}, {codec}");
            writeln!(f, "{name:<20} {:>24} {other:>24}", cell(*seconds, *bytes))?;
        }
        if !self.stages.iter().any(|measured| measured.stage == Stage::Write) {
            writeln!(f, "vdump: note: without the time that the device takes: give --output DIR to measure it")?;
        }
        Ok(())
    }
}
