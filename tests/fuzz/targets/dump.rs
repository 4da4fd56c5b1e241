//! A dump of any container: it is checked, described, filtered and its log read. The seeds are of every format.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = common::file("dump", data);
    common::vdump(&["check", "-j", "1", "--progress", "none", &file]);
    common::vdump(&["info", "--json", &file]);
    for level in ["31", "1"] {
        let filter = ["filter", "--dry-run", "-d", level, "-j", "1", "--memory-limit", "48M", "--progress", "none"];
        common::vdump(&[&filter[..], &[&file, "/dev/null"]].concat());
    }
    common::vdump(&["dmesg", &file]);
});
