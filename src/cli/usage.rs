//! What is wrong with a command line of our own, in our own words: clap finds it, and says it in another form than the rest of
//! the program.

use std::{
    error::Error as _,
    ffi::{OsStr, OsString},
    path::Path,
};

use clap::{
    Arg, ArgAction, CommandFactory as _, FromArgMatches as _,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;
use crate::error::{Error, Kind};

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Refusal {
    /// Help or the version was asked for.
    Show(clap::Error),
    /// The line cannot be meant.
    Error(Error),
}

/// Reads the command line; the first word is the program's name.
///
/// # Errors
/// There is nothing to run.
pub fn parse(words: &[OsString]) -> Result<Cli, Refusal> {
    let parsed = command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand => Refusal::Show(error),
        _ => Refusal::Error(in_our_words(&error, words)),
    })
}

/// The whole command line, as clap knows it.
pub(super) fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let command = command.mut_args(takes_numbers);
        // Those with codes of their own say them.
        let codes = command.get_after_help().is_none().then(|| exit_codes(command.get_name()));
        codes.into_iter().fold(command, clap::Command::after_help)
    })
}

/// So that `-d -1` is a wrong level, and not an unknown option.
fn takes_numbers(arg: Arg) -> Arg {
    let valued = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_positional();
    if valued && !arg.is_allow_hyphen_values_set() { arg.allow_negative_numbers(true) } else { arg }
}

/// What the exit codes of a command mean.
fn exit_codes(command: &str) -> &'static str {
    match command {
        "filter" | "convert" | "merge" => {
            "Exit codes: 0 the dump is written; 1 it is not, or not whole: the error says what there is; 2 wrong usage."
        }
        "check" => {
            "Exit codes: 0 the dump is whole and a reader opens it; 1 data is lost, no reader opens it, or it cannot be checked; 2 \
             wrong usage."
        }
        "load" | "unload" | "exec" => "Exit codes: 0 done; 1 not done: the error says why; 2 wrong usage.",
        _ => {
            "Exit codes: 0 printed or written; 1 the input cannot be read, or does not say what was asked for; 2 wrong usage."
        }
    }
}

fn in_our_words(error: &clap::Error, words: &[OsString]) -> Error {
    let context = |kind| text(error.get(kind));
    let name = context(ContextKind::InvalidArg).map(|name| option(&name)).unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let usage = |what: String| Error::new(Kind::Usage, what);
    let refused = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            return no_command(&context(ContextKind::InvalidSubcommand).unwrap_or_default(), words);
        }
        ErrorKind::UnknownArgument if name.starts_with('-') => usage(format!("there is no option {name}")),
        ErrorKind::UnknownArgument => usage(format!("'{name}' is one argument too many")),
        ErrorKind::InvalidValue if value.is_empty() => usage(format!("{name} needs a value")),
        ErrorKind::InvalidValue => {
            let choices = context(ContextKind::ValidValue).unwrap_or_default();
            usage(format!("{name} cannot be '{value}'")).because(format!("the choices are {choices}"))
        }
        ErrorKind::ValueValidation => {
            let refused = usage(format!("{name} cannot be '{value}'"));
            match error.source() {
                Some(cause) => refused.because(cause),
                None => refused,
            }
        }
        ErrorKind::ArgumentConflict => match context(ContextKind::PriorArg).map(|prior| option(&prior)) {
            Some(prior) if prior == name => usage(format!("{name} is given twice")),
            Some(prior) => usage(format!("{name} cannot be given together with {prior}")),
            None => usage(format!("{name} cannot be given together with other options")),
        },
        ErrorKind::MissingRequiredArgument => {
            usage(missing(&context(ContextKind::InvalidArg).unwrap_or_default(), words))
        }
        ErrorKind::TooFewValues | ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => {
            usage(format!("{name} is given with too few values or too many"))
        }
        ErrorKind::InvalidUtf8 => usage("a value is not UTF-8, and no name of a file".to_owned()),
        _ => usage(error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()),
    };
    let help = command_of(words).map_or("'vdump --help'".to_owned(), |name| format!("'vdump {name} --help'"));
    match context(ContextKind::SuggestedArg) {
        Some(meant) => refused.next_step(format!("did you mean {}? see {help}", option(&meant))),
        None => refused.next_step(format!("see {help}")),
    }
}

