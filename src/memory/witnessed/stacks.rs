//! The tasks' kernel stacks.
//!
//! Knows how large they are. Must not know how tasks are linked.

use super::{Crashed, Found, Frames, Gap};

pub(super) fn find(_crashed: &Crashed<'_>, _frames: &mut Frames) -> Found {
    Err(Gap::Unknown("tasks are not looked for".to_owned()))
}
