//! Throughput of each stage on real kernel memory: the sample crash in `tests/data`.
//!
//! `cargo bench` prints bytes per second for one thread; compare runs of one machine only.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a bench without its sample has nothing to measure")]

use std::{hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::ThreadPoolBuilder;
use vdump::{
    bitmap::PageBitmap,
    classify::{Classifier, Picks},
    codec::Compression,
    layout::{KernelLayout, VmcoreInfo},
    memory::{MemMap, Protected, Symbols, VirtReader},
    pipeline::is_zero,
    report::Progress,
    source::Source,
};
use vdump_filters::{DumpLevel, PfnRange};

const PAGE: usize = 4096;
/// Pages given to each codec: 16 MiB of what a dump at level 31 keeps.
const CODEC_PAGES: usize = 4096;

struct Sample {
    source: Source,
    layout: KernelLayout,
    map: MemMap,
    protected: Protected,
}

impl Sample {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmcore-6.12.zst");
        let source = Source::open(&path).unwrap();
        let info = VmcoreInfo::parse(source.vmcoreinfo().unwrap().1);
        let layout = KernelLayout::resolve(&source, &info).unwrap();
        let virt = VirtReader::new(&source, layout.paging).unwrap();
        let map = MemMap::read(&virt, &layout, source.ram()).unwrap();
        let protected = Protected::find(&source, &layout, &virt, Symbols::read(&info, &virt).as_ref());
        drop(virt);
        Self { source, layout, map, protected }
    }

    fn ram(&self) -> PageBitmap {
        let mut ram = PageBitmap::new(self.source.ram().max_pfn(12));
        for range in self.source.ram().pfn_ranges(12) {
            ram.fill(range, true);
        }
        ram
    }

    fn classified(&self) -> PageBitmap {
        let Self { source, layout, map, protected } = self;
        let mut kept = self.ram();
        let _ = Classifier { source, layout, map, protected, drop: DumpLevel::MAX.into(), picks: Picks::default() }
            .run(kept.as_bytes_mut(), &Progress::silent());
        kept
    }

    /// Kept pages that are not zero, spread over all of memory.
    fn pages(&self) -> Vec<Vec<u8>> {
        let kept = self.classified();
        let frames: Vec<u64> = kept.runs().flat_map(|PfnRange { start, end }| start..end).collect();
        let mut reader = self.source.reader();
        let step = frames.len().div_ceil(CODEC_PAGES);
        let pages = frames.iter().step_by(step).map(|pfn| reader.read(pfn << 12, PAGE).unwrap().to_vec());
        pages.filter(|page| !is_zero(page)).collect()
    }
}

fn classify(criterion: &mut Criterion) {
    let sample = Sample::open();
    let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut group = criterion.benchmark_group("classify");
    let struct_pages = sample.ram().count() * sample.layout.page.size as u64;
    group.throughput(Throughput::Bytes(struct_pages));
    group.bench_function("struct pages", |bench| bench.iter(|| pool.install(|| sample.classified().count())));
    group.finish();
}

fn pages(criterion: &mut Criterion) {
    let pages = Sample::open().pages();
    let bytes = (pages.len() * PAGE) as u64;
    let mut group = criterion.benchmark_group("pages");
    group.throughput(Throughput::Bytes(bytes));
    let zeros = vec![0; PAGE];
    group.bench_function("zero test, zeros", |bench| {
        bench.iter(|| pages.iter().filter(|_| is_zero(black_box(&zeros))).count());
    });
    let codecs = ["lzo", "snappy", "zstd:-1", "zstd:1", "zlib:1"];
    for name in codecs {
        let mut codec = name.parse::<Compression>().unwrap().codec();
        let mut out = vec![0; PAGE - 1];
        group.bench_function(name, |bench| {
            bench.iter(|| pages.iter().filter_map(|page| codec.compress(page, &mut out)).sum::<usize>());
        });
    }
    group.finish();
}

criterion_group! {
    name = stages;
    config = Criterion::default().sample_size(10);
    targets = classify, pages
}
criterion_main!(stages);
