//! Following the plan through the crashed kernel's memory.
//!
//! Knows how to walk pointers, arrays and lists that may be damaged. Must not give up silently: what it could not follow is a
//! [`Problem`]. The ranges become the mask of the run.

use std::collections::BTreeMap;

use super::plan::{Each, Line, Op, Plan, Size, Start, Step, Way};
use crate::{
    memory::{ReadVirt as _, VirtReader},
    source::{Mask, Masked, Source},
};

/// The longest text that is followed to its NUL, bytes.
const MAX_TEXT: u64 = 64 << 10;
/// The most bytes that a number in the kernel may name.
const MAX_READ_SIZE: u64 = 64 << 20;
/// Pointers, elements and pages that are looked at in one run.
const MAX_STEPS: u64 = 32 << 20;
/// Places that are remembered, at most.
const MAX_PLACES: usize = 1 << 20;
/// How often the run is asked whether it is to stop.
const BETWEEN_ASKING: u64 = 1024;
/// Places of each rule that are listed.
const LISTED: usize = 4;
/// Causes that are listed for each rule.
const CAUSES: usize = 4;
/// Below this and this far from the end lie no objects: NULL and what is made of it, and error numbers (`MAX_ERRNO`).
const NO_OBJECT: u64 = 4096;

/// One place that a rule overwrites.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// Where the kernel saw it.
    pub vaddr: u64,
    /// Where its first byte lies.
    pub paddr: u64,
    /// Its length, bytes.
    pub bytes: u64,
}

/// What became of one rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruled {
    /// The rule.
    pub line: Line,
    /// Objects that it named, each time anew.
    pub places: u64,
    /// The first few of them.
    pub first: Vec<Spot>,
    /// Bytes that it named and the input does not have.
    pub absent: u64,
}

/// What a rule could not follow: something that it means may still be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The rule's line in the file.
    pub line: usize,
    /// The first causes.
    pub causes: Vec<String>,
    /// How often.
    pub count: u64,
}

/// How much of a rule lies in pages that are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Bytes overwritten in pages that are kept.
    pub bytes: u64,
    /// Those pages.
    pub pages: u64,
    /// Bytes in pages that are left out anyway.
    pub dropped: u64,
}

impl Tally {
    fn add(&mut self, (start, end): (u64, u64), page_shift: u32, last: &mut Option<u64>, kept: &dyn Fn(u64) -> bool) {
        let mut at = start;
        while at < end {
            let pfn = at >> page_shift;
            let stop = end.min((pfn + 1) << page_shift);
            if kept(pfn) {
                self.bytes += stop - at;
                self.pages += u64::from(*last != Some(pfn));
                *last = Some(pfn);
            } else {
                self.dropped += stop - at;
            }
            at = stop;
        }
    }
}

/// What all rules came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Redaction {
    /// Every rule, loops too, in the order of the file.
    pub rules: Vec<Ruled>,
    /// What could not be followed, by line.
    pub problems: Vec<Problem>,
    /// What is overwritten.
    pub mask: Mask,
    /// Sorted by rule and address; those of one rule do not overlap.
    places: Vec<Place>,
}

impl Redaction {
    /// How much of each rule lies in pages that are `kept`, and of all together.
    #[must_use]
    pub fn tally(&self, page_shift: u32, kept: &dyn Fn(u64) -> bool) -> (Vec<Tally>, Tally) {
        let mut each = vec![Tally::default(); self.rules.len()];
        let mut last = (usize::MAX, None);
        for place in &self.places {
            let rule = usize::from(place.rule);
            if last.0 != rule {
                last = (rule, None);
            }
            if let Some(tally) = each.get_mut(rule) {
                tally.add((place.start, place.end()), page_shift, &mut last.1, kept);
            }
        }
        let mut all = Tally::default();
        let mut page = None;
        for range in self.mask.ranges() {
            all.add((range.start, range.end), page_shift, &mut page, kept);
        }
        (each, all)
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        (size_of_val(self.places.as_slice()) + size_of_val(self.mask.ranges())) as u64
    }

