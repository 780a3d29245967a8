//! The demo as a user runs it: its output, its exit status, and that it leaves nothing behind.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use common::nothing_runs_in;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testbed::{Flavor, Workdir, daemons, on_both_flavors};

on_both_flavors!(
    buys_once,
    environments_can_be_used_afterwards,
    keeps_running_when_asked,
    stops_in_the_middle
);

/// The demo with its temporary files in `dir`.
fn demo(dir: &Workdir, args: &[&str]) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_lnplaylive-demo"));
    // Without CARGO it builds nothing; the programs are already built.
    demo.args(args).env("TMPDIR", dir.path()).env_remove("CARGO").stdin(Stdio::null());
    // Variables of the test run, which are not for the demo.
    demo.env_remove("TESTBED_SKIPS").env_remove("TESTBED_KEEP");
    demo
}

/// A directory for a demo's temporary files, with a short path: sockets are below it.
fn workdir() -> Workdir {
    Workdir::new("d").expect("a directory")
}

async fn leaves_nothing(dir: &Workdir) {
    nothing_runs_in(dir.path()).await;
    testbed::until("the directory to be empty", Duration::from_secs(5), async || {
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("it is ours").flatten().collect();
        Ok(if left.is_empty() { testbed::Step::Done(()) } else { testbed::Step::NotYet(format!("{left:?}")) })
    })
    .await
    .expect("nothing is left behind");
}

/// The only JSON document in the output.
fn document(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(stdout)))
}

/// Checks the documented contents of the document of `--once --json`.
fn check(report: &Value, lightning: Flavor, remote: &str) {
    assert_eq!(report["order"]["amount_msat"], 76_800_000, "{report}");
    let invoice = report["order"]["bolt11_invoice"].as_str().expect("an invoice");
    assert!(invoice.starts_with("lnbcrt768u1"), "{invoice}");
    assert_eq!(report["status"]["invoice_id"], report["order"]["invoice_id"]);
    assert_eq!(report["status"]["invoice_status"], "paid");
    let details = &report["status"]["deployment_details"];
    assert_eq!(details["status"], "provisioned", "{report}");
    assert_eq!(details["connection_strings"].as_array().map(Vec::len), Some(8), "{report}");
    assert_eq!(report["lightning"], lightning.to_string());
    assert_eq!(report["remote"], remote);
    let at = |name: &str| {
        let time = &report["timeline_ms"][name];
        time.as_u64().unwrap_or_else(|| panic!("{name} is {time} in {report}"))
    };
    let times = ["started", "ordered", "paid", "placing", "start_nodes", "provisioned", "dialled"].map(at);
    assert!(times.is_sorted(), "{report}");
    assert_eq!(at("paid_to_provisioned"), at("provisioned") - at("paid"));
}

fn assert_ok(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
}

async fn buys_once(flavor: Flavor) {
    if daemons(flavor, "buys_once").is_none() {
        return;
    }
    let dir = workdir();
    let args = ["--once", "--json", "--linger", "0", "--lightning", &flavor.to_string()];
    let output = demo(&dir, &args).output().expect("the demo runs");
    assert_ok(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("8 of 8 nodes answer"), "{stderr}");
    check(&document(&output.stdout), flavor, "simulated");
    leaves_nothing(&dir).await;
}

/// Fetches the page that a connection string leads to, as a browser would.
fn opens(string: &lnplaylive_core::ConnectionString) {
    let (head, page) = get(&string.page, string.page.path());
    assert!(head.contains(" 200 ") && head.contains("text/html") && page.contains("lnplay.live"), "{head}");
}

