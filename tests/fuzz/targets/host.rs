//! What a machine says about itself: `/proc/iomem`, and numbers as people and the kernel write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdump_filters::{
    number,
    ranges::{Ranges, Stretch},
};
use vdump_loader::host::iomem::Iomem;

fuzz_target!(|text: &str| {
    if let Ok(iomem) = Iomem::parse(text) {
        let ram = iomem.ram();
        assert!(ram.is_sorted_by(|one, next| one.end() < next.start()), "RAM in order, apart and joined: {ram:?}");
        let of_the_machine = Ranges::new(iomem.ram_of_the_machine());
        assert!(of_the_machine.without(&Ranges::new(ram)).is_empty(), "the machine's RAM is RAM");
        let _ = (
            iomem.crash_kernel(),
            iomem.gart(),
            iomem.other(),
            iomem.plain_ram(),
            iomem.kernel_code(),
            iomem.kernel_image(),
        );
    }
    for word in text.split_whitespace() {
        let _ = (number::number(word), number::address(word), number::size(word));
        if let Some(value) = number::hex(word) {
            assert_eq!(number::hex(&format!("{value:x}")), Some(value));
        }
        if let Some(value) = number::decimal(word) {
            assert_eq!(number::decimal(&value.to_string()), Some(value));
        }
    }
});
