//! Whether a new order can be paid: the node is synchronised, and its channels can receive the amount.
//!
//! [`Readiness::of`] decides from what the node says about itself. It concerns new orders only. Orders that were paid are
//! delivered whatever the node's state is, and an invoice that was made stays valid until it expires.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::catalogue::{Catalogue, Product};

/// Name of the network that a developer's node is on.
const REGTEST: &str = "regtest";

/// Progress of bitcoind, as `getblockchaininfo` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Blocks that bitcoind has validated.
    pub blocks: u32,
    /// Blocks whose headers it knows.
    pub headers: u32,
}

/// What lightningd's `getinfo` says about synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// There is no warning.
    Synchronised,
    /// `warning_bitcoind_sync`: bitcoind downloads the chain, or has fewer blocks than headers.
    BitcoindSync,
    /// `warning_lightningd_sync`: lightningd still reads blocks that bitcoind has.
    LightningdSync,
}

/// A channel, as `listpeerchannels` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Name of its state, such as `CHANNELD_NORMAL`.
    pub state: String,
    /// True if the peer is connected.
    pub connected: bool,
    /// Most that one payment can bring in, in millisatoshi. lightningd has subtracted the peer's reserve and fees.
    pub receivable_msat: u64,
    /// Most that one payment can send, in millisatoshi.
    pub spendable_msat: u64,
}

/// What a channel is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Payments can arrive over it.
    Usable,
    /// It is open, and its peer is not connected.
    Offline,
    /// Its funding transaction is being negotiated or has too few confirmations.
    Opening,
    /// It is being closed, or was.
    Closing,
}

impl Channel {
    /// What the channel is good for. The states are those of lightningd's `lightningd/channel_state.h`; an unknown one is
    /// taken for one that cannot be used.
    pub fn standing(&self) -> Standing {
        match self.state.as_str() {
            // A channel whose splice waits for confirmations works on.
            "CHANNELD_NORMAL" | "CHANNELD_AWAITING_SPLICE" if self.connected => Standing::Usable,
            "CHANNELD_NORMAL" | "CHANNELD_AWAITING_SPLICE" => Standing::Offline,
            "CHANNELD_AWAITING_LOCKIN" | "OPENINGD" => Standing::Opening,
            other if other.starts_with("DUALOPEND_") => Standing::Opening,
            _ => Standing::Closing,
        }
    }
}

/// What the node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Its id, in hex.
    pub id: String,
    /// Its network, as lightningd names it: `bitcoin`, `testnet`, `signet` or `regtest`.
    pub network: String,
    /// Blocks that lightningd has read.
    pub height: u32,
    /// Its warnings about synchronisation.
    pub sync: SyncState,
    /// Progress of bitcoind; `None` if the node did not say.
    pub chain: Option<Chain>,
    /// Number of peers that are connected or have a channel.
    pub peers: u32,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// The addresses that it announces, such as `203.0.113.7:9735`.
    pub addresses: Vec<String>,
}

impl NodeReport {
    /// Number of channels with this standing.
    pub fn count(&self, standing: Standing) -> usize {
        self.channels.iter().filter(|channel| channel.standing() == standing).count()
    }

    /// The most that one payment can bring in, in millisatoshi: the sum over all usable channels, because a payment can be
    /// split over them.
    ///
    /// It is the usual measure, and an upper bound. The payer may find no route to one of the channels, a channel on the way may
    /// have less, the payer's wallet may not split payments, and other unpaid invoices share the same amount.
    pub fn receivable_msat(&self) -> u64 {
        self.sum(|channel| channel.receivable_msat)
    }

    /// The most that the node can send in one payment, in millisatoshi: the sum over all usable channels.
    pub fn spendable_msat(&self) -> u64 {
        self.sum(|channel| channel.spendable_msat)
    }

    fn sum(&self, amount: impl Fn(&Channel) -> u64) -> u64 {
        let usable = self.channels.iter().filter(|channel| channel.standing() == Standing::Usable);
        usable.map(amount).fold(0, u64::saturating_add)
    }

    /// Whether orders have to fit into what can be received. By default that is so except on regtest, where the operator of
    /// the shop makes channels and blocks at will.
    pub fn requires_inbound(&self, setting: Option<bool>) -> bool {
        setting.unwrap_or(self.network != REGTEST)
    }
}

