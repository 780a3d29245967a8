//! A single suite for the simulated remote and for real servers, which keeps them alike.
//!
//! To test a real server, set `LXD_URL` and `LXD_TOKEN_FILE`, or `INCUS_URL` and `INCUS_TOKEN_FILE`. The file contains an unused
//! enrolment token, and the server must have a storage pool `default`. The names of everything that the suite creates begin with
//! `conformance-`. It removes all of that, except its clients from the list of trusted ones.

mod support;

use std::{panic::AssertUnwindSafe, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::FutureExt as _;
use lxd_client::{
    Client, ClientConfig, Collection, Content, Enrolment, Error, ErrorKind, Found as _, Identity, ImageFiles,
    ImageFingerprint, ImageSource, InstanceSpec, InstanceType, Origin, Project, Status, Stop, Token,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sim_lxd::{Server, SimRemote, SimRemoteConfig};
use support::{LONG, config_map, proxy, root_disk, tarball};

#[tokio::test]
async fn simulated_lxd() {
    simulated(Server::Lxd).await;
}

#[tokio::test]
async fn simulated_incus() {
    simulated(Server::Incus).await;
}

async fn simulated(server: Server) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = SimRemoteConfig { server, ..SimRemoteConfig::new(dir.path(), support::program("true")) };
    let remote = SimRemote::start(config).await.expect("a remote");
    suite(&remote.url(), &remote.token("conformance"), true).await;
    remote.stop().await;
}

#[tokio::test]
async fn lxd() {
    real("LXD").await;
}

#[tokio::test]
async fn incus() {
    real("INCUS").await;
}

async fn real(kind: &str) {
    let (url, file) = (format!("{kind}_URL"), format!("{kind}_TOKEN_FILE"));
    let (Ok(url), Ok(file)) = (std::env::var(url), std::env::var(file)) else {
        eprintln!("skipped: {kind}_URL and {kind}_TOKEN_FILE do not name a server");
        return;
    };
    let token = std::fs::read_to_string(file).expect("the token file");
    // A bootable image is built from a static busybox.
    suite(&url, &token, Path::new("/bin/busybox").exists()).await;
}

/// Runs every check, even if others fail. All checks that need to be trusted need the first one.
async fn suite(url: &str, token: &str, boots: bool) {
    let (url, token) = (url.to_owned(), Token::parse(token).expect("a token"));
    let client = trust(&url, &token).await;
    let project = format!("conformance-{:08x}", rand::random::<u32>());
    let own = config_map([("features.images", "false"), ("user.conformance", "1")]);
    client.create_project(&project, "made by a test", &own).await.expect("a project");
    let mut failed = Vec::new();
    macro_rules! check {
        ($name:ident $(, $argument:expr)*) => {
            // A panic in one check must not end the others.
            let check = AssertUnwindSafe($name($($argument),*));
            if check.catch_unwind().await.is_err() {
                failed.push(stringify!($name));
            }
        };
    }
    check!(pinned_certificate, &url, &token);
    check!(expired_certificate, &url, &client);
    check!(description, &client);
    check!(operations, &client);
    check!(projects, &client);
    check!(collections, &client, &project);
    check!(contents, &client);
    check!(empty_instances, &client, &project);
    check!(images, &client, &project, boots);
    assert!(failed.is_empty(), "these checks failed: {failed:?}");
    client.delete_project(&project).await.expect("the project is empty again");
}

fn config(url: &str, token: &Token) -> ClientConfig {
    let identity = Identity::generate("conformance").expect("an identity");
    ClientConfig::new("tested", url.parse().expect("a URL"), identity, *token.fingerprint())
}

fn fresh(url: &str, token: &Token) -> Client {
    Client::new(config(url, token)).expect("a client")
}

#[track_caller]
fn expect_kind<T: std::fmt::Debug>(result: Result<T, Error>, fits: impl Fn(&ErrorKind) -> bool) -> Error {
    let error = result.expect_err("this must fail");
    assert!(fits(error.kind()), "another kind of failure was expected: {error} {:?}", error.kind());
    error
}

#[track_caller]
fn expect_forbidden<T: std::fmt::Debug>(result: Result<T, Error>) {
    expect_kind(result, |k| matches!(k, ErrorKind::Forbidden(_)));
}

#[track_caller]
fn expect_not_found<T: std::fmt::Debug>(result: Result<T, Error>) {
    expect_kind(result, |k| matches!(k, ErrorKind::NotFound(_)));
}

#[track_caller]
fn expect_conflict<T: std::fmt::Debug>(result: Result<T, Error>) {
    expect_kind(result, |k| matches!(k, ErrorKind::Conflict(_)));
}

#[track_caller]
fn expect_rejected<T: std::fmt::Debug>(result: Result<T, Error>) {
    expect_kind(result, |k| matches!(k, ErrorKind::Rejected { status: 400, .. }));
}

#[track_caller]
fn expect_failed<T: std::fmt::Debug>(result: Result<T, Error>, words: &str) {
    expect_kind(result, |k| matches!(k, ErrorKind::OperationFailed(text) if text.contains(words)));
}

/// A token in this server's format that it never issued.
fn forged(token: &Token, secret: &str) -> Token {
    let content = json!({
        "client_name": "conformance", "fingerprint": token.fingerprint(), "addresses": token.addresses(),
        "secret": secret, "expires_at": "0001-01-01T00:00:00Z",
    });
    Token::parse(&STANDARD.encode(content.to_string())).expect("a token")
}

async fn trust(url: &str, token: &Token) -> Client {
    let client = fresh(url, token);
    assert!(!client.server().await.expect("a description").is_trusted());
    expect_forbidden(client.projects().await);
    expect_forbidden(client.enrol(&forged(token, &"0".repeat(64))).await);
    assert_eq!(client.enrol(token).await.expect("enrolled"), Enrolment::Enrolled);
    assert!(client.server().await.expect("a description").is_trusted());
    assert_eq!(client.enrol(token).await.expect("enrolled before"), Enrolment::AlreadyTrusted);

    let second = fresh(url, token);
    expect_forbidden(second.enrol(token).await);
    let (new, _operation) = client.issue_token("conformance-2").await.expect("a token");
    assert_eq!(second.enrol(&new).await.expect("enrolled"), Enrolment::Enrolled);

    let third = fresh(url, token);
    let (withdrawn, operation) = client.issue_token("conformance-3").await.expect("a token");
    operation.cancel().await.expect("withdrawn");
    expect_forbidden(third.enrol(&withdrawn).await);
    client
}

async fn pinned_certificate(url: &str, token: &Token) {
    let other = lxd_client::Fingerprint::of_der(b"another certificate");
    let client =
        Client::new(ClientConfig { server_fingerprint: other, ..config(url, token) }).expect("a client");
    let error = expect_kind(client.server().await, |kind| {
        *kind == ErrorKind::CertificateMismatch { expected: other, got: *token.fingerprint() }
    });
    let text = error.to_string();
    assert!(text.contains(&other.to_string()) && text.contains(&token.fingerprint().to_string()), "{text}");
    // A token of a server other than the pinned one is not sent.
    let calls = client.calls_made();
    expect_kind(client.enrol(token).await, |k| matches!(k, ErrorKind::CertificateMismatch { .. }));
    assert_eq!(client.calls_made(), calls);
}

/// A client whose certificate has expired gets that error, not that it is not trusted.
async fn expired_certificate(url: &str, client: &Client) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let identity = Identity::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes());
    let (token, operation) = client.issue_token("conformance-expired").await.expect("a token");
    let identity = identity.expect("an identity");
    let expired = Client::new(ClientConfig { identity, ..config(url, &token) }).expect("a client");
    let is_said = |k: &ErrorKind| matches!(k, ErrorKind::ClientCertificateExpired(_));
    let error = expect_kind(expired.server().await, is_said);
    assert!(error.to_string().contains("expired at 2020-01-01"), "{error}");
    expect_kind(expired.projects().await, is_said);
    expect_kind(expired.enrol(&token).await, is_said);
    operation.cancel().await.expect("the token was not used");
}

