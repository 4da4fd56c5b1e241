//! Pages for unit tests of codecs.

/// A page of which the words that `zero` names are zero, and the others alike.
pub(super) fn page(zero: impl Fn(usize) -> bool) -> Vec<u8> {
    (0..512).flat_map(|word| if zero(word) { [0; 8] } else { [b'a' + (word % 23) as u8; 8] }).collect()
}

/// Bytes of the first `values` values, each as likely as the others.
pub(super) fn random(seed: u64, values: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u64(..values) as u8).take(4096).collect()
}
