//! The one integration-test crate: runs the `vdump` binary on machines that `synth` builds and
//! judges what it writes with the readers in `read`. No test here uses code of the product but `library`, whose subject that is.

// A test that cannot go on should say so and stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// A machine with one range of memory is a list of one range.
#![allow(clippy::single_range_in_vec_init)]

mod broken;
mod check;
mod disks;
mod harness;
mod judges;
mod read;
mod refusal;
mod synth;

mod advice;
mod altered;
mod bad_device;
mod bench;
mod bounds;
mod called;
mod cases;
mod choosing;
mod circles;
mod cli;
mod convert;
mod cut_short;
mod device_dumps;
mod distributions;
mod dmesg;
mod endings;
mod eras;
mod explain;
mod faults;
mod flattened;
mod found_note;
mod free_pcp;
mod fuzz_seeds;
mod golden;
mod headers;
mod json;
mod judge;
mod kdump_again;
mod kdump_input;
mod keep_task;
mod killed;
mod layout;
mod library;
mod lies;
mod loading;
mod losses;
mod merge;
mod opening;
mod outputs;
mod overwrite;
mod partials;
mod places;
mod protected;
mod raw;
mod redact;
mod rules;
mod seekable;
mod self_check;
mod specs;
mod split_output;
mod split_sets;
mod terminal;
mod threads;
mod tidy;
mod virtual_memory;
mod waits;
