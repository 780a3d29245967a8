//! The files that a host generates from its user-data.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use lnplaylive_user_data::{File, ImageInfo, UserData, files};
use toml::Table;

const EXAMPLE: &str = include_str!("../../../nixos/images/user-data.example");

fn image() -> ImageInfo {
    let base =
        toml::from_str("state_dir = \"/state\"\n[shop]\nroutes_file = \"/state/routes\"\n").expect("TOML");
    ImageInfo { base, images: "/images".into(), out: "/run/lnplaylive".into() }
}

fn made(text: &str) -> Vec<File> {
    let document = UserData::parse(text).expect("a good document");
    files(&document, &image()).expect("files")
}

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    let file = files.iter().find(|f| f.path == Path::new(path));
    &file.unwrap_or_else(|| panic!("no {path}")).text
}

fn refused(text: &str) -> String {
    UserData::parse(text).expect_err("must be refused").to_string()
}

fn settings(files: &[File]) -> Table {
    toml::from_str(text(files, "lnplaylive.toml")).expect("TOML")
}

#[test]
fn the_example_configures_a_complete_host() {
    let files = made(EXAMPLE);
    assert_eq!(
        text(&files, "host.env"),
        "DEPLOY_LNPLAYLIVE_FRONTEND=true\nBITCOIN_CHAIN=main\nLIGHTNING_NETWORK=bitcoin\nSTATE_VOLUME=true\n\
         SHOP_DOMAIN=shop.example\nACME_OPTIONS=\"email operator@shop.example\"\n"
    );
    let announced = "announce-addr=203.0.113.5:9735\nannounce-addr=dns:shop.example:9735\n";
    assert_eq!(text(&files, "lightning.conf"), format!("alias=shop.example\n{announced}"));
    let settings = settings(&files);
    assert_eq!(settings["state_dir"].as_str(), Some("/state"));
    assert_eq!(settings["shop"]["routes_file"].as_str(), Some("/state/routes"));
    assert_eq!(settings["shop"]["connect_page"].as_str(), Some("https://shop.example/connect"));
    let remote = &settings["remotes"][0];
    assert_eq!(remote["token_file"].as_str(), Some("tokens_eu-1.token"));
    assert_eq!(remote["image_rootfs_file"].as_str(), Some("/images/container/rootfs"));
    assert_eq!(remote["public_url_template"].as_str(), Some("wss://shop.example/e/{environment}/{node}"));
    assert!(remote.get("token").is_none(), "a secret is in the settings");
}

/// The NixOS module is held to the same cases, in `tests/nix/remotes.nix`.
#[test]
fn remotes_are_rendered_as_the_nixos_module_does() {
    let cases: Vec<Table> =
        serde_json::from_str(include_str!("../../../tests/nix/remotes.json")).expect("cases");
    for case in cases {
        let mut remote = case["settings"].as_table().expect("settings").clone();
        remote.insert("name".into(), case["name"].clone());
        let access: &[&str] =
            if case["access"].as_str() == Some("token") { &["token"] } else { &["certificate", "key"] };
        for key in access {
            remote.insert((*key).into(), "S3CRET".into());
        }
        let mut document = Table::new();
        if let Some(domain) = case.get("domain") {
            let mut host = Table::new();
            host.insert("DEPLOY_LNPLAYLIVE_FRONTEND".into(), true.into());
            host.insert("domain".into(), domain.clone());
            document.insert("host".into(), host.into());
        }
        document.insert("remotes".into(), vec![remote].into());
        let files = made(&document.to_string());
        let text = text(&files, "lnplaylive.toml").replace("/images/", "IMAGES/");
        let settings: Table = toml::from_str(&text).expect("TOML");
        assert_eq!(settings["remotes"][0].as_table(), case["rendered"].as_table(), "{}", case["name"]);
    }
}

#[test]
fn secrets_are_only_in_files_of_their_own() {
    let with_key = "[[remotes]]\nname = \"a\"\nurl = \"https://a:8443\"\nserver_fingerprint = \"00\"\n\
        certificate = \"CERT\"\nkey = \"S3CRET\"\n[[remotes]]\nname = \"b\"\nurl = \"https://b:8443\"\ntoken = \"S3CRET\"\n";
    let files = made(with_key);
    let secret: Vec<_> = files.iter().filter(|f| f.secret).map(|f| f.path.clone()).collect();
    assert_eq!(secret, [PathBuf::from("keys/a.key"), PathBuf::from("tokens/b.token")]);
    for file in &files {
        assert_eq!(file.text.contains("S3CRET"), file.secret, "{}", file.path.display());
    }
    let document = UserData::parse(with_key).expect("a good document");
    assert!(!format!("{document:?}").contains("S3CRET"), "Debug shows a secret");
}