async fn description(client: &Client) {
    let ahead = client.server_clock_ahead().expect("it has answered");
    assert!(ahead.abs() < jiff::SignedDuration::from_mins(1), "the same machine's clock: {ahead}");
    let server = client.server().await.expect("a description");
    assert!(["lxd", "incus"].contains(&server.environment.server.as_str()), "{server:?}");
    assert!(server.has_extension("projects") && !server.environment.addresses.is_empty(), "{server:?}");
    let resources = client.resources().await.expect("resources");
    assert!(resources.cpu_total > 0 && resources.memory_used < resources.memory_total, "{resources:?}");
    assert!(!server.environment.server_clustered);
    let pool = client.storage_pool("default").await.expect("a pool");
    assert!(pool.name == "default" && !pool.driver.is_empty(), "{pool:?}");
    expect_not_found(client.storage_pool("conformance-missing").await);
    expect_not_found(client.network_acl("conformance-missing").await);
    // What there is differs from machine to machine.
    client.warnings().await.expect("a list");
    expect_kind(
        client.cluster_members().await,
        |k| matches!(k, ErrorKind::Rejected { text, .. } if text == "Server is not clustered"),
    );
}

async fn operations(client: &Client) {
    let (_token, operation) = client.issue_token("conformance-4").await.expect("a token");
    let short = Duration::from_secs(1);
    expect_kind(operation.wait(short).await, |k| *k == ErrorKind::TimedOut(short));
    operation.cancel().await.expect("cancelled");
    expect_kind(operation.wait(LONG).await, |k| {
        matches!(k, ErrorKind::OperationCancelled | ErrorKind::OperationForgotten)
    });
}

