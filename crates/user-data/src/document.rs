//! The user-data document, checked while it is parsed.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use toml::{Table, Value};

use crate::backup::Backup;

/// An error in a document. It names the key, and shows no value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDataError(String);

impl UserDataError {
    pub(crate) fn new(key: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self(format!("user-data: {key}: {reason}"))
    }
}

impl fmt::Display for UserDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UserDataError {}

/// A complete document.
#[derive(Debug)]
pub struct UserData {
    /// The machine's own settings.
    pub host: Host,
    /// The remotes, with their secrets separated from their settings.
    pub remotes: Vec<Remote>,
    /// All other tables, which belong to `lnplaylive.toml`.
    pub settings: Table,
}

/// The table `[host]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// True if the web shop and its TLS front end run.
    #[serde(rename = "DEPLOY_LNPLAYLIVE_FRONTEND", default)]
    pub deploy_frontend: bool,
    /// The domain name that points to the machine.
    #[serde(default)]
    pub domain: Option<Domain>,
    /// E-mail address for messages of the certificate authority.
    #[serde(default)]
    pub email: Option<Email>,
    /// The network on which buyers pay.
    #[serde(default)]
    pub network: Network,
    /// The addresses that the node announces.
    #[serde(default)]
    pub announce: Announcements,
    /// The node's alias.
    #[serde(default)]
    pub alias: Option<Alias>,
    /// Further options of lightningd.
    #[serde(default)]
    pub lightningd: LightningdOptions,
    /// True if state is on a volume of its own, which outlives the machine.
    #[serde(default = "yes")]
    pub state_volume: bool,
    /// Where backups are uploaded. Nothing is uploaded without it.
    #[serde(skip)]
    pub backup: Option<Backup>,
}

fn yes() -> bool {
    true
}

/// A Bitcoin network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Mainnet.
    #[default]
    Bitcoin,
    /// The public test network.
    Signet,
    /// A private test network.
    Regtest,
}

impl Network {
    /// The network's name for lightningd.
    pub fn lightning(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }

    /// The network's name for bitcoind.
    pub fn chain(self) -> &'static str {
        match self {
            Self::Bitcoin => "main",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }
}

/// Text that is checked when it is parsed, because it is written to files with a syntax of their own.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $ok:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, &'static str> {
                let ok: fn(&str) -> bool = $ok;
                if ok(&text) { Ok(Self(text)) } else { Err($rule) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use checked;

fn is_domain(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label) && text.parse::<IpAddr>().is_err()
}

checked!(
    /// A host name.
    Domain,
    is_domain,
    "it must be a full host name, such as shop.example"
);

checked!(
    /// An e-mail address.
    Email,
    |text| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b".+-_".contains(&c);
        text.split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && user.bytes().all(plain) && is_domain(host))
    },
    "it must be an e-mail address of letters, digits and . + - _"
);

checked!(
    /// A node's alias.
    Alias,
    // lightningd's limit. White space at the end would be lost in its configuration file.
    |text| (1..=32).contains(&text.len()) && !text.chars().any(char::is_control) && text.trim() == text,
    "it must be 1 to 32 bytes, without control characters or white space at its ends"
);

/// The addresses that the node announces, written as one text or as a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OneOrMore")]
pub struct Announcements(Vec<Announce>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl TryFrom<OneOrMore> for Announcements {
    type Error = &'static str;

    fn try_from(written: OneOrMore) -> Result<Self, &'static str> {
        let texts = match written {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        };
        let all = texts.into_iter().map(Announce::try_from).collect::<Result<Vec<_>, _>>()?;
        // BOLT 7: a node announces one DNS hostname at most. lightningd refuses to start with more.
        if all.iter().filter(|one| is_domain(&one.host)).count() > 1 {
            return Err("it may have one host name only; the others must be IP addresses");
        }
        Ok(Self(all))
    }
}

impl Announcements {
    /// The addresses, in the order of the document.
    pub fn as_slice(&self) -> &[Announce] {
        &self.0
    }
}

/// An address that the node announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    host: String,
    port: u16,
}

impl TryFrom<String> for Announce {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let rule = "it must be HOST:PORT, with an IPv6 address in brackets";
        let (host, port) = text.rsplit_once(':').ok_or(rule)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(rule)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) if bare == host => {}
            Ok(IpAddr::V6(_)) if host == format!("[{bare}]") => {}
            Err(_) if is_domain(host) => {}
            _ => return Err(rule),
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Announce {
    /// In the format of lightningd's `announce-addr`. Without `dns:`, lightningd resolves a name at start, and exits if that fails.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if is_domain(&self.host) { "dns:" } else { "" };
        write!(f, "{prefix}{}:{}", self.host, self.port)
    }
}

/// The table `[host.lightningd]`: options as in lightningd-config(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct LightningdOptions(Vec<String>);

impl LightningdOptions {
    /// Options that the image sets itself, or `[host]` has a key for, and those that would take the node away from it: another
    /// network, database, socket or plugin.
    const RESERVED: [&str; 25] = [
        "addr",
        "alias",
        "announce-addr",
        "bind-addr",
        "clear-plugins",
        "conf",
        "daemon",
        "disable-plugin",
        "encrypted-hsm",
        "hsm-passphrase",
        "important-plugin",
        "include",
        "lightning-dir",
        "log-file",
        "mainnet",
        "network",
        "pid-file",
        "plugin",
        "plugin-dir",
        "regtest",
        "rpc-file",
        "rpc-file-mode",
        "signet",
        "testnet",
        "wallet",
    ];
    /// The prefix of the names of further ones.
    const RESERVED_PREFIXES: [&str; 2] = ["autoclean-", "bitcoin-"];

