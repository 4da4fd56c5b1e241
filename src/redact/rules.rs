//! The language of rules: makedumpfile.conf(5)'s for the kernel itself, and lines that give variables their types.
//!
//! Knows words, lines and columns. Must not know kernels or dumps. The [`Rules`] go to `plan`.

use std::fmt;

use vdump_filters::number;

/// The largest file of rules, bytes.
pub const MAX_FILE: usize = 1 << 20;
/// As many rules as a file may have.
const MAX_RULES: usize = 4096;
/// Loops inside loops.
pub const MAX_DEPTH: usize = 8;
/// Members that one rule may go through.
const MAX_STEPS: usize = 32;
/// The most bytes that a rule may name by a number.
const MAX_BYTES: u64 = 1 << 30;

/// What is wrong with a rule, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct RuleError {
    /// Counted from 1.
    pub line: usize,
    /// Characters from the line's start, counted from 1.
    pub column: usize,
    /// What is wrong or what was expected, in words.
    pub what: String,
}

/// A name in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Its line.
    pub line: usize,
    /// Its column.
    pub column: usize,
}

impl Name {
    /// An error here.
    #[must_use]
    pub fn error(&self, what: impl Into<String>) -> RuleError {
        RuleError { line: self.line, column: self.column, what: what.into() }
    }
}

/// `symbol.member.member`; the first may be a loop's variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    /// A variable.
    pub first: Name,
    /// Members, each of what the one before is or points to.
    pub members: Vec<Name>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.text)?;
        self.members.iter().try_for_each(|member| write!(f, ".{}", member.text))
    }
}

/// How much is overwritten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// All of it.
    Whole,
    /// So many bytes.
    Bytes(u64),
    /// As many bytes as a number in the kernel says.
    BytesIn(Path),
    /// The pointer itself, with zeros.
    Nullify,
}

/// `erase ...`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Erase {
    /// What.
    pub what: Path,
    /// How much.
    pub how: How,
    /// The line as it was written, without the space around it.
    pub text: String,
}

/// How a loop finds its elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Over {
    /// The elements of an array.
    Array,
    /// From structure to structure by a pointer in each.
    Via(Vec<Name>),
    /// The structures that a kernel list goes through.
    Within {
        /// Their tag.
        structure: Name,
        /// The list's links in them.
        member: Vec<Name>,
    },
}

/// `for ... endfor`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct For {
    /// The loop's variable.
    pub variable: Name,
    /// What it begins at.
    pub list: Path,
    /// How it goes on.
    pub over: Over,
    /// What is done with each element.
    pub body: Vec<Statement>,
    /// The line as it was written, without the space around it.
    pub text: String,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Statement {
    /// Overwrites something.
    Erase(Erase),
    /// Does so for each element of something.
    For(For),
}

/// The type that a line gives a variable, for kernels without debug information about variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Typed {
    /// The variable.
    pub variable: Name,
    /// `char`, or a structure's tag.
    pub base: Name,
    /// Whether the base is `char`.
    pub is_char: bool,
    /// How many `*` follow.
    pub pointers: usize,
    /// Elements, if it is an array.
    pub elements: Option<u64>,
}

/// A file of rules.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// Types of variables.
    pub types: Vec<Typed>,
    /// The rules in order.
    pub body: Vec<Statement>,
}

