//! Errors on the wire: `{code, message, data: {kind, …}}`. People read the message, programs read the data.

use lnplaylive_core::catalogue::QuoteError;
use lnplaylive_core::customisation::CustomisationError;
use lnplaylive_core::desk::{ActionError, MAX_BLOCKS, MAX_SAT, MIN_SAT};
use lnplaylive_core::readiness::Obstacle;
use serde::Serialize;
use serde_json::{Value, json};

use crate::core::ShopError;

/// JSON-RPC: a parameter is missing, unknown or wrong.
const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC: the node, or the plugin itself, cannot do this now.
const INTERNAL: i32 = -32603;

/// A handler's answer.
pub(super) type Answer = Result<Value, Failure>;

/// An error answer. Codes of our own begin at 7000.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    code: i32,
    message: String,
    data: Value,
}

impl Failure {
    /// A handler panicked.
    pub(super) fn internal() -> Self {
        let message = "internal error; the operator can see more in the log".to_owned();
        Self { code: INTERNAL, message, data: json!({ "kind": "internal" }) }
    }

    /// The parameters as a whole are wrong.
    pub(super) fn invalid_call(message: impl Into<String>) -> Self {
        Self { code: INVALID_PARAMS, message: message.into(), data: invalid_params(None, None) }
    }

    /// A parameter is missing, unknown or wrong.
    pub(super) fn invalid_param(parameter: &str, message: impl Into<String>) -> Self {
        Self { data: invalid_params(Some(parameter), None), ..Self::invalid_call(message) }
    }

    /// The same failure, with a list or range of what is allowed.
    pub(super) fn allowing(mut self, allowed: impl Serialize) -> Self {
        self.data["allowed"] = json!(allowed);
        self
    }

    /// Something that the interface has room for and the shop does not do yet.
    pub(super) fn not_supported(feature: &str) -> Self {
        let data = json!({ "kind": "not_supported", "feature": feature });
        Self { code: 7003, message: format!("{feature} is not supported yet"), data }
    }
}

impl From<ShopError> for Failure {
    fn from(error: ShopError) -> Self {
        if let ShopError::Node(detail) = &error {
            tracing::warn!("{detail}");
        }
        let message = error.to_string();
        let (code, data) = wire(error);
        Self { code, message, data }
    }
}

/// Code and data of a domain error. A new error has its line here, in the page's `errors.ts`, and nowhere else.
fn wire(error: ShopError) -> (i32, Value) {
    match error {
        ShopError::Quote(error) => (INVALID_PARAMS, quote(error)),
        ShopError::Customisation(error) => (INVALID_PARAMS, customisation(&error)),
        ShopError::Starting => (INTERNAL, json!({ "kind": "starting" })),
        ShopError::Node(_) => (INTERNAL, json!({ "kind": "node_unavailable" })),
        ShopError::NoSuchOrder => (7000, json!({ "kind": "no_such_order" })),
        ShopError::NoRemotes => (7001, json!({ "kind": "no_remotes" })),
        ShopError::Busy { retry_after_secs } => {
            (7002, json!({ "kind": "busy", "retry_after_secs": retry_after_secs }))
        }
        ShopError::DamagedRecord => (7004, json!({ "kind": "damaged_record" })),
        ShopError::InvalidState { state, .. } => (7005, json!({ "kind": "invalid_state", "state": state })),
        ShopError::SoldOut { next_available_at } => {
            (7006, json!({ "kind": "sold_out", "next_available_at": next_available_at }))
        }
        ShopError::AvailabilityUnknown { silent_for } => {
            (7007, json!({ "kind": "availability_unknown", "silent_for_secs": silent_for.as_secs() }))
        }
        ShopError::TicketRequired { retry_after_secs, .. } => {
            (7009, json!({ "kind": "ticket_required", "retry_after_secs": retry_after_secs }))
        }
        ShopError::TicketSpent(_) => (7010, json!({ "kind": "ticket_spent" })),
        ShopError::UnpaidLimit { share, retry_after_secs } => {
            let data = json!({ "kind": "unpaid_limit", "share": share.name(), "retry_after_secs": retry_after_secs });
            (7011, data)
        }
        ShopError::NotPayable { obstacle: Obstacle::NotOpenYet(awaited), .. } => {
            let mut data = json!(awaited);
            data["kind"] = json!("not_open_yet");
            (7012, data)
        }
        ShopError::NotPayable {
            obstacle: Obstacle::TooLargeToReceive { largest_payable_msat },
            payable_hours,
        } => {
            let data = json!({
                "kind": "too_large_to_receive",
                "largest_payable_msat": largest_payable_msat,
                "payable_hours": payable_hours,
            });
            (7013, data)
        }
        ShopError::DeskAction(error) => (INVALID_PARAMS, desk_action(error)),
        ShopError::DeskBusy { retry_after_secs } => {
            (7014, json!({ "kind": "desk_busy", "retry_after_secs": retry_after_secs }))
        }
        ShopError::DeskTooOld => (7015, json!({ "kind": "desk_too_old" })),
        ShopError::DeskNoAnswer => (7016, json!({ "kind": "desk_no_answer" })),
        ShopError::DeskRefused { reason } => (7017, json!({ "kind": "desk_refused", "reason": reason })),
        ShopError::RemotesFailing | ShopError::Remote(_) => (7008, json!({ "kind": "remote_failed" })),
    }
}

