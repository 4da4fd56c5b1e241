//! Each stage by itself, by the functions that a dump uses.
//!
//! Knows clocks. Must not know what the figures are for.

use std::{
    hint::black_box,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rayon::ThreadPool;
use vdump_filters::PfnRange;

use super::{
    Measuring,
    measured::{Codec, Unit},
    sample::Sample,
};
use crate::{
    bitmap::PageBitmap,
    codec::frame::FrameCoder,
    error::{Error, Kind, Result},
    medium::{Inputs, Target},
    pipeline::{PackedBatch, in_order, is_zero, pack_page},
    plan::{Batch, Batches, FRAME},
    report::{Mode, Progress},
    source::MAX_READ,
    sys::host,
};

/// A sample that is done sooner is done again.
const SHORTEST: Duration = Duration::from_millis(500);

/// Both clocks.
struct Clock {
    start: Instant,
    cpu: f64,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: host::cpu_seconds() }
    }

    /// `bytes` were gone through until now.
    fn unit(&self, bytes: u64, packed: Option<f64>) -> Unit {
        Unit { bytes, seconds: self.start.elapsed().as_secs_f64(), cpu: host::cpu_seconds() - self.cpu, packed }
    }
}

/// Times something that says how many bytes it went through.
pub(super) fn timed(run: impl FnOnce() -> u64) -> Unit {
    let clock = Clock::start();
    let bytes = run();
    clock.unit(bytes, None)
}

/// The same, and tells it to stop when the time is over.
pub(super) fn until(longest: Duration, run: impl FnOnce(&Progress) -> u64) -> Unit {
    let over = Arc::new(AtomicBool::new(false));
    let progress = Progress::new(Mode::None, 1, Arc::clone(&over));
    let (done, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // Where the system gives no thread more, the measurement takes as long as it takes.
        let _ = thread::Builder::new().spawn_scoped(scope, move || {
            let _ = wait.recv_timeout(longest);
            over.store(true, Relaxed);
        });
        let unit = timed(|| run(&progress));
        drop(done);
        unit
    })
}

/// Reads kept pages batch by batch. `part` 0 reads every other batch and 1 those between, so that the second measurement
/// does not find what the first one brought into the page cache.
pub(super) fn read(measuring: &Measuring<'_>, pool: &ThreadPool, kept: &PageBitmap, part: usize) -> Result<Unit> {
    let Measuring { source, page_shift, progress, longest, .. } = measuring;
    let batches = Batches::new(kept, (MAX_READ >> page_shift) as u64).skip(part).step_by(2);
    let clock = Clock::start();
    let mut bytes = 0;
    let make_worker = || {
        let mut reader = source.reader();
        move |batch: Batch, read: &mut u64| {
            let lens = batch.extents.into_iter().map(|PfnRange { start, end }| {
                reader
                    .read(start << page_shift, ((end - start) as usize) << page_shift)
                    .map_or(0, |bytes| bytes.len() as u64)
            });
            *read = lens.sum();
        }
    };
    let buffers = vec![0; pool.current_num_threads() * 2 + 2];
    in_order(
        pool,
        batches,
        buffers,
        make_worker,
        || progress.stopped() || clock.start.elapsed() > *longest,
        |read| {
            bytes += *read;
            Ok::<(), Error>(())
        },
    )?;
    Ok(clock.unit(bytes, None))
}

/// Looks for zeros in the sample; with `zeros` in as many bytes that are nothing else.
pub(super) fn zero_test(measuring: &Measuring<'_>, pool: &ThreadPool, sample: &Sample, zeros: bool) -> Result<Unit> {
    let blank = vec![0; FRAME as usize];
    let make_worker = || {
        |piece: &[u8]| {
            let bytes = if zeros { &blank[..piece.len()] } else { piece };
            black_box(bytes.chunks_exact(sample.page_size()).filter(|page| is_zero(page)).count());
            0
        }
    };
    over_sample(measuring, pool, sample, make_worker)
}

