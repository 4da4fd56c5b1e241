//! Pages for unit tests of codecs.

/// A page of which the words that `zero` names are zero, and the others alike.
pub(super) fn page(zero: impl Fn(usize) -> bool) -> Vec<u8> {
    (0..512).flat_map(|word| if zero(word) { [0; 8] } else { [b'a' + (word % 23) as u8; 8] }).collect()
}

/// Bytes of the first `values` values, each as likely as the others.
pub(super) fn random(seed: u64, values: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % values) as u8
    };
    std::iter::repeat_with(next).take(4096).collect()
}
