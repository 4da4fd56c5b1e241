//! The tasks' kernel stacks.
//!
//! Knows how large they are, and where the idle tasks are that no list has. Must not know how tasks are linked (`tasks` does).

use std::time::{Duration, Instant};

use super::{Found, Frames, Gap};
use crate::{
    kernel::{
        crashed::Crashed,
        tasks::{Task, Tasks},
    },
    layout::Witness,
};

const MAX_SIZE: u64 = 256 << 10;
/// The longest that the search may take. On sound media ten thousand tasks take a tenth of a second.
const MAX_TIME: Duration = Duration::from_secs(10);

pub(super) fn find(crashed: &Crashed<'_>, frames: &mut Frames) -> Found {
    let mut info = crashed.info.clone();
    if let Some(first) = crashed.symbol("init_task") {
        // Spares another pass over the symbol table.
        info.set("SYMBOL(init_task)", format!("{first:x}"), Witness::Symbols);
    }
    let tasks = Tasks::find(&info, &crashed.virt).map_err(Gap::Unknown)?;
    let size = crashed.info.size("thread_union").filter(|size| (4096..=MAX_SIZE).contains(size));
    let space = &crashed.layout.space;
    let Some(size) = size.or(space.arch().stack_sizes().first().copied()) else {
        return Err(Gap::Unknown("nothing says how large they are".to_owned()));
    };
    let mut add = |task: &Task| {
        // A task that has ended has none. One that is only half there is being made, or given back.
        if space.is_kernel(task.stack) {
            frames.add_virtual(task.stack, size, crashed);
        }
    };
    let started = Instant::now();
    let mut all = tasks.iter();
    for task in all.by_ref() {
        add(&task);
        if started.elapsed() > MAX_TIME {
            return Err(Gap::Damaged("looking at tasks took too long".to_owned()));
        }
    }
    if let Some(idle) = crashed.symbol("idle_threads") {
        let tasks_of_cpus = crashed.cpu_offsets().filter_map(|offset| crashed.word(idle.wrapping_add(offset)));
        tasks_of_cpus.filter_map(|address| tasks.at(address).ok()).for_each(|task| add(&task));
    }
    match all.problems().first() {
        Some(problem) => Err(Gap::Damaged(problem.clone())),
        None => Ok(()),
    }
}
