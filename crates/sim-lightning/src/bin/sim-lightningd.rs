//! Stands in for `lightningd`; see [`sim_lightning::lightningd`].

fn main() -> std::process::ExitCode {
    sim_lightning::lightningd::main(std::env::args_os())
}