    fn line(name: &str, value: &Value) -> Result<String, String> {
        let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if name.is_empty() || !name.bytes().all(letter) {
            return Err(format!("lightningd.{name}: an option has lowercase letters, digits and hyphens"));
        }
        if Self::RESERVED.contains(&name)
            || Self::RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            return Err(format!("lightningd.{name}: the image sets it itself, or [host] has a key for it"));
        }
        let text = match value {
            Value::Boolean(true) => return Ok(format!("{name}\n")),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            // A line of lightningd's configuration ends with it.
            Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.clone(),
            _ => {
                return Err(format!(
                    "lightningd.{name}: write true for an option without a value, a number, or text on one line"
                ));
            }
        };
        Ok(format!("{name}={text}\n"))
    }
}

impl TryFrom<Table> for LightningdOptions {
    type Error = String;

    fn try_from(options: Table) -> Result<Self, String> {
        let lines = options.iter().flat_map(|(name, value)| match value {
            Value::Array(values) => values.iter().map(|value| Self::line(name, value)).collect(),
            value => vec![Self::line(name, value)],
        });
        lines.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for LightningdOptions {
    /// As lines of lightningd's configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| f.write_str(line))
    }
}

/// One `[[remotes]]`.
pub struct Remote {
    /// Its name, which becomes part of file names: letters, digits, hyphens and underscores.
    pub name: String,
    /// Its secrets.
    pub access: Access,
    /// Its other settings.
    pub settings: Table,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The credentials for a remote. Never shown.
pub enum Access {
    /// An enrolment token, which is used on the first run.
    Token(String),
    /// A client certificate that the server already trusts, and its key, both in PEM form.
    Certificate {
        /// The certificate.
        certificate: String,
        /// Its private key.
        key: String,
    },
}

impl UserData {
    /// Parses a document.
    pub fn parse(text: &str) -> Result<Self, UserDataError> {
        if text.trim().is_empty() {
            return Err(UserDataError::new(
                "the document",
                "it is empty; write user-data as in user-data.example",
            ));
        }
        // Only the message: the rest of the error quotes the line, which may contain a token.
        let at = |e: &toml::de::Error| {
            let line = e.span().map(|span| text[..span.start.min(text.len())].split('\n').count());
            line.map_or_else(|| "the document".to_owned(), |line| format!("line {line}"))
        };
        let mut document: Table =
            toml::from_str(text).map_err(|e| UserDataError::new(at(&e), e.message().to_owned()))?;
        let mut host = document.remove("host").unwrap_or_else(|| Value::Table(Table::new()));
        // Its errors name its own keys.
        let backup = host.as_table_mut().and_then(|host| host.remove("backup"));
        let mut host: Host =
            host.try_into().map_err(|e: toml::de::Error| UserDataError::new("host", e.message().trim()))?;
        host.backup = backup.map(Backup::read).transpose()?;
        if host.deploy_frontend && host.domain.is_none() {
            return Err(UserDataError::new(
                "host.domain",
                "it is required by DEPLOY_LNPLAYLIVE_FRONTEND, for the TLS certificate",
            ));
        }
        let remotes = match document.remove("remotes") {
            None => Vec::new(),
            Some(Value::Array(remotes)) => {
                remotes.into_iter().enumerate().map(|(at, r)| remote(at, r)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(UserDataError::new("remotes", "write each remote as a table [[remotes]]")),
        };
        Ok(Self { host, remotes, settings: document })
    }
}

fn remote(at: usize, value: Value) -> Result<Remote, UserDataError> {
    let key = |name: &str| format!("remotes[{at}].{name}");
    let Value::Table(mut settings) = value else {
        return Err(UserDataError::new(format!("remotes[{at}]"), "it must be a table"));
    };
    let mut text = |name: &str| match settings.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Some(_) => Err(UserDataError::new(key(name), "it must be text")),
    };
    let (name, token) = (text("name")?, text("token")?);
    let (certificate, private_key) = (text("certificate")?, text("key")?);
    let name = name
        .filter(|n| n.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_') && n.len() <= 63)
        .ok_or_else(|| {
            UserDataError::new(key("name"), "a name is 1 to 63 letters, digits, hyphens and underscores")
        })?;
    for files in ["token_file", "cert_file", "key_file"] {
        if settings.contains_key(files) {
            return Err(UserDataError::new(
                key(files),
                "write the secret itself, as token or as certificate and key",
            ));
        }
    }
    let access = match (token, certificate, private_key) {
        (Some(token), None, None) => Access::Token(token),
        (None, Some(certificate), Some(key)) => Access::Certificate { certificate, key },
        (None, None, None) => {
            return Err(UserDataError::new(
                key("token"),
                "it is missing; write a token, or a certificate and its key",
            ));
        }
        _ => return Err(UserDataError::new(key("token"), "write either token, or certificate and key")),
    };
    Ok(Remote { name, access, settings })
}
