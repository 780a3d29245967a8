//! What the remote can be told to do wrong, and the log of what it was asked.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::Method;
use jiff::SignedDuration;
use serde::Serialize;
use tokio::sync::Notify;

/// One call that the remote was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The HTTP method.
    pub method: String,
    /// The path, for example `/1.0/instances/lnplay/state`.
    pub path: String,
    /// The query, without its question mark; empty if there is none.
    pub query: String,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answer with this HTTP status and text, and do nothing.
    Error(u16, String),
    /// Answer with this HTTP status and body, which need not be the API's, and do nothing.
    Raw(u16, String),
    /// Do it, but begin only after this long.
    Delay(Duration),
    /// Never answer, and do nothing.
    Hang,
    /// Drop the connection, and do nothing.
    DropBefore,
    /// Do it, and drop the connection instead of answering.
    DropAfter,
    /// Accept, and let the operation fail with this text without having done anything.
    FailOperation(String),
    /// Accept, and let the operation neither do anything nor end.
    HangOperation,
}

/// What goes wrong with SSH to instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshFault {
    /// Nothing listens in the instance: the connection is taken by the proxy device and closed.
    Closed,
    /// Something listens and never says a word.
    Silent,
    /// Another host key than the one in the instance's user data.
    OtherHostKey,
}

/// Which call a fault is for.
#[derive(Debug, Clone)]
enum When {
    /// The call that has this index in the log.
    Index(usize),
    /// Calls of this method (any, if `None`) and path, this many times.
    Matching { method: Option<Method>, path: String, times: usize },
}

/// Faults to come. Clones are handles of the same faults.
///
/// A remote's are for calls to any of its members. A cluster member's are for the calls that it carries out: those that come
/// to it, and those that another member hands on to it. Where both fit, the member's come first.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    inner: Arc<Inner>,
    /// The remote's, for a member's.
    whole: Option<Arc<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    cleared: Notify,
}

#[derive(Debug, Default)]
struct State {
    planned: Vec<(When, Fault)>,
    log: Vec<Call>,
    ssh: Option<SshFault>,
    clock_ahead: Option<SignedDuration>,
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        let mut state = self.lock();
        let now = state.log.len();
        state.log.push(Call { method: method.to_string(), path: path.into(), query: query.into() });
        let hit = state.planned.iter_mut().position(|(when, _)| match when {
            When::Index(index) => *index == now,
            When::Matching { method: wanted, path: pattern, .. } => {
                wanted.as_ref().is_none_or(|m| m == method) && path_fits(pattern, path)
            }
        })?;
        if let (When::Matching { times, .. }, fault) = &mut state.planned[hit] {
            *times = times.saturating_sub(1);
            if *times > 0 {
                return Some(fault.clone());
            }
        }
        Some(state.planned.remove(hit).1)
    }
}

impl Faults {
    /// Faults of a member of the remote that these are for.
    pub(crate) fn of_member(&self) -> Self {
        Self { inner: Arc::default(), whole: Some(Arc::clone(&self.inner)) }
    }

    /// Spoils the `k`-th call from now on (1 is the next one).
    pub fn on_call(&self, k: usize, fault: Fault) {
        assert!(k > 0, "calls are counted from 1");
        let mut state = self.lock();
        let index = state.log.len() + k - 1;
        state.planned.push((When::Index(index), fault));
    }

    /// Spoils the next `times` calls whose method (`*` for any) and path fit. In the path a segment `*` stands for any one
    /// segment: `/1.0/instances/*/state`.
    pub fn on(&self, method: &str, path: &str, times: usize, fault: Fault) {
        let method = (method != "*").then(|| method.parse().expect("an HTTP method"));
        self.lock().planned.push((When::Matching { method, path: path.to_owned(), times }, fault));
    }

    /// Spoils all SSH connections to instances from now on.
    pub fn on_ssh(&self, fault: SshFault) {
        self.lock().ssh = Some(fault);
    }

    /// Sets the server's clock wrong by this much, as the `Date` of its answers tells.
    pub fn on_clock(&self, ahead: SignedDuration) {
        self.lock().clock_ahead = Some(ahead);
    }

    /// Forgets all faults; calls that hang lose their connection.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.planned.clear();
        state.ssh = None;
        state.clock_ahead = None;
        drop(state);
        self.inner.cleared.notify_waiters();
    }

    /// What was asked so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().log.clone()
    }

    /// Logs a call and gives the fault that is planned for it.
    pub(crate) fn arrived(&self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        let whole = self.whole.as_ref().and_then(|whole| whole.arrived(method, path, query));
        self.inner.arrived(method, path, query).or(whole)
    }

    /// The same for a call that another member hands on, which the remote has counted already.
    pub(crate) fn handed_on(&self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        self.inner.arrived(method, path, query)
    }

    pub(crate) fn ssh(&self) -> Option<SshFault> {
        self.lock().ssh.or_else(|| self.whole.as_ref()?.lock().ssh)
    }

    /// The date to answer with, if the clock is wrong.
    pub(crate) fn date(&self) -> Option<String> {
        let ahead = self.lock().clock_ahead.or_else(|| self.whole.as_ref()?.lock().clock_ahead)?;
        let now = jiff::Timestamp::now().checked_add(ahead).ok()?;
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()
    }

    /// Returns when [`Faults::clear`] is called, on a member's own or on its remote's.
    pub(crate) async fn cleared(&self) {
        let whole = async {
            match &self.whole {
                Some(whole) => whole.cleared.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.inner.cleared.notified() => (),
            () = whole => (),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.lock()
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == "*" || a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kth_call_from_now_and_no_other() {
        let faults = Faults::default();
        assert_eq!(faults.arrived(&Method::GET, "/1.0", ""), None);
        faults.on_call(2, Fault::Hang);
        assert_eq!(faults.arrived(&Method::GET, "/1.0", ""), None);
        assert_eq!(faults.arrived(&Method::GET, "/1.0", ""), Some(Fault::Hang));
        assert_eq!(faults.arrived(&Method::GET, "/1.0", ""), None);
        assert_eq!(faults.calls().len(), 4);
    }

    #[test]
    fn patterns_fit_whole_paths_as_often_as_asked() {
        let faults = Faults::default();
        faults.on("PUT", "/1.0/instances/*/state", 2, Fault::DropAfter);
        let path = "/1.0/instances/a/state";
        assert_eq!(faults.arrived(&Method::GET, path, ""), None);
        assert_eq!(faults.arrived(&Method::PUT, "/1.0/instances/a", ""), None);
        assert_eq!(faults.arrived(&Method::PUT, path, ""), Some(Fault::DropAfter));
        assert_eq!(faults.arrived(&Method::PUT, path, ""), Some(Fault::DropAfter));
        assert_eq!(faults.arrived(&Method::PUT, path, ""), None);
    }
}
