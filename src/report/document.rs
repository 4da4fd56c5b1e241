//! The JSON that every command prints: one head for all, then what the command has to say. `docs/json.md` describes it.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::error::Error;

/// Changes when a field goes away or means something else; not when one is added.
pub const SCHEMA: u32 = 1;

/// What every document starts with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Head {
    schema: u32,
    vdump: &'static str,
    command: &'static str,
    inputs: Vec<String>,
}

impl Head {
    /// The head of what `command` says about `inputs`.
    pub fn new<P: AsRef<Path>>(command: &'static str, inputs: &[P]) -> Self {
        let inputs = inputs.iter().map(|path| path.as_ref().display().to_string()).collect();
        Self { schema: SCHEMA, vdump: env!("CARGO_PKG_VERSION"), command, inputs }
    }
}

/// A whole document.
#[derive(Debug, Serialize)]
pub struct Document<'a, T> {
    /// The same for all commands.
    #[serde(flatten)]
    pub head: &'a Head,
    /// What the command found.
    #[serde(flatten)]
    pub body: &'a T,
}

/// What a command that failed says instead.
#[derive(Debug, Serialize)]
pub struct Failure {
    error: Failed,
}

#[derive(Debug, Serialize)]
struct Failed {
    /// `usage`, `input`, `output`, `no-space`, `interrupted`, `memory` or `unknown-kernel`.
    kind: &'static str,
    /// The line that people get.
    message: String,
    what: String,
    cause: Option<String>,
    next_step: Option<String>,
    exit_code: u8,
    /// Files with what could be written, under their incomplete names.
    partial: Vec<String>,
}

impl Failure {
    /// Says an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let partial = error.partial().iter().map(|path: &PathBuf| path.display().to_string());
        let (what, cause, next_step) = error.parts();
        Self {
            error: Failed {
                kind: error.kind().name(),
                message: error.to_string(),
                what: what.to_owned(),
                cause: cause.map(str::to_owned),
                next_step: next_step.map(str::to_owned),
                exit_code: error.exit_code(),
                partial: partial.collect(),
            },
        }
    }
}

/// An address, or a word of memory: JSON's numbers are exact up to 2^53 only in most programs.
///
/// # Errors
/// The serializer's.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

/// The same where there may be none.
///
/// # Errors
/// The serializer's.
#[allow(clippy::ref_option, reason = "serde calls it so")]
pub fn hex_or_null<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[derive(Serialize)]
    struct Body {
        #[serde(serialize_with = "hex")]
        vaddr: u64,
        #[serde(serialize_with = "hex_or_null")]
        none: Option<u64>,
    }

    #[test]
    fn a_document_is_its_head_and_its_body() {
        let head = Head::new("explain", &["a", "b"]);
        let body = Body { vaddr: 0xffff_8880_0000_0001, none: None };
        let text = serde_json::to_string(&Document { head: &head, body: &body }).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let wanted = format!(
            r#"{{"schema":1,"vdump":"{version}","command":"explain","inputs":["a","b"],"vaddr":"0xffff888000000001","none":null}}"#
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_failure_names_cause_next_step_and_what_is_left() {
        let error = Error::new(Kind::NoSpace, "cannot write vmcore")
            .because("No space left on device")
            .next_step("free some")
            .leaving(&[PathBuf::from("vmcore-incomplete")]);
        let value = serde_json::to_value(Failure::of(&error)).unwrap();
        assert_eq!(
            value["error"],
            serde_json::json!({
                "kind": "no-space", "message": "cannot write vmcore: No space left on device; free some",
                "what": "cannot write vmcore", "cause": "No space left on device", "next_step": "free some",
                "exit_code": 1, "partial": ["vmcore-incomplete"],
            })
        );
    }
}
