//! `--redact`: from a file of rules to what no output may show.
//!
//! Knows where types and addresses come from, and what is refused before anything is written. The [`Redaction`]'s mask lies
//! over all that is written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::Run;
use crate::{
    bitmap::PageBitmap,
    cli::resolve::Job,
    error::{Error, Kind, Result},
    kernel::{self, Kallsyms, Symbols, own_btf, symbols_of_btf},
    layout::{
        KernelLayout, VmcoreInfo,
        types::{Btf, Types, Vmlinux, Wanted, read_btf},
    },
    memory::VirtReader,
    redact::{Fault, Follower, MAX_FILE, Plan, Questions, Redaction, RuleError, Ruled, Rules, Tally},
    report::{RedactedAt, RedactionLine, RuleLine, UnfollowedLine},
    run::{Stop, facts},
    source::{Mask, Notes, OutputNotes, Source},
    sys::{file, host},
};

/// How often types may lead to types that were not asked for yet.
const MAX_ROUNDS: usize = 40;
/// The bounds of per-CPU variables at link time (include/asm-generic/sections.h).
const PER_CPU: [&str; 2] = ["__per_cpu_start", "__per_cpu_end"];
const TEXT: &str = "_stext";
/// Name of the note with what was erased, as makedumpfile writes it.
const ERASED: &[u8] = b"ERASEINFO";

/// Reads the rules and follows them; nothing where there are none.
///
/// # Errors
/// The rules cannot be understood, or name what the kernel does not have. With `strict` also what could not be followed.
pub(super) fn find(
    job: &Job,
    source: &Source,
    info: Option<&VmcoreInfo>,
    (stop, spare): (&Stop, u64),
) -> Result<Redaction> {
    let Some(path) = &job.redact else { return Ok(Redaction::default()) };
    let rules = read(path)?;
    let info = info.ok_or_else(|| {
        kernel::no_vmcoreinfo(
            source,
            "so the kernel's memory cannot be found, nor what the rules name",
            kernel::NAME_VMCOREINFO,
        )
    })?;
    let space = KernelLayout::address_space(source, info)
        .map_err(|error| facts::advised(error, Some("leave out --redact, which needs the kernel's page tables")))?;
    let virt = VirtReader::new(source, &space);
    let questions = Questions::of(&rules);
    let vmlinux = job.kernel_args.vmlinux.as_deref().map(|path| Vmlinux::open(path, job.memory_limit)).transpose()?;
    let symbols = symbols(&questions, vmlinux.as_ref(), info, &virt)?;
    let witness = Witness::find(job, vmlinux, info, &virt);
    let plan = plan(path, &rules, &questions, &witness, &symbols)?;
    let stopped = || stop.signal().is_some();
    let redaction = Follower::new(source, &virt, spare / 2 / Follower::PLACE, &stopped).run(&plan);
    if let Some(signal) = stop.signal() {
        return Err(Error::stopped(signal, "before anything was written"));
    }
    let first = unfollowed(&redaction).next();
    match first {
        Some(first) if job.strict => Err(Error::input("cannot be sure that what the rules name is overwritten")
            .because(first)
            .next_step("without --strict the dump is written and says so")),
        _ => Ok(redaction),
    }
}

