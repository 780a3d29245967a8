//! Settings: where they come from, and that a wrong one is refused by its name.

use std::path::Path;

use figment::Jail;
use lnplaylive_core::Settings;
use lnplaylive_core::settings::{CullerSettings, InstanceType};

const REMOTE: &str = r#"
    [[remotes]]
    name = "eu-1"
    url = "https://192.0.2.7:8443"
    token_file = "token"
"#;

/// Loads `toml` in a directory that has a file `token`.
#[expect(clippy::result_large_err, reason = "the closure's type is given by figment")]
fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let mut result = None;
    Jail::expect_with(|jail| {
        jail.create_file("lnplaylive.toml", toml)?;
        jail.create_file("token", "s3cret\n")?;
        jail.create_file("empty", "\n")?;
        for (key, value) in environment {
            jail.set_env(key, value);
        }
        result = Some(Settings::load(Some(Path::new("lnplaylive.toml"))).map_err(|e| e.to_string()));
        Ok(())
    });
    result.expect("it ran")
}

#[test]
fn nothing_need_be_set() {
    let settings = load("", &[]).expect("defaults");
    assert!(settings.remotes.is_empty());
    assert_eq!(settings.catalogue().expect("a catalogue").products().len(), 4);
    assert_eq!(settings.shop.max_unpaid_orders, 1000);
}

#[test]
fn the_environment_has_the_last_word() {
    let toml = format!("[shop]\ninvoice_expiry_secs = 100\nmax_hours = 10\n{REMOTE}");
    let settings = load(
        &toml,
        &[
            ("LNPLAYLIVE_SHOP__INVOICE_EXPIRY_SECS", "200"),
            ("LNPLAYLIVE_REMOTE__NAME", "us-1"),
            ("LNPLAYLIVE_REMOTE__URL", "https://198.51.100.9:8443"),
            ("LNPLAYLIVE_REMOTE__TOKEN_FILE", "token"),
            ("LNPLAYLIVE_REMOTE__INSTANCE_TYPE", "container"),
            ("LNPLAYLIVE_CONFIG", "ignored"),
        ],
    )
    .expect("good settings");
    assert_eq!(settings.shop.invoice_expiry_secs, 200);
    assert_eq!(settings.shop.max_hours, 10);
    let names: Vec<_> = settings.remotes.iter().map(|r| (r.name.as_str(), r.instance_type)).collect();
    assert_eq!(names, [("eu-1", InstanceType::VirtualMachine), ("us-1", InstanceType::Container)]);
    assert_eq!(settings.remotes[0].public_url_template("192.0.2.7"), "ws://192.0.2.7:{port}");
}

#[test]
fn full_access_can_be_sold_on_virtual_machines() {
    let settings = load(&format!("[shop]\nfull_node_access = true\n{REMOTE}"), &[]).expect("good settings");
    assert!(settings.shop.full_node_access);
    assert!(!load(REMOTE, &[]).expect("good settings").shop.full_node_access, "unless asked for, it is not");
}

#[test]
fn environments_are_prepared_where_there_are_containers() {
    let product = |prepared: u32| {
        format!("[[products]]\nsku = \"A\"\nnode_count = 8\nmsat_per_node_hour = 1\nprepared = {prepared}\n")
    };
    let containers = REMOTE.to_owned() + "instance_type = \"container\"\n";
    let settings = load(&(product(2) + &containers), &[]).expect("valid");
    assert_eq!(settings.products[0].prepared, 2);
    load(&product(2), &[]).expect("the remotes may come from elsewhere");
    load(&(product(0) + REMOTE), &[]).expect("nothing is prepared");
    let error = load(&(product(1) + REMOTE), &[]).expect_err("virtual machines only");
    assert!(error.contains("products.prepared"), "{error}");
    let error = load(&(product(101) + &containers), &[]).expect_err("too many");
    assert!(error.contains("prepared must be from 0 to 100"), "{error}");
}

