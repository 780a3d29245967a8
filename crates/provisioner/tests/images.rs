//! The image: brought where it is missing, once, and never over one that is there.

mod support;

use std::{path::Path, process::Command};

use lnplaylive_core::order::Severity;
use provisioner::{Error, Placed, choose};
use sim_lxd::Fault;
use support::{GOOD, World, names, nodes, order, quoted};

/// Something that servers take for an image.
fn image(dir: &Path, name: &str) -> std::path::PathBuf {
    let content = dir.join(format!("{name}.txt"));
    std::fs::write(&content, name.repeat(100_000)).expect("written");
    let path = dir.join(name);
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir).arg("-cf").arg(&path).arg(content.file_name().expect("a name"));
    assert!(tar.status().expect("tar runs").success());
    path
}

/// A remote without images, and a provisioner that has one as these files.
async fn without_images(lines: &str) -> World {
    World::made(GOOD, 1, lines, |_, config| config.images.clear()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_orders_at_once_bring_it_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path(), "image.tar");
    let world = without_images(&format!("image_file = {}\n", quoted(&file))).await;
    let orders: Vec<_> = (0..4).map(|_| order(1)).collect();
    let mut used = Vec::new();
    let mut placements = Vec::new();
    let reports = world.reports().await;
    for order in &orders {
        let choice = choose(&world.provisioner.candidates(&reports), nodes(1), &used, &[], 0).expect("room");
        let (remote, member) = (choice.remote.clone(), choice.member.clone());
        used.push(Placed { remote, member, ports: choice.ports, address: None, until: None, hours: 1 });
        placements.push(support::placement(order, "sim-0", choice.ports));
    }
    let up = orders.iter().zip(&placements).map(|(o, p)| world.provisioner.bring_up(o, p));
    for result in futures_util::future::join_all(up).await {
        result.expect("it runs");
    }
    assert_eq!(world.calls("POST", "/1.0/images"), 1);
    assert_eq!(world.calls("POST", "/1.0/images/aliases"), 1);
}

#[tokio::test]
async fn metadata_and_disk_apart_are_brought_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let (metadata, rootfs) = (image(dir.path(), "metadata.tar"), image(dir.path(), "rootfs.tar"));
    let lines =
        format!("image_metadata_file = {}\nimage_rootfs_file = {}\n", quoted(&metadata), quoted(&rootfs));
    let world = without_images(&lines).await;
    world.provision(&order(2)).await.expect("provisioned");
    assert_eq!(world.calls("POST", "/1.0/images"), 1);
}

#[tokio::test]
async fn one_that_is_there_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path(), "image.tar");
    let world = World::with(GOOD, 1, &format!("image_file = {}\n", quoted(&file))).await;
    world.provision(&order(1)).await.expect("provisioned");
    assert_eq!(world.calls("POST", "/1.0/images"), 0);
}

#[tokio::test]
async fn nothing_is_placed_before_the_upload_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path(), "image.tar");
    let world = without_images(&format!("image_file = {}\n", quoted(&file))).await;
    world.remote().faults().on("POST", "/1.0/images", 1, Fault::Hang);
    for _ in 0..3 {
        let reports = world.provisioner.survey().await;
        let reason = reports[0].load.as_ref().expect_err("it has no image yet");
        assert!(reason.contains("\"sim-0\"") && reason.contains("is being uploaded"), "{reason}");
    }
    support::until("the upload", || world.calls("POST", "/1.0/images") == 1).await;
    world.provisioner.survey().await;
    assert_eq!(world.calls("POST", "/1.0/images"), 1, "one at a time");
}

#[tokio::test]
async fn an_upload_that_fails_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path(), "image.tar");
    let world = without_images(&format!("image_file = {}\n", quoted(&file))).await;
    let full = Fault::FailOperation("no space left on device".into());
    world.remote().faults().on("POST", "/1.0/images", 1, full);
    let reports = world.reports().await;
    let reason = reports[0].load.as_ref().expect_err("there is no image");
    for part in ["\"sim-0\"", "could not be uploaded", "image.tar", "no space left"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    world.provisioner.survey().await;
    assert_eq!(world.calls("POST", "/1.0/images"), 1, "not again at once");
}

#[tokio::test]
async fn a_missing_one_that_cannot_be_brought_is_said_so() {
    let world = without_images("").await;
    let reports = world.provisioner.survey().await;
    let error = choose(&world.provisioner.candidates(&reports), nodes(1), &[], &[], 0).expect_err("no image");
    let text = error.to_string();
    assert!(
        text.contains("\"sim-0\"") && text.contains("\"lnplay\"") && text.contains("image_file"),
        "{text}"
    );

    world.remote().add_image("lnplay");
    let order = order(1);
    let placement = world.place(&order).await;
    world.remote().remove_image_alias("lnplay");
    let error = world.provisioner.bring_up(&order, &placement).await.expect_err("gone again");
    assert!(matches!(error, Error::NoImage { .. }), "{error}");
    assert_eq!(error.severity(), Severity::Remote);
    names(&error, &["sim-0", "lnplay"]);
    world.take_down(&order, &placement).await;
    let reports = world.provisioner.survey().await;
    assert!(reports[0].load.is_err(), "nor is it chosen any more");
    world.remote().add_image("lnplay");
    world.provision(&order).await.expect("provisioned");
}

#[tokio::test]
async fn one_that_vanished_is_brought_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path(), "image.tar");
    let world = World::with(GOOD, 1, &format!("image_file = {}\n", quoted(&file))).await;
    world.provision(&order(1)).await.expect("provisioned");
    world.remote().remove_image_alias("lnplay");
    world.provision(&order(1)).await.expect("provisioned");
    assert_eq!(world.calls("POST", "/1.0/images"), 1);
}
