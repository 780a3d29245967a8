//! Up to a running instance and down again on real servers, with the image brought there by us.
//!
//! A server is named as for the conformance suite of `sim-lxd`: `LXD_URL` and `LXD_TOKEN_FILE`, or `INCUS_URL` and
//! `INCUS_TOKEN_FILE`; it is on this machine, and its profile `default` has a root disk. The image is a static busybox
//! without SSH, so this ends where SSH would begin.

mod support;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use lnplaylive_core::images::PROPERTY_SHOP;
use lnplaylive_core::order::PortBlock;
use lxd_client::{Client, ClientConfig, Identity};
use provisioner::{Error, Memory, Provisioner, RemoteReport, choose};
use support::{
    LONG, leftover, names, nodes, order, own_address, placement, provisioner, quoted, remote_settings,
};

#[tokio::test(flavor = "multi_thread")]
async fn lxd() {
    up_and_down("LXD").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incus() {
    up_and_down("INCUS").await;
}

/// An image that boots.
fn image(dir: &Path) -> std::path::PathBuf {
    let root = dir.join("rootfs");
    for sub in ["bin", "sbin", "proc", "sys", "dev", "etc", "run", "tmp"] {
        std::fs::create_dir_all(root.join(sub)).expect("a directory");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("copied");
    let script = "#!/bin/busybox sh\ntrap 'exit 0' PWR TERM INT\nwhile :; do /bin/busybox sleep 1; done\n";
    std::fs::write(root.join("sbin/init"), script).expect("written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.join("sbin/init"), mode).expect("executable");
    // So that no two runs upload the same image.
    std::fs::write(root.join("etc/nonce"), lnplaylive_core::OrderId::random().to_string()).expect("written");
    let metadata =
        "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: provisioner\n";
    std::fs::write(dir.join("metadata.yaml"), metadata).expect("written");
    let path = dir.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir).arg("-cf").arg(&path).args(["metadata.yaml", "rootfs"]);
    assert!(tar.status().expect("tar runs").success());
    path
}

async fn up_and_down(kind: &str) {
    let (url, file) = (format!("{kind}_URL"), format!("{kind}_TOKEN_FILE"));
    let (Ok(url), Ok(token)) = (std::env::var(url), std::env::var(file)) else {
        eprintln!("skipped: {kind}_URL and {kind}_TOKEN_FILE do not name a server");
        return;
    };
    if !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: no /bin/busybox to make an image from");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path());
    let orders = [order(8), order(1)];
    let prefix = format!("provisioner-{}", u32::from_be_bytes(orders[0].id.short()));
    let settings = |file: &Path| {
        remote_settings("real", &url, token.as_ref(), own_address(), 0)
            + &format!("image = {prefix:?}\nimage_file = {}\n", quoted(file))
    };
    let provisioner = provisioner(&settings(&file), dir.path()).expect("settings");

    let reports = uploaded(&provisioner).await;
    let load = reports[0].load.as_ref().expect("a report");
    let machine = load.machines().next().expect("a machine");
    let Memory { total, used } = machine.memory;
    assert!(used > 0 && used < total && machine.cpus > 0, "{load:?}");
    let storage = machine.storage.expect("the pool tells its size");
    assert!(storage.used > 0 && storage.used < storage.total, "{load:?}");
    let choice = choose(&provisioner.candidates(&reports), nodes(8), &[], &[], 0).expect("room");
    let runs = placement(&orders[0], "real", choice.ports);
    for _ in 0..2 {
        provisioner.bring_up(&orders[0], &runs).await.expect("it runs");
    }
    let reports = provisioner.survey().await;
    let load = reports[0].load.as_ref().expect("a report");
    assert_eq!(load.ports().collect::<Vec<_>>(), [runs.ports]);
    assert_eq!(load.coming().collect::<Vec<_>>(), [runs.ports]);

    // Its ports are taken: it is made and does not start.
    let stuck = placement(&orders[1], "real", PortBlock { first: runs.ports.first, count: 2 });
    let error = provisioner.bring_up(&orders[1], &stuck).await.expect_err("taken");
    assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    names(&error, &["real", &stuck.project.to_string()]);

    let identity = Identity::load_or_create(&dir.path().join("state/remotes/real"), "").expect("kept");
    let pin = std::fs::read_to_string(dir.path().join("state/remotes/real/server.fingerprint"));
    let pin = pin.expect("pinned").trim().parse().expect("a fingerprint");
    let client = Client::new(ClientConfig::new("real", url.parse().expect("a URL"), identity, pin));
    let client = client.expect("a client");
    for (order, placement) in orders.iter().zip([&runs, &stuck]) {
        for _ in 0..2 {
            provisioner.take_down(order.id, &leftover(placement)).await.expect("taken down");
        }
        let projects = client.projects().await.expect("a list");
        assert!(projects.iter().all(|p| p.name != placement.project.to_string()), "{projects:?}");
    }

    // The image of a new release comes beside it, and both are marked as ours.
    let newer = tempfile::tempdir().expect("a directory");
    let upgraded = support::provisioner(&settings(&image(newer.path())), dir.path()).expect("settings");
    uploaded(&upgraded).await;
    upgraded.remove_old_images().await;
    let shop = provisioner::shop::stored_id(&dir.path().join("state")).expect("readable").expect("stored");
    let images = client.images("default").await.expect("a list");
    let ours = images.iter().filter(|image| image.aliases.iter().any(|alias| alias.starts_with(&prefix)));
    let ours: Vec<_> = ours.collect();
    assert_eq!(ours.len(), 2, "the old one is kept for a week: {images:?}");
    for image in ours {
        assert_eq!(image.properties[PROPERTY_SHOP], shop.as_str());
        client.delete_image("default", &image.fingerprint, LONG).await.expect("deleted");
    }
}

/// The reports once the image is there.
async fn uploaded(provisioner: &Provisioner) -> Vec<RemoteReport> {
    let deadline = Instant::now() + LONG;
    loop {
        let reports = provisioner.survey().await;
        if reports[0].load.is_ok() {
            return reports;
        }
        assert!(Instant::now() < deadline, "{reports:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
