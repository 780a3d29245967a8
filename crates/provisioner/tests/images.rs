//! The image: brought where it is missing, once, and never over one that is there.

mod support;

use std::{path::Path, process::Command};

use lnplaylive_core::Placement;
use lnplaylive_core::images::{KEEP_UNUSED, PROPERTY_SHOP, PROPERTY_UNUSED_SINCE};
use lnplaylive_core::order::Severity;
use provisioner::{Error, Placed, Provisioner, choose};
use sim_lxd::Fault;
use support::{GOOD, World, names, nodes, order, quoted};

/// Something that servers take for an image.
fn image(dir: &Path, name: &str) -> std::path::PathBuf {
    let content = dir.join(format!("{name}.txt"));
    std::fs::write(&content, name.repeat(100_000)).expect("written");
    let path = dir.join(name);
    let mut tar = Command::new("tar");
    // The same again has the same digest.
    tar.arg("--mtime=@1700000000")
        .arg("-C")
        .arg(dir)
        .arg("-cf")
        .arg(&path)
        .arg(content.file_name().expect("a name"));
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
async fn an_image_with_the_plain_alias_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path(), "image.tar");
    let world = World::with(GOOD, 1, &format!("image_file = {}\n", quoted(&file))).await;
    let before = world.remote().images();
    let placement = world.provision(&order(1)).await.expect("provisioned");
    let images = world.remote().images();
    let (digest, (aliases, properties)) =
        images.iter().find(|(digest, _)| !before.contains_key(*digest)).expect("ours beside it");
    assert_eq!(aliases, &[format!("lnplay-{}", &digest[..12])]);
    assert_eq!(properties[PROPERTY_SHOP].len(), 16, "a random id");
    assert_eq!(origin(&world, &placement), *digest);
    assert_eq!(images.len(), before.len() + 1, "{images:?}");

    let own = World::new(GOOD).await;
    own.provision(&order(1)).await.expect("provisioned");
    assert_eq!(own.calls("POST", "/1.0/images"), 0, "where no file is named, the operator's is used");
}

/// The image that a placement's instance was made from.
fn origin(world: &World, placement: &Placement) -> String {
    let project = placement.project.to_string();
    let dump = world.remote().dump();
    let instance = dump.as_array().expect("a list").iter().find(|i| i["project"] == project.as_str());
    instance.expect("an instance")["config"]["volatile.base_image"].as_str().expect("an image").to_owned()
}

/// A remote that a shop has used, and that shop after its upgrade: the image of its new release is another one.
struct Upgrade {
    world: World,
    dir: tempfile::TempDir,
    /// Of the old release.
    old_digest: String,
}

impl Upgrade {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let world =
            without_images(&format!("image_file = {}\n", quoted(&image(dir.path(), "old.tar")))).await;
        until_uploaded(&world, &world.provisioner).await;
        let images = world.remote().images();
        let (old_digest, _) = images.first_key_value().expect("one image");
        Self { world, dir, old_digest: old_digest.clone() }
    }

    /// The shop that uses this state directory, with its own image. The directory has its keys, and its id.
    fn shop(&self, state: &Path, name: &str) -> Provisioner {
        let token = support::write(self.dir.path(), "token", &self.world.remote().token("shop"));
        let file = image(self.dir.path(), name);
        let lines = format!("image_file = {}\n", quoted(&file));
        let remote =
            support::remote_settings("sim-0", &self.world.remote().url(), &token, self.world.address, 0);
        support::provisioner(&(remote + &lines), state).expect("settings")
    }

    fn upgraded(&self) -> Provisioner {
        self.shop(self.world.dir.path(), "new.tar")
    }

    fn has_old(&self) -> bool {
        self.world.remote().images().contains_key(&self.old_digest)
    }

    /// The note on the old image.
    fn old_is_unused_since(&self) -> String {
        let (_, properties) = self.world.remote().images().remove(&self.old_digest).expect("it is there");
        properties.get(PROPERTY_UNUSED_SINCE).cloned().unwrap_or_default()
    }

    /// Has all images noted as unused since a week and a day.
    fn let_a_week_pass(&self) {
        let since = jiff::Timestamp::now() - KEEP_UNUSED - jiff::SignedDuration::from_hours(24);
        self.world.remote().set_image_property(PROPERTY_UNUSED_SINCE, &since.as_second().to_string());
    }
}

/// Asks until no image is being uploaded, and the look for old images that follows has learnt which are in use.
async fn until_uploaded(world: &World, provisioner: &Provisioner) {
    let looks = || world.calls("GET", "/1.0/instances");
    let before = looks();
    while provisioner.survey().await[0].load.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    support::until("the look for old images", || looks() > before).await;
}

