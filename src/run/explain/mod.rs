//! `vdump explain`: all about one page. Where it lies, what its `struct page` says, which class follows and why, and whether the
//! dump has it.
//!
//! Knows the order of the questions. Must not decide anything itself: the classifier says what it decided. The answers are
//! put into words in `words` and shown by `show`.

mod decision;
mod fields;
mod presence;
mod show;
mod story;
mod struct_page;
mod translation;
mod words;

use serde::Serialize;
use vdump_filters::{DumpLevel, Selection};

use super::facts;
use crate::{
    classify::{Classifier, Picks, Step, Trace},
    cli::{explain::Explain, resolve},
    error::{Error, Kind, Result, printable},
    kernel::{self, FreePcp, Kernel, Symbols, Zone, known, zones},
    layout::{KernelLayout, VmcoreInfo},
    memory::VirtReader,
    report::Head,
    source::Source,
};

use decision::{Block, Decision};
use presence::{Content, Memory};
use story::{Section, Story};
use struct_page::StructPage;
use translation::Translation;

/// As many pages as one run tells of.
const MOST_PAGES: usize = 4096;

/// Everything about the pages of one dump.
#[derive(Serialize)]
struct Report {
    #[serde(skip)]
    input: String,
    format: String,
    kernel: Option<String>,
    /// The kernel runs.
    live: bool,
    /// The level that the dump was filtered at, where its format says that.
    dump_level: Option<u32>,
    page_size: u64,
    warnings: Vec<String>,
    pages: Vec<Story>,
}

pub(super) fn run(options: &Explain) -> Result<()> {
    let asked = options.pfn.len() + options.paddr.len() + options.vaddr.len();
    if asked > MOST_PAGES {
        return Err(Error::new(Kind::Usage, format!("cannot explain {asked} pages at once"))
            .next_step(format!("ask for {MOST_PAGES} at most")));
    }
    let source = kernel::open(&options.input_args.opening(&options.inputs))?;
    let mut warnings = source.remarks().to_vec();
    let mut info = known::read(&source, &options.kernel_args.named(), resolve::available_memory(), &mut warnings)?;
    let mut symbols = None;
    if let Some(info) = &mut info {
        symbols = known::ask(&source, info, resolve::available_memory());
        warnings.extend(known::contradictions(info, false)?);
    }
    let page_shift = kernel::page_shift(&source, info.as_ref())?;
    warnings.extend(facts::incomplete(&source, page_shift));
    let teller = Teller::new(&source, info.as_ref(), symbols, page_shift);
    warnings.extend(teller.warnings());
    let pages = teller.stories(options)?;
    let report = Report {
        input: source.path().display().to_string(),
        format: source.describe(),
        kernel: info.as_ref().and_then(|info| info.text("OSRELEASE")).map(printable),
        live: source.is_live(),
        dump_level: source.recorded().map(|recorded| recorded.dump_level),
        page_size: 1 << page_shift,
        warnings,
        pages,
    };
    super::print_report(&Head::new("explain", &options.inputs), &report, options.report.json)
}

/// What all stories of one dump need.
struct Teller<'a> {
    source: &'a Source,
    info: Option<&'a VmcoreInfo>,
    page_shift: u32,
    virt: Option<VirtReader<'a>>,
    kernel: Result<Kernel>,
    zones: Result<Vec<Zone>, String>,
}

impl<'a> Teller<'a> {
    fn new(source: &'a Source, info: Option<&'a VmcoreInfo>, symbols: Option<Symbols>, page_shift: u32) -> Self {
        let virt = info
            .and_then(|info| KernelLayout::address_space(source, info).ok())
            .map(|space| VirtReader::new(source, &space));
        let kernel = match info {
            Some(info) => Kernel::read(source, info, symbols).and_then(|mut kernel| {
                let bitmap = FreePcp::bytes_for(source.existing().max_pfn(page_shift));
                kernel.read_own_structures(source, info, bitmap.min(resolve::available_memory() / 2))?;
                Ok(kernel)
            }),
            None => Err(kernel::no_vmcoreinfo(
                source,
                "so the kernel's structures cannot be found",
                kernel::NAME_VMCOREINFO,
            )),
        };
        let zones = match (info, &virt) {
            (Some(info), Some(virt)) => zones(info, virt),
            _ => Err("the kernel is not known".to_owned()),
        };
        Self { source, info, page_shift, virt, kernel, zones }
    }

    /// What keeps stories from being whole.
    fn warnings(&self) -> Vec<String> {
        match &self.kernel {
            Ok(kernel) => kernel.layout.limits.iter().chain(kernel.protected.limits()).cloned().collect(),
            Err(error) => {
                vec![format!("what pages were used for cannot be told: {}", facts::advised(error.clone(), None))]
            }
        }
    }

