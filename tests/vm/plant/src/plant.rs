//! Plants pages of every class that a dump filter tells apart, reports where they lie, and sleeps so that they stay.
//!
//! The mappings are made first and their PFNs read last: compaction, KSM and huge-page collapse move pages.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::pagemap::{self, PageMap};
use crate::report::Report;
use crate::sleepers;
use crate::stacks;
use crate::sys::{self, HUGE, Mapping, PAGE};

const KPF_HWPOISON: u64 = 1 << 19;

type Planted = Vec<(&'static str, Mapping)>;

/// Plants and reports into `dir`, which is on the disk; then sleeps until the crash.
pub fn run(dir: &Path, pages: usize) -> io::Result<()> {
    let poisoned = poison()?;
    let mut planted = anonymous(pages)?;
    planted.extend(huge()?);
    planted.extend(files(dir, pages)?);
    slab_load(pages)?;
    stacks::start(dir)?;
    settle(&planted)?;

    let snapshot = Snapshot::reserve(&dir.join("kpageflags"))?;
    let mut report = Report::create(&dir.join("planted"))?;
    for (class, mapping) in &planted {
        report.pages(class, mapping)?;
    }
    for (class, pfn) in poisoned {
        report.gone(class, pfn)?;
    }
    report.finish()?;
    sleepers::start("/tmp".as_ref())?;
    snapshot.take()?;
    stacks::sleep_on_pattern("vdump-plant", dir.to_owned(), || {
        if let Err(error) = File::create("/tmp/planted") {
            eprintln!("vdump-plant: {error}");
        }
    })
}

fn anonymous(pages: usize) -> io::Result<Planted> {
    let len = pages * PAGE;
    let mut patterned = small(len)?;
    pattern(patterned.bytes_mut(), "anon");
    let mut random = small(len / 4)?;
    File::open("/dev/urandom")?.read_exact(random.bytes_mut())?;
    let mut zero = small(len / 4)?;
    zero.bytes_mut().fill(0);
    let mut locked = small(len / 4)?;
    pattern(locked.bytes_mut(), "mlocked");
    locked.lock()?;
    let mut merged = small(len / 4)?;
    merged.bytes_mut().fill(0x4b);
    // Without KSM in the kernel these stay ordinary anonymous pages: same class for a filter.
    let _ = merged.advise(0..len / 4, libc::MADV_MERGEABLE);
    Ok(vec![
        ("anon", patterned),
        ("anon-random", random),
        ("anon-zero", zero),
        ("anon-mlocked", locked),
        ("anon-ksm", merged),
    ])
}

/// Anonymous memory that must not become a huge page behind our back.
pub fn small(len: usize) -> io::Result<Mapping> {
    let mapping = Mapping::anonymous(len)?;
    // A kernel without huge pages refuses.
    let _ = mapping.advise(0..len, libc::MADV_NOHUGEPAGE);
    Ok(mapping)
}

fn huge() -> io::Result<Planted> {
    let mut planted = Vec::new();
    // Machines with less than 512 MiB start without.
    let enabled = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    if fs::read_to_string(enabled).is_ok_and(|state| state.contains("[never]")) {
        fs::write(enabled, "madvise")?;
    }
    // Twice the size holds one aligned huge page wherever the kernel puts the mapping.
    let mut transparent = Mapping::anonymous(2 * HUGE)?;
    match transparent.advise(0..2 * HUGE, libc::MADV_HUGEPAGE) {
        Ok(()) => {
            pattern(transparent.bytes_mut(), "thp");
            planted.push(("anon-thp", transparent));
        }
        Err(error) => eprintln!("vdump-plant: no transparent huge pages: {error}"),
    }
    match Mapping::hugetlb(HUGE) {
        Ok(mut pool) => {
            pattern(pool.bytes_mut(), "hugetlb");
            planted.push(("hugetlb", pool));
        }
        Err(error) => eprintln!("vdump-plant: no huge page in the pool: {error}"),
    }
    Ok(planted)
}

fn files(dir: &Path, pages: usize) -> io::Result<Planted> {
    let mut tmpfs = shared(Path::new("/tmp/shm"), pages)?;
    pattern(tmpfs.bytes_mut(), "shm");
    let mut dirty = shared(&dir.join("dirty"), pages / 4)?;
    pattern(dirty.bytes_mut(), "file-dirty");

    // Made with the disk image: read, never written, so its pages are clean.
    let cached = File::options().read(true).write(true).open(dir.join("cached"))?;
    let len = cached.metadata()?.len() as usize / PAGE * PAGE;
    let clean = Mapping::shared(&cached, len)?;
    let sum: u64 = clean.bytes().iter().step_by(PAGE).map(|&byte| u64::from(byte)).sum();
    println!("read {} pages of the cached file (sum {sum})", len / PAGE);
    Ok(vec![("shm", tmpfs), ("file-dirty", dirty), ("file-clean", clean)])
}

fn shared(path: &Path, pages: usize) -> io::Result<Mapping> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len((pages * PAGE) as u64)?;
    Mapping::shared(&file, pages * PAGE)
}

