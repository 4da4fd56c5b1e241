//! What is left when the device fills up: a file that says that it is not whole and shows only what it has.
//!
//! Knows what a partial of each format must be. Must not know what ended the run. Fails with the first page that lies.

use std::fs;
use std::path::Path;

use crate::check;
use crate::disks::{full_of_kernel, in_namespace, names, one_line, scripted};
use crate::harness::{run, temp_dir};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::{INCOMPLETE, Kdump};
use crate::synth::Fixture;

/// A partial kdump file: marked so, and each page either right or visibly lost. Counts both.
pub fn right_or_lost(fixture: &Fixture, path: &Path) -> (usize, usize) {
    let dump = Kdump::open(path);
    assert_ne!(dump.field("status") & INCOMPLETE, 0, "not marked incomplete");
    assert_eq!(dump.bits(), fixture.truth.kept(31), "the bitmap is not the full one");
    let (mut right, mut lost) = (0, 0);
    for pfn in dump.bits() {
        match dump.page(pfn) {
            Ok(page) => {
                assert!(page == fixture.image.page(pfn), "page {pfn:#x} differs");
                right += 1;
            }
            Err(why) if why.starts_with("lost") => lost += 1,
            Err(why) => panic!("page {pfn:#x}: {why}"),
        }
    }
    (right, lost)
}

/// A partial with a good part of the pages.
fn sound_partial(fixture: &Fixture, path: &Path) {
    let (right, lost) = right_or_lost(fixture, path);
    assert!(right > 100 && lost > 100, "{right} pages right, {lost} lost");
}

/// A partial ELF core must not show a page that it lost: what the headers lead to is right, and nothing but known zeros comes
/// after the first page that is missing.
/// Counts pages with contents, and gives the cut.
pub fn right_up_to_a_cut(fixture: &Fixture, path: &Path) -> (usize, Option<u64>) {
    let core = Elf::open(path);
    assert_eq!(core.flags() & 1, 1, "not marked incomplete");
    check::sound("a partial ELF core", &core.faults());
    let kept = fixture.truth.kept(31);
    let (mut stored, mut cut) = (0, None);
    for pfn in fixture.truth.pfns() {
        let right = match core.page(pfn) {
            Found::Absent => {
                cut = cut.or_else(|| kept.contains(&pfn).then_some(pfn));
                continue;
            }
            Found::Unstored => {
                assert!(fixture.image.is_zero(pfn) && kept.contains(&pfn), "page {pfn:#x} is shown as zeros");
                continue;
            }
            Found::Stored(page) => page == fixture.image.page(pfn),
        };
        assert!(right && kept.contains(&pfn), "page {pfn:#x} is shown as something else");
        assert_eq!(cut, None, "page {pfn:#x} is shown past the cut");
        stored += usize::from(!fixture.image.is_zero(pfn));
    }
    (stored, cut)
}

fn sound_partial_core(fixture: &Fixture, path: &Path) {
    let (stored, cut) = right_up_to_a_cut(fixture, path);
    assert!(stored > 100 && cut.is_some(), "{stored} pages, cut at {cut:x?}");
}

const FULL_DISK: &str = r#"mount -t tmpfs -o size=8m none "$DIR" || exit 99
"$VDUMP" filter -f "$0" -c none -d 31 --progress none "$IN" "$DIR/out"
code=$?; cp "$DIR"/* "$SAVE"/; exit $code"#;

#[test]
fn a_full_disk_leaves_a_marked_partial() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    for format in ["kdump", "elf"] {
        let saved = dir.path().join("saved");
        let _ = fs::remove_dir_all(&saved);
        let script = FULL_DISK.replace("\"$0\"", format);
        let Some(run) = in_namespace(&script, &fixture, dir.path()) else {
            return;
        };
        one_line(&run, 1);
        assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
        assert!(run.stderr.contains("out-incomplete"), "does not say where the partial is: {}", run.stderr);
        assert_eq!(names(&saved), ["out-incomplete"], "{format}");
        let left = saved.join("out-incomplete");
        match format {
            "elf" => sound_partial_core(&fixture, &left),
            _ => sound_partial(&fixture, &left),
        }
    }
}

#[test]
fn a_file_size_limit_is_a_full_disk_too() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    // 16 MiB in blocks of 512 bytes; the signal is ignored so that writes fail with EFBIG.
    let script = r#"trap '' XFSZ; ulimit -f 32768
"$VDUMP" filter -c none -d 31 --progress none "$IN" "$SAVE/out""#;
    let run = run(&mut scripted(script, &fixture, dir.path()));
    one_line(&run, 1);
    let left = names(&dir.path().join("saved"));
    assert!(left.iter().all(|n| n == "out-incomplete"), "left {left:?}");
    if !left.is_empty() {
        sound_partial(&fixture, &dir.path().join("saved/out-incomplete"));
    }
}

#[test]
fn no_room_for_even_the_header() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let script = FULL_DISK.replace("8m", "16k").replace("\"$0\"", "kdump");
    let Some(run) = in_namespace(&script, &fixture, dir.path()) else {
        return;
    };
    one_line(&run, 1);
    assert!(!names(&dir.path().join("saved")).contains(&"out".into()));
}
