//! From rules to steps: every member has an offset and every loop a stride before anything is read.
//!
//! Knows types and what a rule may do with them. Must not read memory. The [`Plan`] goes to `follow`.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Erase, For, How, Name, Over, Path, RuleError, Rules, Statement};
use crate::layout::types::{POINTER, Shape, Types, Wanted};

/// The kernel's lists (include/linux/types.h).
const LIST_HEAD: &str = "list_head";
const HLIST_HEAD: &str = "hlist_head";
const HLIST_NODE: &str = "hlist_node";
const LISTS: [&str; 3] = [LIST_HEAD, HLIST_HEAD, HLIST_NODE];
const NEXT: &str = "next";
const PREVIOUS: &str = "prev";
const FIRST: &str = "first";
/// As many elements as an array is believed to have.
const MAX_ELEMENTS: u64 = 1 << 24;

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A rule cannot be followed by any kernel with these types.
    Rule(RuleError),
    /// These structures must be known first.
    Missing(Vec<String>),
}

impl From<RuleError> for Fault {
    fn from(error: RuleError) -> Self {
        Self::Rule(error)
    }
}

/// One step from an address to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// So many bytes further.
    Add(u64),
    /// To where the pointer here points.
    Follow,
}

/// Where the steps begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// A symbol's address.
    Symbol(u64),
    /// The element of the so manyth open loop.
    Loop(usize),
}

/// The way to something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Where it begins.
    pub start: Start,
    /// How it goes on.
    pub steps: Vec<Step>,
}

impl Way {
    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// How many bytes are overwritten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Size {
    /// So many.
    Bytes(u64),
    /// Up to the NUL that ends a text.
    Text,
    /// As many as a number of so many bytes says.
    Read(Way, usize),
}

/// How a loop goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Each {
    /// So many elements, each so many bytes after the one before.
    Array {
        /// Bytes.
        stride: u64,
        /// Elements.
        count: u64,
    },
    /// Steps from each structure to the next, until there is none or it is the first again.
    Chain(Vec<Step>),
    /// From link to link, until it is the head again.
    List {
        /// Where a head and a link have the pointer, bytes.
        next: u64,
        /// Where the structure has its link, bytes.
        link: u64,
    },
    /// From link to link, until there is none.
    Hashed {
        /// Where the head has the pointer, bytes.
        first: u64,
        /// Where a link has it, bytes.
        next: u64,
        /// Where the structure has its link, bytes.
        link: u64,
    },
}

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Overwrites something.
    Erase {
        /// The rule, by its place in [`Plan::lines`].
        rule: usize,
        /// The way there.
        at: Way,
        /// How much.
        size: Size,
        /// What each byte becomes.
        fill: u8,
    },
    /// Does something with each element.
    Each {
        /// The rule, by its place in [`Plan::lines`].
        rule: usize,
        /// The way to the array, the first structure, or the list's head.
        at: Way,
        /// How it goes on.
        each: Each,
        /// What is done.
        body: Vec<Op>,
    },
}

/// A rule as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Its line in the file, counted from 1.
    pub number: usize,
    /// Its words.
    pub text: String,
    /// What it overwrites; empty for a loop.
    pub what: String,
    /// Loops around it.
    pub depth: usize,
}

/// Rules with every offset known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// What is done, in order.
    pub ops: Vec<Op>,
    /// Every rule, loops too, in the order of the file.
    pub lines: Vec<Line>,
}

/// What rules ask of a kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Questions {
    /// Symbols whose addresses are needed.
    pub symbols: BTreeSet<String>,
    /// Symbols whose types are needed.
    variables: BTreeSet<String>,
    /// Structures that are named.
    structures: BTreeSet<String>,
    members: BTreeSet<String>,
}

impl Questions {
    /// Collects them.
    #[must_use]
    pub fn of(rules: &Rules) -> Self {
        let mut all = Self::default();
        all.block(&rules.body, &mut Vec::new());
        all.variables.clone_from(&all.symbols);
        for typed in &rules.types {
            all.variables.remove(&typed.variable.text);
            if !typed.is_char {
                all.structures.insert(typed.base.text.clone());
            }
        }
        all
    }

