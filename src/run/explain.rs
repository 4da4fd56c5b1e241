use crate::{cli::explain::Explain, error::Result};
pub(super) fn run(_: &Explain) -> Result<()> {
    Ok(())
}
