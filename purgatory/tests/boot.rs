//! The purgatory in a machine of its own: from the dead kernel's last instruction to the capture kernel's first.
//!
//! Knows what the 64-bit boot protocol promises a kernel. Must not look into the blob, but to break it on purpose.

use std::path::Path;

use vdump_purgatory::{Backup, Handover, OnMismatch, Region, Serial, blob, sha256_of_segment};

use crate::judges::installed;
use crate::machine::{Ended, Entry, Machine, build, emulates_sha_extensions, guest};
use crate::process::noise;

const PURGATORY: u64 = 0x200_3000;
const PARAMS: u64 = 0x201_0000;
const KERNEL: u64 = 0x300_0000;
const INITRD: u64 = 0x400_5000;
const BACKUP: u64 = 0x500_0000;
/// PG, ET, PE and, as Linux has it, NE.
const CR0: u64 = 0x8000_0031;
const PAE: u64 = 0x20;
const LA57: u64 = 0x1000;

struct Crash {
    handover: Handover,
    segments: Vec<(u64, Vec<u8>)>,
    entry: Entry,
    board: &'static str,
}

/// A crash with everything: a kernel, its parameters, an initrd with a zero tail, low memory to save.
fn crash() -> Crash {
    crash_that_shows(16)
}

/// The same, and the kernel sends that many bytes of the backup.
fn crash_that_shows(shown: u64) -> Crash {
    let mut kernel = guest("kernel.rs");
    kernel[0x10..0x18].copy_from_slice(&BACKUP.to_le_bytes());
    kernel[0x18..0x20].copy_from_slice(&shown.to_le_bytes());
    let segments = vec![(KERNEL, kernel), (PARAMS, noise(6000, 11)), (INITRD, noise(300_000, 12))];
    let sizes = [("kernel", 0x10_0000), ("params", 0x2000), ("initrd", 0x8_0000)];
    let region = |((name, len), (start, data)): ((&str, u64), &(u64, Vec<u8>))| Region {
        name: name.to_owned(),
        start: *start,
        len,
        sha256: sha256_of_segment(data, len),
    };
    let regions = sizes.into_iter().zip(&segments).map(region).collect();
    let handover = Handover {
        kernel_entry: KERNEL + 0x200,
        boot_params: PARAMS + 0x100,
        regions,
        // From address 0 on, as on real machines.
        backup: Some(Backup { source: 0, destination: BACKUP, len: 0x6_0000 }),
        serial: Some(Serial { port: 0x3f8, baud: 115_200 }),
        debug_port: true,
        on_mismatch: OnMismatch::Hang,
    };
    Crash { handover, segments, entry: Entry { address: 0, cr0: CR0, cr4: PAE }, board: "pc" }
}

impl Crash {
    fn machine(&self) -> Machine {
        // The processor that QEMU emulates need not have what this one has.
        let image = self.handover.image_for(false).unwrap();
        self.machine_with(image.bytes, image.entry)
    }

    fn machine_with(&self, blob: Vec<u8>, entry: u64) -> Machine {
        let mut memory = self.segments.clone();
        memory.push((PURGATORY, blob));
        Machine { entry: Entry { address: PURGATORY + entry, ..self.entry }, memory, board: self.board }
    }

    /// One bit of the initrd's middle is not what it was.
    fn with_damage(mut self) -> Self {
        self.segments[2].1[150_000] ^= 4;
        self
    }
}

/// What the test kernel saw, see `guest/kernel.rs`.
fn report(ended: &Ended) -> Vec<u64> {
    let words = ended.com2.as_chunks::<8>().0;
    assert!(words.len() >= REPORT, "the kernel did not report: {}", ended.com1);
    words.iter().take(REPORT).map(|bytes| u64::from_le_bytes(*bytes)).collect()
}

