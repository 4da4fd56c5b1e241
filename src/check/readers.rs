//! Which programs open a dump, and since when: what they did with others of its kind (`evidence`), what lies around it, and
//! the rules that it breaks.

use super::{
    evidence,
    facts::Facts,
    findings::Findings,
    layers::Kind,
    reader::{Harm, Opens, READERS, Reader},
    rules::{ALL, Rule},
};
use crate::{codec::frame::FrameFormat, format::diskdump::flags, source::Layer};
use serde::Serialize;

/// What a reader will do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Prediction {
    /// Who.
    pub reader: Reader,
    /// Whether it opens the dump.
    pub opens: Opens,
    /// Its first version that does; `None` where every one in use does.
    pub since: Option<&'static str>,
    /// The commands that must come first, and what is in the way: rules by name, or words.
    pub reasons: Vec<String>,
    /// What was run on a dump of this kind, and what happened; absent where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<&'static str>,
}

/// Builds up one reader's answer.
struct Answer {
    opens: Opens,
    since: Option<&'static str>,
    reasons: Vec<String>,
    evidence: Option<&'static str>,
}

impl Answer {
    fn worse(&mut self, opens: Opens, reason: impl Into<String>) {
        self.opens = self.opens.max(opens);
        self.reasons.push(reason.into());
    }

    /// Versions of one reader, all of the same number of digits.
    fn since(&mut self, version: &'static str) {
        self.since = self.since.max(Some(version));
    }
}

/// What each reader will do.
pub(super) fn predict(facts: &Facts, findings: &Findings) -> Vec<Prediction> {
    let one = |reader: Reader| {
        let mut answer = Answer { opens: Opens::Yes, since: None, reasons: Vec::new(), evidence: None };
        facts.layers(reader, &mut answer);
        match facts.kind {
            Kind::Kdump => facts.kdump(reader, &mut answer),
            Kind::Elf => facts.elf(reader, &mut answer),
            Kind::Unknown => {}
        }
        facts.broken(reader, findings, &mut answer);
        if answer.opens < Opens::No {
            facts.seen(reader, &mut answer);
        }
        let Answer { opens, since, reasons, evidence } = answer;
        Prediction { reader, opens, since: since.filter(|_| opens < Opens::Unknown), reasons, evidence }
    };
    READERS.map(one).into()
}

impl Facts {
    /// Adds what the reader did with other dumps of the kind.
    fn seen(&self, reader: Reader, answer: &mut Answer) {
        let machine = match (&self.head, &self.elf) {
            (Some(head), _) => evidence::machine(&head.machine),
            (None, Some(elf)) => evidence::elf_machine(elf.machine),
            (None, None) => return,
        };
        let kernel = self.release.as_deref().and_then(evidence::version);
        let Some(row) = evidence::of(reader, self.kind, machine, kernel) else {
            let kernel = kernel.map_or_else(String::new, |(major, minor)| format!(", kernel {major}.{minor}"));
            return answer.worse(Opens::Unknown, format!("it was never run on such a dump ({machine}{kernel})"));
        };
        answer.evidence = Some(row.evidence);
        answer.since = answer.since.max(row.since);
        answer.opens = answer.opens.max(row.opens);
        if !row.reason.is_empty() {
            answer.reasons.push(row.reason.to_owned());
        }
    }

    /// Adds what broken rules do to a reader.
    fn broken(&self, reader: Reader, findings: &Findings, answer: &mut Answer) {
        for rule in ALL.iter().filter(|rule| findings.is_broken(**rule)) {
            for (_, harm) in rule.info().harms.iter().filter(|(whom, _)| *whom == reader) {
                // drgn takes an ELF core without VMCOREINFO for a process's.
                let process = *rule == Rule::NotesVmcoreinfo && self.kind == Kind::Elf;
                let opens = if *harm == Harm::Refuses && !process { Opens::No } else { Opens::Partly };
                answer.worse(opens, rule.info().name);
            }
        }
    }

    fn layers(&self, reader: Reader, answer: &mut Answer) {
        for (index, layer) in self.layers.iter().enumerate() {
            match layer {
                Layer::Seekable(format) | Layer::Frames(format) | Layer::Whole(format) => {
                    let program = if *format == FrameFormat::Zstd { "zstd -d" } else { "lz4 -d" };
                    answer.worse(Opens::After, format!("after '{program}'"));
                }
                // Something compressed inside is for nobody.
                Layer::Flattened if index + 1 < self.layers.len() => {
                    answer.worse(Opens::After, "after 'makedumpfile -R'");
                }
                Layer::Flattened => self.flattened(reader, answer),
            }
        }
    }

    fn flattened(&self, reader: Reader, answer: &mut Answer) {
        match (reader, self.kind) {
            (Reader::Crash | Reader::Drgn, _) => {}
            (Reader::Libkdumpfile, Kind::Elf) => answer.since("0.5.5"),
            (Reader::Libkdumpfile, _) => answer.since("0.5.3"),
            _ => answer.worse(Opens::After, "after 'makedumpfile -R'"),
        }
    }

    fn kdump(&self, reader: Reader, answer: &mut Answer) {
        let head = self.head.clone().unwrap_or_default();
        match reader {
            Reader::Gdb => answer.worse(Opens::No, "it reads ELF cores only"),
            Reader::Drgn if head.diskdump => answer.worse(Opens::No, "it does not know DISKDUMP"),
            Reader::Makedumpfile if head.diskdump => answer.worse(Opens::No, "it does not know DISKDUMP"),
            _ => {}
        }
        if self.codecs & flags::ZSTD != 0 {
            match reader {
                Reader::Crash => answer.since("8.0.0"),
                Reader::Libkdumpfile => answer.since("0.5.0"),
                // Debian 12's 1.7.2 has no zstd and reads none of the pages.
                Reader::Makedumpfile => {
                    answer.since("1.7.0");
                    answer.reasons.push("if built with zstd".to_owned());
                }
                Reader::Drgn | Reader::Gdb => {}
            }
        }
        if self.inputs > 1 {
            match reader {
                Reader::Drgn => answer.worse(Opens::After, "after 'makedumpfile --reassemble': it opens one file"),
                Reader::Makedumpfile => answer.worse(Opens::After, "after 'makedumpfile --reassemble'"),
                Reader::Libkdumpfile => answer.since("0.5.0"),
                Reader::Crash | Reader::Gdb => {}
            }
        }
    }

    fn elf(&self, reader: Reader, answer: &mut Answer) {
        let Some(elf) = self.elf else { return };
        if elf.extended && reader == Reader::Crash {
            if elf.wide {
                answer.since("7.2.8");
            } else {
                answer.worse(Opens::No, "it takes more than 65534 segments in 64-bit cores only");
            }
        }
    }
}

/// Whether anybody opens it, at least after a command.
pub(super) fn anybody(readers: &[Prediction]) -> bool {
    readers.iter().any(|reader| reader.opens < Opens::No)
}
