//! Stands in for `bitcoind`; see [`sim_lightning::bitcoind`].

fn main() -> std::process::ExitCode {
    sim_lightning::bitcoind::main(std::env::args_os())
}
