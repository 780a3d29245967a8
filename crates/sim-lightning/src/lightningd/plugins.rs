//! The plugin protocol: JSON-RPC over the plugin's standard input and output.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::log::Level;
use super::options::{Kind, Refused, same_plugin};
use super::params::RpcError;
use super::rpc::{Parsed, is_own, next_json};
use super::{ExitReason, Node, VERSION};

/// Time-out for `getmanifest` and for `init`.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Time-out for a plugin to exit after `plugin stop`.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// A plugin that sends a larger frame is killed.
const MAX_FRAME: usize = 64 << 20;

/// An option that a plugin registered.
#[derive(Clone, Debug)]
struct PluginOption {
    name: String,
    kind: OptionKind,
    default: Option<Value>,
    multi: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OptionKind {
    String,
    Int,
    Bool,
    Flag,
}

impl PluginOption {
    fn parse(option: &Value) -> Result<Self, String> {
        let (Some(name), Some(kind), Some(_)) =
            (option["name"].as_str(), option["type"].as_str(), option.get("description"))
        else {
            return Err("An option is missing either \"name\", \"description\" or \"type\"".into());
        };
        let kind = match kind {
            "string" | "string-conceal" => OptionKind::String,
            "int" => OptionKind::Int,
            "bool" => OptionKind::Bool,
            "flag" => OptionKind::Flag,
            _ => return Err("Only \"string\", \"int\", \"bool\", and \"flag\" options are supported".into()),
        };
        let default =
            option.get("default").filter(|default| !default.is_null() && kind != OptionKind::Flag).cloned();
        Ok(Self { name: name.into(), kind, default, multi: option["multi"].as_bool().unwrap_or(false) })
    }

    /// The value in the format of `init`.
    fn value(&self, text: &str) -> Result<Value, Refused> {
        let bad = |problem: &str| Refused(format!("--{}={text}: {problem}", self.name));
        Ok(match self.kind {
            OptionKind::String => json!(text),
            OptionKind::Int => {
                json!(text.parse::<i64>().map_err(|_| bad(&format!("'{text}' is not a number")))?)
            }
            OptionKind::Bool => match text {
                "true" | "yes" | "1" | "on" => json!(true),
                "false" | "no" | "0" | "off" => json!(false),
                _ => return Err(bad("Invalid argument")),
            },
            OptionKind::Flag => json!(true),
        })
    }
}

/// The manifest of a plugin.
#[derive(Default)]
struct Manifest {
    options: Vec<PluginOption>,
    /// Methods with their usage.
    methods: Vec<(String, String)>,
    subscriptions: Vec<String>,
    dynamic: bool,
}

impl Manifest {
    fn parse(result: &Value) -> Result<Self, String> {
        let list = |name: &str| -> Result<Vec<Value>, String> {
            match result.get(name) {
                None if name == "subscriptions" => Ok(Vec::new()),
                None => Err(format!("\"result.{name}\" was not found in the manifest")),
                Some(Value::Array(list)) => Ok(list.clone()),
                Some(_) => Err(format!("\"result.{name}\" is not an array")),
            }
        };
        let method = |method: Value| {
            let name = method["name"].as_str().ok_or("rpcmethod does not have a string \"name\"")?;
            let usage = method["usage"].as_str().ok_or("\"usage\" not provided by plugin")?;
            Ok((name.to_owned(), usage.to_owned()))
        };
        Ok(Self {
            options: list("options")?.iter().map(PluginOption::parse).collect::<Result<_, _>>()?,
            methods: list("rpcmethods")?.into_iter().map(method).collect::<Result<_, &str>>()?,
            subscriptions: list("subscriptions")?
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            dynamic: result["dynamic"].as_bool().unwrap_or(false),
        })
    }
}

/// A running plugin.
pub(super) struct Plugin {
    path: PathBuf,
    name: String,
    important: AtomicBool,
    manifest: Mutex<Manifest>,
    initialised: AtomicBool,
    to_stdin: mpsc::UnboundedSender<String>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    serial: AtomicU64,
    kill: Notify,
    gone: watch::Sender<bool>,
    /// The options given to `plugin start`.
    settings: Map<String, Value>,
}

/// The exit of a plugin, which has been removed from the list.
pub(super) struct Death(Arc<Plugin>);

/// All plugins.
pub(super) struct Plugins {
    list: Mutex<Vec<Arc<Plugin>>>,
    died: mpsc::UnboundedSender<Death>,
}

impl Plugin {
    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().expect("nothing panics while holding it")
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Value>>> {
        self.waiting.lock().expect("nothing panics while holding it")
    }