    /// What to look for in type information, besides what was asked `before`.
    #[must_use]
    pub fn wanted<'a>(&'a self, missing: &'a [String]) -> Wanted<'a> {
        let texts = |names: &'a BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>();
        let follow = texts(&self.members);
        if missing.is_empty() {
            let (structures, variables) = (texts(&self.structures), texts(&self.variables));
            return Wanted { structures, variables, follow, ..Wanted::default() };
        }
        Wanted { structures: missing.iter().map(String::as_str).collect(), follow, ..Wanted::default() }
    }

    /// The structures that [`Questions::wanted`] asks for at first.
    #[must_use]
    pub fn structures(&self) -> BTreeSet<String> {
        self.structures.clone()
    }

    fn block(&mut self, body: &[Statement], open: &mut Vec<String>) {
        for statement in body {
            match statement {
                Statement::Erase(Erase { what, how, .. }) => {
                    self.path(what, open);
                    if let How::BytesIn(size) = how {
                        self.path(size, open);
                    }
                }
                Statement::For(For { variable, list, over, body, .. }) => {
                    self.path(list, open);
                    match over {
                        Over::Array => {}
                        Over::Via(members) => self.names(members),
                        Over::Within { structure, member } => {
                            self.structures.insert(structure.text.clone());
                            self.structures.extend(LISTS.map(str::to_owned));
                            self.members.extend([NEXT, PREVIOUS, FIRST].map(str::to_owned));
                            self.names(member);
                        }
                    }
                    open.push(variable.text.clone());
                    self.block(body, open);
                    open.pop();
                }
            }
        }
    }

    fn path(&mut self, path: &Path, open: &[String]) {
        if !open.contains(&path.first.text) {
            self.symbols.insert(path.first.text.clone());
        }
        self.names(&path.members);
    }

    fn names(&mut self, members: &[Name]) {
        self.members.extend(members.iter().map(|member| member.text.clone()));
    }
}

impl Plan {
    /// Makes the plan for a kernel with these `types` and addresses of symbols. `asked` are structures that were looked for:
    /// what of them is not in `types` is nowhere.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn make(
        rules: &Rules,
        types: &Types,
        asked: &BTreeSet<String>,
        address: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Self, Fault> {
        let given = rules.types.iter().map(|typed| {
            let base = match typed.is_char {
                true => Shape::Scalar { size: 1, is_char: true },
                false => Shape::Structure(typed.base.text.clone()),
            };
            let shape = (0..typed.pointers).fold(base, |shape, _| shape.pointed_to());
            let shape = if typed.elements.is_some() { shape.repeated(typed.elements) } else { shape };
            (typed.variable.text.as_str(), shape)
        });
        let mut maker = Maker {
            types,
            asked,
            address,
            given: given.collect(),
            open: Vec::new(),
            lines: Vec::new(),
            missing: Vec::new(),
        };
        let ops = maker.block(&rules.body)?;
        if maker.missing.is_empty() { Ok(Self { ops, lines: maker.lines }) } else { Err(Fault::Missing(maker.missing)) }
    }
}

struct Maker<'a> {
    types: &'a Types,
    asked: &'a BTreeSet<String>,
    address: &'a dyn Fn(&str) -> Option<u64>,
    given: BTreeMap<&'a str, Shape>,
    /// The open loops' variables, and what their elements are.
    open: Vec<(&'a str, Shape)>,
    lines: Vec<Line>,
    missing: Vec<String>,
}

impl<'a> Maker<'a> {
    /// Goes on behind a structure that is not known, so that all of them are asked for at once.
    fn block(&mut self, body: &'a [Statement]) -> Result<Vec<Op>, RuleError> {
        let mut ops = Vec::new();
        for statement in body {
            let made = match statement {
                Statement::Erase(erase) => self.erase(erase),
                Statement::For(each) => self.each(each),
            };
            match made {
                Ok(op) => ops.push(op),
                Err(Fault::Missing(names)) => self.missing.extend(names),
                Err(Fault::Rule(error)) => return Err(error),
            }
        }
        Ok(ops)
    }

    fn line(&mut self, name: &Name, text: &str, what: String) -> usize {
        self.lines.push(Line { number: name.line, text: text.to_owned(), what, depth: self.open.len() });
        self.lines.len() - 1
    }