/// `--once` leaves nodes that answer to their connection strings, until the process that it names is stopped.
async fn environments_can_be_used_afterwards(flavor: Flavor) {
    if daemons(flavor, "environments_can_be_used_afterwards").is_none() {
        return;
    }
    let dir = workdir();
    // The web shop may not be built where this runs.
    let pages = workdir();
    std::fs::write(pages.join("index.html"), "<!doctype html>\n<title>lnplay.live</title>\n")
        .expect("written");
    let mut demo = demo(&dir, &["--once", "--json", "--lightning", &flavor.to_string()]);
    let output = demo.arg("--frontend-dist").arg(pages.path()).output();
    let output = output.expect("the demo runs, and nothing holds its output open");
    assert_ok(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (_, pid) = stderr.rsplit_once("`kill ").expect("it says how to stop it");
    let pid: i32 = pid.split_once('`').expect("a number").0.parse().expect("a number");

    let report = document(&output.stdout);
    check(&report, flavor, "simulated");
    let strings = report["status"]["deployment_details"]["connection_strings"].as_array().expect("a list");
    for string in strings {
        let string: lnplaylive_core::ConnectionString =
            string.as_str().expect("a string").parse().expect("a connection string");
        let (node, address) = (string.node_id.as_str(), string.endpoint.to_string());
        let client = sim_lightning::commando::Client::connect(&address, node).await.expect("it answers");
        let info = client.call(&string.rune, "getinfo", serde_json::json!({})).await.expect("it answers");
        assert_eq!(info["id"], node);
        opens(&string);
    }
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is ours");
    leaves_nothing(&dir).await;
}

/// A demo that is running.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the demo starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it can be read");
        assert!(!line.is_empty(), "it has closed its stdout");
        line
    }

    /// Reads until a line contains `text`, and returns that line.
    fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends SIGTERM; returns the exit status and the rest of the output.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().try_into().expect("process ids fit");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is ours");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("it is ours").code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a failed test it is still running; otherwise it has exited.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn keeps_running_when_asked(flavor: Flavor) {
    if daemons(flavor, "keeps_running_when_asked").is_none() {
        return;
    }
    let dir = workdir();
    let args = ["--once", "--json", "--keep", "--lightning", &flavor.to_string()];
    let mut demo = Running::start(demo(&dir, &args).stderr(Stdio::null()));
    let report = document(demo.line().as_bytes());
    let strings = report["status"]["deployment_details"]["connection_strings"].as_array().expect("a list");
    for string in strings {
        let string: lnplaylive_core::ConnectionString =
            string.as_str().expect("a string").parse().expect("a connection string");
        let (host, port) = (string.endpoint.host.as_str(), string.endpoint.port);
        TcpStream::connect((host, port)).unwrap_or_else(|e| panic!("{string:?}: {e}"));
        opens(&string);
    }
    let (status, rest) = demo.stop();
    assert_eq!((status, rest.as_str()), (Some(0), ""));
    leaves_nothing(&dir).await;
}

async fn stops_in_the_middle(flavor: Flavor) {
    if daemons(flavor, "stops_in_the_middle").is_none() {
        return;
    }
    let dir = workdir();
    let mut demo = Running::start(&mut demo(&dir, &["--once", "--lightning", &flavor.to_string()]));
    // While the instance is being set up.
    demo.line_with("Starting the nodes");
    assert_eq!(demo.stop().0, Some(130));
    leaves_nothing(&dir).await;
}

/// Sends a request; returns the head and body of the answer.
fn ask(url: &url::Url, request: &str) -> (String, String) {
    let address = (url.host_str().expect("a host"), url.port().expect("a port"));
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.to_owned(), body.to_owned())
}

fn get(url: &url::Url, path: &str) -> (String, String) {
    ask(url, &format!("GET {path} HTTP/1.0\r\n\r\n"))
}

fn pay(url: &url::Url, bolt11: &str) -> (String, String) {
    let body = serde_json::json!({"bolt11": bolt11}).to_string();
    let length = body.len();
    let head =
        format!("POST /demo/pay HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}");
    ask(url, &format!("{head}\r\n\r\n{body}"))
}

