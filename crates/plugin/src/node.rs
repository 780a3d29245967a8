//! The node's RPC, as far as we call it. Each call has its own connection and is bounded in time.

use std::path::PathBuf;

use cln_rpc::model::requests::{
    DatastoreMode, DatastoreRequest, DeldatastoreRequest, DelinvoiceRequest, DelinvoiceStatus,
    InvoiceRequest, ListdatastoreRequest, ListinvoicesRequest,
};
use cln_rpc::model::responses::{InvoiceResponse, ListdatastoreDatastore, ListinvoicesInvoicesStatus};
use cln_rpc::primitives::{Amount, AmountOrAny};
use cln_rpc::{RpcError, TypedRequest};
use daemon_rpc::Lightningd;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

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

/// A call that did not work.
#[derive(Debug, Error)]
pub(crate) enum NodeError {
    /// No answer: whether it was carried out is not known.
    #[error("lightningd did not answer {method}: {reason}")]
    NoAnswer { method: String, reason: String },
    /// lightningd refused.
    #[error("lightningd refused {method}: {message} (code {code})")]
    Refused { method: String, code: i32, message: String },
}

impl NodeError {
    fn has_code(&self, codes: &[i32]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.contains(code))
    }

    /// Whether a datastore key was not in the state that the caller thought.
    pub(crate) fn is_conflict(&self) -> bool {
        self.has_code(&[
            code::DATASTORE_DEL_DOES_NOT_EXIST,
            code::DATASTORE_DEL_WRONG_GENERATION,
            code::DATASTORE_UPDATE_ALREADY_EXISTS,
            code::DATASTORE_UPDATE_DOES_NOT_EXIST,
            code::DATASTORE_UPDATE_WRONG_GENERATION,
        ])
    }
}

/// How an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvoiceStatus {
    Unpaid,
    Paid,
    Expired,
    /// There is no invoice of that label.
    Missing,
}

/// What came of removing an invoice that must be in a given state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    /// It was not there.
    Missing,
    /// It is there and in another state: it may have been paid.
    OtherState,
}

/// The node that we are a plugin of.
#[derive(Debug)]
pub(crate) struct Node {
    rpc: Lightningd,
}

impl Node {
    pub(crate) fn new(rpc_file: PathBuf) -> Self {
        Self { rpc: Lightningd::new(rpc_file) }
    }

    async fn call<R>(&self, request: &R) -> Result<R::Response, NodeError>
    where
        R: TypedRequest + Serialize + std::fmt::Debug + Sync,
        R::Response: DeserializeOwned + std::fmt::Debug,
    {
        let method = request.method();
        self.rpc.call_typed(request).await.map_err(|RpcError { code, message, .. }| match code {
            Some(code) => NodeError::Refused { method: method.to_owned(), code, message },
            None => NodeError::NoAnswer { method: method.to_owned(), reason: message },
        })
    }

    /// Makes an invoice that expires in `expiry_secs`.
    pub(crate) async fn invoice(
        &self,
        label: &str,
        description: &str,
        amount_msat: u64,
        expiry_secs: u32,
    ) -> Result<InvoiceResponse, NodeError> {
        let request = InvoiceRequest {
            label: label.to_owned(),
            description: description.to_owned(),
            amount_msat: AmountOrAny::Amount(Amount::from_msat(amount_msat)),
            expiry: Some(expiry_secs.into()),
            cltv: None,
            deschashonly: None,
            preimage: None,
            exposeprivatechannels: None,
            fallbacks: None,
        };
        self.call(&request).await
    }

    /// How the invoice of that label stands.
    pub(crate) async fn invoice_status(&self, label: &str) -> Result<InvoiceStatus, NodeError> {
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

    /// Removes an invoice if it is in that state, in one step: one that was paid meanwhile stays.
    pub(crate) async fn remove_invoice(
        &self,
        label: &str,
        status: DelinvoiceStatus,
    ) -> Result<Removal, NodeError> {
        let request = DelinvoiceRequest { label: label.to_owned(), status, desconly: None };
        match self.call(&request).await {
            Ok(_) => Ok(Removal::Removed),
            Err(error) if error.has_code(&[code::INVOICE_NOT_FOUND]) => Ok(Removal::Missing),
            Err(error) if error.has_code(&[code::INVOICE_STATUS_UNEXPECTED]) => Ok(Removal::OtherState),
            Err(error) => Err(error),
        }
    }

    /// Writes a datastore key that must be new; returns its generation.
    pub(crate) async fn create(&self, key: Vec<String>, value: String) -> Result<u64, NodeError> {
        self.write(key, value, DatastoreMode::MUST_CREATE, None).await
    }

    /// Replaces the value of a datastore key that must be of that generation; returns the new one.
    pub(crate) async fn replace(
        &self,
        key: Vec<String>,
        value: String,
        generation: u64,
    ) -> Result<u64, NodeError> {
        self.write(key, value, DatastoreMode::MUST_REPLACE, Some(generation)).await
    }

    /// Writes a datastore key, whatever was there.
    pub(crate) async fn put(&self, key: Vec<String>, value: String) -> Result<u64, NodeError> {
        self.write(key, value, DatastoreMode::CREATE_OR_REPLACE, None).await
    }

    async fn write(
        &self,
        key: Vec<String>,
        value: String,
        mode: DatastoreMode,
        generation: Option<u64>,
    ) -> Result<u64, NodeError> {
        let request = DatastoreRequest { key, string: Some(value), hex: None, mode: Some(mode), generation };
        Ok(self.call(&request).await?.generation.unwrap_or(0))
    }

    /// Removes a datastore key; of the given generation only, where one is given.
    pub(crate) async fn delete(&self, key: Vec<String>, generation: Option<u64>) -> Result<(), NodeError> {
        self.call(&DeldatastoreRequest { key, generation }).await.map(drop)
    }

    /// The datastore entry of that key, or the entries right below it.
    pub(crate) async fn list(&self, key: Vec<String>) -> Result<Vec<ListdatastoreDatastore>, NodeError> {
        Ok(self.call(&ListdatastoreRequest { key: Some(key) }).await?.datastore)
    }
}
