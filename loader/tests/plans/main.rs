//! Plans for recorded machines: what would be loaded where, without a machine that has crash memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod headers;
mod images;
mod machines;
mod properties;
mod recorded;
mod refusals;
mod statuses;
mod tree;

use std::path::Path;

use vdump_loader::{
    Error,
    host::Host,
    image::Image,
    plan::{Options, Plan, Request},
};

/// A crash load of an image that is made here.
pub struct Asked {
    pub image: Image,
    pub initrd: Vec<u8>,
    pub command_line: String,
    pub options: Options,
}

pub fn asked(image: &[u8]) -> Asked {
    Asked {
        image: Image::parse("kernel", image.to_vec()).unwrap(),
        initrd: vec![0x5a; 20 << 20],
        command_line: "console=ttyS0 quiet".to_owned(),
        options: Options { panic: true, ..Options::default() },
    }
}

impl Asked {
    pub fn plan(&self, root: &Path) -> Result<Plan<'_>, Error> {
        let request = Request {
            image: &self.image,
            initrd: Some(&self.initrd),
            command_line: &self.command_line,
            options: &self.options,
            seed: Some([9; 32]),
        };
        Plan::make(&Host::read(root)?, &request)
    }
}

/// What must be true of every crash plan.
#[track_caller]
pub fn check(plan: &Plan<'_>) {
    let region = plan.region.unwrap();
    assert!(plan.segments.len() <= 16);
    for (index, segment) in plan.segments.iter().enumerate() {
        assert_eq!((segment.range.start % 4096, segment.range.len() % 4096), (0, 0), "{}", segment.name);
        assert!(segment.data.len() as u64 <= segment.range.len(), "{}", segment.name);
        assert!(region.contains(&segment.range), "{} at {} is not in {region}", segment.name, segment.range);
        for other in &plan.segments[index + 1..] {
            assert!(!segment.range.overlaps(&other.range), "{} and {}", segment.name, other.name);
        }
    }
    let used: u64 = plan.segments.iter().map(|segment| segment.range.len()).sum();
    assert!(region.len() - used >= plan.slack, "no room is left for the running kernel");
    for pair in plan.e820.windows(2) {
        assert!(pair[0].range.end <= pair[1].range.start, "{} {}", pair[0].range, pair[1].range);
    }
    let headers = plan.segment("elfcorehdr").unwrap().range;
    assert!(plan.command_line.contains(&format!("elfcorehdr={:#x}", headers.start)));
}
