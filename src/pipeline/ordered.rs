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
    let (give_back, free) = filled(buffers);
    let (hand_over, done) = unbounded();
    let queue = Queue::new(jobs.map(|job| (0, job)), 1);
    pool.in_place_scope(|scope| {
        for _ in 0..pool.current_num_threads() {
            let (free, lanes) = (free.clone(), vec![hand_over.clone()]);
            let (queue, make_worker, stop) = (&queue, &make_worker, &stop);
            scope.spawn(move |_| worker(queue, &free, &lanes, make_worker(), stop));
        }
        drop((free, hand_over));
        commit_in_order(&done, give_back, &mut commit)
    })
}

/// The same in several lanes: a job names its lane, each lane has its own commit, on a thread of `lanes`, and commits in
/// the order of its own jobs. So a slow lane does not hold up the others, until it has all buffers, or where `lanes` has fewer
/// threads than there are lanes, and they share one.
///
/// A lane whose commit fails gives back its buffers from then on; the others go on until `stop` says that it is enough.
/// The results are those of the lanes.
///
/// # Errors
/// The first error of each lane.
pub fn in_lanes<J, B, W, E, C>(
    (pool, lanes): (&ThreadPool, &ThreadPool),
    jobs: impl Iterator<Item = (usize, J)> + Send,
    buffers: Vec<B>,
    make_worker: impl Fn() -> W + Sync,
    stop: impl Fn() -> bool + Sync,
    commits: Vec<C>,
) -> Vec<Result<(), E>>
where
    J: Send,
    B: Send,
    W: FnMut(J, &mut B),
    E: Send,
    C: FnMut(&mut B) -> Result<(), E> + Send,
{
    let (give_back, free) = filled(buffers);
    let threads = lanes.current_num_threads().clamp(1, commits.len().max(1));
    let (hand_over, done): (Vec<_>, Vec<_>) = (0..threads).map(|_| unbounded()).unzip();
    let queue = Queue::new(jobs, commits.len());
    let mut results: Vec<_> = commits.iter().map(|_| Ok(())).collect();
    let mut shares: Vec<Vec<Lane<'_, B, E, C>>> = done.iter().map(|_| Vec::new()).collect();
    for (lane, (commit, result)) in commits.into_iter().zip(&mut results).enumerate() {
        shares[lane % threads].push(Lane { commit, result, order: Order::default() });
    }
    pool.in_place_scope(|scope| {
        for _ in 0..pool.current_num_threads() {
            let (free, hand_over) = (free.clone(), hand_over.clone());
            let (queue, make_worker, stop) = (&queue, &make_worker, &stop);
            scope.spawn(move |_| worker(queue, &free, &hand_over, make_worker(), stop));
        }
        drop((free, hand_over));
        lanes.in_place_scope(|scope| {
            for (share, done) in shares.into_iter().zip(done) {
                let give_back = give_back.clone();
                scope.spawn(move |_| commit_lanes(share, threads, &done, &give_back));
            }
            drop(give_back);
        });
    });
    results
}

/// A buffer with the result of the job that had this turn in its lane.
struct Done<B> {
    lane: usize,
    turn: usize,
    buffer: B,
}

/// Results that came before their turn, and whose turn it is.
struct Order<B> {
    waiting: BTreeMap<usize, B>,
    turn: usize,
}

impl<B> Default for Order<B> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), turn: 0 }
    }
}

impl<B> Order<B> {
    /// The result whose turn it is, if it is there.
    fn next(&mut self) -> Option<B> {
        let buffer = self.waiting.remove(&self.turn)?;
        self.turn += 1;
        Some(buffer)
    }
}

/// One lane: what commits its results, and how that ended.
struct Lane<'a, B, E, C> {
    commit: C,
    result: &'a mut Result<(), E>,
    order: Order<B>,
}

/// The queue of free buffers.
fn filled<B>(buffers: Vec<B>) -> (Sender<B>, Receiver<B>) {
    let (give_back, free) = unbounded();
    for buffer in buffers {
        // The receiver is there.
        let _ = give_back.send(buffer);
    }
    (give_back, free)
}

/// The jobs to come, and how many each lane has had.
struct Queue<I> {
    next: Mutex<(I, Vec<usize>)>,
}

impl<J, I: Iterator<Item = (usize, J)>> Queue<I> {
    fn new(jobs: I, lanes: usize) -> Self {
        Self { next: Mutex::new((jobs, vec![0; lanes])) }
    }