/// The registers that the test kernel saw, and what is wrong with them.
fn faults(ended: &Ended, entry: Entry) -> Vec<String> {
    let words = report(ended);
    let cr3 = if entry.cr4 & LA57 != 0 { 0x1_0000 } else { 0x1_1000 };
    let fixed = [
        (4, "rsi", PARAMS + 0x100),
        (17, "cs", 0x10),
        (18, "ds", 0x18),
        (19, "es", 0x18),
        (22, "ss", 0x18),
        (23, "cr0", entry.cr0),
        (24, "cr3", cr3),
        (25, "cr4", entry.cr4),
        (26, "the GDT's limit", 31),
    ];
    let mut faults: Vec<String> = fixed
        .into_iter()
        .filter(|(at, _, want)| words[*at] != *want)
        .map(|(at, name, want)| format!("{name} is {:#x}, not {want:#x}", words[at]))
        .collect();
    // Nothing of the dead kernel or of the purgatory is left over. 7 is rsp.
    let left = (0..16).filter(|at| ![4, 7].contains(at) && words[*at] != 0);
    faults.extend(left.map(|at| format!("general register {at} is {:#x}", words[at])));
    // Interrupts, direction, trap, nested task.
    if words[16] & 0x4700 != 0 {
        faults.push(format!("rflags is {:#x}", words[16]));
    }
    if !(PURGATORY..PURGATORY + 0x8000).contains(&words[7]) {
        faults.push(format!("rsp is {:#x}", words[7]));
    }
    // Type, S, DPL, present, L and D, apart from the accessed bit: flat 64-bit code; flat writable data.
    let descriptor = |at: usize| words[at] & !(1 << 40);
    if descriptor(27) != 0x00af_9a00_0000_ffff || descriptor(28) != 0x00cf_9200_0000_ffff {
        faults.push(format!("descriptors {:#x} and {:#x}", words[27], words[28]));
    }
    faults
}

/// Low memory as the capture kernel sees it at the backup's place.
fn backup(ended: &Ended) -> &[u8] {
    &ended.com2[REPORT * 8..]
}

/// What the boot program wrote to low memory, from 0x20000 to 0x60000.
fn dead_memory() -> Vec<u8> {
    let mut value = 0_u32;
    let next = |_| {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        value.to_le_bytes()
    };
    (0x2_0000..0x6_0000).step_by(4).flat_map(next).collect()
}

/// Words that the test kernel sends first.
const REPORT: usize = 30;
const NOP: u8 = 0x90;
const GOOD: &str = "vdump purgatory: verifying 3 segments\r\n\
    vdump purgatory: all segments are intact, starting the capture kernel\r\n";

#[test]
fn an_intact_kernel_gets_the_state_of_the_boot_protocol() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    for cr4 in [PAE, PAE | LA57] {
        let mut crash = crash_that_shows(0x6_0010);
        crash.entry.cr4 = cr4;
        let ended = crash.machine().run();
        assert!(ended.reached_the_kernel(), "{:?}\n{}\n{}", ended.code, ended.com1, ended.log);
        assert_eq!(faults(&ended, crash.entry), [""; 0]);
        assert_eq!(ended.com1, GOOD);
        assert_eq!(ended.debug_port, GOOD);
        let low = backup(&ended);
        assert_eq!(low.len(), 0x6_0010);
        assert!(low[0x2_0000..0x6_0000] == dead_memory(), "low memory was not saved");
        // The page table that the processor runs on.
        assert_eq!(low[0x1_2008..0x1_2010], 0x1_4003_u64.to_le_bytes());
        assert_eq!(low[0x6_0000..], [0; 16]);
    }
}

/// The message about the damaged initrd, and what becomes of the machine.
fn complaint(crash: &Crash, then: &str) -> String {
    let hex = |bytes: &[u8]| bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let initrd = &crash.handover.regions[2];
    let found = sha256_of_segment(&crash.segments[2].1, initrd.len);
    format!(
        "vdump purgatory: verifying 3 segments\r\n\
         vdump purgatory: segment initrd is damaged: 0x4005000-0x4084fff, SHA-256 should begin with {}, begins with {}\r\n\
         vdump purgatory: the capture kernel is damaged and will not run; {then}\r\n",
        hex(&initrd.sha256),
        hex(&found)
    )
}