/// What has to happen before the shop opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "awaited", rename_all = "snake_case")]
pub enum Awaited {
    /// bitcoind synchronises with the network.
    BitcoindSync {
        /// Blocks that it has; `None` if unknown.
        blocks: Option<u32>,
        /// Blocks whose headers it knows; `None` if unknown.
        headers: Option<u32>,
    },
    /// lightningd reads the blocks that bitcoind has.
    LightningdSync {
        /// Blocks that lightningd has read.
        blocks: u32,
        /// Blocks that bitcoind has; `None` if unknown.
        headers: Option<u32>,
    },
    /// The node has no channel.
    NoChannels,
    /// The node's only channels are being opened.
    ChannelsOpening,
    /// No peer with an open channel is connected.
    PeersOffline,
    /// The peers have nothing on their side of the channels.
    NoInboundCapacity,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = |blocks: Option<u32>, headers: Option<u32>| match (blocks, headers) {
            (Some(blocks), Some(headers)) => format!(", {blocks} of {headers} blocks so far"),
            (Some(blocks), None) => format!(", {blocks} blocks so far"),
            (None, _) => String::new(),
        };
        match *self {
            Self::BitcoindSync { blocks, headers } => {
                write!(f, "the node's bitcoind is synchronising{}", progress(blocks, headers))
            }
            Self::LightningdSync { blocks, headers } => {
                write!(f, "the node is reading the latest blocks{}", progress(Some(blocks), headers))
            }
            Self::NoChannels => f.write_str("the node has no channels yet, so nobody can pay it"),
            Self::ChannelsOpening => f.write_str("the node's channels are being opened"),
            Self::PeersOffline => f.write_str("no peer that has a channel with the node is connected"),
            Self::NoInboundCapacity => {
                f.write_str("the node's channels cannot receive anything at the moment")
            }
        }
    }
}

/// Why an order cannot be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Obstacle {
    /// Nothing can be paid yet.
    #[error("the shop is not open yet: {0}")]
    NotOpenYet(Awaited),
    /// It is more than the channels can receive.
    #[error(
        "this order is too large: the node can receive {} sat in one payment at the moment; order fewer nodes or hours",
        largest_payable_msat / 1000
    )]
    TooLargeToReceive {
        /// The largest amount that can be paid, in millisatoshi.
        largest_payable_msat: u64,
    },
}

/// Whether new orders can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// The node has not answered yet. Orders are accepted, because "could not ask" does not mean that nobody can pay.
    #[default]
    Unknown,
    /// Orders can be paid.
    Open {
        /// Up to this amount, in millisatoshi; `None` if what can be received is not to be looked at.
        limit_msat: Option<u64>,
    },
    /// No order can be paid.
    NotOpen(Awaited),
}

impl Readiness {
    /// Decides by what the node says. `require_inbound` is the setting; see [`NodeReport::requires_inbound`].
    ///
    /// Synchronisation is required on every network: until then lightningd does not accept incoming payments.
    pub fn of(report: &NodeReport, require_inbound: Option<bool>) -> Self {
        let chain = report.chain;
        let blocks = chain.map(|chain| chain.blocks);
        match report.sync {
            SyncState::BitcoindSync => {
                let headers = chain.map(|chain| chain.headers);
                return Self::NotOpen(Awaited::BitcoindSync { blocks, headers });
            }
            SyncState::LightningdSync => {
                return Self::NotOpen(Awaited::LightningdSync { blocks: report.height, headers: blocks });
            }
            SyncState::Synchronised => {}
        }
        if !report.requires_inbound(require_inbound) {
            return Self::Open { limit_msat: None };
        }
        let receivable = report.receivable_msat();
        if receivable > 0 {
            return Self::Open { limit_msat: Some(receivable) };
        }
        let has = |standing| report.count(standing) > 0;
        Self::NotOpen(if has(Standing::Usable) {
            Awaited::NoInboundCapacity
        } else if has(Standing::Offline) {
            Awaited::PeersOffline
        } else if has(Standing::Opening) {
            Awaited::ChannelsOpening
        } else {
            Awaited::NoChannels
        })
    }

    /// What is awaited before anything can be paid.
    pub fn awaited(&self) -> Option<Awaited> {
        match self {
            Self::NotOpen(awaited) => Some(*awaited),
            Self::Unknown | Self::Open { .. } => None,
        }
    }

