//! Command line and configuration files, with lightningd's syntax and options of plugins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The syntax of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--name=value` or `--name value`.
    Value,
    /// `--name` alone.
    Flag,
    /// `--name` or `--name=value`.
    Either,
}

/// The node's options. Many have no effect, and are accepted because the real daemon accepts them.
const OPTIONS: &[(&str, Kind)] = &[
    ("accept-htlc-tlv-type", Kind::Value),
    ("addr", Kind::Value),
    ("alias", Kind::Value),
    ("allow-deprecated-apis", Kind::Value),
    ("always-use-proxy", Kind::Value),
    ("announce-addr", Kind::Value),
    ("announce-addr-discovered", Kind::Value),
    ("autolisten", Kind::Value),
    ("autoconnect-seeker-peers", Kind::Value),
    ("bind-addr", Kind::Value),
    ("bitcoin-cli", Kind::Value),
    ("bitcoin-datadir", Kind::Value),
    ("bitcoin-retry-timeout", Kind::Value),
    ("bitcoin-rpcclienttimeout", Kind::Value),
    ("bitcoin-rpcconnect", Kind::Value),
    ("bitcoin-rpcpassword", Kind::Value),
    ("bitcoin-rpcport", Kind::Value),
    ("bitcoin-rpcuser", Kind::Value),
    ("clear-plugins", Kind::Flag),
    ("cltv-delta", Kind::Value),
    ("cltv-final", Kind::Value),
    ("commit-fee", Kind::Value),
    ("commit-time", Kind::Value),
    ("conf", Kind::Value),
    ("daemon", Kind::Flag),
    ("database-upgrade", Kind::Value),
    ("dev-allow-localhost", Kind::Flag),
    ("dev-bitcoind-poll", Kind::Value),
    ("dev-fast-gossip", Kind::Flag),
    ("dev-fast-reconnect", Kind::Flag),
    ("dev-no-version-checks", Kind::Flag),
    ("developer", Kind::Flag),
    ("disable-dns", Kind::Flag),
    ("disable-plugin", Kind::Value),
    ("experimental-dual-fund", Kind::Flag),
    ("experimental-splicing", Kind::Flag),
    ("fee-base", Kind::Value),
    ("fee-per-satoshi", Kind::Value),
    ("force-feerates", Kind::Value),
    ("funding-confirms", Kind::Value),
    ("htlc-maximum-msat", Kind::Value),
    ("htlc-minimum-msat", Kind::Value),
    ("ignore-fee-limits", Kind::Value),
    ("important-plugin", Kind::Value),
    ("large-channels", Kind::Flag),
    ("lightning-dir", Kind::Value),
    ("log-file", Kind::Value),
    ("log-level", Kind::Value),
    ("log-prefix", Kind::Value),
    ("log-timestamps", Kind::Value),
    ("mainnet", Kind::Flag),
    ("max-concurrent-htlcs", Kind::Value),
    ("max-dust-htlc-exposure-msat", Kind::Value),
    ("min-capacity-sat", Kind::Value),
    ("min-emergency-msat", Kind::Value),
    ("network", Kind::Value),
    ("offline", Kind::Flag),
    ("pid-file", Kind::Value),
    ("plugin", Kind::Value),
    ("plugin-dir", Kind::Value),
    ("proxy", Kind::Value),
    ("regtest", Kind::Flag),
    ("require-confirmed-inputs", Kind::Value),
    ("rescan", Kind::Value),
    ("rgb", Kind::Value),
    ("rpc-file", Kind::Value),
    ("rpc-file-mode", Kind::Value),
    ("signet", Kind::Flag),
    ("subdaemon", Kind::Value),
    ("testnet", Kind::Flag),
    ("version", Kind::Flag),
    ("wallet", Kind::Value),
    ("watchtime-blocks", Kind::Value),
    ("wumbo", Kind::Flag),
    ("xpay-handle-pay", Kind::Value),
];

/// Prefixes of options of real plugins that do not exist here. They are accepted.
const PREFIXES: &[&str] = &["clnrest-", "grpc-", "bookkeeper-", "rest-", "lsps-", "cln-lsps", "dev-"];

/// An option on the command line or in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    name: String,
    value: Option<String>,
}

/// All given options. Later ones override earlier ones if only one is allowed.
#[derive(Clone, Debug)]
pub(super) struct Options {
    given: Vec<Given>,
    /// `--lightning-dir`, where the networks' directories are.
    pub(super) base: PathBuf,
}

/// The reason why the daemon does not start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

impl Options {
    /// Parses the arguments (without the program's name) and the configuration files that they name.
    pub(super) fn read(args: impl Iterator<Item = OsString>) -> Result<Self, Refused> {
        let mut words = Vec::new();
        for arg in args {
            words.push(arg.into_string().map_err(|arg| Refused(format!("{} is not UTF-8", arg.display())))?);
        }
        let mut options = Self { given: parse_words(&words)?, base: PathBuf::new() };
        let home = std::env::home_dir().unwrap_or_default();
        let base = options.last("lightning-dir").map_or_else(|| home.join(".lightning"), PathBuf::from);
        options.base =
            std::path::absolute(&base).map_err(|error| Refused(format!("{}: {error}", base.display())))?;
        let files = match options.last("conf") {
            Some(conf) => vec![(options.base.join(conf), true)],
            None => vec![(options.base.join("config"), false), (options.network_dir().join("config"), false)],
        };
        let mut from_files = Vec::new();
        for (path, required) in files {
            match std::fs::read_to_string(&path) {
                Ok(text) => from_files.extend(parse_file(&text)),
                Err(error) if required => {
                    return Err(Refused(format!("Opening {}: {error}", path.display())));
                }
                Err(_) => {}
            }
        }
        // The command line is last and overrides the files.
        from_files.append(&mut options.given);
        options.given = from_files;
        if let Some(network) =
            ["mainnet", "testnet", "signet"].into_iter().find(|network| options.is_set(network))
        {
            return Err(Refused(format!("this simulated lightningd has only regtest, not {network}")));
        }
        match options.last("network") {
            Some("regtest") => {}
            None if options.is_set("regtest") => {}
            None if options.is_set("version") => {}
            other => {
                let other = other.unwrap_or("bitcoin");
                return Err(Refused(format!(
                    "--network={other}: this simulated lightningd has only regtest"
                )));
            }
        }
        if options.is_set("daemon") {
            return Err(Refused("--daemon: not supported by this simulated lightningd".into()));
        }
        Ok(options)
    }

