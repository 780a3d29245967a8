//! The restore of docs/deploy-aws.md: from the uploaded backup alone, the money of a lost node comes back.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{LONG, daemons, text};
use serde_json::{Value, json};
use testbed::{Flavor, Host, HostConfig, Lightningd, Step, until};

/// What the shop has earned in its channel.
const EARNED_MSAT: u64 = 2_000_000_000;
/// What it has on-chain.
const COINS_SAT: u64 = 500_000;
/// Blocks since then: more than a node without a database looks back.
const BLOCKS: u64 = 50;

mod real {
    // The stand-in has no channels to close.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_money_of_a_lost_node_comes_back() {
        super::the_money_of_a_lost_node_comes_back("restore::the_money_of_a_lost_node_comes_back").await;
    }
}

/// What is run beside the daemons.
#[derive(Debug)]
struct Tools {
    age: PathBuf,
    keygen: PathBuf,
    rclone: PathBuf,
    lightning_cli: PathBuf,
}

impl Tools {
    /// Those on PATH, or the name of one that is missing. lightning-cli is beside lightningd.
    fn find(lightningd: &Path) -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |name: &str| {
            std::env::split_paths(&path)
                .map(|dir| dir.join(name))
                .find(|program| program.is_file())
                .ok_or_else(|| format!("no {name} on PATH"))
        };
        find("jq")?;
        let lightning_cli = lightningd.with_file_name("lightning-cli");
        Ok(Self { age: find("age")?, keygen: find("age-keygen")?, rclone: find("rclone")?, lightning_cli })
    }
}

