//! The node's RPC, as far as we call it. Each call has its own connection and is bounded in time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cln_rpc::model::requests::{
    DatastoreMode, DatastoreRequest, DeldatastoreRequest, DelinvoiceRequest, DelinvoiceStatus,
    GetinfoRequest, InvoiceRequest, ListdatastoreRequest, ListinvoicesRequest,
};
use cln_rpc::model::responses::{
    GetinfoAddress, InvoiceResponse, ListdatastoreDatastore, ListinvoicesInvoicesStatus,
};
use cln_rpc::primitives::{Amount, AmountOrAny};
use cln_rpc::{RpcError, TypedRequest};
use daemon_rpc::Lightningd;
use futures_util::future::{BoxFuture, FutureExt as _};
use lnplaylive_core::readiness::{Chain, Channel, InvoiceWarning, NodeReport, SyncState};
use lnplaylive_core::settings::url_host;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::core::interfaces::{
    InvoiceStatus, Invoices, MadeInvoice, NewInvoice, NodeCondition, NodeError, Removal, RemoveIf,
};

/// Time-out of the calls about the node's condition. They are repeated, so a slow one may be given up.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(10);

/// lightningd's error codes (`common/jsonrpc_errors.h`).
mod code {
    pub(super) const INVOICE_NOT_FOUND: i32 = 905;
    pub(super) const INVOICE_STATUS_UNEXPECTED: i32 = 906;
    pub(super) const DATASTORE_DEL_DOES_NOT_EXIST: i32 = 1200;
    pub(super) const DATASTORE_DEL_WRONG_GENERATION: i32 = 1201;
    pub(super) const DATASTORE_UPDATE_ALREADY_EXISTS: i32 = 1202;
    pub(super) const DATASTORE_UPDATE_DOES_NOT_EXIST: i32 = 1203;
    pub(super) const DATASTORE_UPDATE_WRONG_GENERATION: i32 = 1204;
}

/// A call that failed.
#[derive(Debug, Error)]
enum CallError {
    /// No answer: the call may or may not have been carried out.
    #[error("lightningd did not answer {method}: {reason}")]
    NoAnswer { method: String, reason: String },
    /// lightningd refused.
    #[error("lightningd refused {method}: {message} (code {code})")]
    Refused { method: String, code: i32, message: String },
}

impl CallError {
    fn new(method: &str, RpcError { code, message, .. }: RpcError) -> Self {
        let method = method.to_owned();
        match code {
            Some(code) => Self::Refused { method, code, message },
            None => Self::NoAnswer { method, reason: message },
        }
    }

    fn has_code(&self, codes: &[i32]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.contains(code))
    }
}

impl From<CallError> for NodeError {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::NoAnswer { .. } => Self::NoAnswer(text),
            CallError::Refused {
                code:
                    code::DATASTORE_DEL_DOES_NOT_EXIST
                    | code::DATASTORE_DEL_WRONG_GENERATION
                    | code::DATASTORE_UPDATE_ALREADY_EXISTS
                    | code::DATASTORE_UPDATE_DOES_NOT_EXIST
                    | code::DATASTORE_UPDATE_WRONG_GENERATION,
                ..
            } => Self::Conflict(text),
            CallError::Refused { .. } => Self::Refused(text),
        }
    }
}

/// The node that the plugin runs in.
#[derive(Debug)]
pub struct Node {
    rpc: Lightningd,
    /// Held by a change to what is stored already; [`Node::create_data`] does not wait for it. lightningd commits one write
    /// at a time, so those of twenty workers are no faster side by side, but a buyer's new order would wait for all of them.
    changes: Mutex<()>,
}

impl Node {
    /// The node whose RPC socket is `rpc_file`.
    pub fn new(rpc_file: PathBuf) -> Self {
        Self::with(Lightningd::new(rpc_file))
    }

    fn with(rpc: Lightningd) -> Self {
        Self { rpc, changes: Mutex::default() }
    }

