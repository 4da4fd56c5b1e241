//! The options of `vdump explain`.
//!
//! Knows how pages are named. Must not look at files. The parsed line goes to `run`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use vdump_filters::number;

use super::{InputArgs, JsonArgs, KernelArgs};

/// Options of `vdump explain`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("page").required(true).multiple(true))]
pub struct Explain {
    /// The dump; all parts of a split one; or /proc/kcore
    #[arg(required = true, value_name = "DUMP")]
    pub inputs: Vec<PathBuf>,

    /// A page frame number: 0x1a2b or 6699; several with commas, or by giving the option again
    #[arg(long, value_name = "N", group = "page", value_delimiter = ',', value_parser = parse_number)]
    pub pfn: Vec<u64>,

    /// A physical address in the page
    #[arg(long, value_name = "ADDR", group = "page", value_delimiter = ',', value_parser = parse_number)]
    pub paddr: Vec<u64>,

    /// A virtual address of the kernel in the page: walks the kernel's page tables
    #[arg(long, value_name = "ADDR", group = "page", value_delimiter = ',', value_parser = parse_number)]
    pub vaddr: Vec<u64>,

    /// How to read the dump.
    #[command(flatten)]
    pub input_args: InputArgs,

    /// What is known about the kernel.
    #[command(flatten)]
    pub kernel_args: KernelArgs,

    /// Whether JSON is printed.
    #[command(flatten)]
    pub report: JsonArgs,
}

/// A number as people paste it: `0x1a2b`, `6699`, and, where it cannot be decimal, bare hexadecimal as crash prints addresses.
///
/// # Errors
/// The text is no number of 64 bits.
fn parse_number(text: &str) -> Result<u64, &'static str> {
    let bare_hex = || number::hex(text).filter(|_| !text.bytes().all(|byte| byte.is_ascii_digit()));
    number::number(text).or_else(bare_hex).ok_or("not a number of 64 bits: give 0x..., or decimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_paste_them() {
        for (text, number) in [
            ("0x1a2b", 0x1a2b),
            ("6699", 6699),
            ("0XFF", 255),
            ("ffffffff81000000", 0xffff_ffff_8100_0000),
            ("1a2b", 0x1a2b),
        ] {
            assert_eq!(parse_number(text), Ok(number));
        }
        for text in ["", "-1", "+5", "0x", "0x+5", "1 2", "18446744073709551616", "0x1ffffffffffffffff", "page", "é"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
    }
}