#[test]
fn settings_override_the_image_defaults() {
    let files = made(
        "[host]\nDEPLOY_LNPLAYLIVE_FRONTEND = true\ndomain = \"shop.example\"\n[shop]\nconnect_page = \"https://other.example/\"\n\
         [[remotes]]\nname = \"a\"\nurl = \"https://a:8443\"\ntoken = \"t\"\npublic_url_template = \"ws://a:{port}\"\n\
         image_file = \"/mine\"\n",
    );
    let settings = settings(&files);
    assert_eq!(settings["shop"]["connect_page"].as_str(), Some("https://other.example/"));
    assert_eq!(settings["shop"]["routes_file"].as_str(), Some("/state/routes"));
    assert_eq!(settings["remotes"][0]["public_url_template"].as_str(), Some("ws://a:{port}"));
    assert!(settings["remotes"][0].get("image_rootfs_file").is_none());
}

#[test]
fn addresses_are_announced_unchanged_and_names_with_dns() {
    for (written, announced) in
        [("203.0.113.7:9735", "203.0.113.7:9735"), ("[2001:db8::1]:9735", "[2001:db8::1]:9735")]
    {
        let files = made(&format!("[host]\nannounce = \"{written}\"\n"));
        assert_eq!(text(&files, "lightning.conf"), format!("announce-addr={announced}\n"));
    }
    let files = made("[host]\nannounce = [\"203.0.113.7:9735\", \"shop.example:9735\"]\n");
    let both = "announce-addr=203.0.113.7:9735\nannounce-addr=dns:shop.example:9735\n";
    assert_eq!(text(&files, "lightning.conf"), both);
    let error = refused("[host]\nannounce = [\"a.example:9735\", \"b.example:9735\"]\n");
    assert!(error.contains("one host name only"), "{error}");
}

#[test]
fn errors_name_the_key() {
    let key = |text: &str, key: &str| {
        let error = refused(text);
        assert!(error.contains(key), "{error} does not name {key}");
    };
    key("", "it is empty");
    key("[host]\nDEPLOY_LNPLAYLIVE_FRONTEND = true\n", "host.domain");
    key("[host]\ndomian = \"shop.example\"\n", "domian");
    key("[host]\nnetwork = \"mainnet\"\n", "mainnet");
    key("[host]\nnetwork = \"bitcoin\"\nnetwork = \"signet\"\n", "duplicate key `network`");
    key("[[remotes]]\nname = \"a\"\nurl = \"https://a:8443\"\n", "remotes[0].token");
    key("[[remotes]]\nname = \"a\"\ntoken = \"t\"\nkey = \"k\"\n", "remotes[0].token");
    key("[[remotes]]\nname = \"../a\"\ntoken = \"t\"\n", "remotes[0].name");
    key("[[remotes]]\nname = \"a\"\ntoken_file = \"/etc/shadow\"\ntoken = \"t\"\n", "token_file");
    key("remotes = 1\n", "remotes");
    // A value must not be able to start a new line in a file, or to end an option.
    for wrong in
        ["shop.example\\nX=1", "shop example", "-a.example", "localhost", "203.0.113.7", "a\\\"b.example"]
    {
        key(&format!("[host]\ndomain = \"{wrong}\"\n"), "host");
    }
    for wrong in ["a\\nrpc-file=/x", "", " a", "123456789012345678901234567890123"] {
        key(&format!("[host]\nalias = \"{wrong}\"\n"), "host");
    }
    for wrong in ["a@shop.example }", "a", "a@b\\nc.example", "@shop.example"] {
        key(&format!("[host]\nemail = \"{wrong}\"\n"), "host");
    }
    for wrong in ["shop.example", "shop.example:0", "shop.example:99999", "2001:db8::1:9735", "a b.example:1"]
    {
        key(&format!("[host]\nannounce = \"{wrong}\"\n"), "host");
    }
}