/// Compresses the sample: the codec and nothing else.
pub(super) fn compress(measuring: &Measuring<'_>, pool: &ThreadPool, sample: &Sample, codec: Codec) -> Result<Unit> {
    match codec {
        Codec::Page(compression) => over_sample(measuring, pool, sample, || {
            let (mut codec, mut out) = (compression.codec(), PackedBatch::default());
            let mut scratch = vec![0; sample.page_size()];
            move |piece: &[u8]| {
                out.pages.clear();
                out.data.clear();
                for page in piece.chunks_exact(sample.page_size()) {
                    pack_page(0, page, codec.as_mut(), &mut scratch, &mut out);
                }
                out.data.len() as u64
            }
        }),
        Codec::Frame(compression) => {
            // A context that cannot be had is an error before anything is measured.
            FrameCoder::new(compression).map_err(|error| {
                Error::new(Kind::Memory, "cannot make a compression context").because(crate::error::plain_io(&error))
            })?;
            over_sample(measuring, pool, sample, || {
                let (mut coder, mut out) = (FrameCoder::new(compression).ok(), Vec::new());
                move |piece: &[u8]| {
                    let packed = coder.as_mut().map(|coder| coder.compress(piece, &mut out));
                    if packed.is_some_and(|packed| packed.is_ok()) { out.len() as u64 } else { piece.len() as u64 }
                }
            })
        }
    }
}

/// Gives every piece of the sample to a worker, on all threads of the pool, once or until it was long enough to tell, and no
/// longer than a measurement may take. The packed size is that of the first time.
fn over_sample<W: FnMut(&[u8]) -> u64>(
    measuring: &Measuring<'_>,
    pool: &ThreadPool,
    sample: &Sample,
    make_worker: impl Fn() -> W + Sync,
) -> Result<Unit> {
    let pieces = sample.pieces();
    let stride = stride(pieces.len());
    let next = AtomicUsize::new(0);
    // Bytes of all rounds; bytes and packed bytes of the first.
    let sums = Mutex::new((0u64, 0u64, 0u64));
    let clock = Clock::start();
    pool.broadcast(|_| {
        let mut work = make_worker();
        let mut own = (0, 0, 0);
        loop {
            let turn = next.fetch_add(1, Relaxed);
            let elapsed = clock.start.elapsed();
            let enough = if turn < pieces.len() { measuring.longest } else { SHORTEST.min(measuring.longest) };
            if (turn > 0 && elapsed >= enough) || measuring.progress.stopped() {
                break;
            }
            let piece = pieces[turn.wrapping_mul(stride) % pieces.len()];
            let packed = work(piece);
            own.0 += piece.len() as u64;
            if turn < pieces.len() {
                own.1 += piece.len() as u64;
                own.2 += packed;
            }
        }
        if let Ok(mut sums) = sums.lock() {
            *sums = (sums.0 + own.0, sums.1 + own.1, sums.2 + own.2);
        }
    });
    let unit = clock.unit(0, None);
    let (bytes, first, packed) = sums.into_inner().unwrap_or_default();
    Ok(Unit { bytes, packed: Some(packed as f64 / first.max(1) as f64), ..unit })
}

/// A step that visits all of `count` pieces and soon has seen every part of memory.
fn stride(count: usize) -> usize {
    fn divisor(a: usize, b: usize) -> usize {
        if b == 0 { a } else { divisor(b, a % b) }
    }
    let golden = count * 5 / 8;
    (golden.max(1)..).find(|step| divisor(*step, count) == 1).unwrap_or(1)
}

/// Writes the sample's bytes into a file of the folder, as a sink does, until the time is over, and brings them to the disk.
pub(super) fn write(measuring: &Measuring<'_>, sample: &Sample, folder: &Path) -> Result<Unit> {
    let name = folder.join(format!("vdump-bench.{}", std::process::id()));
    // Not settled: it goes with the value.
    let mut target = Target::create(&name, false, &Inputs::opened(measuring.source.opened()))?;
    let clock = Clock::start();
    let mut bytes = 0;
    for piece in sample.pieces() {
        target.write(piece, bytes)?;
        bytes += piece.len() as u64;
        if clock.start.elapsed() > measuring.longest || measuring.progress.stopped() {
            break;
        }
    }
    target.sync()?;
    Ok(clock.unit(bytes, None))
}
