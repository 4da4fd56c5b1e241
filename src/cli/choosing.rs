//! What to keep and what to leave out in words: classes by name, memory by address, tasks.
//!
//! Knows how they are spelled, and what cannot be. Must not look at a dump. Goes to `resolve` and to `run`.

use clap::Args;
use vdump_filters::{PageClass, PfnRange, Selection, number};

use crate::{
    error::{Error, Kind, Result},
    kernel::keep::{TaskMemory, TaskName},
};

/// What to keep and what to leave out, beside the dump level.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Pages")]
pub struct SelectionArgs {
    /// Drop pages of these classes too: free, free-pcp, unaccepted, cache, cache-private, user, hugetlb, zero
    ///
    /// Without --dump-level only these are dropped. 'free' stands for 'free-pcp', too, unless that is named itself
    #[arg(long, value_name = "CLASS[,CLASS]...", value_delimiter = ',', num_args = 1, value_parser = parse_class)]
    pub drop: Vec<PageClass>,

    /// Keep pages of these classes, which the dump level would drop
    #[arg(long, value_name = "CLASS[,CLASS]...", value_delimiter = ',', num_args = 1, value_parser = parse_class)]
    pub keep: Vec<PageClass>,

    /// Keep each page that the physical addresses touch, whatever its class, but for poisoned and offline ones
    ///
    /// END is the last byte, as in /proc/iomem; 0x... or with K, M or G. May be given several times
    #[arg(long, value_name = "START-END|START+SIZE", value_parser = parse_range)]
    pub keep_range: Vec<ByteRange>,

    /// Drop the pages that lie within the physical addresses, whatever their class, but for the kernel image and the notes
    ///
    /// May be given several times; what is kept by an option stays
    #[arg(long, value_name = "START-END|START+SIZE", value_parser = parse_range)]
    pub drop_range: Vec<ByteRange>,

    /// Keep user memory of a task: by its number (that of a process stands for all its threads), by its name, or 'panic', the
    /// task that panicked
    ///
    /// A name that looks like one of these: comm:NAME. May be given several times
    #[arg(long, value_name = "PID|COMM|panic", value_parser = parse_task)]
    pub keep_task: Vec<TaskName>,

    /// What of their memory --keep-task keeps
    #[arg(long, value_name = "WHAT", value_enum, default_value_t, requires = "keep_task")]
    pub keep_task_memory: TaskMemory,
}

/// Physical addresses, the last one included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

impl ByteRange {
    /// The frames that it touches.
    #[must_use]
    pub fn outer(self, page_shift: u32) -> PfnRange {
        PfnRange::new(self.first >> page_shift, (self.last >> page_shift) + 1)
    }

    /// The frames that lie in it whole; empty if there is none.
    #[must_use]
    pub fn inner(self, page_shift: u32) -> PfnRange {
        let mask = (1 << page_shift) - 1;
        let start = (self.first >> page_shift) + u64::from(self.first & mask != 0);
        PfnRange::new(start, (self.last >> page_shift) + u64::from(self.last & mask == mask))
    }
}

impl std::fmt::Display for ByteRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}-{:#x}", self.first, self.last)
    }
}

impl SelectionArgs {
    /// The set of classes to drop, made from what a dump level says.
    #[must_use]
    pub fn applied(&self, level: Selection) -> Selection {
        // None can be refused: the names were looked at when they were read.
        let dropping = |set: Selection, class: &PageClass| set.dropping(*class).unwrap_or(set);
        let keeping = |set: Selection, class: &PageClass| set.keeping(*class).unwrap_or(set);
        let (drop, keep) = (self.with_pcp(&self.drop), self.with_pcp(&self.keep));
        keep.iter().fold(drop.iter().fold(level, dropping), keeping)
    }

    /// The classes that are named: free pages are those on per-CPU lists too, unless something is said of these.
    fn with_pcp(&self, named: &[PageClass]) -> Vec<PageClass> {
        let is_said = self.drop.iter().chain(&self.keep).any(|class| *class == PageClass::FreePcp);
        let besides = named.contains(&PageClass::Free) && !is_said;
        named.iter().copied().chain(besides.then_some(PageClass::FreePcp)).collect()
    }

    /// Makes sure that no class is both kept and dropped.
    ///
    /// # Errors
    /// One is.
    pub(super) fn check(&self) -> Result<()> {
        match self.drop.iter().find(|class| self.keep.contains(class)) {
            Some(class) => Err(Error::new(Kind::Usage, format!("cannot both drop and keep pages of class '{class}'"))
                .because("it is named with --drop and with --keep")
                .next_step("name it with one of them")),
            None => Ok(()),
        }
    }
}

fn parse_class(name: &str) -> std::result::Result<PageClass, String> {
    let names: Vec<&str> = Selection::choices().map(PageClass::name).collect();
    let choices = names.join(", ");
    let Some(class) = PageClass::ALL.into_iter().find(|class| class.name() == name) else {
        return Err(format!("there is no such class; the classes are {choices}"));
    };
    let level = Selection::from(vdump_filters::DumpLevel::NONE);
    match level.dropping(class) {
        Ok(_) => Ok(class),
        Err(error) => Err(format!("{error}: {}; the classes to choose from are {choices}", why_no_choice(class))),
    }
}

