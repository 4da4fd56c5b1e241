//! The log's own memory: the ring of messages, and the descriptors that lead to them.
//!
//! Knows where each kernel era keeps them. Must not know what a message looks like (`klog` does).

use super::{Found, Frames, Gap};
use crate::kernel::crashed::Crashed;

/// `log_buf_len=` is limited to 2^31 bytes (`LOG_BUF_LEN_MAX`), and the ring has one descriptor per 2^5 (`PRB_AVGBITS`).
const MAX_SIZE_BITS: u32 = 31;
const MAX_COUNT_BITS: u32 = 26;
/// Larger than any of the log's structures.
const MAX_STRUCT: u64 = 4096;

pub(super) fn find(crashed: &Crashed<'_>, frames: &mut Frames) -> Found {
    let found = match crashed.info.symbol("prb") {
        Some(prb) => ring(crashed, prb, frames),
        None => buffer(crashed, frames),
    };
    match found {
        Some(true) => Ok(()),
        Some(false) => Err(Gap::Damaged("some of it is not mapped".to_owned())),
        None => Err(Gap::Unknown("nothing that can be believed says where it lies".to_owned())),
    }
}

/// The ring of 5.10 and later; whether all of it is mapped.
fn ring(crashed: &Crashed<'_>, prb: u64, frames: &mut Frames) -> Option<bool> {
    let info = crashed.info;
    let ring = crashed.word(prb)?;
    let descriptors = ring.wrapping_add(info.offset("printk_ringbuffer.desc_ring")?);
    let text = ring.wrapping_add(info.offset("printk_ringbuffer.text_data_ring")?);
    let bits = |at: u64, name: &str, most: u32| {
        let offset = info.offset(name)?;
        crashed.half(at.wrapping_add(offset)).filter(|bits| (1..=most).contains(bits))
    };
    let pointer = |at: u64, name: &str| crashed.word(at.wrapping_add(info.offset(name)?));
    let size = |name: &str| info.size(name).filter(|size| (1..=MAX_STRUCT).contains(size));
    let count = 1u64 << bits(descriptors, "prb_desc_ring.count_bits", MAX_COUNT_BITS)?;
    let bytes = 1u64 << bits(text, "prb_data_ring.size_bits", MAX_SIZE_BITS)?;
    let areas = [
        (ring, size("printk_ringbuffer")?),
        (pointer(text, "prb_data_ring.data")?, bytes),
        (pointer(descriptors, "prb_desc_ring.descs")?, count * size("prb_desc")?),
        (pointer(descriptors, "prb_desc_ring.infos")?, count * size("printk_info")?),
    ];
    Some(areas.into_iter().fold(true, |whole, (at, len)| frames.add_virtual(at, len, crashed) && whole))
}

/// One buffer of records or of characters.
fn buffer(crashed: &Crashed<'_>, frames: &mut Frames) -> Option<bool> {
    let len = crashed.symbol("log_buf_len").and_then(|at| crashed.half(at))?;
    let len = u64::from(len).min(1 << MAX_SIZE_BITS);
    let at = crashed.variable("log_buf")?;
    Some(frames.add_virtual(at, len, crashed))
}