async fn projects(client: &Client) {
    let name = format!("conformance-{:08x}", rand::random::<u32>());
    let config = config_map([("user.a", "1")]);
    assert!(client.project(&name).await.found().expect("an answer").is_none());
    client.create_project(&name, "first", &config).await.expect("created");
    expect_conflict(client.create_project(&name, "second", &config).await);
    expect_rejected(client.create_project("with/slash", "", &config).await);
    expect_rejected(client.create_project("", "", &config).await);
    expect_rejected(client.create_project(&format!("{name}-2"), "", &config_map([("bogus", "1")])).await);

    let project = client.project(&name).await.expect("there");
    assert_eq!(project.description, "first");
    assert_eq!(project.config.get("user.a").map(String::as_str), Some("1"));
    assert!(project.has_own("images") && project.has_own("profiles") && !project.has_own("networks"));
    assert_eq!(project.used_by.len(), 1, "its own profile: {:?}", project.used_by);
    let listed = client.projects().await.expect("a list");
    assert!(listed.iter().any(|p| p.name == name && p.config == project.config));

    let mut changed = project.clone();
    changed.config.insert("user.b".into(), "2".into());
    client.update_project(&changed).await.expect("updated");
    expect_conflict(client.update_project(&project).await);
    let now: Project = client.project(&name).await.expect("there");
    assert_eq!(now.config, changed.config);
    assert!(now.etag.is_some() && now.etag != project.etag);

    client.delete_project(&name).await.expect("deleted");
    expect_not_found(client.delete_project(&name).await);
    expect_not_found(client.project(&name).await);
    expect_not_found(client.update_project(&project).await);
    expect_forbidden(client.delete_project("default").await);
    for name in ["", ".", ".."] {
        expect_kind(client.delete_project(name).await, |k| matches!(k, ErrorKind::Invalid(_)));
    }
}

async fn collections(client: &Client, project: &str) {
    let profiles = client.list(&Collection::Profiles, project).await.expect("a list");
    assert_eq!(profiles.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["default"]);
    expect_forbidden(client.delete(&Collection::Profiles, project, "default").await);
    expect_not_found(client.delete(&Collection::Profiles, project, "missing").await);
    client.list(&Collection::Networks, project).await.expect("a list");
    let pool = Collection::StorageVolumes { pool: "default".into() };
    assert!(client.list(&pool, project).await.expect("a list").is_empty());
    let pool = Collection::StorageVolumes { pool: "missing".into() };
    expect_not_found(client.list(&pool, project).await);
}

fn spec(name: &str, image: ImageSource) -> InstanceSpec {
    InstanceSpec {
        name: name.into(),
        kind: InstanceType::Container,
        image,
        config: config_map([("user.a", "1")]),
        devices: root_disk(),
        profiles: None,
        target: None,
    }
}

/// A project's own objects are listed, prevent its deletion, and can be removed.
async fn contents(client: &Client) {
    let name = format!("conformance-{:08x}", rand::random::<u32>());
    client.create_project(&name, "made by a test", &config_map([])).await.expect("created");
    let volumes = Collection::StorageVolumes { pool: "default".into() };
    let made = [(Collection::Profiles, "more"), (volumes, "data")];
    for (collection, item) in &made {
        client.create(collection, &name, item, &config_map([])).await.expect("created");
        expect_conflict(client.create(collection, &name, item, &config_map([])).await);
    }
    let mut contents = client.project(&name).await.expect("there").contents();
    contents.retain(|c| *c != Content::Profile("default".into()));
    assert_eq!(contents.len(), made.len(), "{contents:?}");
    assert!(contents.contains(&Content::Profile("more".into())), "{contents:?}");
    let volume = Content::Volume { pool: "default".into(), name: "data".into() };
    assert!(contents.contains(&volume), "{contents:?}");
    // Not checked when only the volume is left: LXD 5.0.2 then deletes the project, and leaves the volume's directory.
    expect_conflict(client.delete_project(&name).await);
    for (collection, item) in &made {
        client.delete(collection, &name, item).await.expect("deleted");
        expect_not_found(client.delete(collection, &name, item).await);
    }
    client.delete_project(&name).await.expect("it is empty");
}

