//! Numbers, addresses and sizes as people, kernels and files write them: one parser each, for the whole workspace.
//!
//! All are strict: no sign, no blank, nothing left over, nothing rounded to zero. Those that people type say what they take.

/// Hexadecimal digits without `0x`, as in /proc/iomem and most of sysfs.
#[must_use]
pub fn hex(digits: &str) -> Option<u64> {
    // Rust's own parser takes a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| plain)
}

/// Decimal digits.
#[must_use]
pub fn decimal(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// `0x1a2b` or `6699`.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => hex(digits),
        None => decimal(text),
    }
}

/// `0x1f000000`, `507904K`, `520093696`: an address as the kernel's own options take it (lib/cmdline.c: `memparse`).
///
/// # Errors
/// The text is not an address; says what is one.
pub fn address(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "not an address: give 0x..., or a number with K, M or G";
    let units = [('k', 10), ('m', 20), ('g', 30)];
    let last = text.chars().next_back().map(|last| last.to_ascii_lowercase());
    let unit = units.into_iter().find(|(letter, _)| last == Some(*letter));
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let value = number(digits).ok_or(FORM)?;
    value.checked_mul(1 << unit.map_or(0, |(_, shift)| shift)).ok_or("beyond the last address")
}

/// `65536`, `64M`, `1.5G`, `2KiB`: bytes; units are powers of 1024.
///
/// # Errors
/// The text is not a size; says what is one.
pub fn size(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "not a size: give bytes, or a number with K, M, G or T, for example 64M or 1.5G";
    const TOO_LARGE: &str = "too large for a size";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift: u32 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(FORM),
    };
    let (whole, part) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || part.is_some_and(|part| !all_digits(part)) {
        return Err(FORM);
    }
    let whole = decimal(whole).and_then(|whole| whole.checked_mul(1 << shift)).ok_or(TOO_LARGE)?;
    let part = part.map_or(Some(0), |part| fraction(part, shift)).ok_or("not a whole number of bytes")?;
    whole.checked_add(part).ok_or(TOO_LARGE)
}

/// Bytes that the digits behind the point are of a unit of `1 << shift` bytes, rounded down; `None`: a part of a byte, or nothing
/// although a digit says more.
fn fraction(digits: &str, shift: u32) -> Option<u64> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    // 18 digits are more than any unit has bytes.
    let digits = &digits[..digits.len().min(18)];
    let scaled = u128::from(decimal(digits)?) << shift;
    let bytes = scaled / 10u128.pow(u32::try_from(digits.len()).ok()?);
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_digits_and_nothing_else() {
        for (text, value) in [("0x1a2b", 0x1a2b), ("0XFF", 255), ("6699", 6699), ("0", 0), ("007", 7)] {
            assert_eq!(number(text), Some(value));
        }
        assert_eq!((number("0xffffffffffffffff"), number("18446744073709551615")), (Some(u64::MAX), Some(u64::MAX)));
        for text in ["", "0x", "+5", "-5", "0x+5", "1e3", "1_000", " 1", "1 ", "18446744073709551616", "ff", "é"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!((hex("ff"), hex(""), hex("+f"), hex("0xff")), (Some(255), None, None, None));
    }

    #[test]
    fn addresses_are_the_kernels() {
        for (text, value) in
            [("0x1f000000", 0x1f00_0000), ("507904K", 507_904 << 10), ("0X10g", 16 << 30), ("520093696", 520_093_696)]
        {
            assert_eq!(address(text), Ok(value));
        }
        for text in ["", "K", "0x", "-1", "+5", "1x", "0xffffffffffffffffG", "1.5G", "é", "1é"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_whole_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("512B", 512),
            ("64M", 64 << 20),
            ("1.5g", 3 << 29),
            ("0.5K", 512),
            ("2KiB", 2048),
            ("1.0", 1),
            ("1.1K", 1126),
            ("0.0009765625K", 1),
            ("0.333333333333333333333333G", 357_913_941),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "64X",
            "-1",
            "+5",
            "1e3",
            "1e400",
            "nan",
            "inf",
            "0.5",
            "1.5",
            "1.5B",
            ".5",
            ".5K",
            "5.",
            "5.K",
            "1..5K",
            "1.5.5K",
            "1 K",
            "0x10",
            "0.0001K",
            "99999999999999999T",
            "18446744073709551616",
            "16777216T",
            "é",
            "1é",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