#[test]
fn lightningd_gets_further_options_but_none_that_the_image_sets() {
    let files = made(
        "[host]\nalias = \"a\"\n[host.lightningd]\nfee-base = 1000\nexperimental-dual-fund = true\n\
         log-level = [\"info\", \"debug:gossipd\"]\n",
    );
    let mut lines: Vec<_> = text(&files, "lightning.conf").lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["alias=a", "experimental-dual-fund", "fee-base=1000", "log-level=debug:gossipd", "log-level=info"]
    );
    for wrong in [
        "wallet = \"sqlite3:///elsewhere\"",
        "plugin = \"/x\"",
        "bitcoin-datadir = \"/x\"",
        "autoclean-cycle = 1",
        "offline = false",
        "rgb = \"aabbcc\\nrpc-file=/x\"",
        "\"rgb=aabbcc\" = 1",
        "rgb = { a = 1 }",
    ] {
        let said = refused(&format!("[host.lightningd]\n{wrong}\n"));
        assert!(said.contains("lightningd."), "{wrong}: {said}");
    }
}

/// Public keys of age.
const OPERATOR: &str = "age1wgxt6pw9rr792y3dymnlqr582qn7uzxpyshe7k4mjn40ru8psutqpjf8lh";
const PARTNER: &str = "age1ph4qxskj3vxxdqpd4334w022jeh7ayhvrak75f0372mq9dydsuzq3pcj5n";

/// The lines that a table `[host.backup]` adds to `host.env`, and its files.
fn backup(host: &str, table: &str) -> (String, Vec<File>) {
    let without = made(&format!("[host]\n{host}"));
    let files = made(&format!("[host]\n{host}[host.backup]\n{table}"));
    let added = text(&files, "host.env").strip_prefix(text(&without, "host.env")).expect("added at the end");
    (added.to_owned(), files)
}

#[test]
fn backups_are_uploaded_where_the_document_says() {
    let (added, files) = backup(
        "domain = \"shop.example\"\n",
        &format!(
            "bucket = \"shop-backup\"\nregion = \"eu-central-1\"\nrecipients = [\"{OPERATOR}\", \"{PARTNER}\"]\n"
        ),
    );
    assert_eq!(
        added,
        format!(
            "BACKUP_BUCKET=shop-backup\nBACKUP_PREFIX=shop.example\nBACKUP_REGION=eu-central-1\nBACKUP_ENDPOINT=\n\
             BACKUP_RECIPIENTS={OPERATOR},{PARTNER}\n"
        )
    );
    assert!(!files.iter().any(|file| file.secret), "the instance's role needs no secret");

    let recipients = format!("recipients = [\"{OPERATOR}\"]\n");
    let aws = format!("bucket = \"shop-backup\"\nregion = \"eu-central-1\"\n{recipients}");
    assert!(backup("", &aws).0.contains("\nBACKUP_PREFIX=lnplaylive\n"), "without a domain");
    let prefix = format!("{aws}prefix = \"shops/eu_1\"\n");
    assert!(backup("", &prefix).0.contains("\nBACKUP_PREFIX=shops/eu_1\n"), "its own prefix");

    let key = "access_key_id = \"AKIAIOSFODNN7EXAMPLE\"\nsecret_access_key = \"S3/CR+ET=\"\n";
    for (where_, written) in [
        ("endpoint = \"https://s3.example:9000/path\"\n", "https://s3.example:9000/path"),
        ("endpoint = \"http://127.0.0.1:9000\"\n", "http://127.0.0.1:9000"),
        ("endpoint = \"http://[::1]:9000\"\n", "http://[::1]:9000"),
        ("region = \"eu-central-1\"\n", ""),
    ] {
        let (added, files) = backup("", &format!("bucket = \"shop-backup\"\n{recipients}{where_}{key}"));
        assert!(added.contains(&format!("\nBACKUP_ENDPOINT={written}\n")), "{added}");
        assert_eq!(
            text(&files, "backup/credentials"),
            "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = S3/CR+ET=\n"
        );
        for file in &files {
            assert_eq!(file.text.contains("S3/CR"), file.secret, "{}", file.path.display());
        }
    }
}

