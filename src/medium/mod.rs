//! Where bytes go: a file under a name that says that it is incomplete, or standard output.
//!
//! Each is one file here, and says what may be done with it (`sink::Medium`). Must not know formats.

mod flattened;
mod inputs;
mod names;
mod stdout;
mod target;

pub use flattened::Flattened;
pub use inputs::Inputs;
pub use stdout::Pipe;
pub use target::Target;