    /// The largest amount that can be paid, in millisatoshi; `None` if there is no known limit.
    pub fn limit_msat(&self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Open { limit_msat } => *limit_msat,
            Self::NotOpen(_) => Some(0),
        }
    }

    /// Succeeds if an order of this amount can be paid.
    pub fn admit(&self, amount_msat: u64) -> Result<(), Obstacle> {
        match self {
            Self::NotOpen(awaited) => Err(Obstacle::NotOpenYet(*awaited)),
            Self::Open { limit_msat: Some(limit) } if amount_msat > *limit => {
                Err(Obstacle::TooLargeToReceive { largest_payable_msat: *limit })
            }
            Self::Unknown | Self::Open { .. } => Ok(()),
        }
    }

    /// The most hours of a product that can be paid in one payment; 0 if not even the fewest that are sold can.
    pub fn payable_hours(&self, product: &Product, catalogue: &Catalogue) -> u32 {
        let Some(limit) = self.limit_msat() else { return catalogue.max_hours() };
        // The catalogue has neither products without nodes nor without a price.
        let hours = limit / (product.msat_per_node_hour * u64::from(product.node_count)).max(1);
        let hours = u32::try_from(hours).unwrap_or(u32::MAX).min(catalogue.max_hours());
        if hours < catalogue.min_hours() { 0 } else { hours }
    }
}