impl Rules {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The first thing that is not understood.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut rules = Self::default();
        // Loops that are open, the innermost last.
        let mut open: Vec<For> = Vec::new();
        let mut count = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = Words::of(line, number);
            let Some(first) = words.next() else { continue };
            count += 1;
            if count > MAX_RULES {
                return Err(first.error(format!("there are more than {MAX_RULES} rules")));
            }
            let text = words.all();
            match first.text.as_str() {
                "erase" => {
                    let erase = Statement::Erase(words.erase(text)?);
                    open.last_mut().map_or(&mut rules.body, |inner| &mut inner.body).push(erase);
                }
                "for" if open.len() >= MAX_DEPTH => {
                    return Err(first.error(format!("more than {MAX_DEPTH} loops are inside each other")));
                }
                "for" => open.push(words.begin(text)?),
                "endfor" => {
                    let ended = open.pop().ok_or_else(|| first.error("no loop is open here"))?;
                    let ended = Statement::For(ended);
                    open.last_mut().map_or(&mut rules.body, |inner| &mut inner.body).push(ended);
                }
                "type" if open.is_empty() => rules.types.push(words.typed()?),
                "type" => return Err(first.error("types are given outside of loops")),
                section if section.starts_with('[') => check_section(&first)?,
                other => {
                    return Err(first
                        .error(format!("expected 'erase', 'for', 'endfor', 'type' or '[vmlinux]', found '{other}'")));
                }
            }
            words.end()?;
        }
        match open.pop() {
            Some(unclosed) => Err(unclosed.variable.error("this loop has no 'endfor'")),
            None => Ok(rules),
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

fn check_section(name: &Name) -> Result<(), RuleError> {
    match name.text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some("vmlinux") => Ok(()),
        Some(module) => Err(name.error(format!(
            "rules for modules are not supported ('{module}'): only what the kernel itself has a symbol for is found"
        ))),
        None => Err(name.error("expected '[vmlinux]'")),
    }
}

/// The words of one line.
struct Words<'a> {
    line: &'a str,
    number: usize,
    /// Bytes that have been read.
    at: usize,
}

impl<'a> Words<'a> {
    /// A comment ends the line.
    fn of(line: &'a str, number: usize) -> Self {
        let is_comment = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
        let end = line.match_indices('#').map(|(at, _)| at).find(is_comment).unwrap_or(line.len());
        Self { line: &line[..end], number, at: 0 }
    }

