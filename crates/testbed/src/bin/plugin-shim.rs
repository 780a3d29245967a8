//! Runs a plugin and kills it at a chosen call; see [`testbed::shim`].

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match testbed::shim::relay::run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plugin-shim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
