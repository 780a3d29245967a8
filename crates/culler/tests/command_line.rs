//! The command line and the settings: what is refused, how, and with which exit status.

mod support;

use support::{Culler, Sim, bare, finish};

const REMOTE: (&str, &str, &str) = ("eu-1", "https://127.0.0.1:1", "no token");

#[tokio::test]
async fn wrong_arguments_and_settings_end_with_2_and_a_sentence() {
    let culler = Culler::new(&[REMOTE], "");
    for (args, words) in [
        (&["--colour"][..], "--colour"),
        (&["--remote", "eu-2"], "remotes: there is none named \"eu-2\""),
        (&["--grace", "10"], "duration with units"),
        (&["--grace", "-10m"], "negative"),
        (&["--grace", "never"], "duration with units"),
        (&["--grace", "99999999999999999999h"], "duration with units"),
    ] {
        let ran = culler.run(args).await.expect_status(2);
        assert!(ran.stderr.contains(words) && ran.stdout.is_empty(), "{args:?}: {}", ran.stderr);
    }
    for (settings, words) in [
        ("[culler]\ngrace_mins = \"soon\"", "settings: culler.grace_mins"),
        ("[culler]\nconcurrency = 65", "settings: culler.concurrency: is 65; it must be from 1 to 64"),
        (
            "[culler]\nmetrics_file = \"/run/culler.txt\"",
            "settings: culler.metrics_file: /run/culler.txt must end in .prom",
        ),
        ("[culler", "settings: "),
        ("[[remotes]]\nname = \"a\"\nurl = \"http://x\"", "settings: remotes[0].url"),
        ("", "settings: state_dir: is missing"),
    ] {
        let culler = Culler::new(&[], "");
        culler.write("lnplaylive.toml", settings);
        let ran = culler.run(&[]).await.expect_status(2);
        assert!(ran.stderr.starts_with(words) && ran.stdout.is_empty(), "{settings}: {}", ran.stderr);
    }
    let ran = finish(bare().args(["--config", "/nonexistent/lnplaylive.toml"])).await.expect_status(2);
    assert!(
        ran.stderr.contains("cannot read the file /nonexistent/lnplaylive.toml: No such"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_settings_file_can_be_checked_without_the_files_that_it_names() {
    let culler = Culler::new(&[REMOTE], "[frontend]\nlisten = 1\n[shop]\nmax_hours = 10");
    std::fs::remove_file(culler.path().join("token-eu-1")).expect("it was there");
    let check = async |file: &std::path::Path| finish(bare().arg("check-config").arg(file)).await;
    let ran = check(&culler.settings()).await.expect_status(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert!(!culler.path().join("state").exists(), "nothing is made");
    let wrong = culler.write("wrong.toml", "[culler]\nmax_mins = 0");
    let ran = check(&wrong).await.expect_status(2);
    assert_eq!(ran.stderr, "settings: culler.max_mins: is 0; it must be from 1 to 1440\n");
    check("/nonexistent".as_ref()).await.expect_status(2);
    finish(bare().arg("check-config")).await.expect_status(2);
}

#[tokio::test]
async fn settings_come_from_the_environment_too() {
    let sim = Sim::start().await;
    let culler = Culler::new(&[], "");
    let token = culler.write("token", &sim.remote.token("culler"));
    let run = async |file: Option<&std::path::Path>| {
        let mut command = bare();
        command
            .env("LNPLAYLIVE_STATE_DIR", culler.path().join("state"))
            .env("LNPLAYLIVE_REMOTE__NAME", "sim")
            .env("LNPLAYLIVE_REMOTE__URL", sim.remote.url())
            .env("LNPLAYLIVE_REMOTE__TOKEN_FILE", &token);
        if let Some(file) = file {
            command.env("LNPLAYLIVE_CONFIG", file);
        }
        finish(command.arg("--json")).await
    };
    assert_eq!(run(None).await.expect_status(0).counts()[0], 1);
    // Its token has done its work.
    std::fs::remove_file(&token).expect("it was there");
    assert_eq!(run(Some(&culler.settings())).await.expect_status(0).counts()[0], 1);
    let nowhere = std::path::Path::new("/nonexistent/lnplaylive.toml");
    run(Some(nowhere)).await.expect_status(2);
}

#[tokio::test]
async fn a_token_can_be_left_to_the_shop() {
    let sim = Sim::start().await;
    let token = sim.remote.token("shop");
    let culler = Culler::new(&[("sim", &sim.remote.url(), &token)], "[culler]\nenrol = false");
    let ran = culler.run(&[]).await.expect_status(1);
    assert!(ran.stderr.contains("remote \"sim\" does not trust our client certificate"), "{}", ran.stderr);
    // It is still good for the shop, and the culler can work with the shop's keys.
    let shop = Culler::new(&[("sim", &sim.remote.url(), &token)], "");
    shop.run(&[]).await.expect_status(0);
    let mut command = culler.command();
    command.env("LNPLAYLIVE_STATE_DIR", shop.path().join("state"));
    finish(&mut command).await.expect_status(0);
}

#[tokio::test]
async fn without_remotes_there_is_nothing_to_do() {
    let culler = Culler::new(&[], "");
    let ran = culler.run(&["--json"]).await.expect_status(0);
    assert_eq!(ran.counts(), [0; 6]);
    assert!(ran.stderr.contains("no remotes"), "{}", ran.stderr);
}