fn read(path: &Path) -> Result<Rules> {
    let bytes = file::read(path, MAX_FILE as u64 + 1)
        .map_err(|error| Error::file(Kind::Usage, path, "read", &error).or_next_step("check the path"))?;
    let refused =
        |cause: &str| Error::new(Kind::Usage, format!("cannot use {} as rules", path.display())).because(cause);
    if bytes.len() > MAX_FILE {
        return Err(refused("it is larger than 1 MiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is no text"))?;
    let rules = Rules::parse(text).map_err(|error| bad_rule(path, &error))?;
    if rules.is_empty() {
        return Err(refused("it has no rule").next_step("leave out --redact if nothing is to be overwritten"));
    }
    Ok(rules)
}

fn bad_rule(path: &Path, error: &RuleError) -> Error {
    Error::new(Kind::Usage, format!("cannot follow the rules in {}", path.display()))
        .because(error)
        .next_step("nothing was written; docs/redaction.md has the language")
}

/// Where the kernel has what the rules name: its vmlinux's symbols are sure; its own table tells names that several files use
/// apart from others; VMCOREINFO comes last, because it has the values of some pointers under their names.
fn symbols(
    questions: &Questions,
    vmlinux: Option<&Vmlinux>,
    info: &VmcoreInfo,
    virt: &VirtReader<'_>,
) -> Result<BTreeMap<String, Address>> {
    let names: Vec<&str> = questions.symbols.iter().map(String::as_str).chain(PER_CPU).chain([TEXT]).collect();
    let mut found = BTreeMap::new();
    if let Some(vmlinux) = vmlinux {
        let linked = vmlinux.symbols(&names)?;
        let by_text = || Some(info.symbol(TEXT)?.wrapping_sub(*linked.get(TEXT)?));
        let shift = info.value("KERNELOFFSET").map(i64::cast_unsigned).or_else(by_text);
        let bounds = PER_CPU.map(|name| linked.get(name).copied());
        if let Some(shift) = shift {
            for (name, address) in linked {
                found.insert(name, Address::of(address, shift, bounds));
            }
        }
    }
    if names.iter().any(|name| !found.contains_key(*name))
        && let Ok(kallsyms) = Kallsyms::load(info, virt)
        && let Ok(addresses) = kallsyms.lookup_one(&names)
    {
        let at = |name: &str| addresses[names.iter().position(|known| *known == name)?];
        let bounds = PER_CPU.map(at);
        for (name, address) in names.iter().zip(&addresses) {
            if let Some(address) = address {
                found.entry((*name).to_owned()).or_insert_with(|| Address::of(*address, 0, bounds));
            }
        }
    }
    for name in names {
        // An array's value is its address, a pointer's is not.
        if let Some(address) = info.symbol(name).filter(|_| name != "mem_section") {
            found.entry(name.to_owned()).or_insert(Address::At(address));
        }
    }
    Ok(found)
}

/// Where a variable is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Address {
    At(u64),
    /// Every CPU has its own.
    PerCpu,
}

impl Address {
    fn of(address: u64, shift: u64, bounds: [Option<u64>; 2]) -> Self {
        match bounds {
            [Some(start), Some(end)] if (start..end).contains(&address) => Self::PerCpu,
            _ => Self::At(address.wrapping_add(shift)),
        }
    }
}

/// Who knows the kernel's types.
enum Witness {
    Dwarf(Vmlinux),
    Btf(Vec<u8>),
    File(PathBuf),
    None,
}

impl Witness {
    fn find(job: &Job, vmlinux: Option<Vmlinux>, info: &VmcoreInfo, virt: &VirtReader<'_>) -> Self {
        if let Some(vmlinux) = vmlinux {
            let debug = if vmlinux.has_dwarf() { None } else { vmlinux.debug_file() };
            let with_dwarf = debug.unwrap_or(vmlinux);
            if with_dwarf.has_dwarf() {
                return Self::Dwarf(with_dwarf);
            }
            if let Ok(Some(btf)) = with_dwarf.btf() {
                return Self::Btf(btf);
            }
        }
        if let Some(path) = &job.kernel_args.btf {
            return Self::File(path.clone());
        }
        let own = |symbols: Symbols| own_btf(&symbols, virt, job.memory_limit / 2).ok();
        symbols_of_btf(info, virt).ok().and_then(own).map_or(Self::None, Self::Btf)
    }

    fn ask(&self, wanted: &Wanted<'_>) -> Result<Types> {
        match self {
            Self::Dwarf(vmlinux) => vmlinux.dwarf(wanted, host::usable_cpus()),
            Self::Btf(bytes) => Btf::parse(bytes).and_then(|btf| btf.types(wanted)).map_err(|error| {
                Error::input("cannot use the kernel's BTF").because(error).next_step("give its vmlinux with -x")
            }),
            Self::File(path) => read_btf(path, wanted),
            Self::None => Ok(Types::default()),
        }
    }
}

