//! Plans for arm64: where an Image, its initrd, device tree and core headers would go.
//!
//! Knows the placement rules of Documentation/arch/arm64/booting.rst. The plan is for looking at (`--dry-run`): the device
//! tree is not rewritten here, so that loading goes through `kexec_file_load`, where the kernel does it.

use std::borrow::Cow;

use super::{
    parts::{Plan, Request, Segment},
    reserved::region,
};
use crate::{
    corehdr::{Class, CoreHeaders},
    error::{Error, Result},
    host::Host,
    image::{Image, Machine, arm64::Arm64},
    place::{Need, place_in_ram, place_in_reserved},
    range::{PAGE, Range, align_up, human, total},
};

/// A device tree may not be larger, and may not cross a boundary of this.
const TREE: u64 = 2 << 20;
const KERNEL_ALIGN: u64 = 2 << 20;
/// The core headers' alignment in the kernel's own loader: the largest page.
const HEADERS_ALIGN: u64 = 64 << 10;
/// A device tree grows by what is written into /chosen.
const CHOSEN: u64 = 4096;
/// What control pages there are: code, and with newer kernels page tables for all RAM.
const SLACK: u64 = 1 << 20;

pub(super) fn plan<'a>(host: &Host, request: &Request<'a>) -> Result<Plan<'a>> {
    let mut notes = vec!["for looking at: arm64 kernels are loaded with --method file only".to_owned()];
    let initrd = request.initrd.map_or(0, |initrd| initrd.len() as u64);
    let placed = Placed::new(host, request, initrd, &mut notes)?;
    let (segments, entry) = placed.segments(request);
    Ok(Plan {
        image: request.image.describe(),
        panic: request.options.panic,
        machine: Machine::Arm64.to_string(),
        region: placed.region,
        left: placed.region.map_or(0, |region| region.len().saturating_sub(total(&placed.ranges))),
        segments,
        entry,
        kernel_entry: entry,
        boot_params: 0,
        command_line: request.command_line.trim().to_owned(),
        e820: Vec::new(),
        core_headers: placed.headers,
        backup: None,
        serial: None,
        slack: SLACK,
        hotplug: false,
        notes,
    })
}

/// Whether everything has a place with an initrd of so many bytes.
pub(super) fn measure(host: &Host, request: &Request<'_>, initrd: u64) -> Result<()> {
    Placed::new(host, request, initrd, &mut Vec::new()).map(drop)
}

/// Everything with its place, and nothing filled.
struct Placed<'h, 'a> {
    image: &'a Arm64,
    tree: &'h [u8],
    headers: Option<CoreHeaders>,
    region: Option<Range>,
    needs: Vec<Need>,
    ranges: Vec<Range>,
}

impl<'h, 'a> Placed<'h, 'a> {
    fn new(host: &'h Host, request: &Request<'a>, initrd: u64, notes: &mut Vec<String>) -> Result<Self> {
        let Image::Arm64(image) = request.image else {
            return Err(Error::input("the image is not for arm64"));
        };
        let tree = host.device_tree.as_deref().ok_or_else(|| {
            Error::input("cannot plan without the machine's device tree")
                .because("/sys/firmware/fdt is missing")
                .next_step("give a root folder that has it")
        })?;
        let panic = request.options.panic;
        let headers = if panic { Some(CoreHeaders::describe(host, Machine::Arm64, None, notes)?) } else { None };
        // The kernel lies at a 2 MiB boundary and a text offset: the room before it goes with it.
        let kernel_size = align_up(image.memory + image.text_offset, PAGE).unwrap_or(u64::MAX);
        let mut needs = vec![Need { align: KERNEL_ALIGN, ..Need::new("kernel", kernel_size, 0) }];
        needs.extend((initrd > 0).then(|| Need::new("initrd", initrd, 0)));
        if tree.len() as u64 + CHOSEN > TREE {
            return Err(Error::input(format!("the device tree has {}, more than 2 MiB", human(tree.len() as u64))));
        }
        needs.push(Need { align: TREE, ..Need::new("dtb", tree.len() as u64 + CHOSEN, 0) });
        let size = headers.as_ref().map(|headers| headers.size(Class::Elf64));
        needs.extend(size.map(|size| Need { align: HEADERS_ALIGN, ..Need::new("elfcorehdr", size, 0) }));
        let (region, ranges) = if panic {
            let region = region(host, &needs, SLACK, initrd)?;
            (Some(region), place_in_reserved(&needs, region, SLACK)?)
        } else {
            (None, place_in_ram(&needs, &host.iomem.plain_ram())?)
        };
        Ok(Self { image, tree, headers, region, needs, ranges })
    }

    /// The segments with their bytes, lowest first, and where the kernel is entered.
    fn segments(&self, request: &Request<'a>) -> (Vec<Segment<'a>>, u64) {
        let mut segments: Vec<Segment<'a>> = Vec::new();
        let mut entry = 0;
        for (need, range) in self.needs.iter().zip(&self.ranges) {
            let (range, data): (Range, Cow<'a, [u8]>) = match need.name {
                "kernel" => {
                    entry = range.start + self.image.text_offset;
                    (Range::new(entry, range.end), Cow::Borrowed(&self.image.bytes))
                }
                "initrd" => (*range, Cow::Borrowed(request.initrd.unwrap_or(&[]))),
                "dtb" => (*range, Cow::Owned(self.tree.to_vec())),
                _ => {
                    let headers = self.headers.as_ref();
                    (*range, headers.map(|h| h.bytes(Class::Elf64, Machine::Arm64)).unwrap_or_default().into())
                }
            };
            segments.push(Segment { name: need.name, range, data, sha256: None });
        }
        segments.sort_unstable_by_key(|segment| segment.range.start);
        (segments, entry)
    }
}