/// Many small files: inodes and dentries fill the slab.
fn slab_load(pages: usize) -> io::Result<()> {
    fs::create_dir("/tmp/many")?;
    for index in 0..pages {
        fs::write(format!("/tmp/many/{index}"), format!("file {index}\n"))?;
    }
    Ok(())
}

/// Each page tells its class and its number, over and over.
pub fn pattern(bytes: &mut [u8], class: &str) {
    for (index, page) in bytes.chunks_exact_mut(PAGE).enumerate() {
        let stamp = format!("vdump {class:10} page {index:8} ");
        for (byte, stamp) in page.iter_mut().zip(stamp.bytes().cycle()) {
            *byte = stamp;
        }
    }
}

/// Waits until the pages lie where they will stay.
fn settle(planted: &Planted) -> io::Result<()> {
    // Compaction empties the per-CPU lists of pages that wait for their LRU flag; then nothing may move pages again.
    let _ = fs::write("/proc/sys/vm/compact_memory", "1");
    let _ = fs::write("/sys/kernel/mm/transparent_hugepage/khugepaged/defrag", "0");
    merge()?;
    let pagemap = PageMap::open()?;
    let mut before = Vec::new();
    loop {
        let mut now = Vec::new();
        for (_, mapping) in planted {
            now.extend(pagemap.pfns(mapping)?);
        }
        if now == before {
            return Ok(());
        }
        before = now;
        thread::sleep(Duration::from_millis(300));
    }
}

/// Lets KSM go over the memory until it shares pages, then stops it.
fn merge() -> io::Result<()> {
    let ksm = Path::new("/sys/kernel/mm/ksm");
    if !ksm.exists() {
        return Ok(());
    }
    fs::write(ksm.join("pages_to_scan"), "10000")?;
    fs::write(ksm.join("run"), "1")?;
    let start = Instant::now();
    while fs::read_to_string(ksm.join("pages_sharing"))?.trim() == "0" && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(50));
    }
    fs::write(ksm.join("run"), "0")
}

/// Poisons one page and soft-offlines another. Gives what the kernel really marked: Debian's 6.1 cloud kernels are
/// built without memory failures.
fn poison() -> io::Result<Vec<(&'static str, u64)>> {
    let mut poisoned = Vec::new();
    for (class, advice) in [("hwpoison", libc::MADV_HWPOISON), ("soft-offline", libc::MADV_SOFT_OFFLINE)] {
        // In a child, which may die of its poisoned page.
        let note = Path::new("/tmp").join(class);
        let status = sys::in_child(|| {
            let outcome = poison_own_page(class, advice, &note);
            println!("{class}: {outcome:?}");
        })?;
        let pfn = fs::read_to_string(&note)?.parse().map_err(io::Error::other)?;
        println!("{class}: pfn {pfn:#x}, child: {status}");
        if PageMap::open()?.flags(pfn)? & KPF_HWPOISON != 0 {
            poisoned.push((class, pfn));
        }
    }
    Ok(poisoned)
}

fn poison_own_page(class: &str, advice: i32, note: &Path) -> io::Result<()> {
    let mut page = small(PAGE)?;
    pattern(page.bytes_mut(), class);
    let pfn = PageMap::open()?.pfns(&page)?[0];
    fs::write(note, pfn.to_string())?;
    page.advise(0..PAGE, advice)
}

/// /proc/kpageflags of all PFNs, taken twice: what differs between the two was changing, and proves nothing.
struct Snapshot {
    files: [File; 2],
}

impl Snapshot {
    /// Writes the files once beforehand: their page-cache pages then exist before the snapshot, so that saving it
    /// changes little.
    fn reserve(stem: &Path) -> io::Result<Self> {
        let files = [1, 2].map(|number| stem.with_extension(number.to_string()));
        let [first, second] = files.map(|path| -> io::Result<File> {
            let file = File::create(path)?;
            write_back(&file, &pagemap::all_flags()?)?;
            Ok(file)
        });
        Ok(Self { files: [first?, second?] })
    }

    fn take(&self) -> io::Result<()> {
        for file in &self.files {
            write_back(file, &pagemap::all_flags()?)?;
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

fn write_back(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}