    /// Refuses options that neither the node nor a plugin knows. `plugin` returns the syntax of a plugin's option.
    pub(super) fn check(&self, plugin: impl Fn(&str) -> Option<Kind>) -> Result<(), Refused> {
        for Given { name, value } in &self.given {
            let Some(kind) = kind(name).or_else(|| plugin(name)) else {
                let value = value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
                return Err(Refused(format!("--{name}{value}: unknown option")));
            };
            match (kind, value) {
                (Kind::Value, None) => return Err(Refused(format!("--{name}: requires an argument"))),
                (Kind::Flag, Some(_)) => return Err(Refused(format!("--{name}: doesn't allow an argument"))),
                _ => {}
            }
        }
        Ok(())
    }

    /// The last value given for `name`.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        self.given.iter().rfind(|given| given.name == name).and_then(|given| given.value.as_deref())
    }

    /// All values given for `name`, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |given| given.name == name).filter_map(|given| given.value.as_deref())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.iter().any(|given| given.name == name)
    }

    /// A number with a default; the error names the option.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, Refused> {
        match self.last(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Refused(format!("--{name}: '{text}' is not a number"))),
        }
    }

    pub(super) fn network_dir(&self) -> PathBuf {
        self.base.join("regtest")
    }

    /// Plugins in the order given, each with whether it is important, without those that were disabled later.
    pub(super) fn plugins(&self) -> Vec<(PathBuf, bool)> {
        let mut plugins: Vec<(PathBuf, bool)> = Vec::new();
        for Given { name, value } in &self.given {
            match (name.as_str(), value) {
                ("clear-plugins", _) => plugins.clear(),
                ("plugin" | "important-plugin", Some(path)) => {
                    plugins
                        .push((std::path::absolute(path).unwrap_or_else(|_| path.into()), name != "plugin"));
                }
                _ => {}
            }
        }
        plugins.retain(|(path, _)| !self.all("disable-plugin").any(|named| same_plugin(path, named)));
        plugins
    }
}

/// Returns whether `named`, a path or a file name, means the plugin at `path`.
pub(super) fn same_plugin(path: &Path, named: &str) -> bool {
    if named.contains('/') {
        path == Path::new(named)
            || path.canonicalize().ok().is_some_and(|path| Path::new(named).canonicalize().ok() == Some(path))
    } else {
        path.file_name().is_some_and(|name| name == named)
    }
}

fn kind(name: &str) -> Option<Kind> {
    let listed = OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    listed.or_else(|| PREFIXES.iter().any(|prefix| name.starts_with(prefix)).then_some(Kind::Either))
}

fn parse_words(words: &[String]) -> Result<Vec<Given>, Refused> {
    let mut given = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(body) = word.strip_prefix("--") else {
            let problem = if word.starts_with('-') {
                format!("{word}: unknown option")
            } else {
                "no arguments accepted".into()
            };
            return Err(Refused(problem));
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            // Only for options of the node: those of plugins are not known yet.
            None if kind(body) == Some(Kind::Value) => (body, words.next().cloned()),
            None => (body, None),
        };
        given.push(Given { name: name.to_owned(), value });
    }
    Ok(given)
}

fn parse_file(text: &str) -> Vec<Given> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once('=') {
            Some((name, value)) => Given { name: name.into(), value: Some(value.into()) },
            None => Given { name: line.into(), value: None },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Options, Refused> {
        let base = ["--lightning-dir=/nonexistent", "--network=regtest"];
        Options::read(base.iter().chain(words).map(OsString::from))
    }

    #[test]
    fn takes_values_both_ways_and_the_last_one_counts() {
        let options = read(&["--alias", "one", "--alias=two", "--plugin=/a/x", "--developer"]).expect("fine");
        assert_eq!(options.last("alias"), Some("two"));
        assert!(options.is_set("developer"));
        assert_eq!(options.plugins(), [(PathBuf::from("/a/x"), false)]);
        assert_eq!(options.check(|_| None), Ok(()));
    }

    #[test]
    fn plugins_can_be_cleared_and_disabled() {
        let options = read(&[
            "--plugin=/a/x",
            "--clear-plugins",
            "--important-plugin=/a/y",
            "--plugin=/a/z",
            "--disable-plugin=z",
        ]);
        assert_eq!(options.expect("fine").plugins(), [(PathBuf::from("/a/y"), true)]);
    }

    #[test]
    fn refuses_unknown_options() {
        let options = read(&["--my-option=3"]).expect("a plugin may know it");
        assert_eq!(options.check(|_| None), Err(Refused("--my-option=3: unknown option".into())));
        assert_eq!(options.check(|name| (name == "my-option").then_some(Kind::Value)), Ok(()));
        assert!(read(&["--network=bitcoin"]).is_err());
        assert!(read(&["stray"]).is_err());
    }
}