#[tokio::test]
async fn an_upgrade_brings_its_image_beside_the_old_one() {
    let upgrade = Upgrade::new().await;
    let world = &upgrade.world;
    let [running, placed] = [order(1), order(1)];
    let before = world.place(&running).await;
    world.provisioner.bring_up(&running, &before).await.expect("it runs");
    let reports = world.reports().await;
    let choice = choose(&world.provisioner.candidates(&reports), nodes(1), &[], &[], 0).expect("room");
    let after = support::placement(&placed, "sim-0", choice.ports);

    let upgraded = upgrade.upgraded();
    until_uploaded(world, &upgraded).await;
    assert!(upgrade.has_old(), "it is kept");
    // An order that was under way goes on with the instance that it has.
    upgraded.bring_up(&running, &before).await.expect("it runs already");
    upgraded.deploy(&running, &before, |_| ()).await.expect("deployed");
    assert_eq!(origin(world, &before), upgrade.old_digest);
    // One that was placed and has none gets one of the new image.
    upgraded.bring_up(&placed, &after).await.expect("it runs");
    upgraded.deploy(&placed, &after, |_| ()).await.expect("deployed");
    assert_ne!(origin(world, &after), upgrade.old_digest);
}

#[tokio::test]
async fn an_old_image_goes_a_week_after_its_last_use() {
    let upgrade = Upgrade::new().await;
    let world = &upgrade.world;
    let order = order(1);
    let placement = world.provision(&order).await.expect("provisioned");
    let upgraded = upgrade.upgraded();
    until_uploaded(world, &upgraded).await;
    upgraded.remove_old_images().await;
    assert_eq!(upgrade.old_is_unused_since(), "", "an instance has it");
    upgraded.take_down(order.id, &support::leftover(&placement)).await.expect("taken down");
    upgraded.remove_old_images().await;
    assert!(upgrade.has_old(), "for going back");
    let since: i64 = upgrade.old_is_unused_since().parse().expect("it is noted");
    assert!((0..60).contains(&(jiff::Timestamp::now().as_second() - since)), "{since}");

    upgrade.let_a_week_pass();
    let path = format!("/1.0/images/{}", upgrade.old_digest);
    world.remote().faults().on("GET", "/1.0/instances", 1, Fault::Error(500, "database is locked".into()));
    upgraded.remove_old_images().await;
    assert_eq!(world.calls("DELETE", &path), 0, "nobody could be asked");

    upgraded.remove_old_images().await;
    assert!(!upgrade.has_old());
    let left = world.remote().images();
    assert_eq!(left.len(), 1, "its own image is there: {left:?}");
    let (_, properties) = left.into_values().next().expect("one");
    assert_eq!(properties[PROPERTY_UNUSED_SINCE], "", "and is used");
}

#[tokio::test]
async fn going_back_in_time_needs_no_upload() {
    let upgrade = Upgrade::new().await;
    let world = &upgrade.world;
    let upgraded = upgrade.upgraded();
    until_uploaded(world, &upgraded).await;
    upgraded.remove_old_images().await;
    assert_ne!(upgrade.old_is_unused_since(), "");
    let uploads = world.calls("POST", "/1.0/images");
    let back = upgrade.shop(world.dir.path(), "old.tar");
    until_uploaded(world, &back).await;
    back.remove_old_images().await;
    assert_eq!(world.calls("POST", "/1.0/images"), uploads);
    assert_eq!(upgrade.old_is_unused_since(), "");
}

#[tokio::test]
async fn a_survey_sees_to_old_images_by_itself() {
    let upgrade = Upgrade::new().await;
    let world = &upgrade.world;
    upgrade.let_a_week_pass();
    let upgraded = upgrade.upgraded();
    until_uploaded(world, &upgraded).await;
    support::until("the old image is gone", || !upgrade.has_old()).await;
}

#[tokio::test]
async fn images_of_another_shop_and_the_operators_stay() {
    let upgrade = Upgrade::new().await;
    let world = &upgrade.world;
    world.remote().add_image("somebody-elses");
    let other_dir = tempfile::tempdir().expect("a directory");
    let other = upgrade.shop(other_dir.path(), "other.tar");
    until_uploaded(world, &other).await;
    upgrade.let_a_week_pass();
    let digests = || world.remote().images().into_keys().collect::<Vec<_>>();
    let before = digests();
    assert_eq!(before.len(), 3);
    other.remove_old_images().await;
    world.provisioner.remove_old_images().await;
    assert_eq!(digests(), before);
}

#[tokio::test]
async fn an_alias_of_ours_on_another_image_is_not_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = image(dir.path(), "image.tar");
    let world = without_images(&format!("image_file = {}\n", quoted(&file))).await;
    world.reports().await;
    let alias = world.remote().images().into_values().flat_map(|(aliases, _)| aliases).next().expect("ours");
    world.remote().remove_image_alias(&alias);
    world.remote().add_image(&alias);
    let again = world.restarted();
    let reports = again.survey().await;
    let reason = reports[0].load.as_ref().expect_err("it is another image");
    assert!(reason.contains(&alias) && reason.contains("delete that image or its alias"), "{reason}");
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
    let images = world.remote().images().into_values();
    let ours = images.flat_map(|(aliases, _)| aliases).find(|alias| alias != "lnplay").expect("ours");
    world.remote().remove_image_alias(&ours);
    world.provision(&order(1)).await.expect("provisioned");
    assert_eq!(world.calls("POST", "/1.0/images"), 1, "the image is there, and gets its alias again");
}
