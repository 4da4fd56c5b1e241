//! What a dump is like, as far as it matters to the programs that open it; and the same in words.

use super::{kdump::head::Head, layers::Kind};
use crate::{format::diskdump::flags, source::Layer};

/// What an ELF core is like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ElfFacts {
    pub(super) wide: bool,
    pub(super) machine: u16,
    /// Its program headers are counted elsewhere.
    pub(super) extended: bool,
    pub(super) loads: usize,
}

/// What matters to readers, rules aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) layers: Vec<Layer>,
    pub(super) kind: Kind,
    pub(super) inputs: usize,
    pub(super) head: Option<Head>,
    /// Flags of all pages together.
    pub(super) codecs: u32,
    pub(super) elf: Option<ElfFacts>,
    pub(super) release: Option<String>,
}

impl Facts {
    /// The format in words.
    pub(super) fn describe(&self) -> String {
        let mut text = match (self.kind, &self.head, &self.elf) {
            (Kind::Kdump, Some(head), _) => {
                let name = if head.diskdump { "diskdump" } else { "kdump-compressed" };
                let codecs = codecs(self.codecs);
                format!("{name} v{}, {codecs}, {}", head.version, head.machine)
            }
            (Kind::Kdump, None, _) => "kdump-compressed".to_owned(),
            (Kind::Elf, _, Some(elf)) => {
                format!("ELF{} core, {} segments", if elf.wide { 64 } else { 32 }, elf.loads)
            }
            (Kind::Elf, _, None) => "ELF core".to_owned(),
            (Kind::Unknown, ..) => "unknown".to_owned(),
        };
        if self.inputs > 1 {
            text += &format!(", in {} files", self.inputs);
        }
        if let Some(release) = &self.release {
            text += &format!(", kernel {release}");
        }
        let layers = self.layers.iter().rev().map(|layer| format!(", {}", layer.name()));
        text + &layers.collect::<String>()
    }
}

fn codecs(seen: u32) -> String {
    const NAMES: [(u32, &str); 4] =
        [(flags::ZLIB, "zlib"), (flags::LZO, "lzo"), (flags::SNAPPY, "snappy"), (flags::ZSTD, "zstd")];
    let names: Vec<&str> = NAMES.iter().filter(|(flag, _)| seen & flag != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "uncompressed".to_owned() } else { names.join(" and ") }
}
