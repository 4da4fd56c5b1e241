//! Kernel images: bzImage, ELF, arm64's Image, with what lies around them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdump_loader::image::Image;

fuzz_target!(|data: &[u8]| {
    let _ = Image::needed("fuzz", data);
    if let Ok(image) = Image::parse("fuzz", data.to_vec()) {
        assert!(!image.describe().is_empty());
        let _ = image.machine();
    }
});