/// A warning in the answer to lightningd's `invoice`. None of them means that the invoice cannot be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceWarning {
    /// `warning_capacity`: even all channels together cannot receive it.
    Capacity,
    /// `warning_offline`: it would fit if the peers that are offline were connected.
    Offline,
    /// `warning_deadends`: it fits only over peers that seem to have no other channels.
    Deadends,
    /// `warning_private_unused`: it would fit if private channels were shown in the invoice.
    PrivateUnused,
    /// `warning_mpp`: it can be paid only in parts.
    Mpp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Sku;

    fn channel(state: &str, connected: bool, receivable_msat: u64) -> Channel {
        Channel { state: state.into(), connected, receivable_msat, spendable_msat: 7 }
    }

    fn report(network: &str, sync: SyncState, channels: Vec<Channel>) -> NodeReport {
        NodeReport {
            id: "02".into(),
            network: network.into(),
            height: 90,
            sync,
            chain: Some(Chain { blocks: 100, headers: 800 }),
            peers: 1,
            channels,
            addresses: Vec::new(),
        }
    }

    const NORMAL: &str = "CHANNELD_NORMAL";

    #[test]
    fn what_is_awaited_is_named() {
        use SyncState::{BitcoindSync, LightningdSync, Synchronised};
        let open = |limit_msat| Readiness::Open { limit_msat };
        let not = Readiness::NotOpen;
        let usable = || vec![channel(NORMAL, true, 5_000)];
        let bitcoind = not(Awaited::BitcoindSync { blocks: Some(100), headers: Some(800) });
        let lightningd = not(Awaited::LightningdSync { blocks: 90, headers: Some(100) });
        for (network, sync, channels, setting, expected) in [
            ("bitcoin", Synchronised, usable(), None, open(Some(5_000))),
            ("bitcoin", Synchronised, usable(), Some(false), open(None)),
            // Synchronisation is required whatever the network, the channels and the setting are.
            ("bitcoin", BitcoindSync, usable(), None, bitcoind),
            ("bitcoin", LightningdSync, usable(), None, lightningd),
            ("regtest", BitcoindSync, usable(), Some(false), bitcoind),
            ("regtest", LightningdSync, usable(), None, lightningd),
            ("signet", BitcoindSync, vec![], None, bitcoind),
            // Channels are required except on regtest.
            ("regtest", Synchronised, vec![], None, open(None)),
            ("regtest", Synchronised, vec![], Some(true), not(Awaited::NoChannels)),
            ("signet", Synchronised, vec![], None, not(Awaited::NoChannels)),
            ("bitcoin", Synchronised, vec![], None, not(Awaited::NoChannels)),
            ("bitcoin", Synchronised, vec![], Some(false), open(None)),
            ("bitcoin", Synchronised, vec![channel("ONCHAIN", true, 5)], None, not(Awaited::NoChannels)),
            (
                "bitcoin",
                Synchronised,
                vec![channel("CHANNELD_AWAITING_LOCKIN", true, 5)],
                None,
                not(Awaited::ChannelsOpening),
            ),
            ("bitcoin", Synchronised, vec![channel(NORMAL, false, 5)], None, not(Awaited::PeersOffline)),
            (
                "bitcoin",
                Synchronised,
                vec![channel(NORMAL, false, 5), channel(NORMAL, true, 0)],
                None,
                not(Awaited::NoInboundCapacity),
            ),
        ] {
            let report = report(network, sync, channels);
            assert_eq!(Readiness::of(&report, setting), expected, "{setting:?} {report:?}");
        }
    }

    #[test]
    fn without_bitcoinds_progress_the_rest_is_known() {
        let mut silent = report("bitcoin", SyncState::BitcoindSync, vec![]);
        silent.chain = None;
        let awaited = Awaited::BitcoindSync { blocks: None, headers: None };
        assert_eq!(Readiness::of(&silent, None), Readiness::NotOpen(awaited));
        assert_eq!(awaited.to_string(), "the node's bitcoind is synchronising");
    }

    #[test]
    fn only_what_can_be_used_is_counted() {
        let states = [
            ("CHANNELD_NORMAL", true, Standing::Usable),
            ("CHANNELD_AWAITING_SPLICE", true, Standing::Usable),
            ("CHANNELD_NORMAL", false, Standing::Offline),
            ("CHANNELD_AWAITING_SPLICE", false, Standing::Offline),
            ("OPENINGD", true, Standing::Opening),
            ("CHANNELD_AWAITING_LOCKIN", true, Standing::Opening),
            ("DUALOPEND_AWAITING_LOCKIN", false, Standing::Opening),
            ("DUALOPEND_OPEN_INIT", true, Standing::Opening),
            ("CHANNELD_SHUTTING_DOWN", true, Standing::Closing),
            ("AWAITING_UNILATERAL", true, Standing::Closing),
            ("ONCHAIN", true, Standing::Closing),
            ("SOMETHING_NEW", true, Standing::Closing),
        ];
        for (state, connected, expected) in states {
            assert_eq!(channel(state, connected, 1).standing(), expected, "{state} {connected}");
        }
        let channels: Vec<_> = states.iter().map(|(state, up, _)| channel(state, *up, 1_000)).collect();
        let report = report("bitcoin", SyncState::Synchronised, channels);
        assert_eq!((report.receivable_msat(), report.spendable_msat()), (2_000, 14));
        assert_eq!(report.count(Standing::Opening), 4);
    }

    #[test]
    fn an_order_has_to_fit() {
        let open = |limit_msat| Readiness::Open { limit_msat };
        let awaited = Awaited::NoChannels;
        let too_large = Err(Obstacle::TooLargeToReceive { largest_payable_msat: 1_000 });
        for (readiness, amount, expected) in [
            (Readiness::Unknown, u64::MAX, Ok(())),
            (open(None), u64::MAX, Ok(())),
            (open(Some(1_000)), 1_000, Ok(())),
            (open(Some(1_000)), 1_001, too_large),
            (Readiness::NotOpen(awaited), 1, Err(Obstacle::NotOpenYet(awaited))),
        ] {
            assert_eq!(readiness.admit(amount), expected, "{readiness:?} {amount}");
        }
    }

    #[test]
    fn hours_are_those_that_can_be_paid() {
        let product = Product { sku: Sku("A".into()), node_count: 8, msat_per_node_hour: 100, prepared: 0 };
        let shop = Catalogue::new(vec![product.clone()], 2, 10).expect("a catalogue");
        for (limit_msat, hours) in
            [(None, 10), (Some(1_599), 0), (Some(1_600), 2), (Some(7_999), 9), (Some(u64::MAX), 10)]
        {
            assert_eq!(
                Readiness::Open { limit_msat }.payable_hours(&product, &shop),
                hours,
                "{limit_msat:?}"
            );
        }
        assert_eq!(Readiness::Unknown.payable_hours(&product, &shop), 10);
        assert_eq!(Readiness::NotOpen(Awaited::NoChannels).payable_hours(&product, &shop), 0);
    }

    #[test]
    fn sentences_and_names_are_for_people_and_programs() {
        let awaited = Awaited::BitcoindSync { blocks: Some(100), headers: Some(800) };
        assert_eq!(
            Obstacle::NotOpenYet(awaited).to_string(),
            "the shop is not open yet: the node's bitcoind is synchronising, 100 of 800 blocks so far"
        );
        let json = serde_json::to_value(awaited).expect("plain data");
        assert_eq!(json, serde_json::json!({"awaited": "bitcoind_sync", "blocks": 100, "headers": 800}));
        let json = serde_json::to_value(Awaited::NoChannels).expect("plain data");
        assert_eq!(json, serde_json::json!({"awaited": "no_channels"}));
        let large = Obstacle::TooLargeToReceive { largest_payable_msat: 5_999_999 };
        assert!(large.to_string().contains("can receive 5999 sat in one payment"), "{large}");
        assert_eq!(serde_json::json!(InvoiceWarning::PrivateUnused), "private_unused");
    }
}
