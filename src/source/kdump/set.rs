//! Split sets: several files that are one dump.
//!
//! Knows what proves that parts belong together, and which frames no part has. Must not read pages. The ordered parts go to the
//! bitmaps' reader and to the store.

use vdump_filters::PfnRange;
use zerocopy::IntoBytes as _;

use super::header::{File, Head};
use crate::{
    error::{Error, Kind, Result},
    format::diskdump::Header,
    source::MAX_READ,
};

/// A file with the frames whose pages it has.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    pub(super) head: Head,
    pub(super) frames: PfnRange,
}

/// Parses the headers of all files and puts the parts in order. Gives the frames too that no part has: what is there is worth
/// reading all the same.
///
/// # Errors
/// They are not parts of one dump; names the file that does not fit.
pub(super) fn parts(files: Vec<File>) -> Result<(Vec<Part>, Vec<PfnRange>)> {
    let alone = files.len() == 1;
    let mut parts = Vec::with_capacity(files.len());
    for file in files {
        let head = file.head()?;
        let frames = match head.split() {
            Some(frames) => frames,
            None if alone => PfnRange::new(0, head.max_mapnr),
            None => return Err(not_a_part(&file)),
        };
        if frames.start > frames.end || frames.end > head.max_mapnr {
            let (start, end, max) = (frames.start, frames.end, head.max_mapnr);
            return Err(file.damaged(format!("it claims page frames {start:#x} to {end:#x} of {max:#x}")));
        }
        parts.push(Part { file, head, frames });
    }
    same_dump(&parts)?;
    parts.sort_by_key(|part| (part.frames.start, part.frames.end));
    let gaps = gaps(&parts)?;
    Ok((parts, gaps))
}

fn not_a_part(file: &File) -> Error {
    Error::new(Kind::Usage, format!("cannot use {} together with other inputs", file.path.display()))
        .because("it is a whole dump, not a part of a split one")
        .next_step("several inputs are the parts of one split dump; give this one alone")
}

/// Every part has the same header, but for what is its own, and the same bitmaps.
fn same_dump(parts: &[Part]) -> Result<()> {
    // Writers that make each part on its own give it its own microseconds; the bitmaps are compared besides.
    let timeless = |part: &Part| Header { tv_usec: 0.into(), ..part.head.header };
    let alike = |one: &Part, other: &Part| timeless(one).as_bytes() == timeless(other).as_bytes();
    // The stranger is the one that few others are like.
    let votes = |part: &Part| parts.iter().filter(|other| alike(part, other)).count();
    let Some(model) = parts.iter().rev().max_by_key(|part| votes(part)) else {
        return Ok(());
    };
    for part in parts {
        if std::ptr::eq(part, model) {
            continue;
        }
        if !alike(part, model) || part.head.bitmap1 != model.head.bitmap1 {
            return Err(stranger(part, model, "headers"));
        }
        if !same_bytes(part, model)? {
            return Err(stranger(part, model, "bitmaps"));
        }
    }
    Ok(())
}

fn stranger(part: &Part, model: &Part, what: &str) -> Error {
    Error::input(format!("cannot use {} as a part of this dump", part.file.path.display()))
        .because(format!("its {what} differ from those of {}", model.file.path.display()))
        .next_step("it belongs to another crash: name the parts of one dump")
}

fn same_bytes(part: &Part, model: &Part) -> Result<bool> {
    let (mut ours, mut theirs) = (part.file.store.reader(), model.file.store.reader());
    let (mut at, end) = (part.head.bitmap1, part.head.descs());
    loop {
        // Where neither has any data both have zeros.
        at = part.file.store.next_data(at).min(model.file.store.next_data(at));
        if at >= end {
            return Ok(true);
        }
        let len = (end - at).min(MAX_READ as u64) as usize;
        let one = ours.read(at, len).map_err(|error| part.file.unreadable("the bitmaps", &error))?;
        let other = theirs.read(at, len).map_err(|error| model.file.unreadable("the bitmaps", &error))?;
        if one != other {
            return Ok(false);
        }
        at += len as u64;
    }
}

/// No frame lies in two of the sorted parts. Gives the frames that lie in none: their part is missing.
fn gaps(parts: &[Part]) -> Result<Vec<PfnRange>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    let mut before: Option<&Part> = None;
    for part in parts {
        if part.frames.start > at {
            gaps.push(PfnRange::new(at, part.frames.start));
        }
        if let Some(before) = before
            && part.frames.start < at
        {
            let path = part.file.path.display();
            return Err(Error::input(format!("cannot use {path} together with {}", before.file.path.display()))
                .because(format!("both have page frame {:#x}", part.frames.start))
                .next_step("name each part of the dump once"));
        }
        at = part.frames.end;
        before = Some(part);
    }
    if let Some(last) = before.filter(|last| at < last.head.max_mapnr) {
        gaps.push(PfnRange::new(at, last.head.max_mapnr));
    }
    Ok(gaps)
}