    fn erase(&mut self, erase: &'a Erase) -> Result<Op, Fault> {
        let Erase { what, how, text } = erase;
        let rule = self.line(&what.first, text, what.to_string());
        let last = what.members.last().unwrap_or(&what.first);
        let (way, shape) = self.way(what)?;
        if *how == How::Nullify {
            return match shape {
                Shape::Pointer(_) => Ok(Op::Erase { rule, at: way, size: Size::Bytes(POINTER), fill: 0 }),
                _ => Err(last.error(format!("'{what}' is no pointer: only pointers are nullified")).into()),
            };
        }
        let (at, target, is_behind) = match shape {
            Shape::Pointer(target) => (way.then(Step::Follow), *target, true),
            other => (way, other, false),
        };
        let size = match how {
            How::Bytes(bytes) => Size::Bytes(*bytes),
            How::BytesIn(path) => self.number(path)?,
            How::Whole | How::Nullify => self.whole(&target, is_behind, (what, last))?,
        };
        Ok(Op::Erase { rule, at, size, fill: b'X' })
    }

    fn whole(&self, target: &Shape, is_behind: bool, (what, last): (&Path, &Name)) -> Result<Size, Fault> {
        let refused = |why: &str| Err(last.error(format!("'{what}' {why}")).into());
        match target {
            Shape::Scalar { is_char: true, .. } if is_behind => Ok(Size::Text),
            Shape::Scalar { size: 1, .. } if is_behind => {
                refused("points to bytes, and nobody says how many: give a size")
            }
            Shape::Void if is_behind => refused("points to nobody knows what: give a size, or nullify"),
            Shape::Void | Shape::Unknown => refused("is of a type that is not understood: give a size"),
            Shape::Bits => refused("is a part of a byte"),
            target => match self.size(target, last)? {
                Some(0) | None => refused("has no length of its own: give a size"),
                Some(bytes) => Ok(Size::Bytes(bytes)),
            },
        }
    }

    /// The way to a number, and its length.
    fn number(&self, path: &Path) -> Result<Size, Fault> {
        let last = path.members.last().unwrap_or(&path.first);
        match self.way(path)? {
            (way, Shape::Scalar { size: size @ (1 | 2 | 4 | 8), .. }) => Ok(Size::Read(way, size as usize)),
            _ => Err(last.error(format!("'{path}' is no number")).into()),
        }
    }

    fn size(&self, shape: &Shape, at: &Name) -> Result<Option<u64>, Fault> {
        if let (Shape::Structure(_) | Shape::Array { .. }, Some(name)) = (shape, own_structure(shape)) {
            self.known(name, at)?;
        }
        Ok(shape.size(&|name| self.types.size(name)))
    }

    /// Makes sure that a structure's definition is there.
    fn known(&self, structure: &str, at: &Name) -> Result<(), Fault> {
        if self.types.size(structure).is_some() {
            return Ok(());
        }
        if self.types.is_ambiguous(structure) {
            let cause = format!("the kernel has several structures called '{structure}', which differ");
            return Err(at.error(cause).into());
        }
        if self.asked.contains(structure) {
            return Err(at.error(format!("the kernel's type information has no structure '{structure}'")).into());
        }
        Err(Fault::Missing(vec![structure.to_owned()]))
    }

    /// The way to what a path names, and what that is.
    fn way(&self, path: &Path) -> Result<(Way, Shape), Fault> {
        let first = &path.first;
        let element = self.open.iter().rposition(|(name, _)| *name == first.text);
        let (start, shape) = match element {
            Some(index) => (Start::Loop(index), self.open[index].1.clone()),
            None => self.symbol(first)?,
        };
        let mut reached = (Way { start, steps: Vec::new() }, shape);
        let mut so_far = first.text.clone();
        for member in &path.members {
            reached = self.member(reached, member, &so_far)?;
            so_far = format!("{so_far}.{}", member.text);
        }
        Ok(reached)
    }

