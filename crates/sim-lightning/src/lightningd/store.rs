//! The node's state, and the journal with which it survives a kill.
//!
//! Every change is written as a line of JSON before it takes effect; changes that belong together share a line. At start the
//! journal is replayed and rewritten without obsolete lines. If a kill leaves the last line incomplete, it is dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, TxOut};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum InvoiceStatus {
    Unpaid,
    Paid,
    Expired,
}

impl InvoiceStatus {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unpaid => "unpaid",
            Self::Paid => "paid",
            Self::Expired => "expired",
        }
    }
}

/// The payment of an invoice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) pay_index: u64,
    pub(super) received_msat: u64,
    pub(super) paid_at: u64,
    /// The payer, who may ask again if the answer was lost.
    pub(super) payer: PublicKey,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Invoice {
    pub(super) label: String,
    pub(super) bolt11: String,
    pub(super) payment_hash: String,
    pub(super) preimage: String,
    pub(super) payment_secret: String,
    /// `None` if the payer chooses the amount.
    pub(super) amount_msat: Option<u64>,
    pub(super) status: InvoiceStatus,
    pub(super) receipt: Option<Receipt>,
    pub(super) description: Option<String>,
    /// Unix time in seconds.
    pub(super) expires_at: u64,
    pub(super) created_index: u64,
    pub(super) updated_index: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Datum {
    #[serde(with = "hex")]
    pub(super) data: Vec<u8>,
    pub(super) generation: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RuneRecord {
    pub(super) rune: String,
    /// Nanoseconds since 1970.
    pub(super) last_used: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ChannelState {
    AwaitingLockin,
    Normal,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Channel {
    pub(super) peer: PublicKey,
    pub(super) id: String,
    pub(super) funding: OutPoint,
    pub(super) total_msat: u64,
    pub(super) our_msat: u64,
    pub(super) pushed_msat: u64,
    pub(super) we_opened: bool,
    pub(super) private: bool,
    pub(super) state: ChannelState,
    pub(super) short_channel_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PaymentStatus {
    Pending,
    Complete,
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payment {
    pub(super) hash: String,
    pub(super) bolt11: String,
    pub(super) destination: PublicKey,
    pub(super) channel_id: String,
    pub(super) amount_msat: u64,
    pub(super) status: PaymentStatus,
    pub(super) preimage: Option<String>,
    pub(super) created_at: u64,
    pub(super) completed_at: Option<u64>,
    pub(super) index: u64,
    #[serde(default)]
    pub(super) updated_index: Option<u64>,
}

/// Coins that moved in a channel when a payment was settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ChannelMove {
    pub(super) index: u64,
    pub(super) channel_id: String,
    pub(super) credit_msat: u64,
    pub(super) debit_msat: u64,
    pub(super) hash: String,
    pub(super) at: u64,
}

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) invoices_created: u64,
    pub(super) invoices_updated: u64,
    pub(super) invoices_deleted: u64,
    pub(super) pay_index: u64,
    pub(super) next_rune: u64,
    pub(super) payments: u64,
    #[serde(default)]
    pub(super) payments_updated: u64,
    #[serde(default)]
    pub(super) moves: u64,
    /// Number of wallet keys in use.
    pub(super) keys: u32,
}

/// A change of the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Change {
    Counters(Counters),
    Invoice(Invoice),
    InvoiceGone(String),
    Datum(Vec<String>, Datum),
    DatumGone(Vec<String>),
    Rune(u64, RuneRecord),
    /// Ranges of blacklisted ids, both ends inclusive.
    Blacklist(Vec<(u64, u64)>),
    Channel(Channel),
    ChannelGone(String),
    Payment(Payment),
    Move(ChannelMove),
    /// The last known address of a peer, `HOST:PORT`.
    Peer(PublicKey, String),
    /// An output of ours that a transaction of ours spends.
    Spent(OutPoint),
    /// A change output of ours that is not mined yet.
    Pending(OutPoint, TxOut),
}

/// The complete state.
pub(super) struct Store {
    journal: File,
    pub(super) counters: Counters,
    invoices: BTreeMap<String, Invoice>,
    invoice_hashes: HashMap<String, String>,
    /// Unpaid invoices by expiry time.
    expiries: BTreeSet<(u64, String)>,
    paid: BTreeMap<u64, String>,
    pub(super) data: BTreeMap<Vec<String>, Datum>,
    pub(super) runes: BTreeMap<u64, RuneRecord>,
    pub(super) blacklist: Vec<(u64, u64)>,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) payments: BTreeMap<String, Payment>,
    pub(super) moves: BTreeMap<u64, ChannelMove>,
    pub(super) peers: BTreeMap<PublicKey, String>,
    pub(super) spent: BTreeSet<OutPoint>,
    /// Change outputs that were unconfirmed when they were created.
    pub(super) pending: BTreeMap<OutPoint, TxOut>,
}

impl Store {
    /// Replays the journal in `dir` and rewrites it without obsolete lines.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("simulated-journal.jsonl");
        let fresh_path = dir.join("simulated-journal.jsonl.new");
        let mut store = Self {
            // It contains preimages and runes.
            journal: File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh_path)?,
            counters: Counters::default(),
            invoices: BTreeMap::new(),
            invoice_hashes: HashMap::new(),
            expiries: BTreeSet::new(),
            paid: BTreeMap::new(),
            data: BTreeMap::new(),
            runes: BTreeMap::new(),
            blacklist: Vec::new(),
            channels: BTreeMap::new(),
            payments: BTreeMap::new(),
            moves: BTreeMap::new(),
            peers: BTreeMap::new(),
            spent: BTreeSet::new(),
            pending: BTreeMap::new(),
        };
        match std::fs::read(&path) {
            Ok(bytes) => {
                for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                    let torn = !line.ends_with(b"\n");
                    match serde_json::from_slice::<Vec<Change>>(line) {
                        Ok(changes) => changes.into_iter().for_each(|change| store.apply(change)),
                        Err(_) if torn => {}
                        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut snapshot = Vec::new();
        for change in store.snapshot() {
            serde_json::to_writer(&mut snapshot, &[change])?;
            snapshot.push(b'\n');
        }
        store.journal.write_all(&snapshot)?;
        store.journal.sync_all()?;
        std::fs::rename(fresh_path, path)?;
        Ok(store)
    }

    /// Writes `changes` to the journal, then applies them. Either all or none survive a kill.
    pub(super) fn commit(&mut self, changes: Vec<Change>) -> io::Result<()> {
        let mut line = serde_json::to_vec(&changes)?;
        line.push(b'\n');
        self.journal.write_all(&line)?;
        for change in changes {
            self.apply(change);
        }
        Ok(())
    }

    pub(super) fn invoice(&self, label: &str) -> Option<&Invoice> {
        self.invoices.get(label)
    }

    pub(super) fn invoice_by_hash(&self, hash: &str) -> Option<&Invoice> {
        self.invoice_hashes.get(hash).and_then(|label| self.invoices.get(label))
    }

    pub(super) fn invoices(&self) -> impl Iterator<Item = &Invoice> {
        self.invoices.values()
    }

    /// The first invoice paid after pay index `after`.
    pub(super) fn next_paid(&self, after: u64) -> Option<&Invoice> {
        self.paid.range(after.checked_add(1)?..).next().and_then(|(_, label)| self.invoices.get(label))
    }

    /// Unpaid invoices that have expired.
    pub(super) fn overdue(&self, now: u64) -> Vec<Invoice> {
        let over = self.expiries.iter().take_while(|(at, _)| *at <= now);
        over.filter_map(|(_, label)| self.invoices.get(label).cloned()).collect()
    }

    /// Expiry time of the next unpaid invoice.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(at, _)| *at)
    }

    fn forget_invoice(&mut self, label: &str) {
        if let Some(old) = self.invoices.remove(label) {
            self.invoice_hashes.remove(&old.payment_hash);
            self.expiries.remove(&(old.expires_at, old.label));
            if let Some(receipt) = old.receipt {
                self.paid.remove(&receipt.pay_index);
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Counters(counters) => self.counters = counters,
            Change::Invoice(invoice) => {
                self.forget_invoice(&invoice.label);
                self.invoice_hashes.insert(invoice.payment_hash.clone(), invoice.label.clone());
                if invoice.status == InvoiceStatus::Unpaid {
                    self.expiries.insert((invoice.expires_at, invoice.label.clone()));
                }
                if let Some(receipt) = &invoice.receipt {
                    self.paid.insert(receipt.pay_index, invoice.label.clone());
                }
                self.invoices.insert(invoice.label.clone(), invoice);
            }
            Change::InvoiceGone(label) => self.forget_invoice(&label),
            Change::Datum(key, datum) => {
                self.data.insert(key, datum);
            }
            Change::DatumGone(key) => {
                self.data.remove(&key);
            }
            Change::Rune(id, record) => {
                self.runes.insert(id, record);
            }
            Change::Blacklist(ranges) => self.blacklist = ranges,
            Change::Channel(channel) => {
                self.channels.insert(channel.id.clone(), channel);
            }
            Change::ChannelGone(id) => {
                self.channels.remove(&id);
            }
            Change::Payment(payment) => {
                self.payments.insert(payment.hash.clone(), payment);
            }
            Change::Move(made) => {
                self.moves.insert(made.index, made);
            }
            Change::Peer(id, address) => {
                self.peers.insert(id, address);
            }
            Change::Spent(outpoint) => {
                self.pending.remove(&outpoint);
                self.spent.insert(outpoint);
            }
            Change::Pending(outpoint, out) => {
                self.pending.insert(outpoint, out);
            }
        }
    }

    fn snapshot(&self) -> Vec<Change> {
        let mut all = vec![Change::Counters(self.counters), Change::Blacklist(self.blacklist.clone())];
        all.extend(self.invoices.values().cloned().map(Change::Invoice));
        all.extend(self.data.iter().map(|(key, datum)| Change::Datum(key.clone(), datum.clone())));
        all.extend(self.runes.iter().map(|(id, record)| Change::Rune(*id, record.clone())));
        all.extend(self.channels.values().cloned().map(Change::Channel));
        all.extend(self.payments.values().cloned().map(Change::Payment));
        all.extend(self.moves.values().cloned().map(Change::Move));
        all.extend(self.peers.iter().map(|(id, address)| Change::Peer(*id, address.clone())));
        all.extend(self.spent.iter().map(|outpoint| Change::Spent(*outpoint)));
        all.extend(self.pending.iter().map(|(outpoint, out)| Change::Pending(*outpoint, out.clone())));
        all
    }
}
