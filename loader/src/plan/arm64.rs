//! Plans for arm64: where an Image, its initrd, device tree and core headers would go.
//!
//! Knows the placement rules of Documentation/arch/arm64/booting.rst. The plan is for looking at (`--dry-run`): the device
//! tree is not rewritten here, so that loading goes through `kexec_file_load`, where the kernel does it.

use std::borrow::Cow;

use super::{Plan, Request, Segment, region};
use crate::{
    corehdr::{Class, CoreHeaders},
    error::{Error, Result},
    host::Host,
    image::{Image, Machine},
    place::{Need, place, place_in_ram, place_in_reserved},
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
    let Image::Arm64(image) = request.image else {
        return Err(Error::input("the image is not for arm64"));
    };
    let mut notes = vec!["for looking at: arm64 kernels are loaded with --method file only".to_owned()];
    let tree = host.device_tree.as_ref().ok_or_else(|| {
        Error::input("cannot plan without the machine's device tree")
            .because("/sys/firmware/fdt is missing")
            .next_step("give a root folder that has it")
    })?;
    let options = request.options;
    let region = if options.panic { Some(region(host)?) } else { None };
    let headers = match options.panic {
        true => Some(CoreHeaders::describe(host, Machine::Arm64, None, &mut notes)?),
        false => None,
    };
    // The kernel lies at a 2 MiB boundary and a text offset: the room before it goes with it.
    let kernel_size = align_up(image.memory + image.text_offset, PAGE).unwrap_or(u64::MAX);
    let mut needs = vec![Need { align: KERNEL_ALIGN, ..Need::new("kernel", kernel_size, 0) }];
    let initrd = request.initrd.filter(|initrd| !initrd.is_empty());
    needs.extend(initrd.map(|initrd| Need::new("initrd", initrd.len() as u64, 0)));
    if tree.len() as u64 + CHOSEN > TREE {
        return Err(Error::input(format!("the device tree has {}, more than 2 MiB", human(tree.len() as u64))));
    }
    needs.push(Need { align: TREE, ..Need::new("dtb", tree.len() as u64 + CHOSEN, 0) });
    if let Some(headers) = &headers {
        needs.push(Need { align: HEADERS_ALIGN, ..Need::new("elfcorehdr", headers.size(Class::Elf64), 0) });
    }
    let places = match region {
        Some(region) => place(&needs, &[region], SLACK).or_else(|_| place_in_reserved(&needs, region, SLACK))?,
        None => place_in_ram(&needs, &host.iomem.plain_ram())?,
    };
    let mut segments: Vec<Segment<'a>> = Vec::new();
    for (need, range) in needs.iter().zip(&places) {
        let (range, data): (Range, Cow<'a, [u8]>) = match need.name {
            "kernel" => (Range::new(range.start + image.text_offset, range.end), Cow::Borrowed(&image.bytes)),
            "initrd" => (*range, Cow::Borrowed(initrd.unwrap_or(&[]))),
            "dtb" => (*range, Cow::Owned(tree.clone())),
            _ => (*range, headers.as_ref().map(|h| h.bytes(Class::Elf64, Machine::Arm64)).unwrap_or_default().into()),
        };
        segments.push(Segment { name: need.name, range, data, sha256: None });
    }
    let entry = places[0].start + image.text_offset;
    segments.sort_unstable_by_key(|segment| segment.range.start);
    Ok(Plan {
        image: request.image.describe(),
        panic: options.panic,
        machine: Machine::Arm64.to_string(),
        region,
        left: region.map_or(0, |region| region.len().saturating_sub(total(&places))),
        segments,
        entry,
        kernel_entry: entry,
        boot_params: 0,
        command_line: request.command_line.trim().to_owned(),
        e820: Vec::new(),
        core_headers: headers,
        backup: None,
        serial: None,
        slack: SLACK,
        hotplug: false,
        notes,
    })
}
