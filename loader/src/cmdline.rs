//! Kernel command lines: words, quotes, parameters.
//!
//! Knows how the kernel splits a line (lib/cmdline.c: spaces, with double quotes around values). Must not know images.

use crate::{
    error::{Error, Result},
    range::Range,
};

/// What a boot loader puts before the kernel's own parameters, and what only concerns the kernel that reserved the memory.
const NOT_REUSED: [&str; 3] = ["BOOT_IMAGE", "elfcorehdr", "acpi_rsdp"];

/// Known since 3.16 (drivers/acpi/acpi_memhotplug.c); older kernels hand it to init, which ignores it.
const NO_NEW_MEMORY: &str = "acpi_no_memhotplug";

/// The words of a line; a quoted value stays with its parameter.
#[must_use]
pub fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quoted) = (None, false);
    for (at, c) in line.char_indices() {
        match c {
            '"' => {
                quoted = !quoted;
                start.get_or_insert(at);
            }
            c if c.is_ascii_whitespace() && !quoted => words.extend(start.take().map(|start| &line[start..at])),
            _ => _ = start.get_or_insert(at),
        }
    }
    words.extend(start.map(|start| &line[start..]));
    words
}

/// The part of a word before `=`, without quotes.
fn name(word: &str) -> &str {
    let word = word.trim_start_matches('"');
    word.split_once('=').map_or(word, |(name, _)| name)
}

/// Whether the line has the parameter, before `--`, which ends what the kernel reads.
#[must_use]
pub fn has(line: &str, parameter: &str) -> bool {
    words(line).into_iter().take_while(|word| *word != "--").any(|word| name(word) == parameter)
}

/// The last value of a parameter.
#[must_use]
pub fn value<'a>(line: &'a str, parameter: &str) -> Option<&'a str> {
    let found = words(line).into_iter().rfind(|word| name(word) == parameter)?;
    found.trim_matches('"').split_once('=').map(|(_, value)| value.trim_matches('"'))
}

/// The line without these parameters, wherever they stand.
#[must_use]
pub fn without(line: &str, parameters: &[&str]) -> String {
    let kept = words(line).into_iter().filter(|word| !parameters.contains(&name(word)));
    kept.collect::<Vec<_>>().join(" ")
}

/// The next kernel's line: the running kernel's if it is to be reused, then what was given. A capture kernel reserves no
/// memory for another one.
#[must_use]
pub fn joined(running: Option<&str>, given: &str, panic: bool) -> String {
    let reused = running.map(|line| {
        let line = without(line, &NOT_REUSED);
        if panic { without(&line, &["crashkernel"]) } else { line }
    });
    let parts = [reused.as_deref().unwrap_or(""), given.trim()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The line for a capture kernel. ACPI shows it every DIMM that its memory map leaves out, and it would take the dead
/// kernel's memory for new and use it (Debian's 6.12 does at once): the dump would have other data, and nobody could tell.
#[must_use]
pub fn for_capture(line: &str) -> String {
    let ours = if has(line, NO_NEW_MEMORY) { Vec::new() } else { vec![NO_NEW_MEMORY.to_owned()] };
    prefixed(&ours, line)
}

/// The line with what the loader must say put in front: behind a `--` the kernel would not read it.
#[must_use]
pub fn prefixed(ours: &[String], line: &str) -> String {
    let parts = ours.iter().map(String::as_str).chain([line]);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `memmap=` words for a map that the kernel shall take instead of its firmware's: RAM, and what ACPI keeps.
#[must_use]
pub fn exact_map(ram: &[Range], acpi: &[Range]) -> Vec<String> {
    let kib = |bytes: u64| bytes >> 10;
    // The kernel rounds nothing: RAM inwards, tables outwards to whole KiB.
    let ram = ram.iter().map(|range| (range.start.div_ceil(1024), kib(range.end), '@'));
    let acpi = acpi.iter().map(|range| (kib(range.start), range.end.div_ceil(1024), '#'));
    let word =
        |(start, end, sign): (u64, u64, char)| (end > start).then(|| format!("memmap={}K{sign}{start}K", end - start));
    std::iter::once("memmap=exactmap".to_owned()).chain(ram.chain(acpi).filter_map(word)).collect()
}

/// Checks that the line fits; `limit` is the most bytes without the NUL.
///
/// # Errors
/// How many bytes it is too long.
pub fn check(line: &str, limit: u64) -> Result<()> {
    if line.contains('\0') {
        return Err(Error::usage("the command line holds a NUL character"));
    }
    let len = line.len() as u64;
    if len > limit {
        let over = len - limit;
        return Err(Error::usage(format!(
            "the command line has {len} bytes, {over} more than the kernel takes ({limit})"
        ))
        .next_step("shorten it; '--memory-map e820' keeps the memory map out of it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_spaces_together() {
        assert_eq!(words(r#" a="b c"  d "e f=g" "#), [r#"a="b c""#, "d", r#""e f=g""#]);
        assert_eq!(value(r#"root=/dev/sda dyndbg="file a +p" root=/dev/sdb"#, "root"), Some("/dev/sdb"));
        assert_eq!(value(r#"dyndbg="file a +p""#, "dyndbg"), Some("file a +p"));
    }

    #[test]
    fn only_whole_names_are_removed() {
        let line = "BOOT_IMAGE=/vmlinuz crashkernel=256M crashkernel_x=1 mycrashkernel=2 crashkernel=72M,low quiet";
        assert_eq!(joined(Some(line), "irqpoll", true), "crashkernel_x=1 mycrashkernel=2 quiet irqpoll");
        assert!(joined(Some(line), "", false).contains("crashkernel=256M"));
        assert_eq!(joined(None, " a b ", true), "a b");
    }

    #[test]
    fn a_capture_kernel_finds_no_new_memory() {
        assert_eq!(for_capture("quiet -- single"), "acpi_no_memhotplug quiet -- single");
        assert_eq!(for_capture("quiet acpi_no_memhotplug"), "quiet acpi_no_memhotplug");
        assert_eq!(for_capture(""), "acpi_no_memhotplug");
    }

    #[test]
    fn what_stands_behind_two_dashes_is_not_the_kernels() {
        assert!(!has("quiet -- elfcorehdr=1", "elfcorehdr") && has("elfcorehdr=1 --", "elfcorehdr"));
    }

    #[test]
    fn maps_are_in_whole_kib() {
        let map = exact_map(&[Range::new(0x1001, 0x9fc00)], &[Range::new(0x3ffe_0001, 0x4000_0000)]);
        assert_eq!(map, ["memmap=exactmap", "memmap=634K@5K", "memmap=128K#1048448K"]);
    }

    #[test]
    fn too_long_a_line_says_by_how_much() {
        let error = check(&"x".repeat(2050), 2047).unwrap_err();
        assert!(error.to_string().contains("3 more"), "{error}");
    }
}