fn why_no_choice(class: PageClass) -> &'static str {
    match class {
        PageClass::HwPoison => "input_args one may end the capture",
        PageClass::Offline => "there is nothing behind them",
        PageClass::Unreadable => "there is nothing to write",
        PageClass::Doubtful(_) => "what they were used for is not certain",
        PageClass::Unmapped => "what they were used for is not known",
        _ => "the kernel needs them, and so do all who read the dump",
    }
}

fn parse_range(text: &str) -> std::result::Result<ByteRange, String> {
    let bad = |cause: &str| Err(format!("no range of addresses: {cause}"));
    let address = |text: &str| match text.as_bytes() {
        // /proc/iomem's numbers would be taken for decimal ones.
        [b'0', b'0'..=b'9', ..] => Err(format!("'{text}' could be meant as decimal or not: write 0x{text}")),
        _ => number::address(text).map_err(|why| format!("'{text}' is {why}")),
    };
    if let Some((start, size)) = text.split_once('+') {
        let first = address(start)?;
        let size = number::address(size).or_else(|_| number::size(size)).map_err(|why| format!("'{size}' is {why}"))?;
        return match size.checked_sub(1).and_then(|more| first.checked_add(more)) {
            Some(last) => Ok(ByteRange { first, last }),
            None if size == 0 => bad("its size is 0"),
            None => bad("it ends beyond the last address"),
        };
    }
    let Some((start, end)) = text.split_once('-') else {
        return bad("give START-END or START+SIZE, for example 0x100000-0x1fffff or 1M+64K");
    };
    let range = ByteRange { first: address(start)?, last: address(end)? };
    if range.last < range.first { bad("its end lies before its start") } else { Ok(range) }
}

fn parse_task(text: &str) -> std::result::Result<TaskName, String> {
    if let Some(comm) = text.strip_prefix("comm:") {
        return if comm.is_empty() {
            Err("a task's name is needed".to_owned())
        } else {
            Ok(TaskName::Comm(comm.into()))
        };
    }
    match text {
        "" => Err("a task's number or name is needed".to_owned()),
        "panic" => Ok(TaskName::Panic),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(TaskName::Pid).map_err(|_| format!("{text} is larger than any task's number"))
        }
        _ => Ok(TaskName::Comm(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_rounded() {
        let range = |text: &str| parse_range(text).map(|range| (range.first, range.last));
        assert_eq!(range("0x1000-0x1fff"), Ok((0x1000, 0x1fff)));
        assert_eq!(range("1M+64K"), Ok((1 << 20, (1 << 20) + 0xffff)));
        assert_eq!(range("0+0x10"), Ok((0, 15)));
        assert_eq!(range("0-0xffffffffffffffff"), Ok((0, u64::MAX)));
        assert_eq!(range("0xffffffffffffffff+1"), Ok((u64::MAX, u64::MAX)));
        for text in ["", "-", "5", "2-1", "1+0", "0xffffffffffffffff+2", "00100000-00200000", "1M-+5", "a-b", "1--2"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
        let frames = |first, last| {
            let range = ByteRange { first, last };
            let pair = |range: PfnRange| (range.start, range.end);
            (pair(range.outer(12)), pair(range.inner(12)))
        };
        assert_eq!(frames(0x1000, 0x1fff), ((1, 2), (1, 2)));
        assert_eq!(frames(0x1000, 0x2000), ((1, 3), (1, 2)));
        assert_eq!(frames(0x1001, 0x2ffe), ((1, 3), (2, 2)));
        assert_eq!(frames(0x1001, 0x1fff), ((1, 2), (2, 2)));
        assert_eq!(frames(0, u64::MAX), ((0, 1 << 52), (0, 1 << 52)));
    }

    #[test]
    fn what_is_no_choice_is_refused_with_the_choices() {
        for name in ["slab", "kernel", "hwpoison", "offline", "doubtful", "nonsense", ""] {
            let error = parse_class(name).unwrap_err();
            assert!(
                error.contains("free, free-pcp, unaccepted, cache, cache-private, user, hugetlb, zero"),
                "{name}: {error}"
            );
        }
        for class in Selection::choices() {
            assert_eq!(parse_class(class.name()), Ok(class));
        }
    }

    #[test]
    fn tasks_have_numbers_and_names() {
        assert_eq!(parse_task("12"), Ok(TaskName::Pid(12)));
        assert_eq!(parse_task("panic"), Ok(TaskName::Panic));
        assert_eq!(parse_task("comm:panic"), Ok(TaskName::Comm("panic".into())));
        assert_eq!(parse_task("kworker/0:1"), Ok(TaskName::Comm("kworker/0:1".into())));
        assert!(parse_task("99999999999").is_err() && parse_task("").is_err() && parse_task("comm:").is_err());
    }
}