    /// Calls a method of the plugin and returns its complete answer, or an error if the plugin dies.
    pub(super) async fn request(&self, method: &str, params: Value) -> Value {
        let id = format!("cln:{method}#{}", self.serial.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(id.clone(), answer);
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        // If the plugin has exited, that is handled below.
        drop(self.to_stdin.send(format!("{request}\n\n")));
        if *self.gone.borrow() {
            self.waiting().remove(&id);
        }
        answered.await.unwrap_or_else(|_| {
            let message = "Plugin terminated before replying to RPC call.";
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": -4, "message": message}})
        })
    }

    fn subscribes(&self, topic: &str) -> bool {
        self.initialised.load(Ordering::Relaxed)
            && self.manifest().subscriptions.iter().any(|wanted| wanted == topic || wanted == "*")
    }

    /// Sends a notification if the plugin subscribed to it.
    fn notify(&self, topic: &str, payload: &Value) -> bool {
        let wanted = self.subscribes(topic);
        if wanted {
            let news = json!({"jsonrpc": "2.0", "method": topic, "params": {topic: payload}});
            // A plugin that has died will be removed from the list.
            drop(self.to_stdin.send(format!("{news}\n\n")));
        }
        wanted
    }

    async fn left(&self) {
        // An error would mean that the plugin no longer exists.
        drop(self.gone.subscribe().wait_for(|gone| *gone).await);
    }

    fn log(&self, node: &Node, level: Level, text: &str) {
        node.log.line(level, &format!("plugin-{}", self.name), text);
    }
}

impl Plugins {
    pub(super) fn new(died: mpsc::UnboundedSender<Death>) -> Self {
        Self { list: Mutex::default(), died }
    }

    fn all(&self) -> Vec<Arc<Plugin>> {
        self.list.lock().expect("nothing panics while holding it").clone()
    }

    /// The plugin that provides `method`.
    pub(super) fn serving(&self, method: &str) -> Option<Arc<Plugin>> {
        self.all().into_iter().find(|plugin| plugin.manifest().methods.iter().any(|(name, _)| name == method))
    }

    /// The syntax of an option registered by a plugin.
    pub(super) fn option_kind(&self, name: &str) -> Option<Kind> {
        self.all().iter().find_map(|plugin| {
            let manifest = plugin.manifest();
            let option = manifest.options.iter().find(|option| option.name == name)?;
            Some(if option.kind == OptionKind::Flag { Kind::Flag } else { Kind::Value })
        })
    }

    /// The methods of all plugins with their usage.
    pub(super) fn usages(&self) -> Vec<(String, String)> {
        self.all().iter().flat_map(|plugin| plugin.manifest().methods.clone()).collect()
    }

    /// Notifies all subscribers.
    pub(super) fn notify(&self, topic: &str, payload: &Value) {
        for plugin in self.all() {
            plugin.notify(topic, payload);
        }
    }

    /// For `plugin list`.
    pub(super) fn list(&self) -> Value {
        self.all()
            .iter()
            .map(|plugin| {
                let active = plugin.initialised.load(Ordering::Relaxed);
                json!({"name": plugin.path, "active": active, "dynamic": plugin.manifest().dynamic})
            })
            .collect()
    }

    /// Starts the plugins of the command line and requests their manifests. A program that cannot be started is an error. One that
    /// sends an invalid answer is killed and left out.
    pub(super) async fn load(&self, node: &Arc<Node>, paths: &[(PathBuf, bool)]) -> Result<(), Refused> {
        let mut started = Vec::new();
        for (path, important) in paths {
            let path = path.canonicalize().map_err(|error| {
                Refused(format!(
                    "--plugin={}: Failed to register {}: {error}",
                    path.display(),
                    path.display()
                ))
            })?;
            if self.all().iter().any(|plugin| plugin.path == path) {
                continue;
            }
            let plugin = self
                .spawn(node, &path, *important, Map::new())
                .map_err(|error| Refused(format!("error starting plugin '{}': {error}", path.display())))?;
            started.push(plugin);
        }
        // All plugins work on their manifests at the same time.
        let asked: Vec<_> = started
            .into_iter()
            .map(|plugin| {
                let node = Arc::clone(node);
                tokio::spawn(async move { (ask_manifest(&node, &plugin).await, plugin) })
            })
            .collect();
        for asked in asked {
            let (result, plugin) = asked.await.expect("does not panic");
            if let Err(problem) = result.and_then(|manifest| self.adopt(&plugin, manifest)) {
                problem.end(node, &plugin).await;
            }
        }
        Ok(())
    }