#[test]
fn other_programs_settings_are_left_to_them() {
    let toml =
        "[frontend]\nlisten = \"nonsense\"\n[frontend.limits]\nanything = 1\n[culler]\ngrace_mins = -1";
    let with_others = load(toml, &[("LNPLAYLIVE_FRONTEND__LISTEN", "x"), ("LNPLAYLIVE_CULLER__MORE", "1")]);
    assert_eq!(with_others, load("", &[]));
}

#[test]
fn a_wrong_setting_is_refused_by_its_name() {
    let with = |line: &str| format!("{REMOTE}{line}\n");
    for (toml, expected) in [
        ("colour = 1".to_owned(), "unknown field: found `colour`"),
        ("[shop]\ncolour = 1".to_owned(), "shop.colour"),
        ("[shop]\nmax_hours = \"many\"".to_owned(), "shop.max_hours"),
        ("[shop]\nmax_hours = 0".to_owned(), "products: min_hours is 1 and max_hours is 0"),
        ("[shop]\ninvoice_expiry_secs = 1".to_owned(), "shop.invoice_expiry_secs: is 1"),
        (
            "[shop]\nmetrics_listen = \"0.0.0.0:9102\"".to_owned(),
            "shop.metrics_listen: 0.0.0.0:9102 is not on loopback",
        ),
        ("[shop]\nmetrics_listen = \"localhost\"".to_owned(), "shop.metrics_listen"),
        ("[shop]\nconnect_page = \"ftp://x/\"".to_owned(), "shop.connect_page"),
        (
            format!("[shop]\nfull_node_access = true\n{REMOTE}instance_type = \"container\""),
            "shop.full_node_access: it is for virtual machines only, and remote `eu-1` runs containers",
        ),
        ("[provisioning]\nconcurrency = 0".to_owned(), "provisioning.concurrency: is 0"),
        ("products = []".to_owned(), "products: there are no products"),
        ("[[remotes]]\nname = \"a\"".to_owned(), "missing field `url`"),
        ("[[remotes]]\nname = \"a\"\nurl = \"nonsense\"".to_owned(), "remotes"),
        ("[[remotes]]\nname = \"a\"\nurl = \"http://x\"".to_owned(), "remotes[0].url"),
        ("[[remotes]]\nname = \"a b\"\nurl = \"https://x\"".to_owned(), "remotes[0].name"),
        ("[[remotes]]\nname = \"a\"\nurl = \"https://x\"".to_owned(), "remotes[0].token_file"),
        (format!("{REMOTE}{REMOTE}"), "remotes[1].name: two remotes are named `eu-1`"),
        (with("cert_file = \"token\""), "remotes[0].cert_file"),
        (with("server_fingerprint = \"12\""), "remotes[0].server_fingerprint"),
        (with("ports = { first = 20000, last = 20010 }"), "remotes[0].ports"),
        (
            with("ports = { first = 10000, last = 11000 }"),
            "remotes[0].ports: browsers do not connect to port 10080",
        ),
        (with("image_file = \"token\"\nimage_rootfs_file = \"token\""), "remotes[0].image_file"),
        (with("image_rootfs_file = \"token\""), "remotes[0].image_metadata_file"),
        (with("image_file = \"missing\""), "remotes[0].image_file: cannot read missing"),
        (with("vm_addresses = { first = \"10.0.0.9\", last = \"10.0.0.8\" }"), "remotes[0].vm_addresses"),
        (with("members = { m1 = { host = \"a b\" } }"), "remotes[0].members.m1.host"),
        (with("max_memory_percent = 101"), "remotes[0].max_memory_percent: is 101"),
        (with("boot_timeout_secs = 0"), "remotes[0].boot_timeout_secs: is 0"),
        (with("public_url_template = \"https://{port}\""), "remotes[0].public_url_template"),
        (REMOTE.replace("\"token\"", "\"missing\""), "remotes[0].token_file: cannot read missing"),
        (REMOTE.replace("\"token\"", "\"empty\""), "remotes[0].token_file: cannot read empty"),
        ("[shop".to_owned(), "settings"),
    ] {
        let error = load(&toml, &[]).expect_err(&toml);
        assert!(error.starts_with("settings: "), "{error}");
        assert!(error.contains(expected), "`{error}` does not name `{expected}`");
    }
    // Where the gateway leads to them, no browser sees the ports.
    let gateway = "public_url_template = \"wss://shop.example/e/{environment}/{node}\"";
    load(&with(&format!("ports = {{ first = 10000, last = 11000 }}\n{gateway}")), &[]).expect("settings");
    let error = load("", &[("LNPLAYLIVE_SHOP__MAX_HOURS", "many")]).expect_err("not a number");
    assert!(error.contains("shop.max_hours"), "{error}");
    let error = Settings::load(Some(Path::new("/nonexistent/lnplaylive.toml"))).expect_err("no file");
    assert!(error.to_string().contains("/nonexistent/lnplaylive.toml"), "{error}");
}

