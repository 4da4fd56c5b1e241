//! Virtual addresses for an ELF dump whose input has none.
//!
//! Knows the two mappings that every x86_64 kernel has for its memory. Must not guess: an address that cannot be derived is
//! the physical one. The segments go to `plan`, as those of an ELF core would.

use std::borrow::Cow;

use super::{kallsyms::Kallsyms, whole::Kernel};
use crate::{
    layout::VmcoreInfo,
    memory::VirtReader,
    source::{Load, Source},
};

/// The variable with the start of the direct mapping, where it is not fixed (4.8, `CONFIG_RANDOMIZE_MEMORY`).
const DIRECT: &str = "page_offset_base";
/// Where it starts in kernels without that variable (arch/x86/include/asm/page_64_types.h): with 4 levels since d52888aa2753
/// (4.20) and before, with 5 levels likewise.
const FIXED: [u64; 4] = [0xffff_8880_0000_0000, 0xffff_8800_0000_0000, 0xff11_0000_0000_0000, 0xff10_0000_0000_0000];
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
    let paging = kernel.layout.paging;
    let virt = VirtReader::new(source, paging)?;
    let found = Kallsyms::find(info, &virt, &[DIRECT, IMAGE.0, IMAGE.1]).ok()?;
    let [variable, Some(text), Some(end)] = found[..] else {
        return None;
    };
    let starts = match variable {
        Some(variable) => vec![virt.read_u64(variable).ok()?],
        None => FIXED.to_vec(),
    };
    // The page tables have the last word: the image must be found through both mappings.
    let paddr = paging.image_paddr(text);
    let agrees = |vaddr: u64| virt.translate(vaddr).is_ok_and(|mapping| mapping.paddr == paddr);
    let len = end.checked_sub(text).filter(|len| *len <= MAX_IMAGE)?;
    let direct = starts.into_iter().find(|start| agrees(start.wrapping_add(paddr)))?;
    agrees(text).then_some((direct, (text, paddr), len))
}
