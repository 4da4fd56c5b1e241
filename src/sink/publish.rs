//! Shows readers only data that is on the disk.
//!
//! The writer may be killed and the machine reset at any moment, and a disk gets what was written in any order. So what leads
//! readers to data (a segment's sizes, a page's descriptor) is written only after the data has been synced. A thread of its
//! own waits for the disk while further data is written; where there can be no such thread, the caller waits.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::medium::Syncer;

/// Bytes that lead readers to data, and where they go.
#[derive(Debug)]
pub(super) struct Lead {
    /// File offset.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Data is synced each time when so many bytes have come, or a sixteenth of the file if that is more, up to the latter
/// number: a kill costs little, and so do the syncs.
const STEP: (u64, u64) = (4 << 20, 64 << 20);
/// As many bytes of leads are held back until the next sync.
const HELD: u64 = 512 << 10;
/// So many times as much may come while the disk is busy; then it is waited for.
const PATIENCE: u64 = 2;
/// Bytes of stack; the thread calls nothing deep.
const STACK: usize = 128 << 10;

/// One file's leads.
#[derive(Debug)]
pub(super) struct Publisher {
    file: Box<dyn Syncer>,
    worker: Option<Worker>,
    /// Bytes of data since the last sync began, and in all.
    unsynced: u64,
    written: u64,
    /// The disk did not take something: what it has nobody knows, and it says so only once.
    failed: bool,
}

/// The thread that waits for the disk. It ends when this goes.
#[derive(Debug)]
struct Worker {
    leads: SyncSender<Vec<Lead>>,
    done: Receiver<io::Result<()>>,
    busy: bool,
}

impl Publisher {
    /// `file`: the output.
    pub(super) fn new(file: Box<dyn Syncer>) -> Self {
        let worker = file.another().ok().and_then(Worker::start);
        Self { file, worker, unsynced: 0, written: 0, failed: false }
    }

    /// Counts data that was written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.unsynced += bytes;
        self.written += bytes;
    }

    /// Whether it is time to publish, with `held` bytes of leads held back so far.
    ///
    /// # Errors
    /// An earlier sync or write failed.
    pub(super) fn is_due(&mut self, held: u64) -> io::Result<bool> {
        let step = (self.written / 16).clamp(STEP.0, STEP.1);
        let due = |times: u64| self.unsynced >= step * times || held >= HELD * times;
        if !due(1) {
            return Ok(false);
        }
        let late = due(PATIENCE);
        let idle = self.worker.as_mut().map_or(Ok(true), |worker| worker.is_idle(late));
        self.heard(idle)
    }

    /// Has `leads` written as soon as the data that was written until now is on the disk. After a failure there are none.
    ///
    /// # Errors
    /// An earlier sync or write failed, or this one where the caller waits.
    pub(super) fn publish(&mut self, leads: Vec<Lead>) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("a part of the file could not be written"));
        }
        self.unsynced = 0;
        let done = match &mut self.worker {
            Some(worker) => worker.is_idle(true).and_then(|_| worker.start_on(leads)),
            None => sync_and_write(self.file.as_ref(), &leads),
        };
        self.heard(done)
    }

    /// Waits until everything is published.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let idle = self.worker.as_mut().map_or(Ok(true), |worker| worker.is_idle(true));
        self.heard(idle).map(|_| ())
    }

    fn heard<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.failed |= result.is_err();
        result
    }
}

impl Worker {
    /// `None`: no thread can be had.
    fn start(file: Box<dyn Syncer>) -> Option<Self> {
        let (leads, jobs) = sync_channel::<Vec<Lead>>(1);
        let (report, done) = sync_channel(1);
        let work = move || {
            for leads in jobs {
                if report.send(sync_and_write(file.as_ref(), &leads)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("sync".to_owned()).stack_size(STACK).spawn(work).ok()?;
        Some(Self { leads, done, busy: false })
    }

    fn start_on(&mut self, leads: Vec<Lead>) -> io::Result<()> {
        self.busy = self.leads.send(leads).is_ok();
        if self.busy { Ok(()) } else { Err(io::Error::other("the thread that syncs the file has ended")) }
    }

    /// Whether it has nothing to do; `wait`: as soon as it has not.
    fn is_idle(&mut self, wait: bool) -> io::Result<bool> {
        if !self.busy {
            return Ok(true);
        }
        let done = if wait { self.done.recv().ok() } else { self.done.try_recv().ok() };
        self.busy = done.is_none() && !wait;
        done.unwrap_or(Ok(())).map(|()| !self.busy)
    }
}

fn sync_and_write(file: &dyn Syncer, leads: &[Lead]) -> io::Result<()> {
    file.sync_data()?;
    leads.iter().try_for_each(|lead| file.write_all_at(&lead.bytes, lead.offset))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use super::*;

    #[derive(Debug)]
    struct Plain(File);

    impl Syncer for Plain {
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.0.write_all_at(bytes, offset)
        }

        fn another(&self) -> io::Result<Box<dyn Syncer>> {
            Ok(Box::new(Self(self.0.try_clone()?)))
        }
    }

    #[test]
    fn leads_come_after_their_data_with_a_thread_and_without() {
        for threaded in [true, false] {
            let file = tempfile::tempfile().unwrap();
            let mut publisher = Publisher::new(Box::new(Plain(file.try_clone().unwrap())));
            publisher.worker = publisher.worker.filter(|_| threaded);
            let mut published = 0u8;
            for step in 1..=40u8 {
                publisher.wrote(1 << 20);
                if publisher.is_due(0).unwrap() {
                    publisher.publish(vec![Lead { offset: 0, bytes: vec![step] }]).unwrap();
                    published += 1;
                }
            }
            publisher.settle().unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 0).unwrap();
            assert!((5..=10).contains(&published) && byte[0] >= 4, "{published} times, last {byte:?}");
        }
    }

    #[test]
    fn an_error_of_the_thread_is_heard() {
        let read_only = File::open("/proc/self/exe").unwrap();
        let mut publisher = Publisher::new(Box::new(Plain(read_only)));
        assert!(publisher.worker.is_some());
        publisher.publish(vec![Lead { offset: 0, bytes: vec![1] }]).unwrap();
        assert!(publisher.settle().is_err());
        assert!(publisher.publish(Vec::new()).is_err(), "nothing is published after a failure");
    }
}
