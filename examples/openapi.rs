//! Prints the description of the API: `cargo run --example openapi > docs/openapi.json`.

use std::io::Write;

fn main() -> anyhow::Result<()> {
    std::io::stdout().write_all(inkpool::http::openapi()?.as_bytes())?;
    Ok(())
}
