//! Command line and `bitcoin.conf`, with bitcoind's syntax: `-name=value`, `-name`, `-noname`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Options with an effect.
const HEEDED: &[&str] = &[
    "conf",
    "datadir",
    "debuglogfile",
    "mocktime",
    "printtoconsole",
    "regtest",
    "chain",
    "rpcauth",
    "rpcbind",
    "rpcpassword",
    "rpcport",
    "rpcuser",
    "rpcwhitelist",
    "rpcwhitelistdefault",
    "version",
];

/// Options of the real daemon that are accepted and ignored.
const IGNORED: &[&str] = &[
    "acceptnonstdtxn",
    "addnode",
    "bind",
    "blockfilterindex",
    "blocksonly",
    "connect",
    "daemon",
    "dbcache",
    "debug",
    "disablewallet",
    "discover",
    "dns",
    "dnsseed",
    "fallbackfee",
    "fixedseeds",
    "listen",
    "listenonion",
    "logips",
    "logtimestamps",
    "loglevel",
    "maxconnections",
    "maxmempool",
    "maxsigcachesize",
    "minrelaytxfee",
    "par",
    "peerblockfilters",
    "persistmempool",
    "pid",
    "port",
    "prune",
    "rest",
    "rpcallowip",
    "rpcdoccheck",
    "rpcservertimeout",
    "rpcthreads",
    "rpcworkqueue",
    "server",
    "settings",
    "shrinkdebugfile",
    "txindex",
    "upnp",
    "natpmp",
    "wallet",
    "zmqpubhashblock",
    "zmqpubhashtx",
    "zmqpubrawblock",
    "zmqpubrawtx",
];

/// The options from the command line and the configuration file.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) datadir: PathBuf,
    pub(super) rpc_bind: String,
    pub(super) rpc_port: u16,
    /// The time, in unix seconds, instead of the clock's.
    pub(super) mock_time: Option<u32>,
    /// User and password. Without them, the password is in a cookie file in the network's directory.
    pub(super) rpc_login: Option<(String, String)>,
    /// An additional user; the last one given.
    pub(super) rpc_auth: Option<Auth>,
    /// The methods that this user may call; the last one given.
    pub(super) rpc_whitelist: Option<(String, Vec<String>)>,
    /// True if users without a whitelist may call nothing.
    pub(super) rpc_whitelist_default: bool,
    pub(super) print_to_console: bool,
    pub(super) version_only: bool,
}

/// A user in the format of `-rpcauth`: `user:salt$hash`, where the hash is the HMAC-SHA256 of the password with the salt, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Auth {
    pub(super) user: String,
    pub(super) salt: String,
    pub(super) hash: String,
}

impl Auth {
    fn parse(text: &str) -> Option<Self> {
        let (user, rest) = text.split_once(':')?;
        let (salt, hash) = rest.split_once('$')?;
        Some(Self { user: user.into(), salt: salt.into(), hash: hash.into() })
    }
}

