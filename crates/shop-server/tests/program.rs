//! The program: settings, command line, start and stop.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::NODE;

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lnplaylive-frontend"));
    program.env_remove("LNPLAYLIVE_CONFIG").env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    program
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A valid table that names files that do not exist.
fn table() -> String {
    format!(
        "[frontend]\ndist_dir = \"/nonexistent\"\nnode_id = \"{NODE}\"\nrune_file = \"/nonexistent/rune\"\n"
    )
}

#[test]
fn settings_are_checked_without_any_other_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lnplaylive.toml");
    let check = |toml: &str, environment: &[(&str, &str)]| {
        std::fs::write(&file, toml).expect("it is ours");
        let mut program = program();
        program.arg("check-config").arg(&file).envs(environment.iter().copied());
        program.output().expect("it runs")
    };
    let good = format!(
        "[shop]\nanything = 1\n{}routes_file = \"/r\"\nlightning_websocket = \"127.0.0.1:9737\"\n\
         trusted_proxies = [\"127.0.0.0/8\", \"::1/128\"]\nwebsocket_url = \"wss://shop.example/ws\"\n\
         [frontend.limits]\nidle_secs = 60\n[[remotes]]\nname = \"others'\"\n",
        table()
    );
    for environment in
        [&[][..], &[("LNPLAYLIVE_FRONTEND__LIMITS__IDLE_SECS", "9"), ("LNPLAYLIVE_SHOP__X", "1")]]
    {
        let output = check(&good, environment);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let with = |line: &str| format!("{}{line}\n", table());
    for (toml, expected) in [
        (String::new(), "frontend"),
        (table().replace("dist_dir", "dist"), "frontend"),
        (table().replace("node_id", "# node_id"), "frontend.node_id: set the node's id, or node_id_file"),
        (table().replace(NODE, "02ee"), "frontend.node_id"),
        (with("node_id_file = \"/id\""), "frontend.node_id: node_id_file is set as well"),
        (with("rune = \"secret\""), "rune"),
        (with("listen = \"3000\""), "frontend.listen"),
        (with("metrics_listen = \"127.0.0.1:3000\""), "frontend.metrics_listen: is the same as listen"),
        (
            with("metrics_listen = \"0.0.0.0:9101\""),
            "frontend.metrics_listen: 0.0.0.0:9101 is not on loopback",
        ),
        (with("websocket_url = \"https://shop.example\""), "frontend.websocket_url"),
        (with("lightning_websocket = \"9737\""), "frontend.lightning_websocket: `9737` is not HOST:PORT"),
        (with("trusted_proxies = [\"proxy\"]"), "frontend.trusted_proxies"),
        (with("contact = \"two\\nlines\""), "frontend.contact"),
        (with("limits = { idle_secs = 0 }"), "frontend.limits.idle_secs: is 0; it must be from 1 to 86400"),
        (with("limits = { bytes_per_minute = 1 }"), "frontend.limits.bytes_per_minute"),
        (with("limits = { frame_bytes = -1 }"), "frontend.limits.frame_bytes"),
        (with("limits = { colour = 1 }"), "colour"),
        ("[frontend".into(), "settings"),
    ] {
        let output = check(&toml, &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{toml}: {said}");
        assert!(said.contains("settings: ") && said.contains(expected), "{toml}: {said}");
    }
    let output = check(&table(), &[("LNPLAYLIVE_FRONTEND__LIMITS__IDLE_SECS", "long")]);
    assert!(stderr(&output).contains("limits.idle_secs"), "{}", stderr(&output));
    let missing = program().args(["check-config", "/nonexistent.toml"]).output().expect("it runs");
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/nonexistent.toml"), "{}", stderr(&missing));
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lnplaylive.toml");
    let toml = table() + "listen = \"127.0.0.1:0\"\n";
    std::fs::write(&file, &toml).expect("it is ours");
    let output = program().arg("--config").arg(&file).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("dist_dir: cannot read /nonexistent"), "{}", stderr(&output));
    let empty = dir.path().to_str().expect("plain names");
    std::fs::write(&file, toml.replace("/nonexistent\"", &format!("{empty}\""))).expect("it is ours");
    let output = program().env("LNPLAYLIVE_CONFIG", &file).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no index.html in"), "{}", stderr(&output));
}

#[test]
fn tells_systemd_when_it_serves_and_stops_when_told() {
    let (dir, _) = support::prepare();
    let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
    let path = |name: &str| dir.path().join(name).to_str().expect("plain names").to_owned();
    let mut child = program()
        .env("NOTIFY_SOCKET", path("notify"))
        .env("LNPLAYLIVE_FRONTEND__LISTEN", "127.0.0.1:0")
        .env("LNPLAYLIVE_FRONTEND__DIST_DIR", path("dist"))
        .env("LNPLAYLIVE_FRONTEND__NODE_ID", NODE)
        .env("LNPLAYLIVE_FRONTEND__RUNE_FILE", path("rune"))
        .env("RUST_LOG", "debug")
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut message = [0; 256];
    let mut told = || {
        let length = socket.recv(&mut message).expect("it says something");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert_eq!(told().trim(), "READY=1");
    let mut line = String::new();
    while !line.contains("serving http://") {
        line.clear();
        assert_ne!(log.read_line(&mut line).expect("text"), 0, "it ended");
    }
    let address = line.trim().rsplit_once("http://").expect("an address").1.to_owned();
    let order = "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624";
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    std::io::Write::write_all(&mut stream, format!("GET /orders/{order} HTTP/1.0\r\n\r\n").as_bytes())
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.contains(" 200 "), "{answer}");

    kill(Pid::from_raw(child.id().try_into().expect("process ids fit")), Signal::SIGTERM)
        .expect("it is ours");
    assert_eq!(told().trim(), "STOPPING=1");
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("it is ours").code(), Some(0), "{rest}");
    // The log says that a page was opened, but not which.
    assert!(rest.contains("answered") && !rest.contains("0819da5d"), "{rest}");
}

#[test]
fn draws_cards_from_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, output) = (dir.path().join("cards.json"), dir.path().join("cards.pdf"));
    let string = format!(
        "https://shop.example/connect#address={NODE}@shop.example:443&type=direct&value=wss:&rune=cnVuZQ=="
    );
    let request = serde_json::json!({"connection_strings": [string]}).to_string();
    let cards = |request: &str, paper: &str| {
        std::fs::write(&file, request).expect("it is ours");
        let mut program = program();
        program
            .arg("cards")
            .arg(&file)
            .arg("-o")
            .arg(&output)
            .args(["--paper", paper])
            .output()
            .expect("it runs")
    };
    for (paper, size) in [("a4", "595"), ("letter", "612"), ("label_4x6", "288")] {
        let done = cards(&request, paper);
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        let pdf = std::fs::read(&output).expect("it was written");
        assert!(String::from_utf8_lossy(&pdf).contains(&format!("/MediaBox [0 0 {size}")), "{paper}");
    }
    assert_eq!(cards(&request, "a5").status.code(), Some(2));
    for (language, status) in [("es", 0), ("fr", 2)] {
        let done =
            program().arg("cards").arg(&file).arg("-o").arg(&output).args(["--language", language]).output();
        assert_eq!(done.expect("it runs").status.code(), Some(status), "{language}");
    }
    let pdf = std::fs::read(&output).expect("it was written");
    assert!(String::from_utf8_lossy(&pdf).contains("/Lang (es)"));
    let failed = cards("{\"connection_strings\": []}", "a4");
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("1 to 64 are allowed"), "{}", stderr(&failed));
}