    /// The list that goes with the dump, as makedumpfile words it.
    #[must_use]
    pub fn list(&self, tallies: &[Tally]) -> String {
        let mut text = String::new();
        let mut open = 0;
        for (Ruled { line, .. }, tally) in self.rules.iter().zip(tallies) {
            while open > line.depth {
                text += "endfor\n";
                open -= 1;
            }
            if line.what.is_empty() {
                text += &format!("{}\n", line.text);
                open += 1;
            } else if line.text.ends_with(" nullify") {
                text += &format!("erase {} nullify\n", line.what);
            } else {
                text += &format!("erase {} size {}\n", line.what, tally.bytes);
            }
        }
        text + &"endfor\n".repeat(open)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    rule: u16,
    start: u64,
    len: u32,
    fill: u8,
}

impl Place {
    fn end(self) -> u64 {
        self.start + u64::from(self.len)
    }
}

/// Follows a plan.
pub struct Follower<'a, 'v> {
    virt: &'a VirtReader<'v>,
    source: &'a Source,
    stopped: &'a dyn Fn() -> bool,
    rules: Vec<Ruled>,
    problems: BTreeMap<usize, Problem>,
    places: Vec<Place>,
    most: usize,
    left: u64,
    ended: bool,
}

/// Why a way leads nowhere.
enum Lost {
    /// There is nothing: a pointer is NULL.
    Nothing,
    /// It could not be read.
    Unreadable(String),
}

impl<'a, 'v> Follower<'a, 'v> {
    /// Bytes that each place takes, in all that is made of it.
    pub const PLACE: u64 = (size_of::<Place>() + 2 * size_of::<Masked>()) as u64;

    /// Makes one that remembers `most` places.
    #[must_use]
    pub fn new(source: &'a Source, virt: &'a VirtReader<'v>, most: u64, stopped: &'a dyn Fn() -> bool) -> Self {
        let most = usize::try_from(most).unwrap_or(MAX_PLACES).clamp(64, MAX_PLACES);
        Self {
            virt,
            source,
            stopped,
            rules: Vec::new(),
            problems: BTreeMap::new(),
            places: Vec::new(),
            most,
            left: MAX_STEPS,
            ended: false,
        }
    }

    /// Follows all rules.
    #[must_use]
    pub fn run(mut self, plan: &Plan) -> Redaction {
        let ruled = |line: &Line| Ruled { line: line.clone(), places: 0, first: Vec::new(), absent: 0 };
        self.rules = plan.lines.iter().map(ruled).collect();
        self.block(&plan.ops, &mut Vec::new());
        self.places = joined(std::mem::take(&mut self.places));
        let mask = self.places.iter().map(|place| Masked { start: place.start, end: place.end(), fill: place.fill });
        let mask = Mask::new(mask.collect());
        Redaction { rules: self.rules, problems: self.problems.into_values().collect(), mask, places: self.places }
    }

    fn block(&mut self, ops: &[Op], elements: &mut Vec<u64>) {
        for op in ops {
            if self.ended {
                return;
            }
            match op {
                Op::Erase { rule, at, size, fill } => self.erase(*rule, (at, size, *fill), elements),
                Op::Each { rule, at, each, body } => match self.reach(at, elements) {
                    Ok(start) => self.each(*rule, start, (each, body), elements),
                    Err(lost) => self.lost(*rule, lost),
                },
            }
        }
    }

    /// Counts what is looked at: damaged lists may lead on for ever. False when it is time to end.
    fn step(&mut self, rule: usize) -> bool {
        if self.ended {
            return false;
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.problem(
                rule,
                format!(
                    "{MAX_STEPS} pointers and elements were followed, and no more are, nor are the rules after this one"
                ),
            );
            self.ended = true;
        } else if self.left.is_multiple_of(BETWEEN_ASKING) && (self.stopped)() {
            self.problem(rule, "it was stopped".to_owned());
            self.ended = true;
        }
        !self.ended
    }

    fn problem(&mut self, rule: usize, cause: String) {
        let Some(line) = self.rules.get(rule).map(|rule| rule.line.number) else { return };
        let problem = self.problems.entry(line).or_insert(Problem { line, causes: Vec::new(), count: 0 });
        problem.count += 1;
        if problem.causes.len() < CAUSES && !problem.causes.contains(&cause) {
            problem.causes.push(cause);
        }
    }

    fn lost(&mut self, rule: usize, lost: Lost) {
        if let Lost::Unreadable(cause) = lost {
            self.problem(rule, cause);
        }
    }

