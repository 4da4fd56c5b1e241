//! What lies around a dump, broken: flattened streams, seek tables, frames.

use super::corpus::{Broken, broken};
use super::{elf, kdump};

pub fn record(offset: i64, data: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &(data.len() as i64).to_be_bytes(), data].concat()
}

pub fn stream(records: &[Vec<u8>], end: &[u8]) -> Vec<u8> {
    let mut block = [&b"makedumpfile\0\0\0\0"[..], &1i64.to_be_bytes(), &1i64.to_be_bytes()].concat();
    block.resize(4096, 0);
    [block, records.concat(), end.to_vec()].concat()
}

pub const END: [u8; 16] = [0xff; 16];

/// The dump in three records.
pub fn flattened(dump: &[u8]) -> Vec<Vec<u8>> {
    let (a, b) = (dump.len() / 3, dump.len() / 2);
    vec![record(0, &dump[..a]), record(a as i64, &dump[a..b]), record(b as i64, &dump[b..])]
}

/// Stored size, plain size, checksum.
type Entry = (u32, u32, Option<u32>);

fn hash(bytes: &[u8]) -> u32 {
    twox_hash::XxHash64::oneshot(0, bytes) as u32
}

/// A seek table: stored size, plain size, checksum.
pub fn table(entries: &[Entry]) -> Vec<u8> {
    let sums = entries.iter().any(|entry| entry.2.is_some());
    let mut body = Vec::new();
    for (stored, plain, sum) in entries {
        body.extend([stored.to_le_bytes(), plain.to_le_bytes()].concat());
        body.extend(sum.iter().flat_map(|sum| sum.to_le_bytes()));
    }
    body.extend((entries.len() as u32).to_le_bytes());
    body.push(if sums { 0x80 } else { 0 });
    body.extend(0x8F92_EAB1u32.to_le_bytes());
    [&0x184D_2A5Eu32.to_le_bytes()[..], &(body.len() as u32).to_le_bytes(), &body].concat()
}

/// A dump in zstd frames of 16 KiB, with their entries.
pub fn frames(dump: &[u8]) -> (Vec<Vec<u8>>, Vec<Entry>) {
    let mut context = zstd::bulk::Compressor::new(1).unwrap();
    context.include_checksum(true).unwrap();
    let frames: Vec<Vec<u8>> = dump.chunks(16 << 10).map(|part| context.compress(part).unwrap()).collect();
    let entry = |(frame, part): (&Vec<u8>, &[u8])| (frame.len() as u32, part.len() as u32, Some(hash(part)));
    let entries = frames.iter().zip(dump.chunks(16 << 10)).map(entry).collect();
    (frames, entries)
}

pub fn seekable(dump: &[u8]) -> Vec<u8> {
    let (frames, entries) = frames(dump);
    [frames.concat(), table(&entries)].concat()
}

/// A frame that wants a dictionary: `Dictionary_ID` 7 in its header.
fn wants_dictionary(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    // The descriptor is the fifth byte; a single-segment frame has no window byte in front of the identity.
    assert!(frame[4] & 0x20 != 0 && frame[4] & 3 == 0, "{:#x}", frame[4]);
    frame[4] |= 1;
    frame.insert(5, 7);
    frame
}

fn bad_frames(change: impl FnOnce(&mut Vec<Vec<u8>>, &mut Vec<Entry>)) -> Vec<u8> {
    let (mut all, mut entries) = frames(&elf::plain().build());
    change(&mut all, &mut entries);
    [all.concat(), table(&entries)].concat()
}