    /// Sends `init` to all new plugins, and waits for their answers.
    pub(super) async fn initialise(&self, node: &Arc<Node>, startup: bool) -> Result<(), Refused> {
        let mut asked = Vec::new();
        for plugin in self.all().into_iter().filter(|plugin| !plugin.initialised.load(Ordering::Relaxed)) {
            let params = init_params(node, &plugin, startup)?;
            let node = Arc::clone(node);
            asked.push(tokio::spawn(async move {
                if let Err(problem) = initialise(&plugin, params).await {
                    problem.end(&node, &plugin).await;
                }
            }));
        }
        for asked in asked {
            asked.await.expect("does not panic");
        }
        Ok(())
    }

    /// Registers a manifest, unless it conflicts with another.
    fn adopt(&self, plugin: &Arc<Plugin>, manifest: Manifest) -> Result<(), Problem> {
        for (method, _) in &manifest.methods {
            let taken = if is_own(method) {
                Some("lightningd".into())
            } else {
                self.serving(method).map(|other| other.path.display().to_string())
            };
            if let Some(taken) = taken {
                return Err(Problem::Broken(format!(
                    "Could not register method \"{method}\", a method with that name is already registered by plugin {taken}"
                )));
            }
        }
        if let Some(option) = manifest.options.iter().find(|option| self.option_kind(&option.name).is_some())
        {
            return Err(Problem::Broken(format!("Option \"{}\" already registered", option.name)));
        }
        *plugin.manifest() = manifest;
        Ok(())
    }

    /// `plugin start`.
    pub(super) async fn start(
        &self,
        node: &Arc<Node>,
        path: &str,
        settings: Map<String, Value>,
    ) -> Result<(), RpcError> {
        let found = Path::new(path).canonicalize();
        let found = found.map_err(|error| RpcError::params(format!("{path} is not executable: {error}")))?;
        if self.all().iter().any(|plugin| plugin.path == found) {
            return Err(RpcError::params(format!("{path}: already registered")));
        }
        let failed = |problem: &str| RpcError::new(-3, format!("{}: {problem}", found.display()));
        let plugin = self.spawn(node, &found, false, settings).map_err(|error| failed(&error.to_string()))?;
        let result = async {
            let manifest = ask_manifest(node, &plugin).await?;
            if !manifest.dynamic {
                return Err(Problem::Broken("Not a dynamic plugin".into()));
            }
            if let Some(unknown) = plugin
                .settings
                .keys()
                .find(|name| manifest.options.iter().all(|option| option.name != **name))
            {
                return Err(Problem::Broken(format!("unknown parameter {unknown}")));
            }
            self.adopt(&plugin, manifest)?;
            let params =
                init_params(node, &plugin, false).map_err(|Refused(sentence)| Problem::Broken(sentence))?;
            initialise(&plugin, params).await
        };
        match result.await {
            Ok(()) => Ok(()),
            Err(problem) => {
                let sentence = problem.sentence();
                problem.end(node, &plugin).await;
                Err(failed(&sentence))
            }
        }
    }

    /// `plugin stop`; returns the plugin's short name.
    pub(super) async fn stop(&self, node: &Node, named: &str) -> Result<String, RpcError> {
        let plugin = self.all().into_iter().find(|plugin| same_plugin(&plugin.path, named));
        let plugin = plugin.ok_or_else(|| RpcError::params(format!("Could not find plugin {named}")))?;
        if !plugin.manifest().dynamic {
            return Err(RpcError::params(format!("{named} cannot be managed when lightningd is up")));
        }
        plugin.important.store(false, Ordering::Relaxed);
        let told = plugin.notify("shutdown", &json!({}));
        if !told || timeout(STOP_TIMEOUT, plugin.left()).await.is_err() {
            plugin.log(node, Level::Info, "Killing plugin: stopped by lightningd via RPC");
            plugin.kill.notify_one();
            plugin.left().await;
        }
        Ok(plugin.name.clone())
    }

    /// Notifies subscribers of the shutdown, waits for them up to `limit`, and kills all plugins.
    pub(super) async fn shut_down(&self, node: &Node, limit: Duration) {
        let mut leaving = Vec::new();
        for plugin in self.all() {
            plugin.important.store(false, Ordering::Relaxed);
            if plugin.notify("shutdown", &json!({})) {
                leaving.push(plugin);
            } else {
                plugin.kill.notify_one();
            }
        }
        let deadline = tokio::time::Instant::now() + limit;
        for plugin in leaving {
            if tokio::time::timeout_at(deadline, plugin.left()).await.is_err() {
                node.log.debug(&format!("{}: failed to self-terminate in time, killing.", plugin.name));
                plugin.kill.notify_one();
            }
        }
        for plugin in self.all() {
            // Killed plugins exit at once.
            drop(timeout(Duration::from_secs(1), plugin.left()).await);
        }
    }