/// What a command line lacks: a file, one of several options, or the option that another one goes with.
fn missing(shown: &str, words: &[OsString]) -> String {
    let name = shown.split([' ', '>']).next().unwrap_or_default().trim_start_matches('<');
    if shown.contains('|') {
        let choices: Vec<String> = shown.trim_matches(['<', '>']).split('|').map(option).collect();
        return format!("{} must be given", choices.join(" or "));
    }
    if !shown.starts_with('-') {
        // Of several kinds of files the usage line says more.
        return format!("no {} was named", if name == "FILE" { "file" } else { name });
    }
    let given = words.iter().filter_map(|word| word.to_str()).filter(|word| word.starts_with("--"));
    let given: Vec<String> = given.map(option).collect();
    let name = option(shown);
    let companions = [
        ("--dry-run", ["--root", "--json"].as_slice()),
        ("--output", &["--force"]),
        ("--keep-task", &["--keep-task-memory"]),
    ];
    let companion = companions.iter().filter(|(needed, _)| *needed == name).flat_map(|(_, those)| those.iter());
    match companion.copied().find(|companion| given.iter().any(|word| word == companion)) {
        Some(companion) => format!("{companion} goes with {name} only"),
        None => format!("{name} must be given"),
    }
}

/// The first word is no command. Who forgot it has typed the names of files.
fn no_command(word: &str, words: &[OsString]) -> Error {
    if Path::new(word).exists() {
        let rest: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
        let output = if rest.len() < 2 { " OUTPUT" } else { "" };
        return Error::new(Kind::Usage, format!("'{word}' is a file, and no command")).next_step(format!(
            "'vdump filter {}{output}' makes a small dump of it; see 'vdump --help'",
            rest.join(" ")
        ));
    }
    let near = command().get_subcommands().map(|command| command.get_name().to_owned()).find(|name| {
        let close = name.starts_with(word) || word.starts_with(name.as_str());
        close && !word.is_empty()
    });
    let refused = Error::new(Kind::Usage, format!("there is no command '{word}'"));
    match near {
        Some(near) => refused.next_step(format!("did you mean 'vdump {near}'? see 'vdump --help'")),
        None => refused.next_step("see 'vdump --help'"),
    }
}

/// The command that was typed.
fn command_of(words: &[OsString]) -> Option<String> {
    let command = command();
    let name = words.get(1).map(OsString::as_os_str).and_then(OsStr::to_str)?;
    command.find_subcommand(name).map(|found| found.get_name().to_owned())
}

/// `--memory-limit <SIZE>` without what stands for its value. Arguments without a name of their own stay as they are.
fn option(shown: &str) -> String {
    let plain = shown.split([' ', '=']).next().filter(|_| shown.starts_with('-'));
    plain.unwrap_or(shown).to_owned()
}

fn text(value: Option<&ContextValue>) -> Option<String> {
    match value? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    }
}

/// A word, its help, and what it stands for.
pub(super) type Choice<T> = (&'static str, &'static str, T);

/// A parser for options with a few words to choose from.
pub(super) fn one_of<T: Copy + Send + Sync + 'static>(
    choices: &'static [Choice<T>],
) -> impl TypedValueParser<Value = T> {
    let words = choices.iter().map(|(word, help, _)| PossibleValue::new(*word).help(*help));
    PossibleValuesParser::new(words).try_map(|typed| {
        let chosen = choices.iter().find(|(word, ..)| *word == typed);
        chosen.map(|(.., value)| *value).ok_or("no such choice")
    })
}