/// `toml` as the culler reads it.
#[expect(clippy::result_large_err, reason = "the closure's type is given by figment")]
fn culler(toml: &str, environment: &[(&str, &str)]) -> Result<CullerSettings, String> {
    let mut result = None;
    Jail::expect_with(|jail| {
        jail.create_file("lnplaylive.toml", toml)?;
        for (key, value) in environment {
            jail.set_env(key, value);
        }
        result = Some(CullerSettings::read(Some(Path::new("lnplaylive.toml"))).map_err(|e| e.to_string()));
        Ok(())
    });
    result.expect("it ran")
}

#[test]
fn the_culler_reads_the_remotes_and_its_own_table() {
    // There is no file `token` here, and what is wrong elsewhere is not the culler's business.
    let toml = format!(
        "state_dir = \"state\"\nproducts = []\n[shop]\nmax_hours = \"many\"\n[culler]\ngrace_mins = 30\n[frontend]\nx = 1\n{REMOTE}"
    );
    let settings = culler(&toml, &[("LNPLAYLIVE_CULLER__CONCURRENCY", "2")]).expect("good settings");
    assert_eq!(settings.remotes[0].name, "eu-1");
    assert_eq!(settings.state_dir().expect("it is named"), Path::new("state"));
    assert_eq!((settings.culler.grace_mins, settings.culler.concurrency), (30, 2));
    let error = culler("", &[]).expect("defaults").state_dir().expect_err("nothing names it").to_string();
    assert!(error.starts_with("settings: state_dir"), "{error}");
    for (toml, expected) in [
        ("[culler]\ncolour = 1", "culler.colour"),
        ("[culler]\ngrace_mins = -1", "culler.grace_mins"),
        ("[culler]\nconcurrency = 0", "culler.concurrency: is 0"),
        ("[culler]\nmax_mins = 0", "culler.max_mins: is 0"),
        ("[[remotes]]\nname = \"a\"\nurl = \"https://x\"", "remotes[0].token_file"),
    ] {
        let error = culler(toml, &[]).expect_err(toml);
        assert!(error.starts_with("settings: ") && error.contains(expected), "`{error}`: `{expected}`");
    }
}

#[test]
#[expect(clippy::result_large_err, reason = "the closure's type is given by figment")]
fn settings_can_be_read_where_their_files_are_not() {
    Jail::expect_with(|jail| {
        jail.create_file("lnplaylive.toml", REMOTE)?;
        let file = Path::new("lnplaylive.toml");
        let error = Settings::load(Some(file)).expect_err("there is no token").to_string();
        assert!(error.contains("remotes[0].token_file: cannot read token"), "{error}");
        assert_eq!(Settings::read(Some(file)).expect("good settings").remotes.len(), 1);
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the closure's type is given by figment")]
fn secrets_without_a_directory_are_credentials_of_the_service() {
    Jail::expect_with(|jail| {
        jail.create_dir("credentials")?;
        jail.create_file("credentials/token", "s3cret\n")?;
        jail.create_file("lnplaylive.toml", REMOTE)?;
        jail.set_env("CREDENTIALS_DIRECTORY", jail.directory().join("credentials").display());
        let file = Some(Path::new("lnplaylive.toml"));
        let expected = Some(jail.directory().join("credentials/token"));
        assert_eq!(Settings::load(file).expect("settings").remotes[0].token_file, expected);
        assert_eq!(CullerSettings::read(file).expect("settings").remotes[0].token_file, expected);
        Ok(())
    });
}