fn invalid_params(parameter: Option<&str>, allowed: Option<Value>) -> Value {
    let mut data = json!({ "kind": "invalid_params", "parameter": parameter });
    if let Some(allowed) = allowed {
        data["allowed"] = allowed;
    }
    data
}

fn quote(error: QuoteError) -> Value {
    let (parameter, allowed) = match error {
        QuoteError::Sku { allowed } => ("sku", json!(allowed)),
        QuoteError::NodeCount { allowed } => ("node_count", json!(allowed)),
        QuoteError::SkuNodeCount { node_count, .. } => ("node_count", json!([node_count])),
        QuoteError::Hours { min, max } => ("hours", json!({ "min": min, "max": max })),
    };
    invalid_params(Some(parameter), Some(allowed))
}

fn desk_action(error: ActionError) -> Value {
    let (parameter, allowed) = match error {
        ActionError::Node { nodes } => ("node", json!({ "min": 0, "max": nodes.saturating_sub(1) })),
        ActionError::Sat => ("sat", json!({ "min": MIN_SAT, "max": MAX_SAT })),
        ActionError::Blocks => ("blocks", json!({ "min": 1, "max": MAX_BLOCKS })),
        ActionError::Setup => ("setup", json!(["star", "circular", "prism"])),
    };
    invalid_params(Some(parameter), Some(allowed))
}