    fn symbol(&self, name: &Name) -> Result<(Start, Shape), Fault> {
        let Some(address) = (self.address)(&name.text) else {
            return Err(name.error(format!("the kernel's symbols have no variable '{}'", name.text)).into());
        };
        if self.types.is_ambiguous_variable(&name.text) && !self.given.contains_key(name.text.as_str()) {
            let cause = format!(
                "files of the kernel define '{0}' in ways that differ: say which is meant with a line 'type {0} ...'",
                name.text
            );
            return Err(name.error(cause).into());
        }
        let shape = self.given.get(name.text.as_str()).or_else(|| self.types.variable(&name.text)).cloned();
        let shape = shape.ok_or_else(|| {
            name.error(format!(
                "the type of '{0}' is not known: give the kernel's vmlinux with debug information (-x), or a line \
                 'type {0} struct NAME' (or 'char', with '*' for pointers) before the rules",
                name.text
            ))
        })?;
        Ok((Start::Symbol(address), shape))
    }

    /// One member further, through the pointers that are in between.
    fn member(&self, (mut way, mut shape): (Way, Shape), member: &Name, of: &str) -> Result<(Way, Shape), Fault> {
        while let Shape::Pointer(target) = shape {
            way = way.then(Step::Follow);
            shape = *target;
        }
        let structure = match shape {
            Shape::Structure(name) => name,
            Shape::Array { .. } => {
                return Err(member.error(format!("'{of}' is an array: go through its elements with 'for'")).into());
            }
            _ => return Err(member.error(format!("'{of}' is no structure, so that it has no members")).into()),
        };
        self.known(&structure, member)?;
        let Some(found) = self.types.member(&structure, &member.text) else {
            return Err(member.error(format!("'{structure}' has no member '{}'", member.text)).into());
        };
        let shape = self.types.shape(&structure, &member.text).cloned().unwrap_or(Shape::Unknown);
        match found.offset().filter(|_| shape != Shape::Bits) {
            Some(offset) => Ok((way.then(Step::Add(offset)), shape)),
            None => Err(member.error(format!("'{of}.{}' is a part of a byte", member.text)).into()),
        }
    }

    fn each(&mut self, each: &'a For) -> Result<Op, Fault> {
        let For { variable, list, over, body, text } = each;
        let rule = self.line(&variable.clone(), text, String::new());
        let (at, each, element) = match over {
            Over::Array => self.array(list)?,
            Over::Via(next) => self.chain(list, next)?,
            Over::Within { structure, member } => self.list(list, structure, member)?,
        };
        self.open.push((&variable.text, element));
        let body = self.block(body);
        self.open.pop();
        Ok(Op::Each { rule, at, each, body: body? })
    }

    fn array(&self, list: &Path) -> Result<(Way, Each, Shape), Fault> {
        let last = list.members.last().unwrap_or(&list.first);
        let (mut way, mut shape) = self.way(list)?;
        if let Shape::Pointer(target) = &shape
            && matches!(**target, Shape::Array { .. })
        {
            way = way.then(Step::Follow);
            shape = (**target).clone();
        }
        match shape {
            Shape::Array { of, elements: Some(count @ 1..=MAX_ELEMENTS) } => match self.size(&of, last)? {
                Some(stride @ 1..) => Ok((way, Each::Array { stride, count }, *of)),
                _ => Err(last.error(format!("the elements of '{list}' are of no known length")).into()),
            },
            Shape::Array { .. } => Err(last.error(format!("nobody says how many elements '{list}' has")).into()),
            _ => {
                let cause =
                    format!("'{list}' is no array: say how it goes on, with 'via MEMBER' or 'within STRUCTURE:MEMBER'");
                Err(last.error(cause).into())
            }
        }
    }

    fn chain(&self, list: &Path, next: &[Name]) -> Result<(Way, Each, Shape), Fault> {
        let last = list.members.last().unwrap_or(&list.first);
        let (mut way, mut shape) = self.way(list)?;
        while let Shape::Pointer(target) = shape {
            way = way.then(Step::Follow);
            shape = *target;
        }
        if !matches!(shape, Shape::Structure(_)) {
            return Err(last.error(format!("'{list}' is no structure and points to none")).into());
        }
        let (steps, reached) = self.inside(&shape, next)?;
        match reached {
            Shape::Pointer(target) if *target == shape => {
                let steps = steps.into_iter().map(Step::Add).chain([Step::Follow]).collect();
                Ok((way, Each::Chain(steps), shape))
            }
            Shape::Structure(name) if name == LIST_HEAD => {
                let cause =
                    "this is a kernel list: write 'within STRUCTURE:MEMBER' instead, with the list's head before it";
                Err(next.first().map_or_else(|| last.error(cause), |name| name.error(cause)).into())
            }
            _ => {
                let cause = "this does not point to the same kind of structure";
                Err(next.first().map_or_else(|| last.error(cause), |name| name.error(cause)).into())
            }
        }
    }

