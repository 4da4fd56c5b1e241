//! Throughput of each stage on real kernel memory: the sample crash in `tests/data`.
//!
//! `cargo bench` prints bytes per second for one thread; compare runs of one machine only. DWARF is measured where
//! `VDUMP_BENCH_VMLINUX` names a vmlinux with debug information.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a bench without its sample has nothing to measure")]

use std::{env, hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::ThreadPoolBuilder;
use vdump::internals::{
    BLOCK_PAGES, Batches, Btf, Classifier, Compression, FrameCoder, FreePcp, Inputs, KdumpFacts, KdumpSink,
    KernelLayout, MAX_READ, MemMap, OutputNotes, PackedBatch, PageBitmap, Picks, Progress, Protected, Sink, Source,
    StructPages, Target, VirtReader, VmcoreInfo, Wanted, is_zero, known, own_btf, pack_page, symbols, symbols_of_btf,
};
use vdump_filters::{DumpLevel, PageFacts, PfnRange, RawPage, decide};

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
        let virt = VirtReader::new(&source, &layout.space);
        let map = MemMap::read(&virt, &layout, source.ram()).unwrap();
        let protected = Protected::find((&source, &info), &layout, &virt, symbols(&info, &virt).as_ref());
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
        let (free_pcp, drop, picks) = (&FreePcp::default(), DumpLevel::MAX.into(), Picks::default());
        let _ = Classifier { source, layout, map, protected, free_pcp, drop, picks }
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

fn struct_pages(criterion: &mut Criterion) {
    let sample = Sample::open();
    let Sample { source, layout, map, .. } = &sample;
    let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut group = criterion.benchmark_group("struct pages");
    group.throughput(Throughput::Bytes(sample.ram().count() * layout.page.size as u64));
    group.bench_function("read, decide and mark", |bench| bench.iter(|| pool.install(|| sample.classified().count())));

    let virt = VirtReader::new(source, &layout.space);
    let mut reader = StructPages::new(virt, map, source.existing(), layout);
    let last = source.ram().max_pfn(12);
    let blocks: Vec<_> =
        (0..last).step_by(BLOCK_PAGES as usize).map(|at| PfnRange::new(at, at + BLOCK_PAGES)).collect();
    group.bench_function("read", |bench| {
        bench.iter(|| blocks.iter().map(|block| reader.read(*block, |bytes, _| bytes.len())).sum::<usize>());
    });
    let bytes: Vec<u8> = blocks.iter().flat_map(|block| reader.read(*block, |bytes, _| bytes.to_vec())).collect();
    let raw: Vec<RawPage> = bytes.chunks_exact(layout.page.size).map(|page| raw(layout, page)).collect();
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("decide", |bench| {
        bench.iter(|| {
            raw.iter().map(|page| decide(PageFacts::read(*page, &layout.page.encodings)).index()).sum::<usize>()
        });
    });
    group.finish();
}

/// The words of a `struct page` that decide.
fn raw(layout: &KernelLayout, page: &[u8]) -> RawPage {
    let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
    let places = &layout.page;
    RawPage {
        flags: word(places.flags),
        mapping: word(places.mapping),
        type_word: places.type_word.map(half),
        refcount: places.refcount.map(half),
    }
}

/// Planes of a machine with 64 GiB whose memory looks like the sample's, over and over.
fn planes(criterion: &mut Criterion) {
    const FRAMES: u64 = 16 << 20;
    let kept = Sample::open().classified();
    let mut plane = PageBitmap::new(FRAMES);
    for (to, from) in plane.as_bytes_mut().iter_mut().zip(kept.as_bytes().iter().cycle()) {
        *to = *from;
    }
    let mut group = criterion.benchmark_group("planes");
    group.throughput(Throughput::Elements(FRAMES));
    group.bench_function("count", |bench| bench.iter(|| black_box(&plane).count()));
    group.bench_function("runs", |bench| bench.iter(|| black_box(&plane).runs().map(PfnRange::len).sum::<u64>()));
    group.bench_function("batches", |bench| bench.iter(|| Batches::new(black_box(&plane), 256).count()));
    let mut other = PageBitmap::new(FRAMES);
    other.as_bytes_mut().copy_from_slice(plane.as_bytes());
    group.bench_function("subtract", |bench| bench.iter(|| other.subtract(black_box(&plane))));
    group.finish();
}

const CODECS: [&str; 8] = ["lzo", "snappy", "zstd", "zstd:-1", "zstd:1", "zlib:1", "zlib", "zlib:6"];

fn pages(criterion: &mut Criterion) {
    let pages = Sample::open().pages();
    let bytes = (pages.len() * PAGE) as u64;
    let mut group = criterion.benchmark_group("pages");
    group.throughput(Throughput::Bytes(bytes));
    let zeros = vec![0; PAGE];
    group.bench_function("zero test, zeros", |bench| {
        bench.iter(|| pages.iter().filter(|_| is_zero(black_box(&zeros))).count());
    });
    group.bench_function("zero test, others", |bench| {
        bench.iter(|| pages.iter().filter(|page| is_zero(black_box(page))).count());
    });
    for name in CODECS {
        let mut codec = name.parse::<Compression>().unwrap().or_level_of(Compression::DEFAULT_ZSTD).codec();
        let mut out = vec![0; PAGE - 1];
        group.bench_function(name, |bench| {
            bench.iter(|| pages.iter().filter_map(|page| codec.compress(page, &mut out)).sum::<usize>());
        });
    }
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let bytes = Sample::open().pages().concat();
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for name in ["zstd:1", "zstd:3", "lz4"] {
        let mut coder = FrameCoder::new(name.parse().unwrap()).unwrap();
        let mut out = Vec::new();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let packed = bytes.chunks(MAX_READ).map(|frame| coder.compress(frame, &mut out).map(|()| out.len()));
                packed.sum::<Result<usize, _>>().unwrap()
            });
        });
    }
    group.finish();
}

