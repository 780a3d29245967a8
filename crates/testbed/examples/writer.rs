//! A plugin that writes to the datastore on request; the shim's tests kill it.
//!
//! `testbed-write {"key": KEY, "count": N}` creates the records `[KEY, "0"]` to `[KEY, "<N-1>"]`, one call after the other.

use std::path::Path;

use anyhow::Context;
use cln_plugin::{Builder, Plugin};
use cln_rpc::ClnRpc;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let builder = Builder::new(tokio::io::stdin(), tokio::io::stdout()).dynamic().rpcmethod(
        "testbed-write",
        "Writes records for a test.",
        write,
    );
    if let Some(plugin) = builder.start(()).await? {
        plugin.join().await?;
    }
    Ok(())
}

async fn write(plugin: Plugin<()>, params: Value) -> anyhow::Result<Value> {
    let (key, count) = (params["key"].as_str().context("key")?, params["count"].as_u64().context("count")?);
    let configuration = plugin.configuration();
    let mut rpc = ClnRpc::new(Path::new(&configuration.lightning_dir).join(&configuration.rpc_file)).await?;
    for number in 0..count {
        // A call that only reads, which must not be counted.
        rpc.call_raw::<Value, _>("getinfo", &json!({})).await?;
        let record = json!({"key": [key, number.to_string()], "string": "written", "mode": "must-create"});
        rpc.call_raw::<Value, _>("datastore", &record).await?;
    }
    Ok(json!({"written": count}))
}