    fn spawn(
        &self,
        node: &Arc<Node>,
        path: &Path,
        important: bool,
        settings: Map<String, Value>,
    ) -> std::io::Result<Arc<Plugin>> {
        let mut command = Command::new(path);
        if node.developer {
            command.arg("--developer");
        }
        // Standard error is the daemon's, as with the real one.
        let mut child = command
            .env("LIGHTNINGD_PLUGIN", "1")
            .env("LIGHTNINGD_VERSION", VERSION)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (to_stdin, lines) = mpsc::unbounded_channel();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        node.log.debug(&format!("started({}) {}", child.id().unwrap_or_default(), path.display()));
        let plugin = Arc::new(Plugin {
            path: path.to_owned(),
            name,
            important: AtomicBool::new(important),
            manifest: Mutex::default(),
            initialised: AtomicBool::new(false),
            to_stdin,
            waiting: Mutex::default(),
            serial: AtomicU64::new(0),
            kill: Notify::new(),
            gone: watch::Sender::new(false),
            settings,
        });
        self.list.lock().expect("nothing panics while holding it").push(Arc::clone(&plugin));
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        tokio::spawn(write(stdin, lines));
        tokio::spawn(attend(Arc::clone(node), Arc::clone(&plugin), child, stdout));
        Ok(plugin)
    }
}

/// The reason why a plugin was not kept.
enum Problem {
    /// It disabled itself.
    Disabled(String),
    DisabledAtInit(String),
    /// It exited, sent an invalid answer, or did not answer in time.
    Broken(String),
}

impl Problem {
    fn sentence(&self) -> String {
        match self {
            Self::Disabled(reason) => format!("disabled itself: {reason}"),
            Self::DisabledAtInit(reason) => format!("disabled itself at init: {reason}"),
            Self::Broken(reason) => reason.clone(),
        }
    }

