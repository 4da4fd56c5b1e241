//! Tests of the LZO encoder and decoder.

use fastrand::Rng;

use super::decode::LzoError;
use super::*;

/// The same bytes in every run.
fn bytes(rng: &mut Rng, n: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(n).collect()
}

fn compressed(src: &[u8]) -> Vec<u8> {
    let mut dst = vec![0xee; src.len() + src.len() / 255 + 6];
    // Nothing, which no test accepts, if the documented room were not enough.
    let n = Lzo1x1::new().compress(src, &mut dst).unwrap_or(0);
    dst.truncate(n);
    dst
}

fn round_trip(src: &[u8]) -> usize {
    let packed = compressed(src);
    let mut back = vec![0; src.len()];
    assert_eq!(decompress(&packed, &mut back), Ok(src.len()));
    assert!(back == src, "{} bytes came back changed", src.len());
    if let Some(short) = src.len().checked_sub(1) {
        assert_eq!(decompress(&packed, &mut back[..short]), Err(LzoError::OutputOverrun));
    }
    packed.len()
}

/// Random, one value, periodic, words, structs with pointers and counters.
fn samples(rng: &mut Rng, n: usize) -> Vec<Vec<u8>> {
    let period = 1 + rng.usize(..300);
    let words: Vec<_> = (1..20).map(|len| bytes(rng, len)).collect();
    let text = std::iter::repeat_with(|| words[rng.usize(..19)].clone()).flatten();
    let text = text.take(n).collect();
    let seed = bytes(rng, period);
    let structs = (0..n as u64).flat_map(|i| [0xffff_8880_0000_0000 | (i * 0x9e37) << 6, i % 7, 0, i]);
    vec![
        bytes(rng, n),
        vec![0; n],
        seed.into_iter().cycle().take(n).collect(),
        text,
        structs.flat_map(u64::to_le_bytes).take(n).collect(),
    ]
}

#[test]
fn round_trips_of_every_small_length_and_of_large_ones() {
    let mut rng = Rng::with_seed(1);
    let large = [4095, 4096, 4097, 16384, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 9, 65536, 262_144];
    for n in (0..=300).chain(large) {
        samples(&mut rng, n).iter().for_each(|s| _ = round_trip(s));
    }
}

#[test]
fn literal_runs_and_match_lengths_at_their_limits() {
    let mut rng = Rng::with_seed(2);
    for run in [1, 2, 3, 4, 17, 18, 19, 31, 32, 33, 237, 238, 239, 272, 273, 274, 529] {
        for len in (5..45).chain([263, 264, 265, 286, 287, 288, 289, 542, 543]) {
            let (old, new) = (bytes(&mut rng, 600), bytes(&mut rng, run));
            round_trip(&[&old[..], &new, &old[..len], &new, &old[20..20 + len], b"end of page"].concat());
        }
    }
}

#[test]
fn distances_around_the_limits_of_each_match_form() {
    let (mut rng, lens) = (Rng::with_seed(3), [5, 8, 9, 10, 33, 34, 60]);
    for limit in [1, 8, 0x400, NEAR_DISTANCE, MID_DISTANCE, 0x8000, BLOCK - 1] {
        for (distance, len) in (limit.max(4) - 3..=limit + 3).flat_map(|d| lens.map(|len| (d, len))) {
            // Noise, zeros up to the distance (one long match: no stepping over what follows), the noise again.
            let mut src = bytes(&mut rng, distance.min(60));
            src.resize(distance, 0);
            (0..len).for_each(|i| src.push(src[i]));
            src.extend(bytes(&mut rng, 8));
            let packed = round_trip(&src);
            assert!(distance >= BLOCK || packed < 90 + distance / 255, "{distance} {len}: {packed}");
        }
    }
}

#[test]
fn known_streams() {
    assert_eq!(compressed(b""), END);
    assert_eq!(compressed(b"ab"), b"\x13ab\x11\0\0");
    // One literal, then 99 bytes from distance 1: 0x20 and 99 - 33.
    assert_eq!(compressed(&[7; 100]), [18, 7, 0x20, 66, 0, 0, 0x11, 0, 0]);
    // The two short forms that the encoder never writes: 2 bytes after 1..=3 literals, 3 bytes after 4 and more.
    let mut out = [0; 3000];
    assert_eq!(decompress(b"\x13ab\x04\0\x11\0\0", &mut out), Ok(4));
    assert_eq!(&out[..4], b"abab");
    let mut stream = vec![0; 8];
    stream.push((2049 - 18 - 7 * 255) as u8);
    stream.extend((0..2049).map(|i| (i % 251) as u8));
    stream.extend(b"\0\0\x11\0\0");
    assert_eq!(decompress(&stream, &mut out), Ok(2052));
    assert_eq!(&out[2049..2052], [0, 1, 2]);
}

#[test]
fn output_depends_on_the_input_alone_and_misfits_are_refused() {
    let (mut rng, mut used) = (Rng::with_seed(4), Lzo1x1::new());
    for src in [4096, 300, 65536, 4096, 9000, 4096].map(|n| samples(&mut rng, n)).concat() {
        let fresh = compressed(&src);
        let mut dst = vec![0; fresh.len()];
        assert_eq!(used.compress(&src, &mut dst), Some(fresh.len()));
        assert!(dst == fresh);
        for room in [0, 1, 2, fresh.len() / 2, fresh.len() - 3, fresh.len() - 1] {
            assert_eq!(used.compress(&src, &mut dst[..room]), None);
        }
    }
}

#[test]
fn hostile_streams_end_in_an_error_or_a_bounded_result() {
    let (mut rng, mut out) = (Rng::with_seed(5), vec![0; 5000]);
    for _ in 0..40_000 {
        let n = rng.usize(..64);
        let first = [17, 18, 22, 0, 255][rng.usize(..5)];
        let noise = [&[first], &bytes(&mut rng, n)[..]].concat();
        let room = rng.usize(..out.len());
        assert!(decompress(&noise, &mut out[..room]).unwrap_or(0) <= room);
    }
    for src in samples(&mut rng, 4096) {
        let good = compressed(&src);
        for cut in 0..good.len() {
            assert_eq!(decompress(&good[..cut], &mut out), Err(LzoError::InputOverrun));
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(decompress(&longer, &mut out), Err(LzoError::TrailingInput));
        for _ in 0..2000 {
            let mut bad = good.clone();
            let at = rng.usize(..bad.len());
            bad[at] ^= 1 << rng.usize(..8);
            let _ = decompress(&bad, &mut out);
        }
    }
    assert_eq!(decompress(b"\x12a\x40\x01\x11\0\0", &mut out), Err(LzoError::LookbehindOverrun));
    // 60 KB of zero bytes as a length: refused, not counted on.
    assert_eq!(decompress(&vec![0; 60_000], &mut out), Err(LzoError::InputOverrun));
}
