//! What a plan is made of, and from.
//!
//! Knows no machine and no image format. [`super::Plan::make`] fills it.

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    corehdr::CoreHeaders,
    digest,
    error::Result,
    image::Image,
    options::{Options, SerialPort},
    range::Range,
    x86::e820::Entry,
};

/// What is to be loaded.
#[derive(Debug)]
pub struct Request<'a> {
    /// The kernel.
    pub image: &'a Image,
    /// Its initial file system.
    pub initrd: Option<&'a [u8]>,
    /// Its command line, without what the loader adds.
    pub command_line: &'a str,
    /// How.
    pub options: &'a Options,
    /// A seed for its random numbers.
    pub seed: Option<[u8; 32]>,
}

/// One piece of memory that the kernel fills.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Segment<'a> {
    /// Its name.
    pub name: &'static str,
    /// Where.
    pub range: Range,
    /// What; the rest of the range is zeros.
    #[serde(serialize_with = "length")]
    pub data: Cow<'a, [u8]>,
    /// SHA-256 of the whole range as it will lie in memory, zeros included, where the purgatory verifies it.
    #[serde(serialize_with = "in_hex", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<[u8; 32]>,
}

/// Everything that one load does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan<'a> {
    /// What the image is.
    pub image: String,
    /// For a crash, or for the next reboot.
    pub panic: bool,
    /// The architecture, as the system call names it.
    pub machine: String,
    /// The reserved range that is loaded into.
    pub region: Option<Range>,
    /// Segments, lowest first.
    pub segments: Vec<Segment<'a>>,
    /// Where the running kernel jumps to.
    pub entry: u64,
    /// Where the next kernel is entered.
    pub kernel_entry: u64,
    /// Its boot parameters (x86_64).
    pub boot_params: u64,
    /// Its command line, with what the loader added.
    pub command_line: String,
    /// Its memory map.
    pub e820: Vec<Entry>,
    /// The core headers.
    pub core_headers: Option<CoreHeaders>,
    /// The memory that is copied aside.
    pub backup: Option<Range>,
    /// Where the purgatory speaks.
    pub serial: Option<SerialPort>,
    /// Bytes left free for the running kernel's own tables.
    pub slack: u64,
    /// Bytes of the region that nothing is loaded to.
    pub left: u64,
    /// Let the kernel rewrite the core headers.
    pub hotplug: bool,
    /// What could be better.
    pub notes: Vec<String>,
}

/// The serialized form of bytes is their number.
#[allow(clippy::ptr_arg, reason = "serde gives the field as it is")]
fn length<S: serde::Serializer>(data: &Cow<'_, [u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(data.len() as u64)
}

fn in_hex<S: serde::Serializer>(digest: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&digest.as_ref().map(digest::hex).unwrap_or_default())
}

impl<'a> Plan<'a> {
    /// The segment called `name`.
    #[must_use]
    pub fn segment(&self, name: &str) -> Option<&Segment<'a>> {
        self.segments.iter().find(|segment| segment.name == name)
    }
}