fn customisation(error: &CustomisationError) -> Value {
    invalid_params(Some(error.parameter()), error.allowed().map(|names| json!(names)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lnplaylive_core::Catalogue;
    use lnplaylive_core::catalogue::Selection;
    use lnplaylive_core::desk::Refusal;
    use lnplaylive_core::holds::Share;
    use lnplaylive_core::order::Severity;
    use lnplaylive_core::readiness::Awaited;
    use lnplaylive_core::ticket::TicketError;

    use super::*;
    use crate::core::interfaces::{NodeError, RemoteError};

    fn on_the_wire(error: ShopError) -> Value {
        serde_json::to_value(Failure::from(error)).expect("plain data")
    }

    #[test]
    fn programs_find_a_kind_and_its_data() {
        let at = jiff::Timestamp::from_second(1_700_000_000).expect("in range");
        let remote = RemoteError { severity: Severity::Final, reason: "remote \"a\": gone".into() };
        for (error, code, data) in [
            (ShopError::NoSuchOrder, 7000, json!({"kind": "no_such_order"})),
            (ShopError::NoRemotes, 7001, json!({"kind": "no_remotes"})),
            (ShopError::Busy { retry_after_secs: 40 }, 7002, json!({"kind": "busy", "retry_after_secs": 40})),
            (ShopError::DamagedRecord, 7004, json!({"kind": "damaged_record"})),
            (
                ShopError::invalid_state("provisioned", "cannot cancel an order that is provisioned"),
                7005,
                json!({"kind": "invalid_state", "state": "provisioned"}),
            ),
            (
                ShopError::SoldOut { next_available_at: Some(at) },
                7006,
                json!({"kind": "sold_out", "next_available_at": "2023-11-14T22:13:20Z"}),
            ),
            (
                ShopError::SoldOut { next_available_at: None },
                7006,
                json!({"kind": "sold_out", "next_available_at": null}),
            ),
            (
                ShopError::availability_unknown(Duration::from_secs(60)),
                7007,
                json!({"kind": "availability_unknown", "silent_for_secs": 60}),
            ),
            (ShopError::RemotesFailing, 7008, json!({"kind": "remote_failed"})),
            (remote.into(), 7008, json!({"kind": "remote_failed"})),
            (
                ShopError::TicketRequired { reason: "too many", retry_after_secs: Some(9) },
                7009,
                json!({"kind": "ticket_required", "retry_after_secs": 9}),
            ),
            (
                ShopError::TicketRequired { reason: "not ours", retry_after_secs: None },
                7009,
                json!({"kind": "ticket_required", "retry_after_secs": null}),
            ),
            (ShopError::TicketSpent(TicketError::Expired), 7010, json!({"kind": "ticket_spent"})),
            (
                ShopError::UnpaidLimit { share: Share::WithoutTicket, retry_after_secs: 9 },
                7011,
                json!({"kind": "unpaid_limit", "share": "without_ticket", "retry_after_secs": 9}),
            ),
            (
                ShopError::NotPayable {
                    obstacle: Obstacle::NotOpenYet(Awaited::LightningdSync { blocks: 1, headers: None }),
                    payable_hours: 0,
                },
                7012,
                json!({"kind": "not_open_yet", "awaited": "lightningd_sync", "blocks": 1, "headers": null}),
            ),
            (
                ShopError::NotPayable {
                    obstacle: Obstacle::TooLargeToReceive { largest_payable_msat: 9 },
                    payable_hours: 2,
                },
                7013,
                json!({"kind": "too_large_to_receive", "largest_payable_msat": 9, "payable_hours": 2}),
            ),
            (
                ShopError::DeskBusy { retry_after_secs: 5 },
                7014,
                json!({"kind": "desk_busy", "retry_after_secs": 5}),
            ),
            (ShopError::DeskTooOld, 7015, json!({"kind": "desk_too_old"})),
            (ShopError::DeskNoAnswer, 7016, json!({"kind": "desk_no_answer"})),
            (
                ShopError::DeskRefused { reason: Refusal::NodeOff },
                7017,
                json!({"kind": "desk_refused", "reason": "node_off"}),
            ),
            (
                ActionError::Node { nodes: 8 }.into(),
                INVALID_PARAMS,
                json!({"kind": "invalid_params", "parameter": "node", "allowed": {"min": 0, "max": 7}}),
            ),
            (ShopError::Starting, INTERNAL, json!({"kind": "starting"})),
            (NodeError::Refused("why".into()).into(), INTERNAL, json!({"kind": "node_unavailable"})),
        ] {
            let message = error.to_string();
            assert_eq!(on_the_wire(error), json!({"code": code, "message": message, "data": data}));
        }
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_is_allowed() {
        let shop = Catalogue::default();
        let data = |selection, hours| {
            let error = shop.quote(selection, hours).expect_err("not for sale");
            on_the_wire(error.into())["data"].take()
        };
        for (selection, hours, parameter, allowed) in [
            (Selection::NodeCount(9), 1, "node_count", json!([8, 16, 32, 64])),
            (Selection::NodeCount(8), 0, "hours", json!({"min": 1, "max": 504})),
            (Selection::Sku { sku: "Z", node_count: None }, 1, "sku", json!(["A", "B", "C", "D"])),
            (Selection::Sku { sku: "A", node_count: Some(9) }, 1, "node_count", json!([8])),
        ] {
            let expected = json!({"kind": "invalid_params", "parameter": parameter, "allowed": allowed});
            assert_eq!(data(selection, hours), expected);
        }
        let title = on_the_wire(CustomisationError::Title.into());
        assert_eq!(title["data"], json!({"kind": "invalid_params", "parameter": "title"}));
        let setup = on_the_wire(CustomisationError::ChannelSetup.into());
        assert_eq!(setup["data"]["allowed"], json!(["none", "star", "circular", "prism"]));
    }
}
