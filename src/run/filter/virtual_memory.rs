//! `--virtual`: segments for what the crashed kernel's page tables map.

use std::sync::Arc;

use super::Run;
use crate::{
    arch::AddressSpace,
    bitmap::PageBitmap,
    error::{Error, Result},
    kernel,
    layout::{KernelLayout, VmcoreInfo},
    memory::{Mappings, VirtReader},
    plan::{ElfPlan, Mapped, MappedLoads},
    run::facts,
    source::{Load, Source},
};

/// Finds the page tables. They must lead to themselves: from other memory every address would be wrong.
pub(super) fn space(source: &Source, info: Option<&VmcoreInfo>) -> Result<Arc<dyn AddressSpace>> {
    const NEXT: &str =
        "leave out --virtual: gdb then sees the direct mapping and the kernel image, other readers as much as ever";
    let info =
        info.ok_or_else(|| kernel::no_vmcoreinfo(source, "so the kernel's page tables cannot be found", NEXT))?;
    let space = KernelLayout::address_space(source, info).map_err(|error| facts::advised(error, Some(NEXT)))?;
    let (root, _) = space.top();
    let table = space.image_vaddr(root);
    let refused = |cause: String| {
        Error::input(format!("cannot walk the kernel's page tables from {root:#x}")).because(cause).next_step(NEXT)
    };
    match VirtReader::new(source, &space).translate(table) {
        Ok(mapping) if mapping.paddr == root => Ok(space),
        Ok(mapping) => Err(refused(format!("they map their own address {table:#x} to {:#x}", mapping.paddr))),
        Err(error) => Err(refused(error.to_string())),
    }
}

impl Run<'_> {
    /// Adds to `plan` what the page tables map and `loads` do not show.
    pub(super) fn map_virtual(
        &self,
        space: &Arc<dyn AddressSpace>,
        loads: &[Load],
        kept: &PageBitmap,
        plan: &mut ElfPlan,
    ) -> Result<()> {
        let stopped = || self.progress.stopped();
        let mappings = Mappings::new(self.source, space, &stopped);
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
