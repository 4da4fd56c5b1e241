//! Threads that sleep in different places of the kernel, so that the dump holds stacks worth walking.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Starts the threads; they sleep until the machine crashes.
pub fn start(dir: &Path) -> io::Result<()> {
    let lock = File::create(dir.join("lock"))?;
    lock.lock()?;
    let second = File::open(dir.join("lock"))?;
    let (mut reader, writer) = io::pipe()?;
    let (sender, receiver) = mpsc::channel::<()>();

    named("sleep-flock", move || {
        let _ = second.lock();
    })?;
    named("sleep-pipe", move || {
        let _ = reader.read(&mut [0]);
    })?;
    named("sleep-futex", move || {
        let _ = receiver.recv();
    })?;
    named("sleep-nanosleep", || thread::sleep(Duration::from_secs(3600)))?;
    // Their other ends must stay open, or the threads would return.
    std::mem::forget((lock, writer, sender));
    Ok(())
}

fn named(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(body).map(drop)
}