#[test]
fn errors_in_the_backup_name_the_key_and_show_no_secret() {
    let good = [
        ("bucket", "\"shop-backup\"".to_owned()),
        ("region", "\"eu-central-1\"".to_owned()),
        ("recipients", format!("[\"{OPERATOR}\"]")),
    ];
    // The good table with one key replaced, or removed if the value is empty.
    let with = |key: &str, value: &str| {
        let mut table: Vec<_> = good
            .iter()
            .filter(|(name, _)| *name != key)
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        if !value.is_empty() {
            table.push(format!("{key} = {value}\n"));
        }
        format!("[host]\n[host.backup]\n{}", table.concat())
    };
    made(&with("prefix", ""));

    let mistyped = OPERATOR.replace("wgxt", "wgxq");
    let secret_key = "AGE-SECRET-KEY-1S3CRET";
    for (key, value, named) in [
        ("bucket", "", "bucket"),
        ("bucket", "\"s3://shop-backup\"", "bucket"),
        ("bucket", "\"shop-backup/shop\"", "bucket"),
        ("bucket", "\"Shop\"", "bucket"),
        ("bucket", "\"shop\\nX=1\"", "bucket"),
        ("bucket", "1", "bucket"),
        ("prefix", "\"/shop\"", "prefix"),
        ("prefix", "\"a/../b\"", "prefix"),
        ("prefix", "\"a b\"", "prefix"),
        ("region", "", "region"),
        ("region", "\"eu central\"", "region"),
        ("recipients", "", "recipients"),
        ("recipients", "[]", "recipients"),
        ("recipients", &format!("\"{OPERATOR}\""), "recipients"),
        ("recipients", &format!("[\"{mistyped}\"]"), "recipients"),
        ("recipients", &format!("[\"{secret_key}\"]"), "recipients"),
        ("recipients", "[\"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"]", "recipients"),
        ("recipients", "[1]", "recipients"),
        ("endpoint", "\"https://s3.example\"", "access_key_id"),
        ("endpoint", "\"http://s3.example\"", "endpoint"),
        ("endpoint", "\"http://10.0.0.1\"", "endpoint"),
        ("endpoint", "\"https://user:pw@s3.example\"", "endpoint"),
        ("endpoint", "\"s3.example\"", "endpoint"),
        ("endpoint", "\"https://s3.example\\nX=1\"", "endpoint"),
        ("access_key_id", "\"A\"", "secret_access_key"),
        ("secret_access_key", "\"S3CRET\"", "access_key_id"),
        ("secret_access_key", "\"S3CRET\\nX=1\"", "secret_access_key"),
        ("recipient", "\"x\"", "recipient"),
    ] {
        let error = refused(&with(key, value));
        assert!(error.starts_with(&format!("user-data: host.backup.{named}: ")), "{key} = {value}: {error}");
        assert!(!error.contains("S3CRET"), "{error}");
    }
    assert!(refused("[host]\nbackup = true\n").contains("[host.backup]"));
    let document = UserData::parse(&format!(
        "{}access_key_id = \"A\"\nsecret_access_key = \"S3CRET\"\n",
        with("prefix", "")
    ));
    assert!(!format!("{:?}", document.expect("a good document")).contains("S3CRET"), "Debug shows a secret");
}

#[test]
fn errors_show_no_token() {
    let error = refused("[[remotes]]\nname = \"a\"\ntoken = \"S3CRET\" rubbish\n");
    assert!(!error.contains("S3CRET"), "{error}");
    assert!(error.contains("line 3"), "{error}");
}

#[test]
fn files_have_the_permissions_that_services_need() {
    let dir = tempfile::tempdir().expect("a directory");
    let (input, base, out) =
        (dir.path().join("user-data"), dir.path().join("base.toml"), dir.path().join("out"));
    std::fs::write(&input, EXAMPLE).expect("written");
    std::fs::write(&base, "state_dir = \"/state\"\n").expect("written");
    let run = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lnplaylive-user-data"));
        command
            .arg("apply")
            .arg(&input)
            .arg("--base")
            .arg(&base)
            .args(["--images", "/images"])
            .arg("--out")
            .arg(&out);
        command.output().expect("it runs")
    };
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mode = |path: &str| {
        std::fs::metadata(out.join(path)).unwrap_or_else(|e| panic!("{path}: {e}")).permissions().mode()
            & 0o777
    };
    assert_eq!(mode("tokens"), 0o700);
    assert_eq!(mode("backup"), 0o700);
    assert_eq!(mode("tokens/eu-1.token"), 0o600);
    assert_eq!(mode("host.env"), 0o644);
    assert_eq!(mode("lnplaylive.toml"), 0o644);
    // The next boot writes the same files.
    assert!(run().status.success());

    std::fs::write(&input, EXAMPLE.replace("https://203", "http://203")).expect("written");
    let output = run();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("remotes[0].url"), "{said}");
}

#[test]
fn missing_user_data_is_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("user-data");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lnplaylive-user-data"));
    let output = command.arg("check-config").arg(&missing).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("metadata service did not answer") && said.contains("user-data.example"), "{said}");
}
