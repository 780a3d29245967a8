//! Runs a plugin and kills it at a chosen call; see [`testbed::shim`].

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let code = testbed::shim::relay::run().await.unwrap_or_else(|error| {
        eprintln!("plugin-shim: {error:#}");
        1
    });
    // Returning would wait for the pending read of stdin.
    std::process::exit(code);
}