/// Parses the arguments, without the program's name.
///
/// The error is the sentence that the real daemon prints before it exits with status 1.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut given = HashMap::new();
    for arg in args {
        let arg = arg
            .into_string()
            .map_err(|arg| format!("Error parsing command line arguments: {} is not UTF-8", arg.display()))?;
        let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(format!(
                "Error: Command line contains unexpected token '{arg}', see bitcoind -h for a list of options."
            ));
        };
        set(&mut given, body).map_err(|name| {
            format!("Error: Error parsing command line arguments: Invalid parameter -{name}")
        })?;
    }
    let datadir = given.get("datadir").map_or_else(default_datadir, PathBuf::from);
    if !datadir.is_dir() {
        return Err(format!("Error: Specified data directory \"{}\" does not exist.", datadir.display()));
    }
    let conf = datadir.join(given.get("conf").map_or("bitcoin.conf", String::as_str));
    if let Ok(text) = std::fs::read_to_string(&conf) {
        read_conf(&mut given, &text)
            .map_err(|problem| format!("Error reading configuration file: {problem}"))?;
    }
    if !is_set(&given, "regtest") && given.get("chain").map(String::as_str) != Some("regtest") {
        return Err("Error: this simulated bitcoind has only regtest: pass -regtest".into());
    }
    if is_set(&given, "daemon") {
        return Err("Error: -daemon is not supported by this simulated bitcoind".into());
    }
    let rpc_port = match given.get("rpcport") {
        None => 18443,
        Some(port) => {
            port.parse().map_err(|_| format!("Error: Invalid port specified in -rpcport: '{port}'"))?
        }
    };
    let mock_time = given.get("mocktime").and_then(|time| time.parse().ok()).filter(|time| *time > 0);
    let rpc_login = match (given.get("rpcuser"), given.get("rpcpassword")) {
        (user, Some(password)) if !password.is_empty() => {
            Some((user.cloned().unwrap_or_default(), password.clone()))
        }
        _ => None,
    };
    let rpc_auth = match given.get("rpcauth") {
        None => None,
        Some(text) => Some(Auth::parse(text).ok_or("Error: Invalid -rpcauth argument.")?),
    };
    let rpc_whitelist = given.get("rpcwhitelist").map(|text| {
        let (user, methods) = text.split_once(':').unwrap_or((text, ""));
        (user.to_owned(), methods.split([',', ' ']).map(str::to_owned).collect())
    });
    let rpc_whitelist_default =
        given.get("rpcwhitelistdefault").map_or(rpc_whitelist.is_some(), |value| value != "0");
    Ok(Options {
        rpc_auth,
        rpc_whitelist,
        rpc_whitelist_default,
        rpc_bind: given.get("rpcbind").cloned().unwrap_or_else(|| "127.0.0.1".into()),
        rpc_port,
        mock_time,
        rpc_login,
        print_to_console: !given.contains_key("printtoconsole") || is_set(&given, "printtoconsole"),
        version_only: is_set(&given, "version"),
        datadir,
    })
}

fn default_datadir() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".bitcoin")
}

fn is_set(given: &HashMap<String, String>, name: &str) -> bool {
    given.get(name).is_some_and(|value| value != "0")
}

/// Adds a `name=value`; the error is the unknown name.
fn set(given: &mut HashMap<String, String>, body: &str) -> Result<(), String> {
    let (name, value) = body.split_once('=').unwrap_or((body, "1"));
    let known = |name: &str| HEEDED.contains(&name) || IGNORED.contains(&name);
    if known(name) {
        given.insert(name.into(), value.into());
        return Ok(());
    }
    match name.strip_prefix("no") {
        Some(positive) if known(positive) => {
            given.insert(positive.into(), if value == "0" { "1" } else { "0" }.into());
            Ok(())
        }
        _ => Err(name.into()),
    }
}

/// Adds options that the command line did not set. Sections other than `[regtest]` are skipped.
fn read_conf(given: &mut HashMap<String, String>, text: &str) -> Result<(), String> {
    let mut from_file = HashMap::new();
    let mut ours = true;
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(section) = line.strip_prefix('[') {
            ours = section == "regtest]";
        } else if ours && !line.is_empty() {
            let line = line.split('=').map(str::trim).collect::<Vec<_>>().join("=");
            set(&mut from_file, line.strip_prefix("regtest.").unwrap_or(&line))
                .map_err(|name| format!("unknown option {name}"))?;
        }
    }
    for (name, value) in from_file {
        given.entry(name).or_insert(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Options, String> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn takes_the_options_of_the_real_daemon() {
        let options = parse_words(&[
            "-regtest",
            "-datadir=/tmp",
            "-rpcport=1234",
            "-rpcuser=u",
            "-rpcpassword=p",
            "-server",
            "-listen=0",
            "-nodebug",
            "-fallbackfee=0.0001",
            "-printtoconsole=0",
        ])
        .expect("these are fine");
        assert_eq!(options.rpc_port, 1234);
        assert_eq!(options.rpc_login, Some(("u".into(), "p".into())));
        assert!(!options.print_to_console);
    }

    #[test]
    fn refuses_what_the_real_daemon_refuses() {
        assert_eq!(
            parse_words(&["-regtest", "-datadir=/tmp", "-nonsense=1"]).expect_err("unknown"),
            "Error: Error parsing command line arguments: Invalid parameter -nonsense"
        );
        assert!(
            parse_words(&["-regtest", "-datadir=/does/not/exist"])
                .expect_err("missing")
                .contains("does not exist")
        );
        assert!(parse_words(&["-datadir=/tmp"]).expect_err("mainnet").contains("only regtest"));
    }
}