pub fn corpus() -> Vec<Broken> {
    let one = |label: &str, rules: &[&'static str], file: Vec<u8>| broken(label, rules, vec![file]);
    let dump = kdump::plain().build().0;
    let records = flattened(&dump);
    let whole = stream(&records, &END);
    let mut wrong_version = whole.clone();
    wrong_version[31] = 2;
    let core = elf::plain().build();
    let packed = seekable(&core);
    let end = packed.len();
    let patched = |at: usize, byte: u8| {
        let mut file = packed.clone();
        file[at] ^= byte;
        file
    };
    let (all, entries) = frames(&core);
    let plain_zstd = zstd::bulk::compress(&core, 3).unwrap();
    let kdump_in_frames = {
        let (mut all, entries) = frames(&dump);
        let last = all.len() - 1;
        let at = all[last].len() - 1;
        all[last][at] ^= 1;
        [all.concat(), table(&entries)].concat()
    };
    let lying = |index: usize, stored: i32, plain: u32| {
        let mut entries = entries.clone();
        entries[index].0 = (entries[index].0 as i32 + stored) as u32;
        entries[index].1 = plain;
        [all.concat(), table(&entries)].concat()
    };
    vec![
        one("flattened: header only", &["flattened-end-mark", "dump-inside"], whole[..4096].to_vec()),
        one(
            "flattened: header cut",
            &["flattened-header", "flattened-end-mark", "dump-inside"],
            whole[..4000].to_vec(),
        ),
        one("flattened: another version", &["flattened-version"], wrong_version),
        one("flattened: a negative offset", &["flattened-record"], stream(&[records.concat(), record(-2, b"x")], &END)),
        one("flattened: an empty record", &["flattened-record"], stream(&[records.concat(), record(9, b"")], &END)),
        one("flattened: no end mark", &["flattened-end-mark"], stream(&records, &[])),
        one("flattened: half an end mark", &["flattened-end-mark"], stream(&records, &END[..8])),
        one(
            "flattened: cut in a record",
            &["flattened-record-whole", "flattened-end-mark", "kdump-desc-in-file"],
            whole[..whole.len() - 100].to_vec(),
        ),
        one("flattened: something behind", &["flattened-tail"], [whole.clone(), vec![0; 7]].concat()),
        one(
            "flattened: the header again",
            &["flattened-once"],
            stream(&[records.concat(), record(0, &dump[..464])], &END),
        ),
        one("flattened: a gap", &["flattened-contiguous"], gap(&dump)),
        one("zstd: cut", &["compressed-data", "dump-inside"], plain_zstd[..plain_zstd.len() - 9].to_vec()),
        one("seekable: a reserved bit", &["seekable-table"], patched(end - 5, 0x40)),
        one("seekable: another number of frames", &["seekable-table"], patched(end - 9, 1)),
        one("seekable: sizes that do not add up", &["seekable-sizes"], lying(0, 1, 16 << 10)),
        one("seekable: a frame of 2 GiB", &["seekable-frame-size"], lying(0, 0, 2 << 30)),
        one("seekable: another size", &["seekable-frame", "file-readable", "elf-load-in-file"], lying(1, 0, 100)),
        one(
            "seekable: a damaged frame",
            &["seekable-frame-data", "file-readable"],
            bad_frames(|all, _| {
                let at = all[1].len() - 1;
                all[1][at] ^= 1;
            }),
        ),
        one(
            "seekable: another checksum",
            &["seekable-checksum", "file-readable"],
            bad_frames(|_, entries| entries[1].2 = Some(1)),
        ),
        one(
            "seekable: a dictionary",
            &["seekable-dictionary", "file-readable"],
            bad_frames(|all, entries| {
                all[1] = wants_dictionary(&all[1]);
                entries[1].0 += 1;
            }),
        ),
        one("seekable: pages in a damaged frame", &["seekable-frame-data", "file-readable"], kdump_in_frames),
    ]
}

/// Zeros that no reader needs, of which one page is in no record.
fn gap(dump: &[u8]) -> Vec<u8> {
    let mut dump = dump.to_vec();
    let len = dump.len().next_multiple_of(0x1000);
    dump.resize(len, 0);
    stream(&[record(0, &dump), record(len as i64 + 0x1000, &[0; 0x1000])], &END)
}