    fn reach(&self, way: &Way, elements: &[u64]) -> Result<u64, Lost> {
        let start = match way.start {
            Start::Symbol(address) => address,
            Start::Loop(index) => elements.get(index).copied().ok_or(Lost::Nothing)?,
        };
        self.walk(start, &way.steps)
    }

    fn walk(&self, start: u64, steps: &[Step]) -> Result<u64, Lost> {
        steps.iter().try_fold(start, |at, step| match step {
            Step::Add(bytes) => Ok(at.wrapping_add(*bytes)),
            Step::Follow => self.pointer(at),
        })
    }

    fn pointer(&self, at: u64) -> Result<u64, Lost> {
        let pointer = self.virt.long(at).map_err(|error| Lost::Unreadable(error.to_string()))?;
        if (NO_OBJECT..u64::MAX - NO_OBJECT).contains(&pointer) { Ok(pointer) } else { Err(Lost::Nothing) }
    }

    fn each(&mut self, rule: usize, start: u64, (each, body): (&Each, &[Op]), elements: &mut Vec<u64>) {
        let mut run = |this: &mut Self, element: u64| {
            elements.push(element);
            this.block(body, elements);
            elements.pop();
        };
        match each {
            Each::Array { stride, count } => {
                for index in 0..*count {
                    if !self.step(rule) {
                        return;
                    }
                    run(self, start.wrapping_add(index.wrapping_mul(*stride)));
                }
            }
            Each::Chain(next) => {
                let next = |this: &Self, at| this.walk(at, next);
                self.chain(rule, (start, start, 0), next, run);
            }
            Each::List { next, link } => {
                let next = |this: &Self, at: u64| this.pointer(at.wrapping_add(*next));
                match next(self, start) {
                    Ok(first) if first == start => {}
                    Ok(first) => {
                        // Only the head ends such a list: a link that leads nowhere is a broken one.
                        let next = |this: &Self, at: u64| match next(this, at) {
                            Err(Lost::Nothing) => {
                                Err(Lost::Unreadable(format!("the list ends at {at:#x}, without its head")))
                            }
                            other => other,
                        };
                        self.chain(rule, (first, start, *link), next, run);
                    }
                    Err(Lost::Nothing) => self.problem(rule, format!("the list's head at {start:#x} was never made")),
                    Err(lost) => self.lost(rule, lost),
                }
            }
            Each::Hashed { first, next, link } => match self.pointer(start.wrapping_add(*first)) {
                // Nothing has the address 0: the list ends where a link leads nowhere.
                Ok(first) => {
                    self.chain(rule, (first, 0, *link), |this, at| this.pointer(at.wrapping_add(*next)), run);
                }
                Err(lost) => self.lost(rule, lost),
            },
        }
    }

    /// From node to node until it is `end` again, or there is none. Whoever comes back elsewhere goes in circles.
    fn chain(
        &mut self,
        rule: usize,
        (first, end, link): (u64, u64, u64),
        next: impl Fn(&Self, u64) -> Result<u64, Lost>,
        mut run: impl FnMut(&mut Self, u64),
    ) {
        // Brent's way to find a circle: one node is remembered, at ever larger distances.
        let (mut node, mut remembered, mut distance, mut reach) = (first, first, 0u64, 1u64);
        while self.step(rule) {
            // What a damaged node has beside its link may still be what the rule means.
            run(self, node.wrapping_sub(link));
            match next(self, node) {
                Ok(following) if following != end => node = following,
                Ok(_) | Err(Lost::Nothing) => return,
                Err(Lost::Unreadable(cause)) => {
                    return self.problem(rule, format!("{cause}; what follows in the list is not known"));
                }
            }
            distance += 1;
            if node == remembered {
                self.problem(rule, format!("the list comes back to {node:#x} and not to its beginning"));
                return;
            }
            if distance == reach {
                (remembered, reach, distance) = (node, reach.saturating_mul(2), 0);
            }
        }
    }