/// A parser for options that count something.
pub(super) fn count(most: u16) -> impl Fn(&str) -> Result<u16, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = vdump_filters::number::decimal(text).and_then(|number| u16::try_from(number).ok());
        number.filter(|number| (1..=most).contains(number)).ok_or_else(|| format!("not a number from 1 to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match parse(&words) {
            Err(Refusal::Error(error)) => {
                assert_eq!(error.exit_code(), 2, "{line}");
                error.to_string()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn faults_of_a_command_line_read_as_all_errors_do() {
        for (line, words) in [
            ("vdump filter -d -1 a b", "--dump-level cannot be '-1': '-1' is not a dump level"),
            (
                "vdump filter -j 0 a b",
                "--threads cannot be '0': not a number from 1 to 4096; see 'vdump filter --help'",
            ),
            ("vdump filter -j -1 a b", "--threads cannot be '-1': not a number from 1 to 4096"),
            ("vdump filter -j many a b", "--threads cannot be 'many': not a number from 1 to 4096"),
            ("vdump filter --memory-limit lots a b", "--memory-limit cannot be 'lots': not a size: give bytes"),
            ("vdump filter --limit 0.5 a b", "--limit cannot be '0.5': not a whole number of bytes"),
            ("vdump filter -f raw a b", "--format cannot be 'raw': the choices are kdump, elf; see"),
            ("vdump filter a b -d", "--dump-level needs a value; see 'vdump filter --help'"),
            ("vdump filter --thread 4 a b", "there is no option --thread; did you mean --threads? see 'vdump filter"),
            ("vdump filter -Q a b", "there is no option -Q; see 'vdump filter --help'"),
            ("vdump filter", "no file was named; see 'vdump filter --help'"),
            ("vdump merge", "no file was named; see 'vdump merge --help'"),
            ("vdump info", "no INPUT was named; see 'vdump info --help'"),
            ("vdump load", "no KERNEL was named; see 'vdump load --help'"),
            ("vdump explain a", "--pfn or --paddr or --vaddr must be given; see 'vdump explain --help'"),
            ("vdump load --root=/a b", "--root goes with --dry-run only; see 'vdump load --help'"),
            ("vdump load b --json", "--json goes with --dry-run only"),
            ("vdump dmesg --force a", "--force goes with --output only"),
            ("vdump filter --split 2 -o a b", "--split cannot be given together with --output"),
            ("vdump frobnicate", "there is no command 'frobnicate'; see 'vdump --help'"),
            ("vdump filt a b", "there is no command 'filt'; did you mean 'vdump filter'?"),
            ("vdump --nonsense", "there is no option --nonsense; see 'vdump --help'"),
            ("vdump Cargo.toml out", "'Cargo.toml' is a file, and no command; 'vdump filter Cargo.toml out' makes"),
            ("vdump Cargo.toml", "'vdump filter Cargo.toml OUTPUT' makes"),
            ("vdump bench --seconds 0 a", "--seconds cannot be '0': not a number from 1 to 600"),
        ] {
            let said = said(line);
            assert!(said.contains(words), "{line}: {said}");
            assert!(!said.contains("'-- ") && !said.contains("tip:") && !said.contains('\n'), "{line}: {said}");
        }
    }

    /// An option that follows a group of others in its struct would stand below their heading.
    #[test]
    fn options_stand_below_their_headings() {
        let command = command();
        let filter = command.find_subcommand("filter").unwrap();
        let heading = |name: &str| {
            let arg = filter.get_arguments().find(|arg| arg.get_long() == Some(name)).unwrap();
            arg.get_help_heading().unwrap_or("Options").to_owned()
        };
        for (name, below) in [
            ("dump-level", "Pages"),
            ("keep-task", "Pages"),
            ("vmlinux", "Kernel"),
            ("iomem", "Input"),
            ("output", "Output"),
            ("force", "Output"),
            ("strict", "Output"),
            ("threads", "Threads and memory"),
            ("memory-limit", "Threads and memory"),
            ("json", "Report"),
            ("redact", "Redaction"),
            ("dry-run", "Options"),
            ("verbose", "Options"),
        ] {
            assert_eq!(heading(name), below, "--{name}");
        }
    }

    #[test]
    fn every_command_says_its_exit_codes() {
        for command in command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Exit codes: 0 "), "{}", command.get_name());
        }
        command().debug_assert();
    }
}