    async fn call<R>(&self, request: &R) -> Result<R::Response, CallError>
    where
        R: TypedRequest + Serialize + std::fmt::Debug + Sync,
        R::Response: DeserializeOwned + std::fmt::Debug,
    {
        self.rpc.call_typed(request).await.map_err(|error| CallError::new(request.method(), error))
    }

    /// Calls a method without parameters by its name.
    async fn call_named<T>(&self, method: &str) -> Result<T, CallError>
    where
        T: DeserializeOwned + std::fmt::Debug,
    {
        self.rpc.call(method, json!({})).await.map_err(|error| CallError::new(method, error))
    }

    /// Writes a datastore key that must be new; returns its generation.
    pub(super) async fn create_data(&self, key: Vec<String>, value: String) -> Result<u64, NodeError> {
        self.write_data(key, value, DatastoreMode::MUST_CREATE, None).await
    }

    /// Replaces the value of a datastore key that must have this generation; returns the new one.
    pub(super) async fn replace_data(
        &self,
        key: Vec<String>,
        value: String,
        generation: u64,
    ) -> Result<u64, NodeError> {
        let _turn = self.changes.lock().await;
        self.write_data(key, value, DatastoreMode::MUST_REPLACE, Some(generation)).await
    }

    /// Writes a datastore key, replacing any value that it has.
    pub(super) async fn put_data(&self, key: Vec<String>, value: String) -> Result<u64, NodeError> {
        let _turn = self.changes.lock().await;
        self.write_data(key, value, DatastoreMode::CREATE_OR_REPLACE, None).await
    }

    async fn write_data(
        &self,
        key: Vec<String>,
        value: String,
        mode: DatastoreMode,
        generation: Option<u64>,
    ) -> Result<u64, NodeError> {
        let request = DatastoreRequest { key, string: Some(value), hex: None, mode: Some(mode), generation };
        Ok(self.call(&request).await?.generation.unwrap_or(0))
    }

    /// Removes a datastore key, of this generation only if one is given.
    pub(super) async fn delete_data(
        &self,
        key: Vec<String>,
        generation: Option<u64>,
    ) -> Result<(), NodeError> {
        let _turn = self.changes.lock().await;
        self.call(&DeldatastoreRequest { key, generation }).await?;
        Ok(())
    }

    /// The datastore entry with this key, or the entries right below it.
    pub(super) async fn list_data(&self, key: Vec<String>) -> Result<Vec<ListdatastoreDatastore>, NodeError> {
        Ok(self.call(&ListdatastoreRequest { key: Some(key) }).await?.datastore)
    }
}

/// The answer of `listpeerchannels`, as far as we read it. Not cln-rpc's, which knows no states of later releases.
#[derive(Debug, Deserialize)]
struct PeerChannels {
    channels: Vec<PeerChannel>,
}

#[derive(Debug, Deserialize)]
struct PeerChannel {
    state: String,
    peer_connected: bool,
    #[serde(default)]
    receivable_msat: u64,
    #[serde(default)]
    spendable_msat: u64,
}

/// The answer of `getchaininfo`, the method of lightningd's Bitcoin backend (`plugins/bcli.c`).
#[derive(Debug, Deserialize)]
struct ChainInfo {
    headercount: u32,
    blockcount: u32,
}

impl NodeCondition for Node {
    fn report(&self) -> BoxFuture<'_, Result<NodeReport, NodeError>> {
        let node = Self::with(self.rpc.with_timeout(CONDITION_TIMEOUT));
        async move {
            let info = node.call(&GetinfoRequest {}).await?;
            let channels: PeerChannels = node.call_named("listpeerchannels").await?;
            // Only for the operator and the page; a backend other than Core Lightning's own need not have it.
            let chain = node.call_named::<ChainInfo>("getchaininfo").await.ok();
            Ok(NodeReport {
                id: info.id.to_string(),
                network: info.network,
                height: info.blockheight,
                sync: match (info.warning_bitcoind_sync, info.warning_lightningd_sync) {
                    (Some(_), _) => SyncState::BitcoindSync,
                    (None, Some(_)) => SyncState::LightningdSync,
                    (None, None) => SyncState::Synchronised,
                },
                chain: chain.map(|chain| Chain { blocks: chain.blockcount, headers: chain.headercount }),
                peers: info.num_peers,
                channels: channels.channels.into_iter().map(Channel::from).collect(),
                addresses: info.address.iter().map(announced).collect(),
            })
        }
        .boxed()
    }
}

