//! Thread pools, as large as the system allows: `ulimit -u`, a service's TasksMax and `ulimit -v` all limit threads, and a
//! dump is made with the threads that there are.

use std::{
    io,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Kind, Result};

/// Until the system no longer counts a thread that has ended: it is joined before its kernel task is released, and before
/// Linux 5.3 (51bee5abeab2) a cgroup counted it until the end of an RCU grace period.
const RELEASE: Duration = Duration::from_millis(20);

/// A pool with so many threads, or with as many as the system starts.
///
/// # Errors
/// It starts none.
pub(super) fn pool(most: usize) -> Result<ThreadPool> {
    let [pool] = pools([most])?;
    Ok(pool)
}

/// Several pools with so many threads. Where the system starts fewer, each gets a share and at least one.
///
/// # Errors
/// It does not start one for each pool.
pub(super) fn pools<const N: usize>(most: [usize; N]) -> Result<[ThreadPool; N]> {
    let mut sizes = most.map(|size| size.max(1));
    loop {
        match try_pools(sizes) {
            Ok(pools) => return Ok(pools),
            Err((started, error)) => {
                sizes = shares(sizes, started).ok_or_else(|| {
                    Error::new(Kind::Memory, "cannot start enough threads")
                        .because(format!("the system starts {started} of {N}: {}", crate::error::plain_io(&error)))
                        .next_step("raise the limit of threads (ulimit -u, TasksMax= of the service) or of memory")
                })?;
                std::thread::sleep(RELEASE);
            }
        }
    }
}

/// All pools, or how many threads could be started, and why no more. None of them is left then: as long as they are there they
/// count against the limit, so that fewer could not be started either.
fn try_pools<const N: usize>(sizes: [usize; N]) -> std::result::Result<[ThreadPool; N], (usize, io::Error)> {
    let mut handles: Vec<JoinHandle<()>> = Vec::new();
    let mut refused = None;
    let mut pools = Vec::with_capacity(N);
    for size in sizes {
        let built = ThreadPoolBuilder::new().num_threads(size).spawn_handler(|thread| {
            let handle = Builder::new().spawn(|| thread.run());
            handle.map(|handle| handles.push(handle)).inspect_err(|error| {
                refused = Some(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error));
            })
        });
        match built.build() {
            Ok(pool) => pools.push(pool),
            Err(_) => break,
        }
    }
    match <[ThreadPool; N]>::try_from(pools) {
        Ok(pools) => Ok(pools),
        Err(pools) => {
            drop(pools);
            let started = handles.len();
            for handle in handles {
                // A worker that has no work ends without a panic.
                let _ = handle.join();
            }
            Err((started, refused.unwrap_or_else(|| io::ErrorKind::OutOfMemory.into())))
        }
    }
}

/// What each gets of `total` threads, which are fewer than `sizes` together; `None` where they are fewer than one for each.
fn shares<const N: usize>(sizes: [usize; N], total: usize) -> Option<[usize; N]> {
    let mut left = total.checked_sub(N)?;
    let wanted: usize = sizes.iter().map(|size| size - 1).sum();
    let spare = left;
    Some(sizes.map(|size| {
        let more = ((size - 1) * spare).div_ceil(wanted.max(1)).min(left);
        left -= more;
        1 + more
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pool_gets_its_share() {
        assert_eq!(shares([16, 16], 7), Some([4, 3]));
        assert_eq!(shares([16], 5), Some([5]));
        assert_eq!(shares([16, 1], 4), Some([3, 1]));
        assert_eq!(shares([2, 2, 2], 3), Some([1, 1, 1]));
        assert_eq!(shares([2, 2], 1), None);
        assert_eq!(shares([1], 0), None);
    }

    #[test]
    fn pools_have_the_threads_that_they_ask_for() {
        let pools = pools([3, 0, 2]).unwrap();
        assert_eq!(pools.map(|pool| pool.current_num_threads()), [3, 1, 2]);
    }
}
