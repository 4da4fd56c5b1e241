//! What says where a kernel's structures are: a vmlinux with DWARF or BTF, BTF by itself, a layout file, VMCOREINFO.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;
use vdump::internals::{Btf, VmcoreInfo, Wanted, known};

fuzz_target!(|data: &[u8]| {
    let file = common::file("layout", data);
    let read = known::of_any_file(file.as_ref(), 1, 48 << 20);
    if let Ok(btf) = Btf::parse(data) {
        let _ = btf.types(&Wanted::kernel());
    }
    let note = VmcoreInfo::parse(data);
    // What holds at any boot says the same however often it is asked.
    let once = known::at_link_time(&note);
    let lines =
        |info: &VmcoreInfo| info.lines().map(|(key, text, _)| (key.to_owned(), text.to_owned())).collect::<Vec<_>>();
    let mut of_this_boot = once.clone();
    of_this_boot.set("KERNELOFFSET", "0", vdump::internals::Witness::File);
    assert_eq!(lines(&known::at_link_time(&of_this_boot)), lines(&once));
    if let Ok(info) = read {
        let _ = known::fit(&note, info, file.as_ref());
    }
});