/// Instances without an image: everything except starting.
async fn empty_instances(client: &Client, project: &str) {
    let empty = |name: &str| spec(name, ImageSource::Empty);
    let missing = || ImageSource::Alias("conformance-missing".into());
    let nowhere = "conformance-missing";
    assert!(client.instances(nowhere).await.expect("a list").is_empty(), "of no project there are none");
    expect_not_found(client.instance(nowhere, "i").await);
    expect_not_found(client.create_instance(nowhere, &empty("i"), LONG).await);
    expect_not_found(client.create_instance(project, &spec("i", missing()), LONG).await);
    expect_not_found(client.start_instance(project, "i", LONG).await);
    expect_not_found(client.delete_instance(project, "i", LONG).await);
    expect_rejected(client.create_instance(project, &empty("under_score"), LONG).await);

    let bad = InstanceSpec { devices: [].into(), ..empty("i") };
    expect_failed(client.create_instance(project, &bad, LONG).await, "No root device could be found");
    let bad = InstanceSpec { config: config_map([("bogus.key", "1")]), ..empty("i") };
    expect_failed(client.create_instance(project, &bad, LONG).await, "Unknown configuration key");
    let mut bad = empty("i");
    bad.devices.insert("p".into(), proxy("tcp:127.0.0.1:1-", "tcp:127.0.0.1:1"));
    expect_failed(client.create_instance(project, &bad, LONG).await, "Invalid value for device option");
    let mut bad = empty("i");
    bad.devices.insert("p".into(), config_map([("type", "bogus")]));
    expect_failed(client.create_instance(project, &bad, LONG).await, "Invalid device type");
    let mut bad = empty("i");
    bad.devices.insert("root".into(), config_map([("type", "disk"), ("pool", "missing"), ("path", "/")]));
    expect_failed(client.create_instance(project, &bad, LONG).await, "Storage pool not found");
    assert!(client.instances(project).await.expect("a list").is_empty(), "failures leave nothing");

    client.create_instance(project, &empty("i"), LONG).await.expect("created");
    expect_conflict(client.create_instance(project, &empty("i"), LONG).await);
    let instance = client.instance(project, "i").await.expect("there");
    assert_eq!((instance.name.as_str(), &instance.status), ("i", &Status::Stopped));
    assert_eq!(instance.kind, InstanceType::Container);
    assert_eq!(instance.config.get("user.a").map(String::as_str), Some("1"));
    assert_eq!(instance.devices, root_disk());
    assert_eq!(client.instances(project).await.expect("a list").len(), 1);
    let state = client.instance_state(project, "i").await.expect("a state");
    assert_eq!((state.status, state.addresses.len()), (Status::Stopped, 0));
    let error = expect_kind(client.start_instance(project, "i", LONG).await, |k| {
        matches!(k, ErrorKind::OperationFailed(_))
    });
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("remote \"tested\": start instance i in project {project}: ")),
        "{text}"
    );
    client.stop_instance(project, "i", Stop::Force, LONG).await.expect("stopped already");
    expect_conflict(client.delete_project(project).await);
    // For a moment after a failed start Incus shows the instance as running, stopped, and running again.
    support::until("the instance is gone", async || {
        client.stop_instance(project, "i", Stop::Force, LONG).await.expect("stopped");
        match client.delete_instance(project, "i", LONG).await {
            Ok(()) => true,
            Err(e) if e.is_conflict() => false,
            Err(e) => panic!("{e}"),
        }
    })
    .await;
    expect_not_found(client.delete_instance(project, "i", LONG).await);
}