    async fn end(self, node: &Node, plugin: &Plugin) {
        let level = match self {
            Self::Disabled(_) => Level::Info,
            Self::DisabledAtInit(_) => Level::Debug,
            Self::Broken(_) => Level::Unusual,
        };
        if !matches!(self, Self::Broken(_)) {
            // A plugin that disables itself is not missed, even if it is important.
            plugin.important.store(false, Ordering::Relaxed);
        }
        if !*plugin.gone.borrow() {
            plugin.log(node, level, &format!("Killing plugin: {}", self.sentence()));
            plugin.kill.notify_one();
        }
        plugin.left().await;
    }
}

async fn ask_manifest(node: &Node, plugin: &Plugin) -> Result<Manifest, Problem> {
    let answer = timeout(
        STARTUP_TIMEOUT,
        plugin.request("getmanifest", json!({"allow-deprecated-apis": node.allows_deprecated()})),
    )
    .await;
    let answer = answer.map_err(|_| Problem::Broken("timed out before replying to getmanifest".into()))?;
    let Some(result) = answer.get("result").filter(|result| result.is_object()) else {
        return Err(Problem::Broken(format!("Invalid/missing result tok in '{answer}'")));
    };
    if let Some(reason) = result.get("disable") {
        return Err(Problem::Disabled(reason.as_str().unwrap_or_default().into()));
    }
    Manifest::parse(result).map_err(Problem::Broken)
}

async fn initialise(plugin: &Plugin, params: Value) -> Result<(), Problem> {
    let answer = timeout(STARTUP_TIMEOUT, plugin.request("init", params)).await;
    let answer = answer.map_err(|_| Problem::Broken("timed out before replying to init".into()))?;
    if let Some(reason) = answer["result"].get("disable") {
        return Err(Problem::DisabledAtInit(reason.as_str().unwrap_or_default().into()));
    }
    if *plugin.gone.borrow() {
        return Err(Problem::Broken("exited before replying to init".into()));
    }
    plugin.initialised.store(true, Ordering::Relaxed);
    Ok(())
}

/// The parameters of `init`: the options with their values, and the configuration.
fn init_params(node: &Node, plugin: &Plugin, startup: bool) -> Result<Value, Refused> {
    let mut options = Map::new();
    for option in &plugin.manifest().options {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut given: Vec<Value> = match plugin.settings.get(&option.name) {
            Some(value) => vec![option.value(&text(value))?],
            None if option.kind == OptionKind::Flag && node.options.is_set(&option.name) => vec![json!(true)],
            None => {
                node.options.all(&option.name).map(|text| option.value(text)).collect::<Result<_, _>>()?
            }
        };
        if given.is_empty() {
            given.extend(option.default.as_ref().map(|default| option.value(&text(default))).transpose()?);
        }
        if option.multi && !given.is_empty() {
            options.insert(option.name.clone(), given.into());
        } else if let Some(last) = given.pop() {
            options.insert(option.name.clone(), last);
        }
    }
    Ok(json!({
        "options": options,
        "configuration": {
            "lightning-dir": node.dir,
            "rpc-file": super::rpc::socket_path(node),
            "startup": startup,
            "network": "regtest",
            "feature_set": super::feature_set(),
        },
    }))
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads a plugin's messages until it exits, and cleans up.
async fn attend(node: Arc<Node>, plugin: Arc<Plugin>, mut child: Child, mut stdout: ChildStdout) {
    let mut buffer = Vec::new();
    let killed = loop {
        match next_json(&mut buffer) {
            Parsed::Request(message) => {
                if let Some(problem) = hear(&node, &plugin, &message) {
                    plugin.log(&node, Level::Unusual, &format!("Killing plugin: {problem}"));
                    break true;
                }
            }
            Parsed::Malformed => {
                plugin.log(&node, Level::Unusual, "Killing plugin: Invalid token in json input");
                break true;
            }
            Parsed::Incomplete => {
                tokio::select! {
                    read = stdout.read_buf(&mut buffer) => {
                        if buffer.len() > MAX_FRAME || !matches!(read, Ok(1..)) {
                            break false;
                        }
                    }
                    () = plugin.kill.notified() => break true,
                }
            }
        }
    };
    if !killed {
        let ending = *node.ending.borrow() != ExitReason::Running;
        let level = if ending { Level::Debug } else { Level::Info };
        let when = if plugin.initialised.load(Ordering::Relaxed) {
            "during normal operation"
        } else {
            "before it was ready"
        };
        plugin.log(&node, level, &format!("Killing plugin: exited {when}"));
    }
    // It may have exited.
    drop(child.kill().await);
    node.plugins
        .list
        .lock()
        .expect("nothing panics while holding it")
        .retain(|other| !Arc::ptr_eq(other, &plugin));
    plugin.gone.send_replace(true);
    // Tells all waiting callers that there will be no answer.
    plugin.waiting().clear();
    // Nobody listens during the shutdown.
    drop(node.plugins.died.send(Death(plugin)));
}

/// Handles a message of a plugin; `Some` is the reason to kill it.
fn hear(node: &Node, plugin: &Plugin, message: &Value) -> Option<String> {
    if let Some(id) = message.get("id") {
        let waiting = id.as_str().and_then(|id| plugin.waiting().remove(id));
        if let Some(waiting) = waiting {
            // The caller may have given up.
            drop(waiting.send(message.clone()));
        }
        return None;
    }
    let (Some(method), Some(params)) = (message["method"].as_str(), message.get("params")) else {
        return Some(format!("Malformed JSON-RPC notification missing \"method\" or \"params\": {message}"));
    };
    match method {
        "log" => {
            let Some(text) = params["message"].as_str() else {
                return Some("Log notification from plugin doesn't have a string \"message\" field".into());
            };
            let name = params.get("level").map_or("info", |level| level.as_str().unwrap_or_default());
            let Some(level) = Level::parse(name).filter(|level| *level != Level::Io) else {
                return Some(format!(
                    "Unknown log-level {name}, valid values are \"trace\", \"debug\", \"info\", \"warn\", or \"error\"."
                ));
            };
            for line in text.split('\n') {
                plugin.log(node, level, line);
            }
        }
        // Progress of a command, for callers that requested it; none of ours does.
        "message" | "progress" => {}
        topic => {
            let news = json!({"jsonrpc": "2.0", "method": topic, "params": {"origin": plugin.name, "payload": params}});
            for other in node.plugins.all().into_iter().filter(|other| other.subscribes(topic)) {
                drop(other.to_stdin.send(format!("{news}\n\n")));
            }
        }
    }
    None
}

/// Stops the daemon when an important plugin exits.
pub(super) async fn watch_deaths(node: Arc<Node>, mut deaths: mpsc::UnboundedReceiver<Death>) {
    while let Some(Death(plugin)) = deaths.recv().await {
        if plugin.important.load(Ordering::Relaxed) && *node.ending.borrow() == ExitReason::Running {
            plugin.log(&node, Level::Broken, "Plugin marked as important, shutting down lightningd!");
            node.end(ExitReason::PluginLost);
        }
    }
}
