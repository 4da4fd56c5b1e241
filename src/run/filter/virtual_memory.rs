//! `--virtual`: segments for what the crashed kernel's page tables map.

use super::Run;
use crate::{
    bitmap::PageBitmap,
    error::{Error, Result},
    kernel,
    layout::{KernelLayout, PagingLayout, VmcoreInfo},
    memory::{Mappings, VirtReader},
    plan::{ElfPlan, Mapped, MappedLoads},
    run::facts,
    source::{Load, Source},
};

/// Finds the page tables. They must lead to themselves: from other memory every address would be wrong.
pub(super) fn paging(source: &Source, info: Option<&VmcoreInfo>) -> Result<PagingLayout> {
    const NEXT: &str =
        "leave out --virtual: gdb then sees the direct mapping and the kernel image, other readers as much as ever";
    let info =
        info.ok_or_else(|| kernel::no_vmcoreinfo(source, "so the kernel's page tables cannot be found", NEXT))?;
    let paging = KernelLayout::paging(source, info).map_err(|error| facts::advised(error, Some(NEXT)))?;
    let virt = VirtReader::new(source, paging).ok_or_else(|| Error::input("the dump's architecture is not known"))?;
    let table = paging.image_vaddr(paging.root);
    let refused = |cause: String| {
        Error::input(format!("cannot walk the kernel's page tables from {:#x}", paging.root))
            .because(cause)
            .next_step(NEXT)
    };
    match virt.translate(table) {
        Ok(mapping) if mapping.paddr == paging.root => Ok(paging),
        Ok(mapping) => Err(refused(format!("they map their own address {table:#x} to {:#x}", mapping.paddr))),
        Err(error) => Err(refused(error.to_string())),
    }
}

impl Run<'_> {
    /// Adds to `plan` what the page tables map and `loads` do not show.
    pub(super) fn map_virtual(
        &self,
        paging: PagingLayout,
        loads: &[Load],
        kept: &PageBitmap,
        plan: &mut ElfPlan,
    ) -> Result<()> {
        let stopped = || self.progress.stopped();
        let Some(mappings) = Mappings::new(self.source, paging, &stopped) else {
            return Ok(());
        };
        let most = self.budget.spare / MappedLoads::BYTES;
        let mut segments = MappedLoads::new(plan, kept, self.source.existing(), loads, self.page_shift, most);
        let walked = mappings.walk(&mut segments);
        self.check_interrupted("before anything was written")?;
        let (segments, mapped) = segments.finish(walked);
        plan.add_mapped(segments, self.elf_notes().len())?;
        plan.mapped = Some(mapped);
        Ok(())
    }
}

/// What virtual memory the dump does not show although it has the data.
pub(super) fn gaps(mapped: &Mapped) -> impl Iterator<Item = String> {
    let Mapped { segments, left_out, walked, .. } = mapped;
    let unseen = walked.unreadable + walked.broken;
    [
        (*left_out > 0).then(|| {
            format!(
                "{left_out} more mapped pages are in the dump but not shown at their virtual addresses: there are \
                 {segments} segments for such memory already, as many as readers or --memory-limit bear"
            )
        }),
        (unseen > 0).then(|| format!("what {unseen} damaged or missing page tables map is not shown")),
        walked.ended.map(|why| {
            format!(
                "the walk through the page tables ended after {} of them: {why}; what others map is not shown",
                walked.tables
            )
        }),
    ]
    .into_iter()
    .flatten()
}