impl From<PeerChannel> for Channel {
    fn from(channel: PeerChannel) -> Self {
        let PeerChannel { state, peer_connected: connected, receivable_msat, spendable_msat } = channel;
        Self { state, connected, receivable_msat, spendable_msat }
    }
}

/// An announced address, as one would connect to it.
fn announced(address: &GetinfoAddress) -> String {
    let host = address.address.as_deref().unwrap_or_default();
    format!("{}:{}", url_host(host), address.port)
}

fn warnings(answer: &InvoiceResponse) -> BTreeSet<InvoiceWarning> {
    let given = [
        (&answer.warning_capacity, InvoiceWarning::Capacity),
        (&answer.warning_offline, InvoiceWarning::Offline),
        (&answer.warning_deadends, InvoiceWarning::Deadends),
        (&answer.warning_private_unused, InvoiceWarning::PrivateUnused),
        (&answer.warning_mpp, InvoiceWarning::Mpp),
    ];
    given.into_iter().filter(|(text, _)| text.is_some()).map(|(_, warning)| warning).collect()
}

impl Invoices for Node {
    fn create<'a>(&'a self, invoice: NewInvoice<'a>) -> BoxFuture<'a, Result<MadeInvoice, NodeError>> {
        async move {
            let request = InvoiceRequest {
                label: invoice.label.to_owned(),
                description: invoice.description.to_owned(),
                amount_msat: AmountOrAny::Amount(Amount::from_msat(invoice.amount_msat)),
                expiry: Some(invoice.expiry_secs.into()),
                cltv: None,
                deschashonly: None,
                preimage: None,
                exposeprivatechannels: None,
                fallbacks: None,
            };
            let answer = self.call(&request).await?;
            Ok(MadeInvoice { warnings: warnings(&answer), bolt11: answer.bolt11 })
        }
        .boxed()
    }

    fn status<'a>(&'a self, label: &'a str) -> BoxFuture<'a, Result<InvoiceStatus, NodeError>> {
        async move {
            let request = ListinvoicesRequest {
                label: Some(label.to_owned()),
                index: None,
                invstring: None,
                limit: None,
                offer_id: None,
                payment_hash: None,
                start: None,
            };
            let answer = self.call(&request).await?;
            Ok(match answer.invoices.first().map(|i| i.status) {
                Some(ListinvoicesInvoicesStatus::UNPAID) => InvoiceStatus::Unpaid,
                Some(ListinvoicesInvoicesStatus::PAID) => InvoiceStatus::Paid,
                Some(ListinvoicesInvoicesStatus::EXPIRED) => InvoiceStatus::Expired,
                None => InvoiceStatus::Missing,
            })
        }
        .boxed()
    }

    fn remove<'a>(&'a self, label: &'a str, when: RemoveIf) -> BoxFuture<'a, Result<Removal, NodeError>> {
        async move {
            let status = match when {
                RemoveIf::Unpaid => DelinvoiceStatus::UNPAID,
                RemoveIf::Expired => DelinvoiceStatus::EXPIRED,
            };
            let request = DelinvoiceRequest { label: label.to_owned(), status, desconly: None };
            match self.call(&request).await {
                Ok(_) => Ok(Removal::Removed),
                Err(error) if error.has_code(&[code::INVOICE_NOT_FOUND]) => Ok(Removal::Missing),
                Err(error) if error.has_code(&[code::INVOICE_STATUS_UNEXPECTED]) => Ok(Removal::OtherState),
                Err(error) => Err(error.into()),
            }
        }
        .boxed()
    }
}
