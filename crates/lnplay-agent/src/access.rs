//! The methods that an attendee's rune allows: the one list of all of lightningd's methods, each allowed or refused.
//!
//! Only the rune stands between the internet and a node's RPC, which can start programs, write files and make more runes.
//! So it is an allowlist. A rune contains its conditions and is printed as a QR code, which has no room for seventy names.
//! The conditions ([`CONDITIONS`]) therefore match families such as `method^list`; a method that matches although
//! [`decide`] does not allow it is excluded by name when the rune is made, from the list in the node's own `help`
//! ([`restrictions`]). A method that a newer lightningd adds is thus refused until it is decided here. A test checks all
//! methods of the installed lightningd.

/// A decision about a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Attendees may call it.
    Allowed,
    /// Attendees may not call it.
    Refused,
}

/// Methods that are decided together.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Their names. One that ends with `*` stands for all names with that prefix; it is only used for refusals.
    pub methods: &'static [&'static str],
    /// The decision.
    pub decision: Decision,
    /// The reason for the decision.
    pub reason: &'static str,
}

const fn allowed(reason: &'static str, methods: &'static [&'static str]) -> Family {
    Family { methods, decision: Decision::Allowed, reason }
}

const fn refused(reason: &'static str, methods: &'static [&'static str]) -> Family {
    Family { methods, decision: Decision::Refused, reason }
}

/// All decisions, for the methods of Core Lightning 26.04 and its plugins and for [`crate::plugin`]. Methods in no family
/// are refused.
pub static FAMILIES: [Family; 28] = [
    allowed(
        "looking at one's own node and at what it knows of the network; reads only",
        &[
            "getinfo",
            "help",
            "listaddresses",
            "listchainmoves",
            "listchannelmoves",
            "listchannels",
            "listclosedchannels",
            "listconfigs",
            "listdatastore",
            "listforwards",
            "listfunds",
            "listhtlcs",
            "listincoming",
            "listinvoicerequests",
            "listinvoices",
            "listnetworkevents",
            "listnodes",
            "listoffers",
            "listpays",
            "listpeerchannels",
            "listpeers",
            "listsendpays",
            "listtransactions",
        ],
    ),
    allowed(
        "receiving: an invoice is a row in the node's own database",
        &[
            "cancelrecurringinvoice",
            "createinvoice",
            "delinvoice",
            "fetchinvoice",
            "invoice",
            "preapproveinvoice",
            "sendinvoice",
            "signinvoice",
        ],
    ),
    allowed(
        "what the room is asked for; a list of four of each node, in files of fixed size",
        &["listsharedinvoices", "shareinvoice", "unshareinvoice"],
    ),
    allowed(
        "offers and invoice requests (BOLT 12), likewise",
        &[
            "createinvoicerequest",
            "createoffer",
            "disableinvoicerequest",
            "disableoffer",
            "enableoffer",
            "invoicerequest",
            "offer",
        ],
    ),
    allowed(
        "paying, whole or step by step, with one's own coins",
        &[
            "delpay",
            "getroute",
            "getroutes",
            "keysend",
            "pay",
            "renepay",
            "sendpay",
            "waitsendpay",
            "xpay",
            "xpay-as-pay",
        ],
    ),
    allowed(
        "peers; the instance's network leads to the other nodes only",
        &["connect", "disconnect", "ping"],
    ),
    allowed(
        "channels: opening, in parts too, setting fees, splicing, closing",
        &[
            "close",
            "fundchannel",
            "fundchannel_cancel",
            "fundchannel_complete",
            "fundchannel_start",
            "multifundchannel",
            "setchannel",
            "splice_init",
            "splice_signed",
            "splice_update",
            "splicein",
            "spliceout",
        ],
    ),
    allowed(
        "coins on chain, and the transactions that move them",
        &[
            "feerates",
            "fundpsbt",
            "multiwithdraw",
            "newaddr",
            "reserveinputs",
            "sendpsbt",
            "signpsbt",
            "txdiscard",
            "txprepare",
            "txsend",
            "unreserveinputs",
            "utxopsbt",
            "withdraw",
        ],
    ),
    allowed("signing and checking messages with the node's key", &["checkmessage", "signmessage"]),
    allowed("reading invoices, offers and runes; a function of its argument", &["decode", "decodepay"]),
    allowed(
        "waiting for something to happen, or asking for a block; costs a pending answer",
        &["wait", "waitanyinvoice", "waitblockheight", "waitinvoice", "waitnextblock"],
    ),
    refused(
        "starts programs: whatever file is named runs as the node's user, with its keys",
        &["plugin", "reckless"],
    ),
    refused(
        "writes files, or has others written at a path or with a content of the caller's choice",
        &["bkpr-dumpincomecsv", "setconfig"],
    ),
    refused(
        "makes, changes or tests runes: an allowlist that can be left is none",
        &[
            "blacklistrune",
            "checkrune",
            "commando",
            "commando-*",
            "createrune",
            "destroyrune",
            "invokerune",
            "showrunes",
        ],
    ),
    refused(
        "ends the node or forgets what it has",
        &["abort_channels", "recover", "recoverchannel", "stfu_channels", "stop"],
    ),
    refused(
        "replaces the node's state from a backup, or hands the backup out",
        &["emergencyrecover", "getemergencyrecoverdata", "restorefrompeer", "staticbackup"],
    ),
    refused(
        "hands out secrets, or works with the node's key on what the caller made up",
        &["decryptencrypteddata", "exposesecret", "makesecret", "payersign"],
    ),
    refused("stores whatever it is given, without bound", &["datastore", "deldatastore"]),
    refused("a size that tells nothing about a class", &["datastoreusage"]),
    refused("for Core Lightning's developers: aborts, dumps, raw access", &["dev", "dev-*"]),
    refused(
        "the way to bitcoind that lightningd uses itself; a call waits for bitcoind, and the node with it",
        &["estimatefees", "getchaininfo", "getrawblockbyheight", "getutxout", "sendrawtransaction"],
    ),
    refused("the node's log has what its peers sent and how the machine is set up", &["getlog"]),
    refused(
        "runs another method's parsing under its own name, past the rune's look at the method",
        &["check"],
    ),
    refused(
        "changes the session of commando itself, which all callers share",
        &["batching", "deprecations", "notifications"],
    ),
    refused(
        "sends bytes of one's own to other nodes, or puts them into one's own node as if they had come from there",
        &[
            "addgossip",
            "blindedpath",
            "createonion",
            "injectonionmessage",
            "injectpaymentonion",
            "injectutxodeposit",
            "injectutxospend",
            "sendcustommsg",
            "sendonion",
            "sendonionmessage",
        ],
    ),
    refused(
        "state of a plugin that others' payments use, or that grows with each call",
        &[
            "askrene-*",
            "autoclean-*",
            "clnrest-*",
            "currencyconvert",
            "currencyrate",
            "delforward",
            "delnetworkevent",
            "fetchbip353",
            "funderupdate",
            "listcurrencyrates",
            "lsps-*",
            "setleaserates",
            "sql",
            "sql-*",
            "listsqlschemas",
        ],
    ),
    refused("books, which need a plugin that environments do without", &["bkpr-*"]),
    refused(
        "no class has asked for it, and methods that nobody needs are not allowed",
        &[
            "addpsbtinput",
            "addpsbtoutput",
            "multiconnect",
            "openchannel_abort",
            "openchannel_bump",
            "openchannel_init",
            "openchannel_signed",
            "openchannel_update",
            "parsefeerate",
            "paystatus",
            "preapprovekeysend",
            "renepaystatus",
            "setpsbtversion",
            "signmessagewithkey",
            "upgradewallet",
        ],
    ),
];

/// The conditions on the method in a rune; each of them lets a call through.
///
/// A condition matches a family where all or nearly all of Core Lightning's methods in it are allowed: `list…` reads (as in
/// upstream's own read-only rune), `…invoice…` and `…offer` make and show requests for payment, `wait…` waits. The others
/// match a single name.
pub const CONDITIONS: [&str; 23] = [
    "method=getinfo",
    "method^list",
    "method=help",
    "method~invoice",
    "method$offer",
    "method$pay",
    "method=keysend",
    "method^getroute",
    "method$connect",
    "method=ping",
    "method~fundchannel",
    "method=setchannel",
    "method^splice",
    "method=close",
    "method=newaddr",
    "method$withdraw",
    "method=feerates",
    "method^tx",
    "method$psbt",
    "method$inputs",
    "method$message",
    "method^decode",
    "method^wait",
];

/// The decision about a method; `None` if it is in no family.
pub fn decide(method: &str) -> Option<Decision> {
    let named = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(prefix) => method.starts_with(prefix),
        None => method == *pattern,
    };
    let family = FAMILIES.iter().find(|family| family.methods.iter().any(named));
    family.map(|family| family.decision)
}

/// True if a condition of [`CONDITIONS`] matches a method, as lightningd evaluates it.
fn passes(condition: &str, method: &str) -> bool {
    let test = condition.strip_prefix("method").and_then(|rest| rest.split_at_checked(1));
    match test {
        Some(("=", name)) => method == name,
        Some(("^", prefix)) => method.starts_with(prefix),
        Some(("$", suffix)) => method.ends_with(suffix),
        Some(("~", part)) => method.contains(part),
        _ => false,
    }
}

/// The restrictions of an attendee's rune on a node with these methods, as `createrune` takes them.
pub fn restrictions<'a>(methods: impl IntoIterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut out = vec![CONDITIONS.map(str::to_owned).to_vec()];
    let let_through = |method: &&str| CONDITIONS.iter().any(|condition| passes(condition, method));
    let unwanted = methods.into_iter().filter(|method| decide(method) != Some(Decision::Allowed));
    out.extend(unwanted.filter(let_through).map(|method| vec![format!("method/{method}")]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> impl Iterator<Item = (&'static str, Decision)> {
        FAMILIES.iter().flat_map(|family| family.methods.iter().map(|name| (*name, family.decision)))
    }

    /// True if the restrictions permit a method: one alternative of each must match.
    fn permits(restrictions: &[Vec<String>], method: &str) -> bool {
        restrictions.iter().all(|alternatives| {
            alternatives.iter().any(|text| match text.strip_prefix("method/") {
                Some(name) => method != name,
                None => passes(text, method),
            })
        })
    }

    #[test]
    fn a_rune_lets_through_what_is_allowed_and_nothing_else() {
        let known: Vec<_> = names().map(|(name, _)| name).filter(|name| !name.ends_with('*')).collect();
        let unknown = ["listsecrets", "paywith", "xpay", "waitandrun", "dev-finalizepsbt", "payfrom-invoice"];
        let all: Vec<_> = known.iter().copied().chain(unknown).collect();
        let restrictions = restrictions(all.iter().copied());
        for method in all {
            let wanted = decide(method) == Some(Decision::Allowed);
            assert_eq!(permits(&restrictions, method), wanted, "{method}");
        }
    }

    #[test]
    fn each_method_is_decided_once_and_only_refusals_are_wholesale() {
        let all: Vec<_> = names().collect();
        for (at, (name, decision)) in all.iter().enumerate() {
            let again = all[at + 1..].iter().any(|(other, _)| other == name);
            assert!(!again, "{name} is decided twice");
            assert!(
                *decision == Decision::Refused || !name.ends_with('*'),
                "{name} would allow what is not known"
            );
        }
        assert!(FAMILIES.iter().all(|family| !family.reason.is_empty()));
    }

    #[test]
    fn each_condition_is_of_use() {
        for condition in CONDITIONS {
            let allows =
                |(name, decision): (&str, Decision)| decision == Decision::Allowed && passes(condition, name);
            assert!(names().any(allows), "{condition} lets nothing through that is allowed");
        }
    }
}