    fn erase(&mut self, rule: usize, (at, size, fill): (&Way, &Size, u8), elements: &[u64]) {
        let vaddr = match self.reach(at, elements) {
            Ok(vaddr) => vaddr,
            Err(lost) => return self.lost(rule, lost),
        };
        let bytes = match size {
            Size::Bytes(bytes) => *bytes,
            Size::Text => self.text(rule, vaddr),
            Size::Read(way, width) => match self.reach(way, elements).and_then(|at| self.number(at, *width)) {
                Ok(bytes @ 0..=MAX_READ_SIZE) => bytes,
                Ok(bytes) => return self.problem(rule, format!("a size of {bytes} bytes is not believed")),
                Err(Lost::Nothing) => {
                    return self.problem(rule, "its size is behind a pointer that leads nowhere".to_owned());
                }
                Err(lost) => return self.lost(rule, lost),
            },
        };
        self.cover(rule, vaddr, bytes, fill);
    }

    fn number(&self, at: u64, width: usize) -> Result<u64, Lost> {
        self.virt.number(at, width).map_err(|error| Lost::Unreadable(error.to_string()))
    }

    /// A text's length.
    fn text(&mut self, rule: usize, vaddr: u64) -> u64 {
        const PART: u64 = 256;
        let mut len = 0;
        while len < MAX_TEXT && self.step(rule) {
            let at = vaddr.wrapping_add(len);
            // Parts end where pages do: what follows may not be mapped.
            let mut part = [0; PART as usize];
            let part = &mut part[..(PART - at % PART) as usize];
            if let Err(error) = self.virt.read_virt(at, part) {
                self.problem(rule, format!("{error}: the text there does not end before"));
                return len;
            }
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                return len + end as u64;
            }
            len += part.len() as u64;
        }
        self.problem(rule, format!("the text at {vaddr:#x} does not end within {MAX_TEXT} bytes"));
        len
    }

    /// Takes in `bytes` at `vaddr`, page by page.
    fn cover(&mut self, rule: usize, vaddr: u64, bytes: u64, fill: u8) {
        if bytes == 0 {
            return;
        }
        self.rules[rule].places += 1;
        let mut done = 0;
        while done < bytes && self.step(rule) {
            let at = vaddr.wrapping_add(done);
            match self.virt.translate(at) {
                Ok(mapping) => {
                    let len = mapping.len.min(bytes - done).max(1);
                    if done == 0 && self.rules[rule].first.len() < LISTED {
                        self.rules[rule].first.push(Spot { vaddr, paddr: mapping.paddr, bytes });
                    }
                    self.add(rule, mapping.paddr, len, fill);
                    done += len;
                }
                Err(error) => {
                    self.problem(rule, format!("{at:#x} is {error}"));
                    // The rest may be mapped all the same.
                    done += NO_OBJECT - at % NO_OBJECT;
                }
            }
        }
    }

    fn add(&mut self, rule: usize, paddr: u64, len: u64, fill: u8) {
        let Some(end) = paddr.checked_add(len) else { return };
        let there: u64 =
            self.source.ram().overlapping(paddr, end).map(|piece| piece.end().min(end) - piece.paddr.max(paddr)).sum();
        self.rules[rule].absent += len - there;
        let (Ok(short), Ok(number)) = (u32::try_from(len), u16::try_from(rule)) else { return };
        match self.places.last_mut() {
            Some(last) if last.rule == number && last.fill == fill && last.end() == paddr => {
                match last.len.checked_add(short) {
                    Some(longer) => last.len = longer,
                    None => self.places.push(Place { rule: number, start: paddr, len: short, fill }),
                }
            }
            _ => self.places.push(Place { rule: number, start: paddr, len: short, fill }),
        }
        if self.places.len() >= self.most {
            self.places = joined(std::mem::take(&mut self.places));
            if self.places.len() > self.most / 2 {
                self.problem(
                    rule,
                    format!(
                        "{} places are remembered, and no more fit: the rules after this one are not followed",
                        self.places.len()
                    ),
                );
                self.ended = true;
            }
        }
    }
}

/// Sorts, and joins what overlaps within each rule.
fn joined(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_unstable();
    let mut joined: Vec<Place> = Vec::with_capacity(places.len());
    for mut place in places {
        if let Some(last) = joined.last_mut().filter(|last| last.rule == place.rule && last.end() >= place.start) {
            if place.end() <= last.end() {
                continue;
            }
            // What both have is the first one's.
            let both = (last.end() - place.start) as u32;
            (place.start, place.len) = (last.end(), place.len - both);
            if last.fill == place.fill
                && let Some(longer) = last.len.checked_add(place.len)
            {
                last.len = longer;
                continue;
            }
        }
        joined.push(place);
    }
    joined
}

#[cfg(test)]
mod tests;