#[test]
fn the_sha_extensions_work_in_a_bare_machine() {
    if !installed("qemu-system-x86_64") || !emulates_sha_extensions() {
        return;
    }
    for (crash, good) in [(crash(), true), (crash().with_damage(), false)] {
        let image = crash.handover.image_for(true).unwrap();
        let machine = crash.machine_with(image.bytes, image.entry);
        if good {
            let ended = machine.run();
            assert!(ended.reached_the_kernel(), "{}", ended.log);
            assert_eq!(faults(&ended, crash.entry), [""; 0]);
        } else {
            assert_eq!(machine.run_until_halted().com1, complaint(&crash, "halted"));
        }
    }
}

#[test]
fn a_damaged_segment_is_named_and_the_machine_halts() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    let crash = crash().with_damage();
    let ended = crash.machine().run_until_halted();
    assert_eq!(ended.com1, complaint(&crash, "halted"));
    assert_eq!(ended.debug_port, ended.com1);
    assert!(ended.com2.is_empty());
}

#[test]
fn a_damaged_segment_is_named_and_the_machine_reboots() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    // With a chipset's reset port, with a keyboard controller only, and with neither: a triple fault.
    for (board, triple_fault) in [("q35", false), ("pc", false), ("isapc", false), ("isapc,i8042=off", true)] {
        let mut crash = crash().with_damage();
        crash.handover.on_mismatch = OnMismatch::Reboot;
        crash.board = board;
        let ended = crash.machine().run();
        assert_eq!(ended.code, Some(0), "{board}: {}", ended.com1);
        assert_eq!(ended.com1, complaint(&crash, "rebooting"), "{board}");
        assert!(ended.com2.is_empty());
        assert_eq!(ended.log.contains("Triple fault"), triple_fault, "{board}");
    }
}

#[test]
fn a_dead_uart_delays_nothing_for_ever() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    // No UART at all; DMA page registers, whose "line status" reads 0 for ever; none asked for.
    for serial in [Some(0x3e8), Some(0x82), None] {
        for debug_port in [true, false] {
            let mut crash = crash();
            crash.handover.serial = serial.map(|port| Serial { port, baud: 9600 });
            crash.handover.debug_port = debug_port;
            let ended = crash.machine().run();
            assert!(ended.reached_the_kernel(), "{serial:x?}");
            assert_eq!(faults(&ended, crash.entry), [""; 0]);
            assert_eq!(ended.com1, "");
            assert_eq!(ended.debug_port, if debug_port { GOOD } else { "" });
        }
    }
}

/// Runs a good image; what it said on COM1, and that UART's divisor and line control.
fn uart(baud: Option<u32>) -> (String, u64) {
    let mut crash = crash();
    crash.handover.serial = baud.map(|baud| Serial { port: 0x3f8, baud });
    crash.handover.debug_port = false;
    let ended = crash.machine().run();
    assert!(ended.reached_the_kernel());
    let state = report(&ended)[29];
    (ended.com1, state)
}

#[test]
fn the_uart_is_set_up_or_left_alone() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    let (silence, untouched) = uart(None);
    assert_eq!(silence, "");
    assert_eq!(uart(Some(0)), (GOOD.to_owned(), untouched));
    for (baud, divisor) in [(50, 2304), (9600, 12), (19_200, 6), (115_200, 1)] {
        // 8 bits, no parity, one stop bit.
        assert_eq!(uart(Some(baud)), (GOOD.to_owned(), divisor << 8 | 0x03), "{baud} baud");
    }
}

#[test]
fn nothing_to_verify_is_no_reason_to_stop() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    let mut crash = crash_that_shows(0x6_0000).with_damage();
    crash.handover.regions.clear();
    crash.handover.backup = None;
    let ended = crash.machine().run();
    assert!(ended.reached_the_kernel());
    assert_eq!(ended.com1, GOOD.replace("verifying 3", "verifying 0"));
    assert!(backup(&ended).iter().all(|byte| *byte == 0), "there was nothing to back up");
}