async fn the_money_of_a_lost_node_comes_back(name: &str) {
    let Some(daemons) = daemons(Flavor::Real, name) else { return };
    let tools = match Tools::find(daemons.lightningd()) {
        Ok(tools) => tools,
        Err(why) => return testbed::skip(name, &why),
    };
    let mut host = Host::start(HostConfig::new(daemons)).await.expect("a host");
    earn(&host).await;
    let id = host.node.id().to_owned();

    let key = host.workdir().join("operator.key");
    let made = Command::new(&tools.keygen).arg("-o").arg(&key).output().expect("age-keygen runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let object = back_up(&host, &tools, &key);

    host.node.kill();
    let dir = host.node.dir().join("regtest");
    std::fs::remove_dir_all(host.node.dir()).expect("the node's directory is removed");
    host.bitcoind.mine(BLOCKS).await.expect("blocks");

    std::fs::create_dir_all(&dir).expect("a new directory");
    extract(&tools, &key, &object, "hsm_secret", &dir);
    extract(&tools, &key, &object, "channels.json", host.workdir().path());
    host.node.restart().await.expect("it starts with the old key");
    assert_eq!(host.node.id(), id, "it is another node");
    assert_eq!(confirmed_msat(&host.node).await, [] as [u64; 0], "a new database knows no coins");

    let channels = std::fs::read(host.workdir().join("channels.json")).expect("read");
    let channels: Value = serde_json::from_slice(&channels).expect("JSON");
    let recovered = call(&host.node, "recoverchannel", json!({"scb": channels})).await;
    assert_eq!(recovered["stubs"].as_array().map(Vec::len), Some(1), "{recovered}");
    // Core Lightning closes only if it happens to read the error before it hangs up; otherwise its operator does it.
    let close = json!({"id": id, "unilateraltimeout": 1});
    if let Err(error) = host.customer.call("close", close).await {
        assert_eq!(error.message, "Peer has no active channel");
    }
    let back = until("the money of the channel to be back", LONG, async || {
        let height = host.bitcoind.call("getblockcount", json!([])).await?;
        if call(&host.node, "getinfo", json!({})).await["blockheight"] == height {
            host.bitcoind.mine(1).await?;
        }
        let coins = confirmed_msat(&host.node).await;
        Ok(if coins.is_empty() { Step::NotYet("no coins".into()) } else { Step::Done(coins) })
    });
    let back = back.await.expect("it comes back");
    // The customer opened the channel, and pays for its close.
    assert_eq!(back, [EARNED_MSAT]);

    host.node.config_mut().options.push("rescan=-1".into());
    host.node.restart().await.expect("it starts again");
    until("the coins to be found", LONG, async || {
        let coins = confirmed_msat(&host.node).await;
        Ok(if coins.contains(&(COINS_SAT * 1000)) {
            Step::Done(())
        } else {
            Step::NotYet(format!("{coins:?}"))
        })
    })
    .await
    .expect("they are found when the node looks further back");
}

/// A payment over the channel, and one on-chain.
async fn earn(host: &Host) {
    let invoice = call(&host.node, "invoice", json!([EARNED_MSAT, "order", "an order"])).await;
    host.customer.pay(text(&invoice, "bolt11")).await.expect("it is paid");
    let address = call(&host.node, "newaddr", json!({"addresstype": "bech32"})).await;
    let withdraw = json!({"destination": text(&address, "bech32"), "satoshi": COINS_SAT});
    call(&host.customer, "withdraw", withdraw).await;
    host.bitcoind.mine(1).await.expect("a block");
    until("the host to have its coins", LONG, async || {
        Ok(match confirmed_msat(&host.node).await.as_slice() {
            [] => Step::NotYet("none".into()),
            _ => Step::Done(()),
        })
    })
    .await
    .expect("coins");
}

/// Makes the copies and uploads them with the scripts of the host's units, to a directory in the bucket's place. Returns the
/// uploaded object.
fn back_up(host: &Host, tools: &Tools, key: &Path) -> PathBuf {
    let dir = |name: &str| host.workdir().subdir(name).expect("a directory");
    let (bin, storage, copies) = (dir("bin"), dir("storage"), dir("copies"));
    let program = |name: &str, text: String| {
        let path = bin.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    };
    let redirect = format!(
        "#!/bin/sh\nfor word; do\n  shift\n  case $word in :s3:*) word=\":local:{}/${{word#:s3:}}\" ;; esac\n  \
         set -- \"$@\" \"$word\"\ndone\nexec {} \"$@\"\n",
        storage.display(),
        tools.rclone.display()
    );
    program("rclone", redirect);
    program(
        "lightning-cli",
        format!(
            "#!/bin/sh\nexec {} --lightning-dir={} --network=regtest \"$@\"\n",
            tools.lightning_cli.display(),
            host.node.dir().display()
        ),
    );
    let recipient = Command::new(&tools.keygen).arg("-y").arg(key).output().expect("age-keygen runs");
    let mut path = OsString::from(&bin);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());

    let script = |name: &str| {
        let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nixos/modules");
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail"]).arg(format!("{modules}/{name}.sh")).env("PATH", &path);
        command
    };
    let output =
        script("clightning-backup").arg(host.node.dir()).current_dir(&copies).output().expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = script("lnplaylive/backup-upload")
        .arg(&copies)
        .arg(dir("uploaded"))
        .env("RUNTIME_DIRECTORY", dir("scratch"))
        .env("BACKUP_BUCKET", "bucket")
        .env("BACKUP_PREFIX", "shop.example")
        .env("BACKUP_REGION", "eu-central-1")
        .env("BACKUP_ENDPOINT", "")
        .env("BACKUP_RECIPIENTS", String::from_utf8_lossy(&recipient.stdout).trim())
        .env("BACKUP_PAUSES", "")
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    storage.join("bucket/shop.example/regtest.tar.age")
}

/// Decrypts the object, and extracts one file to a directory.
fn extract(tools: &Tools, key: &Path, object: &Path, file: &str, dir: &Path) {
    let mut age = Command::new(&tools.age)
        .arg("--decrypt")
        .arg("-i")
        .args([key, object])
        .stdout(Stdio::piped())
        .spawn()
        .expect("age runs");
    let archive = age.stdout.take().expect("piped");
    let extracted = Command::new("tar")
        .arg("--extract")
        .arg("--directory")
        .arg(dir)
        .arg(file)
        .stdin(archive)
        .status()
        .expect("tar runs");
    assert!(extracted.success() && age.wait().expect("age ends").success());
}

/// The node's confirmed coins, in millisatoshi.
async fn confirmed_msat(node: &Lightningd) -> Vec<u64> {
    let funds = call(node, "listfunds", json!({})).await;
    let outputs = funds["outputs"].as_array().expect("a list");
    outputs.iter().filter(|o| o["status"] == "confirmed").filter_map(|o| o["amount_msat"].as_u64()).collect()
}

async fn call(node: &Lightningd, method: &str, params: Value) -> Value {
    let answer = tokio::time::timeout(Duration::from_secs(60), node.call(method, &params)).await;
    answer.expect("an answer in time").unwrap_or_else(|e| panic!("{method} {params}: {e}"))
}