    fn stories(&self, options: &Explain) -> Result<Vec<Story>> {
        let mut stories = Vec::new();
        for pfn in &options.pfn {
            let paddr = pfn.checked_mul(1 << self.page_shift).filter(|paddr| in_reach(*paddr));
            let paddr = paddr.ok_or_else(|| out_of_reach("page frame", *pfn))?;
            stories.push(self.story(Some(paddr), format!("page frame {pfn:#x}"), None));
        }
        for &asked in &options.paddr {
            let paddr = Some(asked).filter(|paddr| in_reach(*paddr));
            let paddr = paddr.ok_or_else(|| out_of_reach("physical address", asked))?;
            stories.push(self.story(Some(paddr), format!("physical address {paddr:#x}"), None));
        }
        for vaddr in &options.vaddr {
            let translation = self.translation(*vaddr)?;
            stories.push(self.story(translation.paddr, format!("virtual address {vaddr:#x}"), Some(translation)));
        }
        Ok(stories)
    }

    fn translation(&self, vaddr: u64) -> Result<Translation> {
        let virt = self.virt.as_ref().ok_or_else(|| {
            let cause = match self.info {
                Some(_) => "the kernel's page tables cannot be found",
                None => "the dump has no VMCOREINFO, which says where the page tables are",
            };
            Error::input(format!("cannot translate {vaddr:#x}"))
                .because(cause)
                .next_step("give the page's physical address (--paddr) or frame (--pfn)")
        })?;
        Translation::of(virt, vaddr)
    }

    /// All about the page at a physical address; with none only the way that led nowhere.
    fn story(&self, paddr: Option<u64>, asked: String, translation: Option<Translation>) -> Story {
        let Some(paddr) = paddr else {
            return Story { asked, translation, ..Story::default() };
        };
        let pfn = paddr >> self.page_shift;
        let (mut section, mut page, mut decision) = (None, None, None);
        if let (Ok(kernel), Some(virt)) = (&self.kernel, &self.virt) {
            section = kernel.map.section(virt, pfn).map(Section::new);
            page = Some(self.struct_page(kernel, virt, section.as_ref(), pfn));
            decision = self.decision(kernel, pfn);
        }
        let memory = Memory::of(self.source, pfn, self.page_shift, decision.as_ref(), page.as_ref());
        let content = Content::of(self.source, pfn, self.page_shift, &memory, decision.as_ref());
        let zones = self.zones.iter().flatten().filter(|zone| zone.range.contains(pfn));
        Story {
            asked,
            pfn: Some(pfn),
            paddr: Some(pfn << self.page_shift),
            translation,
            memory: Some(memory),
            content: Some(content),
            zones: zones.map(|zone| format!("node {} {}", zone.node, zone.name)).collect(),
            section,
            struct_page: page,
            decision,
        }
    }

    fn struct_page(&self, kernel: &Kernel, virt: &VirtReader<'_>, section: Option<&Section>, pfn: u64) -> StructPage {
        let address = match section {
            Some(section) => section.address(pfn, kernel.layout.page.size),
            None => kernel.map.address(pfn).ok_or_else(|| "the kernel has no memory map for it".to_owned()),
        };
        StructPage::read(address, virt, kernel, self.info)
    }

    /// What the classifier decides, and how.
    fn decision(&self, kernel: &Kernel, pfn: u64) -> Option<Decision> {
        let Kernel { layout, map, protected, free_pcp, .. } = kernel;
        let drop = Selection::from(DumpLevel::MAX);
        let (source, picks) = (self.source, Picks::default());
        let Trace { class, steps, is_ram, readable } =
            Classifier { source, layout, map, protected, free_pcp, drop, picks }.trace(pfn)?;
        let spoken = steps.iter().rev().find_map(|step| match step {
            Step::Head(spoken) => Some(*spoken),
            _ => None,
        });
        let protected: Vec<_> = protected.names(pfn).collect();
        let why = words::why(pfn, &steps, is_ram, readable, &protected);
        // Without memory there is nothing to classify, whatever a struct page says.
        let class = is_ram.then_some(class);
        Some(Decision::new(class, why, protected, spoken.map(Block::new)))
    }
}

/// Physical addresses have 52 bits at most.
fn in_reach(paddr: u64) -> bool {
    paddr < 1 << 52
}

fn out_of_reach(what: &str, number: u64) -> Error {
    Error::new(Kind::Usage, format!("there is no {what} {number:#x}"))
        .because("physical addresses have 52 bits at most")
        .next_step("give --vaddr for a virtual address")
}
