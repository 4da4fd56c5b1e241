//! x86's bzImage: a setup header, then the compressed kernel with its own decompressor.
//!
//! Knows the boot protocol (Documentation/arch/x86/boot.rst), versions 2.12 and later. Must not know where it will lie.

use super::le;

/// Where the setup header starts in the file and in the boot parameters.
pub const HEADER: usize = 0x1f1;
/// The header may not reach beyond this in the boot parameters: the EDD signatures begin there.
const HEADER_LIMIT: usize = 0x290;
/// The 64-bit entry, from the start of the protected-mode part.
pub const ENTRY_64: u64 = 0x200;

const KERNEL_64: u16 = 1 << 0;
const ABOVE_4G: u16 = 1 << 1;
const EFI_KEXEC: u16 = 1 << 4;
const FIVE_LEVEL: u16 = 1 << 5;

/// A bzImage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BzImage {
    /// The setup header as it is in the file.
    pub header: Vec<u8>,
    /// The protected-mode part.
    pub kernel: Vec<u8>,
    /// The protocol's version, 0x020c and up.
    pub version: u16,
    /// Bytes that it needs from where it is loaded until it has found its own memory.
    pub init_size: u64,
    /// Its alignment, a power of two.
    pub alignment: u64,
    /// Where it would like to lie; it moves itself up to there if it lies lower.
    pub preferred: u64,
    /// The longest command line, without the NUL.
    pub command_line_limit: u64,
    /// Whether it, its initrd and its command line may lie above 4 GiB.
    pub above_4g: bool,
    /// Whether it can go on with EFI's runtime services after a kexec.
    pub efi_kexec: bool,
    /// Whether it can be entered with page tables of five levels.
    pub five_levels: bool,
    /// Its release, as in `uname -r`.
    pub release: Option<String>,
}

/// Whether the file has the boot protocol's header.
#[must_use]
pub fn is(file: &[u8]) -> bool {
    le::u16(file, 0x1fe) == Some(0xaa55) && file.get(0x202..0x206) == Some(b"HdrS".as_slice())
}

impl BzImage {
    /// Takes the file apart.
    ///
    /// # Errors
    /// When it is too old, damaged, or cannot be entered in 64-bit mode.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let cut = || "the file is truncated".to_owned();
        let version = le::u16(file, 0x206).ok_or_else(cut)?;
        if version < 0x020c {
            let (major, minor) = (version >> 8, version & 0xff);
            return Err(format!(
                "its boot protocol {major}.{minor:02} is older than 2.12 (Linux 3.8), which brought the 64-bit entry"
            ));
        }
        let byte = |at: usize| file.get(at).copied().ok_or_else(cut);
        if byte(0x211)? & 1 == 0 {
            return Err("it is a zImage, which cannot be loaded high".to_owned());
        }
        let flags = le::u16(file, 0x236).ok_or_else(cut)?;
        if flags & KERNEL_64 == 0 {
            return Err("it is a 32-bit kernel (it has no 64-bit entry)".to_owned());
        }
        let setup = match byte(HEADER)? {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let start = (setup + 1) * 512;
        let alignment = u64::from(le::u32(file, 0x230).ok_or_else(cut)?);
        if !alignment.is_power_of_two() {
            return Err(format!("its alignment {alignment:#x} is not a power of two: the file is damaged"));
        }
        let header_end = (0x202 + usize::from(byte(0x201)?)).min(HEADER_LIMIT);
        let header = file.get(HEADER..header_end).ok_or_else(cut)?.to_vec();
        let kernel = file.get(start..).filter(|kernel| kernel.len() > ENTRY_64 as usize).ok_or_else(cut)?.to_vec();
        // The protected-mode part is counted in paragraphs of 16 bytes; what is signed may be followed by the signature.
        let claimed = u64::from(le::u32(file, 0x1f4).ok_or_else(cut)?) * 16;
        if claimed > (kernel.len() as u64).next_multiple_of(16) {
            return Err(format!("its kernel should have {claimed} bytes, but the file has {}", kernel.len()));
        }
        let init_size = u64::from(le::u32(file, 0x260).ok_or_else(cut)?);
        Ok(Self {
            init_size: init_size.max(kernel.len() as u64),
            release: release(file),
            header,
            kernel,
            version,
            alignment: alignment.max(4096),
            preferred: le::u64(file, 0x258).ok_or_else(cut)?,
            command_line_limit: u64::from(le::u32(file, 0x238).ok_or_else(cut)?),
            above_4g: flags & ABOVE_4G != 0,
            efi_kexec: flags & EFI_KEXEC != 0,
            five_levels: flags & FIVE_LEVEL != 0,
        })
    }
}

/// The first word of the version text, whose place the header tells.
fn release(file: &[u8]) -> Option<String> {
    let at = usize::from(le::u16(file, 0x20e).filter(|at| *at != 0)?) + 512;
    let text = file.get(at..)?.split(|byte| *byte == 0 || *byte == b' ').next()?;
    let plain = text.len() < 128 && text.iter().all(u8::is_ascii_graphic);
    plain.then(|| String::from_utf8_lossy(text).into_owned())
}
