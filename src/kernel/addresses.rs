//! Virtual addresses for an ELF dump whose input has none.
//!
//! Knows that kernels map their image and all of their memory. Must not guess: an address that cannot be derived is
//! the physical one. The segments go to `plan`, as those of an ELF core would.

use std::borrow::Cow;

use super::{kallsyms::Kallsyms, whole::Kernel};
use crate::{
    layout::VmcoreInfo,
    memory::{ReadVirt as _, VirtReader},
    source::{Load, Source},
};

/// The bounds of the kernel's image in memory.
const IMAGE: (&str, &str) = ("_text", "_end");
/// More than any kernel image.
const MAX_IMAGE: u64 = 256 << 20;

/// The input's segments, or what they would be.
#[must_use]
pub fn segments<'a>(source: &'a Source, info: Option<&VmcoreInfo>, kernel: Option<&Kernel>) -> Cow<'a, [Load]> {
    if !source.loads().is_empty() {
        return Cow::Borrowed(source.loads());
    }
    let end = source.existing().end();
    let segment = |paddr, vaddr, memsz| Load { paddr, vaddr, offset: 0, filesz: memsz, memsz };
    let known = info.zip(kernel).and_then(|(info, kernel)| mappings(source, info, kernel));
    Cow::Owned(match known {
        Some((direct, image, len)) => {
            let paddr = image.1;
            vec![segment(0, direct, end), segment(paddr, image.0, len.min(end.saturating_sub(paddr)))]
        }
        None => vec![segment(0, 0, end)],
    })
}

/// Start of the direct mapping; virtual and physical address of the image, and its length.
fn mappings(source: &Source, info: &VmcoreInfo, kernel: &Kernel) -> Option<(u64, (u64, u64), u64)> {
    let space = &kernel.layout.space;
    let virt = VirtReader::new(source, space);
    let variable = space.arch().direct_mapping();
    let found = Kallsyms::find(info, &virt, &[IMAGE.0, IMAGE.1, variable.unwrap_or(IMAGE.0)]).ok()?;
    let [Some(text), Some(end), variable_at] = found[..] else {
        return None;
    };
    let starts = match variable_at.filter(|_| variable.is_some()) {
        Some(variable) => vec![virt.long(variable).ok()?],
        None => space.direct_mapping_starts().to_vec(),
    };
    // The page tables have the last word: the image must be found through both mappings.
    let paddr = space.image_paddr(text);
    let agrees = |vaddr: u64| virt.translate(vaddr).is_ok_and(|mapping| mapping.paddr == paddr);
    let len = end.checked_sub(text).filter(|len| *len <= MAX_IMAGE)?;
    let direct = starts.into_iter().find(|start| agrees(start.wrapping_add(paddr)))?;
    agrees(text).then_some((direct, (text, paddr), len))
}
