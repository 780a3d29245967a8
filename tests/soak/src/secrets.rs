//! The secrets of a run, and the search for them in logs.
//!
//! | secret | where it must not be |
//! |---|---|
//! | an attendee's rune, and so any connection string | in any log |
//! | an SSH key of an instance, the shop's TLS key, a remote's token | in any log |
//! | an order's id, which shows the order to whoever has it | in any line of our programs; lightningd itself writes the label of a paid invoice |
//!
//! Besides the exact values, every log is searched for what any private key and any connection string contains.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use anyhow::Context as _;
use lnplaylive_core::{ConnectionString, Order, State};

/// A kind of secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A rune of a node in an environment.
    Rune,
    /// A private SSH key.
    SshKey,
    /// A private TLS key.
    TlsKey,
    /// A token to enrol with.
    Token,
    /// An order's id.
    OrderId,
    /// Part of any secret of a kind.
    Pattern,
}

/// Number of bytes of a secret that are searched for: enough to be nothing else.
const NEEDLE: usize = 20;
/// Beginnings that all keys of a kind have.
const PATTERNS: [&str; 4] =
    ["PRIVATE KEY-----", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU", "type=direct&value=", "&rune="];

/// Parts of secrets, each enough to know it by.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<String, Kind>);

impl Secrets {
    /// The number of parts.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if nothing is secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything secret in a record.
    pub fn add_order(&mut self, order: &Order) {
        self.add_id(&order.id.to_string());
        if let Some(placement) = order.state.placement() {
            for pair in [&placement.access.host_key, &placement.access.client_key] {
                self.add_text(Kind::SshKey, pair.private.expose());
            }
        }
        if let State::Provisioned { handover, .. } = &order.state {
            handover.connection_strings.iter().for_each(|string| self.add_string(string));
        }
    }

    /// An order's id. Its first digits, which are in names and logs, are not searched for.
    pub fn add_id(&mut self, id: &str) {
        let tail = id.len().saturating_sub(NEEDLE);
        self.0.insert(id[tail..].to_owned(), Kind::OrderId);
    }

    /// A connection string.
    pub fn add_string(&mut self, string: &ConnectionString) {
        let rune = string.rune.trim_end_matches('=');
        self.0.insert(rune[..rune.len().min(NEEDLE)].to_owned(), Kind::Rune);
    }

    /// A key or a token, which may have several lines. The first and the last one of a key are no secrets, and neither is the first of
    /// an OpenSSH key's body, which has its public part.
    pub fn add_text(&mut self, kind: Kind, text: &str) {
        let body = text.lines().filter(|line| !line.starts_with("-----"));
        let skipped = usize::from(kind == Kind::SshKey) * 2;
        for line in body.skip(skipped).filter(|line| line.len() >= NEEDLE) {
            let from = (line.len() - NEEDLE) / 2;
            self.0.insert(line[from..from + NEEDLE].to_owned(), kind);
        }
    }

    /// The files of the shop's keys and tokens.
    pub fn add_files(&mut self, files: &[PathBuf]) -> anyhow::Result<()> {
        for path in files {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("token-") {
                self.add_text(Kind::Token, &text);
            } else if text.contains("PRIVATE KEY") {
                self.add_text(Kind::TlsKey, &text);
            }
        }
        Ok(())
    }

    /// Searches these logs; returns a sentence for each kind and log that has some, and the number of lines searched.
    pub fn search(&self, logs: &[PathBuf]) -> anyhow::Result<(Vec<String>, u64)> {
        let (mut needles, mut kinds): (Vec<_>, Vec<_>) =
            self.0.iter().map(|(text, kind)| (text.as_str(), *kind)).unzip();
        needles.extend(PATTERNS);
        kinds.extend(PATTERNS.map(|_| Kind::Pattern));
        let searcher = AhoCorasick::new(needles).context("too many secrets")?;
        let (mut found, mut lines) = (BTreeMap::new(), 0);
        for log in logs {
            let file = std::fs::File::open(log).with_context(|| format!("opening {}", log.display()))?;
            let (mut reader, mut line) = (BufReader::new(file), Vec::new());
            while reader.read_until(b'\n', &mut line)? > 0 {
                lines += 1;
                if let Some(hit) = searcher.find(&line) {
                    let text = String::from_utf8_lossy(&line);
                    let kind = kinds[hit.pattern().as_usize()];
                    if !is_allowed(kind, &text) {
                        note(&mut found, log, kind, lines, &text, hit.start());
                    }
                }
                line.clear();
            }
        }
        let sentences = found.into_iter().map(|((log, kind), (count, first))| {
            format!("{count} lines of {} have a secret ({kind:?}), the first one: {first}", log.display())
        });
        Ok((sentences.collect(), lines))
    }
}

/// lightningd, whose log is for those who have its RPC socket anyway, writes labels of invoices itself.
fn is_allowed(kind: Kind, line: &str) -> bool {
    kind == Kind::OrderId
        && !line.contains("lnplaylive-plugin")
        && !line.contains("plugin-shim")
        && is_lightningds(line)
}

/// A line of lightningd's own, of any of its parts and built-in plugins.
fn is_lightningds(line: &str) -> bool {
    let levels = ["DEBUG", "INFO", "UNUSUAL", "TRACE", "**BROKEN**", "BROKEN"];
    let mut words = line.split_whitespace();
    words.next().is_some_and(|time| time.ends_with('Z'))
        && words.next().is_some_and(|level| levels.contains(&level))
}

type Found = BTreeMap<(PathBuf, Kind), (u64, String)>;

/// Counts a hit and keeps the first line, without the secret.
fn note(found: &mut Found, log: &Path, kind: Kind, number: u64, line: &str, at: usize) {
    let before: String = line.chars().take(at.min(300)).collect();
    let entry = found.entry((log.to_owned(), kind)).or_insert_with(|| (0, format!("{number}: {before}…")));
    entry.0 += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(secrets: &Secrets, text: &str) -> Vec<String> {
        let path = std::env::temp_dir().join(format!("soak-secrets-{}", rand::random::<u64>()));
        std::fs::write(&path, text).expect("it can be written");
        let found = secrets.search(std::slice::from_ref(&path)).expect("it can be read").0;
        std::fs::remove_file(&path).expect("it is ours");
        found
    }

    const ID: &str = "lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624";

    #[test]
    fn ids_are_found_in_our_lines_and_allowed_in_lightningds() {
        let mut secrets = Secrets::default();
        secrets.add_id(ID);
        let line = |part: &str| format!("2026-11-30T07:00:00.000Z INFO    {part}: about {ID}\n");
        assert_eq!(search(&secrets, &line("plugin-lnplaylive-plugin")).len(), 1);
        assert_eq!(search(&secrets, &format!("culled {ID}\n")).len(), 1);
        assert_eq!(search(&secrets, &line("lightningd")), Vec::<String>::new());
        assert_eq!(search(&secrets, "order 0819da5d: paid\n"), Vec::<String>::new());
    }

    #[test]
    fn keys_and_strings_are_found_by_value_and_by_pattern() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\npublicpublicpublicpublicpublic\n\
                   0123456789abcdefghijklmnopqrstuvwxyz\n-----END OPENSSH PRIVATE KEY-----\n";
        let mut secrets = Secrets::default();
        secrets.add_text(Kind::SshKey, key);
        assert_eq!(secrets.len(), 1);
        assert_eq!(search(&secrets, "here: 0123456789abcdefghijklmnopqrstuvwxyz\n").len(), 1);
        assert_eq!(search(&Secrets::default(), key).len(), 1);
        assert_eq!(
            search(&Secrets::default(), "http://h/connect#address=a&type=direct&value=ws:&rune=x\n").len(),
            1
        );
    }
}
