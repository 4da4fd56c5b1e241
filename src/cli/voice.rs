//! How advice is worded for those who call vdump by another program's name: in the options of that program.
//!
//! Errors are made deep inside, in vdump's own words; here they are translated on their way out.

use crate::error::Error;

/// Our words and another program's for the same thing, longer ones first.
pub(super) struct Dictionary {
    /// The other program's words for ours.
    pub(super) words: &'static [(&'static str, &'static str)],
    /// Which of our commands has what the other program has no word for.
    pub(super) command: &'static str,
}

/// Options of ours that advice names and that nobody else has.
const OURS_ALONE: [&str; 12] = [
    "--memory-limit",
    "--strict",
    "--keep-task",
    "--keep-range",
    "--drop-range",
    "--btf",
    "--iomem",
    "--elfcorehdr",
    "--vmcoreinfo",
    "--virtual",
    "--backup",
    "--on-mismatch",
];

impl Dictionary {
    /// The same error in the other program's words.
    pub(super) fn translated(&self, error: Error) -> Error {
        error.reworded(|text| self.text(text))
    }

    /// A whole command of ours, in quotes, stays as it is.
    fn text(&self, text: &str) -> String {
        let (mut pieces, mut alone) = (Vec::new(), false);
        for piece in text.split('\'') {
            if piece.starts_with("vdump ") {
                pieces.push(piece.to_owned());
                continue;
            }
            alone |= OURS_ALONE.iter().any(|ours| piece.contains(ours));
            let translate = |piece: String, (ours, theirs): &(&str, &str)| replace_words(&piece, ours, theirs);
            pieces.push(self.words.iter().fold(piece.to_owned(), translate));
        }
        let text = pieces.join("'");
        if alone { format!("{text} ('{}' has that option)", self.command) } else { text }
    }
}

/// Replaces `from` where it is not a part of a longer word.
fn replace_words(text: &str, from: &str, to: &str) -> String {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(from) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        let inside = before.chars().next_back().is_some_and(part_of_a_word) || after.starts_with(part_of_a_word);
        out += before;
        out += if inside { from } else { to };
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_outside_quotes_are_translated() {
        let dictionary = Dictionary { words: &[("--force", "-f"), ("-j", "--num-threads")], command: "vdump filter" };
        for (ours, theirs) in [
            ("give --force", "give -f"),
            ("give --forced, --no-force", "give --forced, --no-force"),
            ("run 'vdump filter --force'; or --force", "run 'vdump filter --force'; or -f"),
            ("fewer threads (-j)", "fewer threads (--num-threads)"),
            ("it's --force", "it's -f"),
            ("without --strict it is kept", "without --strict it is kept ('vdump filter' has that option)"),
        ] {
            assert_eq!(dictionary.text(ours), theirs);
        }
    }
}
