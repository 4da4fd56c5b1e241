//! `vdump layout`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    cli::{Layout, resolve},
    error::{Error, Kind, Result, printable},
    kernel::{self, known},
    layout::{VmcoreInfo, known as files},
    medium::Inputs,
    report::{Document, Head},
    source::Opening,
    sys::host,
};

#[derive(Serialize)]
struct Value<'a> {
    key: &'a str,
    value: String,
    witness: String,
}

#[derive(Serialize)]
struct Report<'a> {
    kernel: Option<&'a str>,
    build_id: Option<&'a str>,
    values: Vec<Value<'a>>,
    /// What witnesses say differently, in words.
    disagreements: Vec<String>,
}

#[derive(Serialize)]
struct Change<'a> {
    key: &'a str,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Serialize)]
struct Changes<'a> {
    changes: Vec<Change<'a>>,
}

pub(super) fn run(options: &Layout) -> Result<()> {
    if let Some([before, after]) = options.diff.as_deref() {
        return show_diff(&any(before)?, &any(after)?, options.report.json.then(|| head(options)).as_ref());
    }
    let info = of_options(options)?;
    for disagreement in info.disagreements() {
        super::complain(&Error::input(disagreement.to_string()));
    }
    let text = if options.report.json { json(&head(options), &report(&info))? } else { lines(&info) };
    match &options.output {
        Some(path) => {
            let read = [&options.from, &options.vmlinux, &options.btf].into_iter().flatten().map(PathBuf::as_path);
            let opening = options.input_args.opening(&[]);
            let inputs = Inputs::default().and(read).and(opening.ram_file());
            super::write_file(path, text.as_bytes(), options.force, &inputs)
        }
        None => super::print(|out| out.write_all(text.as_bytes())),
    }
}

/// The dump is believed first, then DWARF, then BTF.
fn of_options(options: &Layout) -> Result<VmcoreInfo> {
    if options.from.is_none() && options.input_args.is_any() {
        return Err(Error::new(Kind::Usage, "--elfcorehdr, --iomem and --vmcoreinfo say how to read a dump")
            .because("none was named")
            .next_step("name it with --from DUMP"));
    }
    let mut info = None;
    let mut join = |other: VmcoreInfo, path: &Path| -> Result<()> {
        match &mut info {
            None => info = Some(other),
            Some(info) => {
                let fitting = files::fit(info, other, path)?;
                info.add(&fitting);
            }
        }
        Ok(())
    };
    if let Some(path) = &options.from {
        let mut of_dump = known::of_dump(&kernel::open(&options.input_args.opening(std::slice::from_ref(path)))?)?;
        // Addresses are link addresses from here on.
        of_dump.set("KERNELOFFSET", "0", crate::layout::Witness::Note);
        join(of_dump, path)?;
    }
    if let Some(path) = &options.vmlinux {
        join(files::of_vmlinux(path, host::usable_cpus(), resolve::available_memory())?, path)?;
    }
    if let Some(path) = &options.btf {
        join(files::of_btf_file(path)?, path)?;
    }
    let mut info = info.ok_or_else(|| {
        Error::new(Kind::Usage, "no kernel was named")
            .next_step("give --vmlinux FILE, --btf FILE or --from DUMP, or --diff A B; see --help")
    })?;
    info.retain(|key| key != "KERNELOFFSET");
    Ok(info)
}

/// A dump, or any file that describes a kernel.
fn any(path: &Path) -> Result<VmcoreInfo> {
    match kernel::open(&Opening::of_dump(path)) {
        Ok(source) => known::of_dump(&source),
        Err(_) => files::of_any_file(path, host::usable_cpus(), resolve::available_memory()),
    }
}

fn lines(info: &VmcoreInfo) -> String {
    let mut text = String::new();
    // These two first: makedumpfile looks for them before anything else.
    let first = ["OSRELEASE", "PAGESIZE"];
    for (key, value, _) in info.lines().filter(|(key, ..)| first.contains(key)) {
        let _ = writeln!(text, "{}={}", printable(key), printable(value));
    }
    for (key, value, _) in info.lines().filter(|(key, ..)| !first.contains(key)) {
        let _ = writeln!(text, "{}={}", printable(key), printable(value));
    }
    text
}

fn report(info: &VmcoreInfo) -> Report<'_> {
    Report {
        kernel: info.text("OSRELEASE"),
        build_id: info.text("BUILD-ID"),
        values: info
            .lines()
            .map(|(key, value, witness)| Value { key, value: value.to_owned(), witness: witness.to_string() })
            .collect(),
        disagreements: info.disagreements().iter().map(ToString::to_string).collect(),
    }
}

/// The head of the JSON: the files that were asked.
pub(super) fn head(options: &Layout) -> Head {
    let named = [&options.from, &options.vmlinux, &options.btf].into_iter().flatten();
    let inputs: Vec<_> = named.chain(options.diff.iter().flatten()).collect();
    Head::new("layout", &inputs)
}

fn json(head: &Head, body: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(&Document { head, body });
    text.map(|text| text + "\n").map_err(|error| Error::new(Kind::Output, "cannot write JSON").because(error))
}

/// With `head`, as JSON.
fn show_diff(before: &VmcoreInfo, after: &VmcoreInfo, head: Option<&Head>) -> Result<()> {
    let changes = diff(before, after);
    let text = if let Some(head) = head {
        json(head, &Changes { changes })?
    } else {
        let mut text = String::new();
        for Change { key, before, after } in changes {
            for (sign, value) in [('-', before), ('+', after)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "{sign}{}={}", printable(key), printable(&value));
                }
            }
        }
        text
    };
    super::print(|out| out.write_all(text.as_bytes()))
}

fn diff<'a>(before: &'a VmcoreInfo, after: &'a VmcoreInfo) -> Vec<Change<'a>> {
    let mut keys: Vec<&str> = before.lines().chain(after.lines()).map(|(key, ..)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let same = |key: &str| {
        before.text(key) == after.text(key) || (before.value(key).is_some() && before.value(key) == after.value(key))
    };
    let text = |info: &VmcoreInfo, key: &str| info.text(key).map(str::to_owned);
    keys.into_iter()
        // Addresses differ with every build and say nothing about layouts.
        .filter(|key| !key.starts_with("SYMBOL(") && !same(key))
        .map(|key| Change { key, before: text(before, key), after: text(after, key) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_what_changed_and_no_addresses() {
        let before = VmcoreInfo::parse(b"OFFSET(page.lru)=8\nNUMBER(PG_lru)=4\nSYMBOL(a)=1\nNUMBER(x)=0x10\n");
        let after = VmcoreInfo::parse(b"OFFSET(page.lru)=8\nNUMBER(PG_lru)=5\nSYMBOL(a)=2\nNUMBER(x)=16\nSIZE(y)=1\n");
        let changes: Vec<_> = diff(&before, &after).into_iter().map(|change| change.key).collect();
        assert_eq!(changes, ["NUMBER(PG_lru)", "SIZE(y)"]);
    }
}
