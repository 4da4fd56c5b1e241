//! Codecs of pages: damaged data of each, and each one's own output back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdump::internals::{Compression, Decoder};

const PAGE: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::default();
    let mut page = vec![0; PAGE];
    // zlib, lzo, snappy, zstd (`DUMP_DH_COMPRESSED_*`).
    for flags in [1, 2, 4, 0x20] {
        let _ = decoder.decode(flags, data, &mut page);
    }
    let mut plain = data.to_vec();
    plain.resize(PAGE, data.last().copied().unwrap_or(0));
    for compression in [Compression::DEFAULT_ZLIB, Compression::Lzo, Compression::Snappy, Compression::Zstd(1)] {
        let mut codec = compression.codec();
        let mut packed = vec![0; PAGE - 1];
        if let Some(len) = codec.compress(&plain, &mut packed) {
            page.fill(0xa5);
            decoder.decode(codec.flags(), &packed[..len], &mut page).expect("its own output");
            assert!(page == plain, "{compression}");
        }
    }
});