#[tokio::test]
async fn sells_on_the_shops_address_until_stopped() {
    let dir = workdir();
    let mut demo = Running::start(&mut demo(&dir, &["--lightning", "simulated", "--listen", "127.0.0.1:0"]));
    let line = demo.line_with("/config.json");
    let url: url::Url = line.split_whitespace().last().expect("a URL").parse().expect("a URL");
    demo.line_with("What to open first");
    assert!(demo.line_with("as organiser").contains(url.as_str().trim_end_matches("/config.json")));
    demo.line_with("Ctrl-C");

    let (head, page) = get(&url, "/orders/anything");
    assert!(head.contains(" 200 ") && head.contains("text/html") && page.contains("lnplay.live"), "{head}");
    let (head, body) = get(&url, "/config.json");
    assert!(head.contains(" 200 ") && head.contains("application/json"), "{head}");
    let config = document(body.as_bytes());
    // As a browser does: /ws on the same origin unless config.json names another URL.
    let text = |key: &str| config[key].as_str().unwrap_or_else(|| panic!("no {key} in {config}")).to_owned();
    assert!(config["websocket_url"].is_null(), "{config}");
    let websocket = format!("ws://{}:{}/ws", url.host_str().expect("a host"), url.port().expect("a port"));
    let client = sim_lightning::commando::Client::connect(&websocket, &text("node_id")).await;
    let client = client.expect("the node answers");
    let call = async |method: &str, params: Value| client.call(&text("rune"), method, params).await;
    let products = call("lnplaylive-products", serde_json::json!({})).await;
    assert_eq!(products.expect("it is allowed")["products"].as_array().map(Vec::len), Some(4));
    let stranger = call("lnplayops-orders", serde_json::json!({})).await;
    assert_eq!(stranger.expect_err("it is not allowed").code(), Some(19537));

    // The wallet pays invoices, and explains its failures.
    let (head, ticket) = ask(&url, "POST /tickets HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
    assert!(head.contains(" 200 "), "{head}");
    let wish =
        serde_json::json!({"node_count": 8, "hours": 48, "ticket": document(ticket.as_bytes())["ticket"]});
    let order = call("lnplaylive-createorder", wish).await.expect("an order");
    assert_eq!(text("demo_wallet"), "/demo/pay");
    let (head, _) = pay(&url, order["bolt11_invoice"].as_str().expect("an invoice"));
    assert!(head.contains(" 204 "), "{head}");
    // The wallet may know of its payment before the shop does.
    let asked = serde_json::json!({"invoice_id": order["invoice_id"], "revision": 0, "timeout": 60});
    let status = call("lnplaylive-waitstatus", asked).await.expect("a status");
    assert_eq!(status["invoice_status"], "paid", "{status}");
    let (head, body) = pay(&url, "rubbish");
    assert!(head.contains(" 422 ") && document(body.as_bytes())["error"].is_string(), "{head} {body}");

    assert_eq!(demo.stop().0, Some(0));
    leaves_nothing(&dir).await;
}

#[tokio::test]
async fn remote_runs_alone_and_accepts_environments() {
    let dir = workdir();
    let mut remote = Running::start(&mut demo(&dir, &["remote", "--lightning", "simulated"]));
    let about = document(remote.line().as_bytes());
    let (url, token) = (about["url"].as_str().expect("a URL"), about["token"].as_str().expect("a token"));

    let own = workdir();
    let token_file: PathBuf = own.join("token");
    std::fs::write(&token_file, token).expect("it is ours");
    let token_file = token_file.to_str().expect("plain names");
    let args =
        ["--once", "--json", "--lightning", "simulated", "--remote", url, "--remote-token-file", token_file];
    let buyers = workdir();
    let output = demo(&buyers, &args).output().expect("the demo runs");
    assert_ok(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("stays on the server"), "{stderr}");
    check(&document(&output.stdout), Flavor::Simulated, "lxd");
    leaves_nothing(&buyers).await;

    let (status, rest) = remote.stop();
    assert_eq!((status, rest.as_str()), (Some(0), ""));
    leaves_nothing(&dir).await;
}

#[test]
fn invalid_options_are_refused_with_a_sentence() {
    let dir = workdir();
    let none = ["--remote", "https://192.0.2.7:8443", "--remote-token-file", "/nonexistent"];
    let cases: &[(&[&str], &str)] = &[
        (&["--once", "--node-count", "7"], "node_count must be one of 8, 16, 32, 64"),
        (&["--once", "--hours", "505"], "hours must be a whole number from 1 to 504"),
        (&["--once", "--hours", "1.5"], "--hours"),
        (&["--json"], "--once"),
        (&["--keep"], "--once"),
        (&["--lightning", "fake"], "--lightning"),
        (&["--remote", "http://192.0.2.7"], "https://192.0.2.7:8443"),
        (&["--remote", "https://192.0.2.7:8443"], "--remote-token-file"),
        (&["--remote-token-file", "/dev/null"], "--remote URL"),
        (&none, "/nonexistent"),
        (&["--listen", "3000"], "--listen"),
        (&["--listen", "127.0.0.1:0", "remote"], "remote"),
        (&["remotes"], "remotes"),
    ];
    for (args, sentence) in cases {
        let output = demo(&dir, args).output().expect("the demo runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(sentence), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn failures_are_reported_with_nothing_on_stdout() {
    let dir = workdir();
    let output = demo(&dir, &["--once", "--json", "--lightning", "real"])
        .env("LIGHTNINGD", "/nonexistent/lightningd")
        .output()
        .expect("the demo runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("LIGHTNINGD=/nonexistent/lightningd") && stderr.contains("simulated"),
        "{stderr}"
    );
}
