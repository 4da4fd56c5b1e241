//! Work on all threads, each with readers of its own, in bounded memory.
//!
//! Knows threads. Must not know what is checked. What the threads found becomes one [`Findings`], whatever their number.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use super::{Check, Findings};
use crate::error::Result;

impl Check<'_> {
    /// Calls `work` for each number below `jobs`, in any order; `make` makes what a thread keeps between its jobs, which
    /// takes about `each` bytes.
    ///
    /// # Errors
    /// The user wants to stop.
    pub(super) fn on_all<W>(
        &self,
        jobs: u64,
        each: u64,
        findings: &mut Findings,
        make: impl Fn() -> W + Sync,
        work: impl Fn(&mut W, u64, &mut Findings) + Sync,
    ) -> Result<()> {
        let fitting = (self.memory / each.max(1)).min(self.threads as u64).min(jobs).max(1);
        let (next, found) = (AtomicU64::new(0), Mutex::new(Findings::default()));
        let run = || {
            let (mut kept, mut mine) = (make(), Findings::default());
            while !self.progress.stopped() {
                let job = next.fetch_add(1, Relaxed);
                if job >= jobs {
                    break;
                }
                work(&mut kept, job, &mut mine);
            }
            if let Ok(mut found) = found.lock() {
                found.merge(mine);
            }
        };
        thread::scope(|scope| {
            for _ in 1..fitting {
                // Where the system gives no more threads, this one does their work.
                let _ = thread::Builder::new().spawn_scoped(scope, run);
            }
            run();
        });
        if let Ok(found) = found.into_inner() {
            findings.merge(found);
        }
        self.go_on()
    }
}