    fn list(&self, list: &Path, structure: &Name, member: &[Name]) -> Result<(Way, Each, Shape), Fault> {
        self.known(&structure.text, structure)?;
        let element = Shape::Structure(structure.text.clone());
        let (steps, link_shape) = self.inside(&element, member)?;
        let link = steps.iter().sum();
        let offset = |of: &str, name: &str| -> Result<u64, Fault> {
            self.known(of, structure)?;
            let known = self.types.offset(of, name);
            known.ok_or_else(|| structure.error(format!("'{of}' has no member '{name}'")).into())
        };
        let (way, shape) = self.head(list)?;
        let last = list.members.last().unwrap_or(&list.first);
        match (&link_shape, &shape) {
            (Shape::Structure(links), Shape::Structure(head)) if links == LIST_HEAD && head == LIST_HEAD => {
                let backwards = list.members.last().is_some_and(|last| last.text == PREVIOUS);
                let next = offset(LIST_HEAD, if backwards { PREVIOUS } else { NEXT })?;
                Ok((way, Each::List { next, link }, element))
            }
            (Shape::Structure(links), Shape::Structure(head)) if links == HLIST_NODE && head == HLIST_HEAD => {
                let (first, next) = (offset(HLIST_HEAD, FIRST)?, offset(HLIST_NODE, NEXT)?);
                Ok((way, Each::Hashed { first, next, link }, element))
            }
            (Shape::Structure(links), _) if [LIST_HEAD, HLIST_NODE].contains(&links.as_str()) => {
                Err(last.error(format!("'{list}' is no head of such a list (struct list_head or hlist_head)")).into())
            }
            _ => Err(structure.error("this member is no link of a list (struct list_head or hlist_node)").into()),
        }
    }

    /// A list's head. makedumpfile wants its `next`: that is the same list.
    fn head(&self, list: &Path) -> Result<(Way, Shape), Fault> {
        let (mut way, mut shape) = self.way(list)?;
        let is_link = |shape: &Shape| matches!(shape, Shape::Pointer(target) if matches!(&**target, Shape::Structure(name) if name == LIST_HEAD));
        let ends_in_link = list.members.last().is_some_and(|last| [NEXT, PREVIOUS].contains(&last.text.as_str()));
        if is_link(&shape) && ends_in_link {
            let mut head = list.clone();
            head.members.pop();
            let (to_head, of_head) = self.way(&head)?;
            if matches!(of_head.structure(), Some(LIST_HEAD)) {
                (way, shape) = (to_head, of_head);
            }
        }
        while let Shape::Pointer(target) = shape {
            way = way.then(Step::Follow);
            shape = *target;
        }
        Ok((way, shape))
    }

    /// From a structure to a member inside it, without following a pointer: the offsets.
    fn inside(&self, shape: &Shape, members: &[Name]) -> Result<(Vec<u64>, Shape), Fault> {
        let start = Way { start: Start::Loop(0), steps: Vec::new() };
        let mut reached = (start, shape.clone());
        for member in members {
            if matches!(reached.1, Shape::Pointer(_)) {
                return Err(member.error("only members inside the structure itself are meant here").into());
            }
            reached = self.member(reached, member, own_structure(shape).unwrap_or("it"))?;
        }
        let offset = |step: &Step| match step {
            Step::Add(bytes) => Some(*bytes),
            Step::Follow => None,
        };
        Ok((reached.0.steps.iter().filter_map(offset).collect(), reached.1))
    }
}

/// The structure that something is or has as elements; not one that it points to.
fn own_structure(shape: &Shape) -> Option<&str> {
    match shape {
        Shape::Structure(name) => Some(name),
        Shape::Array { of, .. } => own_structure(of),
        _ => None,
    }
}
