//! `lnplaylive-plugin`: a plugin when lightningd starts it, a command when a person does.

use std::process::ExitCode;

use lnplaylive_plugin::{cli, plugin};

fn main() -> anyhow::Result<ExitCode> {
    // lightningd starts plugins without arguments, or in developer mode with this one.
    if std::env::args_os().nth(1).is_some_and(|word| word != "--developer") {
        return Ok(cli::run());
    }
    plugin::run().map(|()| ExitCode::SUCCESS)
}