async fn images(client: &Client, project: &str, boots: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let alias = format!("conformance-{:08x}", rand::random::<u32>());
    assert_eq!(client.image_alias(project, &alias).await.expect("an answer"), None);

    let rubbish = dir.path().join("rubbish");
    std::fs::write(&rubbish, "this is no image").expect("written");
    let files = ImageFiles::Unified(rubbish);
    expect_failed(client.upload_image(project, &files, LONG).await, "Unsupported compression");
    let files = ImageFiles::Unified(dir.path().join("missing"));
    expect_kind(client.upload_image(project, &files, LONG).await, |k| matches!(k, ErrorKind::Invalid(_)));

    let (path, hash) = tarball(dir.path(), "image.tar", &["metadata.yaml", "rootfs"], boots);
    let files = ImageFiles::Unified(path);
    let image = client.upload_image(project, &files, LONG).await.expect("uploaded");
    assert_eq!(image.to_string(), hash);
    assert_eq!(client.upload_image(project, &files, LONG).await.expect("there already"), image);
    client.create_image_alias(project, &alias, &image).await.expect("an alias");
    expect_conflict(client.create_image_alias(project, &alias, &image).await);
    for project in [project, "default"] {
        let found = client.image_alias(project, &alias).await.expect("an answer");
        assert_eq!(found.as_ref(), Some(&image), "in project {project}");
    }
    for (key, value) in [("user.a", "1"), ("user.b", "2"), ("user.a", "3")] {
        client.set_image_property(project, &image, key, value).await.expect("set");
    }
    let listed = client.images("default").await.expect("a list");
    let listed = listed.into_iter().find(|listed| listed.fingerprint == image).expect("it is in the list");
    assert_eq!(listed.aliases, std::slice::from_ref(&alias));
    assert_eq!(listed.properties["user.a"], "3");
    assert_eq!(listed.properties["user.b"], "2", "the others stay");
    client.set_image_property(project, &image, "user.b", "").await.expect("set");
    let listed = client.images("default").await.expect("a list");
    let listed = listed.into_iter().find(|listed| listed.fingerprint == image).expect("it is in the list");
    assert_eq!(listed.properties.get("user.b").map_or("", String::as_str), "");
    if boots {
        booted(client, project, &alias, &image).await;
    } else {
        eprintln!("skipped: instances that run (no /bin/busybox to make an image from)");
    }
    client.delete_image_alias(project, &alias).await.expect("deleted");
    expect_not_found(client.delete_image_alias(project, &alias).await);
    client.delete_image(project, &image, LONG).await.expect("deleted");
    expect_not_found(client.delete_image(project, &image, LONG).await);
    expect_not_found(client.set_image_property(project, &image, "user.a", "1").await);
    expect_not_found(client.create_image_alias(project, &alias, &image).await);

    let (metadata, _) = tarball(dir.path(), "metadata.tar", &["metadata.yaml"], false);
    let (rootfs, _) = tarball(&dir.path().join("rootfs"), "../rootfs.tar", &["rootfs"], false);
    let mut hash = Sha256::new();
    for file in [&metadata, &rootfs] {
        hash.update(std::fs::read(file).expect("readable"));
    }
    let files = ImageFiles::Split { metadata, rootfs, kind: InstanceType::Container };
    let image = client.upload_image(project, &files, LONG).await.expect("uploaded");
    assert_eq!(image.to_string(), hex::encode(hash.finalize()));
    client.delete_image(project, &image, LONG).await.expect("deleted");
}

/// Running instances.
async fn booted(client: &Client, project: &str, alias: &str, image: &ImageFingerprint) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|a| (taken, a.port())).expect("an address");
    let from_image = |name| spec(name, ImageSource::Alias(alias.to_owned()));

    client.create_instance(project, &from_image("i"), LONG).await.expect("created");
    let origins = client.origins().await.expect("a list");
    assert!(origins.contains(&Origin::Image(image.clone())), "{origins:?}");
    assert!(client.operations_on_instance(project, "i").await.expect("a list").is_empty());
    client.start_instance(project, "i", LONG).await.expect("started");
    client.start_instance(project, "i", LONG).await.expect("runs already");
    assert_eq!(client.instance(project, "i").await.expect("there").status, Status::Running);
    assert_eq!(client.instance_state(project, "i").await.expect("a state").status, Status::Running);
    expect_conflict(client.delete_instance(project, "i", LONG).await);
    client.stop_instance(project, "i", Stop::Force, LONG).await.expect("stopped");
    assert_eq!(client.instance(project, "i").await.expect("there").status, Status::Stopped);
    client.delete_instance(project, "i", LONG).await.expect("deleted");

    let mut spec = from_image("j");
    spec.devices.insert("p".into(), proxy(&format!("tcp:127.0.0.1:{}", taken.1), "tcp:127.0.0.1:22"));
    client.create_instance(project, &spec, LONG).await.expect("created");
    // Incus sometimes does not learn why its helper could not listen ("bind: address already in use").
    expect_failed(client.start_instance(project, "j", LONG).await, "starting proxy device");
    assert_eq!(client.instance(project, "j").await.expect("there").status, Status::Stopped);
    client.delete_instance(project, "j", LONG).await.expect("deleted");
}
