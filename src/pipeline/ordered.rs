//! Parallel work with results in order and a bound on memory.
//!
//! Knows threads and queues. Must not know pages. Used by `run` with batches.

use std::{collections::BTreeMap, sync::Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rayon::ThreadPool;

/// Runs `work` on every item of `jobs` with `threads` workers of `pool`, and `commit` on every result in the order of the
/// jobs, on the calling thread.
///
/// Results live in `buffers`, which are reused: their number bounds the memory and how far fast workers may run ahead.
/// A worker takes a buffer before it takes a job, so the job that `commit` waits for always has one. `stop` is asked
/// before each job; the jobs taken until then are still committed.
///
/// # Errors
/// The first error of `commit`; the workers stop at their next job.
pub fn in_order<J, B, W, E>(
    pool: &ThreadPool,
    jobs: impl Iterator<Item = J> + Send,
    buffers: Vec<B>,
    make_worker: impl Fn() -> W + Sync,
    stop: impl Fn() -> bool + Sync,
    mut commit: impl FnMut(&mut B) -> Result<(), E>,
) -> Result<(), E>
where
    J: Send,
    B: Send,
    W: FnMut(J, &mut B),
    E: Send,
{
    let (give_back, free) = unbounded();
    let (hand_over, done) = unbounded();
    for buffer in buffers {
        // The receiver lives in this function.
        let _ = give_back.send(buffer);
    }
    let jobs = Mutex::new(jobs.enumerate());
    pool.in_place_scope(|scope| {
        for _ in 0..pool.current_num_threads() {
            let (free, hand_over) = (free.clone(), hand_over.clone());
            let (jobs, make_worker, stop) = (&jobs, &make_worker, &stop);
            scope.spawn(move |_| worker(jobs, &free, &hand_over, make_worker(), stop));
        }
        drop((free, hand_over));
        commit_in_order(&done, give_back, &mut commit)
    })
}

fn worker<J, B>(
    jobs: &Mutex<impl Iterator<Item = (usize, J)>>,
    free: &Receiver<B>,
    hand_over: &Sender<(usize, B)>,
    mut work: impl FnMut(J, &mut B),
    stop: impl Fn() -> bool,
) {
    while let Ok(mut buffer) = free.recv() {
        if stop() {
            return;
        }
        let next = match jobs.lock() {
            Ok(mut jobs) => jobs.next(),
            Err(_) => None,
        };
        let Some((turn, job)) = next else { return };
        work(job, &mut buffer);
        if hand_over.send((turn, buffer)).is_err() {
            return;
        }
    }
}

/// Ends when all workers have ended. On an error it drops the queue of free buffers, and with it the workers' supply.
#[expect(clippy::needless_pass_by_value, reason = "dropping the sender on return is what ends the workers")]
fn commit_in_order<B, E>(
    done: &Receiver<(usize, B)>,
    give_back: Sender<B>,
    commit: &mut impl FnMut(&mut B) -> Result<(), E>,
) -> Result<(), E> {
    let mut waiting = BTreeMap::new();
    let mut turn = 0;
    while let Ok((finished, buffer)) = done.recv() {
        waiting.insert(finished, buffer);
        while let Some(mut buffer) = waiting.remove(&turn) {
            commit(&mut buffer)?;
            turn += 1;
            let _ = give_back.send(buffer);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn pool(threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn results_come_in_order_from_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            let work = |job: u64, buffer: &mut u64| {
                if job.is_multiple_of(7) {
                    std::thread::yield_now();
                }
                *buffer = job * 2;
            };
            let result: Result<(), ()> = in_order(
                &pool(threads),
                0..1000u64,
                vec![0; threads + 1],
                || work,
                || false,
                |buffer| {
                    seen.push(*buffer);
                    Ok(())
                },
            );
            assert_eq!(result, Ok(()));
            assert!(seen.iter().copied().eq((0..1000).map(|job| job * 2)));
        }
    }

    #[test]
    fn an_error_ends_it() {
        let worked = AtomicUsize::new(0);
        let result = in_order(
            &pool(3),
            0..1_000_000u64,
            vec![(); 5],
            || {
                |_, _: &mut ()| {
                    worked.fetch_add(1, Relaxed);
                }
            },
            || false,
            |_| Err("full"),
        );
        assert_eq!(result, Err("full"));
        assert!(worked.load(Relaxed) < 100);
    }

    #[test]
    fn a_wish_to_stop_ends_it_with_a_prefix() {
        let count = AtomicUsize::new(0);
        let mut seen = Vec::new();
        let _: Result<(), ()> = in_order(
            &pool(2),
            0..1_000_000usize,
            vec![0; 4],
            || |job, buffer: &mut usize| *buffer = job,
            || count.fetch_add(1, Relaxed) > 50,
            |buffer| {
                seen.push(*buffer);
                Ok(())
            },
        );
        assert!(seen.iter().copied().eq(0..seen.len()));
        assert!(seen.len() < 100);
    }
}