/// Asks for types until every rule has all that it needs.
fn plan(
    path: &Path,
    rules: &Rules,
    questions: &Questions,
    witness: &Witness,
    symbols: &BTreeMap<String, Address>,
) -> Result<Plan> {
    let per_cpu = |name: &str| symbols.get(name) == Some(&Address::PerCpu);
    if let Some(name) = questions.symbols.iter().find(|name| per_cpu(name)) {
        return Err(Error::new(Kind::Usage, format!("cannot follow the rules in {}", path.display()))
            .because(format!("'{name}' is a per-CPU variable, and rules for those are not supported"))
            .next_step("nothing was written"));
    }
    let address = |name: &str| match symbols.get(name) {
        Some(Address::At(address)) => Some(*address),
        _ => None,
    };
    let mut types = witness.ask(&questions.wanted(&[]))?;
    let mut asked = questions.structures();
    for _ in 0..MAX_ROUNDS {
        match Plan::make(rules, &types, &asked, &address) {
            Ok(plan) => return Ok(plan),
            Err(Fault::Rule(error)) => return Err(bad_rule(path, &error)),
            Err(Fault::Missing(names)) => {
                types.join(witness.ask(&questions.wanted(&names))?);
                asked.extend(names);
            }
        }
    }
    Err(Error::new(Kind::Usage, format!("cannot follow the rules in {}", path.display()))
        .because("the types that they name lead to others again and again"))
}

/// What could not be followed, in words.
pub(super) fn unfollowed(redaction: &Redaction) -> impl Iterator<Item = String> {
    redaction.problems.iter().map(|problem| {
        let causes = problem.causes.join("; ");
        let more = match problem.count {
            1 => String::new(),
            count => format!(" ({count} times)"),
        };
        format!("the rule in line {} may have left something in the dump: {causes}{more}", problem.line)
    })
}

impl Run<'_> {
    /// The mask, if rules were given.
    pub(super) fn mask(&self) -> Option<&Mask> {
        self.job.redact.as_ref().map(|_| &self.redaction.mask)
    }

    /// The list of what was erased: what the input says, and what the rules name.
    pub(super) fn erased(&self) -> Vec<u8> {
        let mut list = self.source.recorded().map_or_else(Vec::new, |recorded| recorded.erase_info.clone());
        if self.job.redact.is_some() {
            let (tallies, _) = self.redaction.tally(self.page_shift, &|_| true);
            list.extend(self.redaction.list(&tallies).into_bytes());
        }
        list
    }

    /// The notes of an ELF output: a list of what was erased is one.
    pub(super) fn elf_notes(&self) -> OutputNotes<'_> {
        let mut notes = self.source.all_notes().clone();
        if self.job.container.is_elf() && self.job.redact.is_some() {
            notes.trim_zeros();
            notes.push(ERASED, 0, &self.erased());
        }
        self.output_notes(notes)
    }

    /// These notes as an output gets them, large ones from the input.
    pub(super) fn output_notes(&self, notes: Notes) -> OutputNotes<'_> {
        OutputNotes::new(notes, self.source.note_store(), &self.notes_unread)
    }

    /// What the rules overwrite of the pages that are kept.
    pub(super) fn redacted(&self, kept: &PageBitmap) -> Option<RedactionLine> {
        let path = self.job.redact.as_ref()?;
        let Redaction { rules, problems, .. } = &self.redaction;
        let (tallies, all) = self.redaction.tally(self.page_shift, &|pfn| pfn < kept.len() && kept.get(pfn));
        let line = |(ruled, tally): (&Ruled, &Tally)| RuleLine {
            line: ruled.line.number,
            rule: ruled.line.text.clone(),
            places: ruled.places,
            bytes: tally.bytes,
            pages: tally.pages,
            dropped_bytes: tally.dropped.saturating_sub(ruled.absent),
            absent_bytes: ruled.absent,
            at: ruled
                .first
                .iter()
                .map(|at| RedactedAt {
                    vaddr: format!("{:#x}", at.vaddr),
                    paddr: format!("{:#x}", at.paddr),
                    bytes: at.bytes,
                })
                .collect(),
        };
        let unfollowed = problems.iter().map(|problem| UnfollowedLine {
            line: problem.line,
            count: problem.count,
            causes: problem.causes.clone(),
        });
        Some(RedactionLine {
            file: path.display().to_string(),
            bytes: all.bytes,
            pages: all.pages,
            incomplete: !problems.is_empty(),
            rules: rules.iter().zip(&tallies).filter(|(ruled, _)| !ruled.line.what.is_empty()).map(line).collect(),
            unfollowed: unfollowed.collect(),
        })
    }
}
