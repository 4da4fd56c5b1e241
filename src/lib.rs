//! vdump turns a crashed Linux machine's memory into a small dump that engineers can debug.
//!
//! Data goes one way through the rooms: bytes, [`source`], [`layout`], [`memory`], [`kernel`], [`classify`], [`bitmap`], [`plan`],
//! [`pipeline`], [`sink`], bytes. [`klog`] reads the kernel's log for `kernel`, [`check`] looks at dumps
//! as files, [`redact`] finds what no output may show. A room uses only rooms before it and the
//! floor: [`format`](mod@format), [`codec`], [`error`], [`report`], [`sys`] and the crate `vdump_filters`. Only [`run`] sees them all.

pub mod bitmap;
pub mod check;
pub mod classify;
pub mod cli;
pub mod codec;
pub mod error;
pub mod format;
pub mod kernel;
pub mod klog;
pub mod layout;
pub mod memory;
pub mod pipeline;
pub mod plan;
pub mod redact;
pub mod report;
pub mod run;
pub mod sink;
pub mod source;
pub mod sys;