/// Replaces the one place where `from` occurs in the entry's code, and makes the blob's own digest right again.
fn break_entry(blob: &mut [u8], from: &[u8], to: &[u8]) {
    let places: Vec<usize> = (0..0xe0).filter(|at| blob[*at..].starts_with(from)).collect();
    assert_eq!(places.len(), 1, "{from:x?}");
    blob[places[0]..places[0] + to.len()].copy_from_slice(to);
    sign(blob);
}

/// Makes the blob's own digest right.
fn sign(blob: &mut [u8]) {
    let (body, own) = blob.split_at_mut(blob.len() - 32);
    own.copy_from_slice(&sha256_of_segment(body, body.len() as u64));
}

#[test]
fn a_wrong_state_would_be_seen() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    let crash = crash();
    let image = crash.handover.image_for(false).unwrap();
    let breaks: [(&str, &[u8], &[u8]); 4] = [
        // mov cr4, rbp; mov cr0, rbx
        ("cr4 is ", &[0x0f, 0x22, 0xe5], &[NOP; 3]),
        ("cr0 is ", &[0x0f, 0x22, 0xc3], &[NOP; 3]),
        // xor r12d, r12d becomes a move of the stack pointer
        ("general register 12 ", &[0x45, 0x31, 0xe4], &[0x49, 0x89, 0xe4]),
        // xor eax, eax; xor ebx, ebx becomes std; nop; xor ebx, ebx
        ("rflags is ", &[0x31, 0xc0, 0x31, 0xdb], &[0xfd, NOP]),
    ];
    for (fault, from, to) in breaks {
        let mut blob = image.bytes.clone();
        break_entry(&mut blob, from, to);
        let ended = crash.machine_with(blob, image.entry).run();
        assert!(ended.reached_the_kernel(), "{fault}: {}", ended.com1);
        let faults = faults(&ended, crash.entry);
        assert!(faults.len() == 1 && faults[0].starts_with(fault), "{fault}: {faults:?}");
    }
}

#[test]
fn a_blob_that_changed_since_it_was_loaded_stops() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    let crash = crash();
    let mut image = crash.handover.image_for(false).unwrap();
    // A letter of a message.
    let at = image.bytes.windows(6).position(|window| window == b"halted").unwrap();
    image.bytes[at] ^= 0x20;
    let ended = crash.machine_with(image.bytes, image.entry).run_until_halted();
    assert!(ended.com1.starts_with("vdump purgatory: segment purgatory is damaged: 0x2003000-0x2"), "{}", ended.com1);
    assert!(ended.com1.ends_with("will not run; Halted\r\n"), "{}", ended.com1);
}

#[test]
fn a_blob_with_sse_runs_because_the_entry_allows_it() {
    if !installed("qemu-system-x86_64") {
        return;
    }
    let crash = crash();
    let table = &crash.handover.image_for(false).unwrap().bytes[blob::PARAMS as usize..];
    let flat = build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("blob/main.rs"), &[]).unwrap();
    let (at, entry) = (flat.symbols["purgatory_params"] as usize, flat.symbols["purgatory_entry"]);
    assert!(flat.mem_size < 0x8000);
    let mut sse = flat.bytes[..at].to_vec();
    sse.extend(table);
    sign(&mut sse);
    let ended = crash.machine_with(sse.clone(), entry).run();
    assert!(ended.reached_the_kernel(), "{}", ended.log);
    assert_eq!(faults(&ended, crash.entry), [""; 0]);
    // Without the entry's CR4.OSFXSR it is an invalid opcode, so this machine is as strict as a real one.
    break_entry(&mut sse, &[0x48, 0x0d, 0x00, 0x06, 0x00, 0x00], &[NOP; 6]);
    let ended = crash.machine_with(sse, entry).run();
    assert_eq!(ended.code, Some(0));
    assert!(ended.log.contains("Triple fault"), "{}", ended.log);
}