/// A kdump file's headers, planes, data and descriptors, of pages that are compressed already.
fn commit(criterion: &mut Criterion) {
    let sample = Sample::open();
    let pages = sample.pages();
    let mut kept = PageBitmap::new(sample.source.ram().max_pfn(12));
    kept.fill(PfnRange::new(0, pages.len() as u64), true);
    let (mut codec, mut scratch) = (Compression::Lzo.codec(), vec![0; PAGE]);
    let batches: Vec<PackedBatch> = (pages.chunks(256).enumerate())
        .map(|(index, pages)| {
            let mut batch = PackedBatch::default();
            for (pfn, page) in (index as u64 * 256..).zip(pages) {
                pack_page(pfn, page, codec.as_mut(), &mut scratch, &mut batch);
            }
            batch
        })
        .collect();
    let facts = KdumpFacts {
        utsname: [[0; 65]; 6],
        crash_time: 0,
        phys_base: 0,
        level: DumpLevel::MAX,
        codec_flags: codec.flags(),
        cpus: 1,
        notes: OutputNotes::of_held(sample.source.all_notes().clone()),
        vmcoreinfo: None,
        erased: Vec::new(),
        partial: false,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("commit");
    group.throughput(Throughput::Elements(pages.len() as u64));
    group.bench_function("kdump", |bench| {
        bench.iter(|| {
            let target = Target::create(&folder.path().join("dump"), true, &Inputs::default()).unwrap();
            let ram = sample.source.ram().pfn_ranges(12);
            let mut sink = KdumpSink::create(Box::new(target), &facts, PAGE as u64, ram, &kept).unwrap();
            batches.iter().for_each(|batch| sink.commit(batch).unwrap());
            sink.discard();
        });
    });
    group.finish();
}

/// Learning where things are.
fn layouts(criterion: &mut Criterion) {
    let sample = Sample::open();
    let info = VmcoreInfo::parse(sample.source.vmcoreinfo().unwrap().1);
    let virt = VirtReader::new(&sample.source, &sample.layout.space);
    let mut group = criterion.benchmark_group("layouts");
    if let Ok(btf) = own_btf(&symbols_of_btf(&info, &virt).unwrap(), &virt, 64 << 20) {
        group.throughput(Throughput::Bytes(btf.len() as u64));
        group.bench_function("BTF", |bench| {
            bench.iter(|| Btf::parse(&btf).unwrap().types(&Wanted::kernel()).unwrap());
        });
    }
    if let Some(vmlinux) = env::var_os("VDUMP_BENCH_VMLINUX") {
        group.bench_function("DWARF", |bench| bench.iter(|| known::of_vmlinux(vmlinux.as_ref(), 1, u64::MAX).unwrap()));
    }
    group.finish();
}

criterion_group! {
    name = stages;
    config = Criterion::default().sample_size(10);
    targets = struct_pages, planes, pages, frames, commit, layouts
}
criterion_main!(stages);
