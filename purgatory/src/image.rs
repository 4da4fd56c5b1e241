//! Puts a handover into the blob: the table of `abi.rs`, written field by field at the blob's end.
//!
//! Knows the table's order of fields; what it writes was judged by `handover.rs`.

use sha2::{Digest, Sha256};

use crate::abi::{MAX_REGIONS, NAME_LEN, REBOOT};
use crate::blob;
use crate::handover::{Backup, Handover, HandoverError, OnMismatch, Region};

/// A page: kexec places segments on pages.
const ALIGN: u64 = 4096;

/// The purgatory, ready to be loaded at any address that is a multiple of `align`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Its segment's data.
    pub bytes: Vec<u8>,
    /// Its segment's bytes of memory, a multiple of `align`.
    pub mem_size: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Offset of the entry in `bytes`.
    pub entry: u64,
}

impl Handover {
    /// The blob with this handover in it.
    ///
    /// The blob uses the SHA extensions if this machine has them: it is to run on the machine that loads it.
    ///
    /// # Errors
    /// A handover that contradicts itself or that the table has no room for, see [`HandoverError`].
    pub fn image(&self) -> Result<Image, HandoverError> {
        self.image_for(has_sha_extensions())
    }

    /// The same for another machine: one whose processor has, or has not, the SHA extensions (and SSE 4.1).
    ///
    /// # Errors
    /// As [`Handover::image`].
    pub fn image_for(&self, sha_extensions: bool) -> Result<Image, HandoverError> {
        self.check()?;
        image(self, sha_extensions)
    }
}

/// The blob with a table that says what `handover` says. The handover is sound.
fn image(handover: &Handover, sha_extensions: bool) -> Result<Image, HandoverError> {
    // Without a blob there is no table either.
    let code = blob::BYTES.get(..blob::PARAMS as usize).filter(|code| !code.is_empty());
    let mut bytes = code.ok_or(HandoverError::NoBlob)?.to_vec();
    write(handover, sha_extensions, &mut bytes)?;
    let own: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.extend(own);
    Ok(Image { bytes, mem_size: blob::MEM_SIZE.next_multiple_of(ALIGN), align: ALIGN, entry: blob::ENTRY })
}

/// All fields but the last, in the order of `Params`.
fn write(handover: &Handover, sha_extensions: bool, out: &mut Vec<u8>) -> Result<(), HandoverError> {
    let backup = handover.backup.unwrap_or(Backup { source: 0, destination: 0, len: 0 });
    let (port, divisor) = handover.serial.map_or(Ok((0, 0)), |serial| serial.divisor().map(|by| (serial.port, by)))?;
    let on_mismatch = if handover.on_mismatch == OnMismatch::Reboot { REBOOT } else { 0 };
    for word in [handover.kernel_entry, handover.boot_params, backup.source, backup.destination, backup.len] {
        out.extend(word.to_le_bytes());
    }
    out.extend(u32::to_le_bytes(on_mismatch));
    out.extend((handover.regions.len() as u32).to_le_bytes());
    out.extend(port.to_le_bytes());
    out.extend(divisor.to_le_bytes());
    out.extend([u8::from(handover.debug_port), u8::from(sha_extensions), 0, 0]);
    for region in &handover.regions {
        write_region(region, out);
    }
    out.resize(out.len() + (MAX_REGIONS - handover.regions.len()) * size_of::<crate::abi::Region>(), 0);
    Ok(())
}

fn write_region(region: &Region, out: &mut Vec<u8>) {
    out.extend(region.start.to_le_bytes());
    out.extend(region.len.to_le_bytes());
    out.extend(region.sha256);
    let mut name = region.name.clone().into_bytes();
    name.resize(NAME_LEN, 0);
    out.extend(name);
}

/// Whether this machine's processor has the instructions of the blob's fast digest.
fn has_sha_extensions() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("sha")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}