    /// The next job, its lane, and its turn there.
    fn take(&self) -> Option<(usize, usize, J)> {
        let mut next = self.next.lock().ok()?;
        let (lane, job) = next.0.next()?;
        let turn = next.1.get_mut(lane)?;
        *turn += 1;
        Some((lane, *turn - 1, job))
    }
}

fn worker<J, B>(
    queue: &Queue<impl Iterator<Item = (usize, J)>>,
    free: &Receiver<B>,
    lanes: &[Sender<Done<B>>],
    mut work: impl FnMut(J, &mut B),
    stop: impl Fn() -> bool,
) {
    while let Ok(mut buffer) = free.recv() {
        if stop() {
            return;
        }
        let Some((lane, turn, job)) = queue.take() else { return };
        work(job, &mut buffer);
        if lanes[lane % lanes.len()].send(Done { lane, turn, buffer }).is_err() {
            return;
        }
    }
}

/// Ends when all workers have ended. On an error it drops the queue of free buffers, and with it the workers' supply.
#[expect(clippy::needless_pass_by_value, reason = "dropping the sender on return is what ends the workers")]
fn commit_in_order<B, E>(
    done: &Receiver<Done<B>>,
    give_back: Sender<B>,
    commit: &mut impl FnMut(&mut B) -> Result<(), E>,
) -> Result<(), E> {
    let mut order = Order::default();
    while let Ok(Done { turn, buffer, .. }) = done.recv() {
        order.waiting.insert(turn, buffer);
        while let Some(mut buffer) = order.next() {
            commit(&mut buffer)?;
            let _ = give_back.send(buffer);
        }
    }
    Ok(())
}

/// Ends when all workers have ended, after an error too: the buffers of a lane that failed are the others'. `share` has every
/// lane whose number leaves the same rest when divided by `threads`.
fn commit_lanes<B, E, C: FnMut(&mut B) -> Result<(), E>>(
    mut share: Vec<Lane<'_, B, E, C>>,
    threads: usize,
    done: &Receiver<Done<B>>,
    give_back: &Sender<B>,
) {
    while let Ok(Done { lane, turn, buffer }) = done.recv() {
        let Some(Lane { commit, result, order }) = share.get_mut(lane / threads) else { continue };
        order.waiting.insert(turn, buffer);
        while let Some(mut buffer) = order.next() {
            if result.is_ok() {
                **result = commit(&mut buffer);
            }
            let _ = give_back.send(buffer);
        }
    }
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

    /// Jobs of three lanes in turns, then a second round of one of them.
    fn jobs() -> impl Iterator<Item = (usize, u64)> + Send {
        (0..900u64).map(|job| ((job % 3) as usize, job)).chain((900..950).map(|job| (1, job)))
    }

    #[test]
    fn every_lane_has_its_own_order() {
        for (threads, lanes) in [(1, 3), (2, 3), (5, 3), (1, 1), (2, 2), (3, 1), (2, 9)] {
            let mut seen = vec![Vec::new(); 3];
            let commits = seen.iter_mut().map(|seen| {
                move |buffer: &mut u64| {
                    seen.push(*buffer);
                    Ok::<(), ()>(())
                }
            });
            let commits = commits.collect();
            let work = || |job, buffer: &mut u64| *buffer = job;
            let results =
                in_lanes((&pool(threads), &pool(lanes)), jobs(), vec![0; threads + 1], work, || false, commits);
            assert_eq!(results, [Ok(()); 3]);
            for (lane, seen) in seen.iter().enumerate() {
                assert!(seen.iter().copied().eq(jobs().filter(|job| job.0 == lane).map(|job| job.1)), "{lane}");
            }
        }
    }

    #[test]
    fn a_lane_that_fails_does_not_hold_up_the_others() {
        for lanes in [1, 2, 3] {
            a_lane_fails_among(lanes);
        }
    }

    fn a_lane_fails_among(lanes: usize) {
        let counts: Vec<_> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        let commits = counts.iter().enumerate().map(|(lane, count)| {
            move |_: &mut u64| if lane == 1 && count.fetch_add(1, Relaxed) == 5 { Err(lane) } else { Ok(()) }
        });
        let commits = commits.collect();
        let work = || |job, buffer: &mut u64| *buffer = job;
        let results = in_lanes((&pool(2), &pool(lanes)), jobs(), vec![0; 2], work, || false, commits);
        assert_eq!(results, [Ok(()), Err(1), Ok(())]);
        assert_eq!(counts[1].load(Relaxed), 6);
    }
}
