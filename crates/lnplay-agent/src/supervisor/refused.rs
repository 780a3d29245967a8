//! An action of the desk that was not carried out.

use lnplaylive_core::desk::{Answer, Refusal};

use super::environment::Environment;

/// The reason, for programs and in a sentence.
#[derive(Debug)]
pub(super) struct Refused {
    reason: Refusal,
    message: String,
}

impl Refused {
    pub(super) fn new(reason: Refusal, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn of_node(reason: Refusal, environment: &Environment, node: u32, what: &str) -> Self {
        let name = environment.nodes.get(node as usize).map_or("the node", |node| node.name.as_str());
        Self::new(reason, format!("{name} {what}"))
    }

    /// The node is switched off.
    pub(super) fn node_off(environment: &Environment, node: u32) -> Self {
        Self::of_node(Refusal::NodeOff, environment, node, "is switched off; switch it on first")
    }

    /// The node does not answer.
    pub(super) fn no_answer(environment: &Environment, node: u32) -> Self {
        Self::of_node(Refusal::NoAnswer, environment, node, "does not answer")
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Refusal::Failed, format!("{error:#}"))
    }
}

impl From<Refused> for Answer {
    fn from(Refused { reason, message }: Refused) -> Self {
        Self::Refused { reason, message }
    }
}