    /// The whole line.
    fn all(&self) -> String {
        self.line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn name_at(&self, at: usize, text: &str) -> Name {
        Name { text: text.to_owned(), line: self.number, column: self.line[..at].chars().count() + 1 }
    }

    fn next(&mut self) -> Option<Name> {
        let rest = &self.line[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let word = self.line[start..].split(char::is_whitespace).next().filter(|word| !word.is_empty())?;
        self.at = start + word.len();
        Some(self.name_at(start, word))
    }

    fn missing(&self, what: &str) -> RuleError {
        let column = self.line.trim_end().chars().count() + 1;
        RuleError { line: self.number, column, what: format!("expected {what}, and the line ends") }
    }

    fn word(&mut self, what: &str) -> Result<Name, RuleError> {
        self.next().ok_or_else(|| self.missing(what))
    }

    /// A C identifier.
    fn identifier(&mut self, what: &str) -> Result<Name, RuleError> {
        let name = self.word(what)?;
        if is_identifier(&name.text) { Ok(name) } else { Err(expected(what, &name)) }
    }

    fn path(&mut self, what: &str) -> Result<Path, RuleError> {
        let word = self.word(what)?;
        let mut members = dotted(&word, what)?;
        let first = members.remove(0);
        Ok(Path { first, members })
    }

    fn erase(&mut self, text: String) -> Result<Erase, RuleError> {
        let what = self.path("a symbol or the loop's variable, with members behind dots")?;
        let how = match self.next() {
            None => How::Whole,
            Some(word) if word.text == "nullify" => How::Nullify,
            Some(word) if word.text == "size" => self.size()?,
            Some(other) => return Err(expected("'size', 'nullify' or the end of the line", &other)),
        };
        Ok(Erase { what, how, text })
    }

    fn size(&mut self) -> Result<How, RuleError> {
        const WHAT: &str = "a number of bytes, or a symbol or member that holds one";
        let word = self.word(WHAT)?;
        if !word.text.starts_with(|first: char| first.is_ascii_digit()) {
            let mut members = dotted(&word, WHAT)?;
            let first = members.remove(0);
            return Ok(How::BytesIn(Path { first, members }));
        }
        let (digits, shift) = match word.text.as_bytes().last() {
            Some(b'k' | b'K') => (&word.text[..word.text.len() - 1], 10),
            Some(b'm' | b'M') => (&word.text[..word.text.len() - 1], 20),
            _ => (word.text.as_str(), 0),
        };
        match number::number(digits).and_then(|number| number.checked_mul(1 << shift)) {
            Some(bytes @ 1..=MAX_BYTES) => Ok(How::Bytes(bytes)),
            Some(0) => Err(word.error("0 bytes are nothing to erase")),
            Some(_) => Err(word.error(format!("more than {MAX_BYTES} bytes"))),
            None => Err(expected(WHAT, &word)),
        }
    }

    fn begin(&mut self, text: String) -> Result<For, RuleError> {
        let variable = self.identifier("a name for each element")?;
        self.keyword("in")?;
        let list = self.path("an array, a structure or a list head")?;
        let over = match self.next() {
            None => Over::Array,
            Some(word) if word.text == "via" => {
                let member = self.word("the member that points to the next structure")?;
                Over::Via(dotted(&member, "the member that points to the next structure")?)
            }
            Some(word) if word.text == "within" => {
                const WHAT: &str = "STRUCTURE:MEMBER, what the list goes through";
                let word = self.word(WHAT)?;
                let Some((structure, member)) = word.text.split_once(':') else { return Err(expected(WHAT, &word)) };
                let name =
                    |text: &str, right: usize| Name { text: text.to_owned(), column: word.column + right, ..word };
                let (structure, member) = (name(structure, 0), name(member, structure.len() + 1));
                if !is_identifier(&structure.text) {
                    return Err(expected(WHAT, &word));
                }
                Over::Within { structure, member: dotted(&member, WHAT)? }
            }
            Some(other) => return Err(expected("'via', 'within' or the end of the line", &other)),
        };
        Ok(For { variable, list, over, body: Vec::new(), text })
    }

    /// `type VARIABLE [struct|union] NAME [*]... [[N]]`
    fn typed(&mut self) -> Result<Typed, RuleError> {
        const WHAT: &str = "'char', 'struct NAME' or 'union NAME'";
        let variable = self.identifier("a variable")?;
        let word = self.word(WHAT)?;
        // A star may touch what is before it.
        let stem = word.text.trim_end_matches('*').to_owned();
        let mut stars = word.text.len() - stem.len();
        let (mut base, is_char) = (Name { text: stem, ..word.clone() }, word.text.trim_end_matches('*') == "char");
        if ["struct", "union"].contains(&word.text.as_str()) {
            let name = self.word("a structure's name")?;
            let stem = name.text.trim_end_matches('*').to_owned();
            stars = name.text.len() - stem.len();
            base = Name { text: stem, ..name };
        } else if !is_char {
            return Err(expected(WHAT, &word));
        }
        if !is_identifier(&base.text) {
            return Err(expected("a structure's name", &base));
        }
        let mut elements = None;
        while let Some(word) = self.next() {
            let inside = word.text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if word.text.bytes().all(|byte| byte == b'*') && elements.is_none() {
                stars += word.text.len();
            } else if let Some(number) =
                inside.and_then(|inside| inside.parse::<u64>().ok()).filter(|number| *number > 0)
                && elements.is_none()
            {
                elements = Some(number);
            } else {
                return Err(expected("'*', '[NUMBER]' or the end of the line", &word));
            }
        }
        if stars > 2 {
            return Err(base.error("more than two '*' are not followed"));
        }
        Ok(Typed { variable, base, is_char, pointers: stars, elements })
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), RuleError> {
        let word = self.word(&format!("'{keyword}'"))?;
        if word.text == keyword { Ok(()) } else { Err(expected(&format!("'{keyword}'"), &word)) }
    }

    fn end(&mut self) -> Result<(), RuleError> {
        match self.next() {
            None => Ok(()),
            Some(word) => Err(expected("the end of the line", &word)),
        }
    }
}

fn expected(what: &str, found: &Name) -> RuleError {
    found.error(format!("expected {what}, found '{}'", found.text))
}

fn is_identifier(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit()) && text.len() <= 512
}

/// Names with dots between them; one at least.
fn dotted(word: &Name, what: &str) -> Result<Vec<Name>, RuleError> {
    let mut names = Vec::new();
    let mut column = word.column;
    for text in word.text.split('.') {
        let name = Name { text: text.to_owned(), line: word.line, column };
        if !is_identifier(text) {
            return Err(expected(what, if text.is_empty() { word } else { &name }));
        }
        if names.len() > MAX_STEPS {
            return Err(name.error(format!("more than {MAX_STEPS} members behind each other")));
        }
        column += text.chars().count() + 1;
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
