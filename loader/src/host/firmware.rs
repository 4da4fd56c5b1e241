//! What the firmware told the running kernel: its memory map, EFI's tables, the boot parameters.
//!
//! Knows the files under `/sys/firmware` and `/sys/kernel/boot_params`. Gives them on to the next kernel's boot parameters.

use std::path::Path;

use super::{files, iomem::Kind};
use crate::range::Range;

/// EFI as the next kernel needs it to go on with the runtime services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Efi {
    /// Physical address of the vendor's name.
    pub vendor: u64,
    /// Physical address of the runtime services.
    pub runtime: u64,
    /// Physical address of the configuration tables.
    pub tables: u64,
    /// Physical address of the SMBIOS tables, 0 if there are none.
    pub smbios: u64,
    /// The runtime map, in the order of its entries' numbers.
    pub map: Vec<EfiEntry>,
}

/// One descriptor of EFI's runtime map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EfiEntry {
    /// EFI's memory type.
    pub kind: u32,
    /// Physical address.
    pub physical: u64,
    /// Virtual address that the firmware was told.
    pub virtual_address: u64,
    /// Pages of 4 KiB.
    pub pages: u64,
    /// EFI's attributes.
    pub attribute: u64,
}

/// The firmware's memory map, in order; empty where the kernel does not show it.
#[must_use]
pub fn memory_map(root: &Path) -> Vec<(Range, Kind)> {
    let folder = root.join("sys/firmware/memmap");
    let entry = |number: u32| {
        let folder = folder.join(number.to_string());
        let (start, last) = (files::hex(&folder.join("start"))?, files::hex(&folder.join("end"))?);
        let kind = files::text(&folder.join("type"))?;
        // What we do not know must not be touched.
        let kind = Kind::of(kind.trim()).unwrap_or(Kind::Reserved);
        (last >= start).then_some((Range { start, end: last.saturating_add(1) }, kind))
    };
    let mut map: Vec<(Range, Kind)> = files::numbered(&folder, "").into_iter().filter_map(entry).collect();
    map.sort_unstable_by_key(|(range, _)| range.start);
    map
}

/// The boot parameters that the running kernel was given.
#[must_use]
pub fn boot_params(root: &Path) -> Option<Vec<u8>> {
    let places = ["sys/kernel/boot_params/data", "sys/kernel/debug/boot_params/data"];
    let bytes = places.iter().find_map(|place| files::bytes(&root.join(place)))?;
    (bytes.len() == 4096).then_some(bytes)
}

/// EFI's tables; `None` where the machine did not boot by EFI, or the runtime map is not shown.
#[must_use]
pub fn efi(root: &Path) -> Option<Efi> {
    let folder = root.join("sys/firmware/efi");
    let maps = folder.join("runtime-map");
    let entry = |number: u32| {
        let folder = maps.join(number.to_string());
        Some(EfiEntry {
            kind: u32::try_from(files::decimal(&folder.join("type"))?).ok()?,
            physical: files::hex(&folder.join("phys_addr"))?,
            virtual_address: files::hex(&folder.join("virt_addr"))?,
            pages: files::decimal(&folder.join("num_pages"))?,
            attribute: files::hex(&folder.join("attribute"))?,
        })
    };
    let map = files::numbered(&maps, "").into_iter().map(entry).collect::<Option<Vec<_>>>()?;
    (!map.is_empty()).then_some(())?;
    Some(Efi {
        vendor: files::hex(&folder.join("fw_vendor"))?,
        runtime: files::hex(&folder.join("runtime"))?,
        tables: files::hex(&folder.join("config_table"))?,
        smbios: systab(root, "SMBIOS").unwrap_or(0),
        map,
    })
}

/// An address in EFI's system table as the kernel prints it.
fn systab(root: &Path, name: &str) -> Option<u64> {
    let text = files::text(&root.join("sys/firmware/efi/systab"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    files::hex_of(value)
}

/// Where ACPI's root table is, as EFI says; a BIOS keeps it where the next kernel finds it by itself.
#[must_use]
pub fn acpi_root(root: &Path) -> Option<u64> {
    systab(root, "ACPI20").or_else(|| systab(root, "ACPI"))
}

/// Whether the machine booted by EFI.
#[must_use]
pub fn booted_by_efi(root: &Path) -> bool {
    root.join("sys/firmware/efi").is_dir()
}
