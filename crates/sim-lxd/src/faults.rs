//! Faults that tests inject into the remote, and the log of its calls.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::Method;
use jiff::SignedDuration;
use serde::Serialize;
use tokio::sync::Notify;

/// A call to the remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The HTTP method.
    pub method: String,
    /// The path, for example `/1.0/instances/lnplay/state`.
    pub path: String,
    /// The query, without its question mark; empty if there is none.
    pub query: String,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answer with this HTTP status and text, without executing the call.
    Error(u16, String),
    /// Answer with this HTTP status and body, in any format, without executing the call.
    Raw(u16, String),
    /// Answer with a redirect to this URL, without executing the call.
    Redirect(String),
    /// Begin an answer that comes byte by byte, too slowly to end in time, without executing the call.
    Drip,
    /// Begin an answer that never ends, as fast as it is read, without executing the call.
    Flood,
    /// Execute the call after this delay.
    Delay(Duration),
    /// Neither execute the call nor answer.
    Hang,
    /// Drop the connection without executing the call.
    DropBefore,
    /// Execute the call, and drop the connection instead of answering.
    DropAfter,
    /// Accept the call, and let the operation fail with this text without doing anything.
    FailOperation(String),
    /// Accept the call, and let the operation run for ever without doing anything.
    HangOperation,
    /// Accept the creation of an instance, and let its operation stop halfway until the faults are cleared: the instance is listed,
    /// and is not whole.
    HalfMade,
}

/// A fault of SSH connections to instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshFault {
    /// Nothing listens in the instance: the proxy device accepts the connection and closes it.
    Closed,
    /// The server accepts the connection and sends nothing.
    Silent,
    /// The host key is not the one in the instance's user data.
    OtherHostKey,
}

/// The calls that a fault applies to.
#[derive(Debug, Clone)]
enum When {
    /// The call with this index in the log.
    Index(usize),
    /// Calls with this method (`None`: any) and path, this many times.
    Matching { method: Option<Method>, path: String, times: usize },
}

/// Pending faults. Clones share them.
///
/// A remote's faults apply to calls to any of its members. A cluster member's faults apply to the calls that it executes: those
/// sent to it, and those that another member forwards to it. The member's faults are checked first.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    inner: Arc<Inner>,
    /// For a member: the remote's faults.
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
    /// The calls that had a fault, and which.
    struck: Vec<(Call, Fault)>,
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
        let call = Call { method: method.to_string(), path: path.into(), query: query.into() };
        state.log.push(call.clone());
        let hit = state.planned.iter_mut().position(|(when, _)| match when {
            When::Index(index) => *index == now,
            When::Matching { method: wanted, path: pattern, .. } => {
                wanted.as_ref().is_none_or(|m| m == method) && path_fits(pattern, path)
            }
        })?;
        let more = match &mut state.planned[hit].0 {
            When::Matching { times, .. } => {
                *times = times.saturating_sub(1);
                *times > 0
            }
            When::Index(_) => false,
        };
        let fault = if more { state.planned[hit].1.clone() } else { state.planned.remove(hit).1 };
        state.struck.push((call, fault.clone()));
        Some(fault)
    }
}

impl Faults {
    /// Faults of a member, in addition to these.
    pub(crate) fn of_member(&self) -> Self {
        Self { inner: Arc::default(), whole: Some(Arc::clone(&self.inner)) }
    }

    /// Applies a fault to the `k`-th call from now (1 is the next).
    pub fn on_call(&self, k: usize, fault: Fault) {
        assert!(k > 0, "calls are counted from 1");
        let mut state = self.lock();
        let index = state.log.len() + k - 1;
        state.planned.push((When::Index(index), fault));
    }

    /// Applies a fault to the next `times` calls with this method (`*` for any) and path. In the path, `*` matches any one segment:
    /// `/1.0/instances/*/state`; `**` alone is any path.
    pub fn on(&self, method: &str, path: &str, times: usize, fault: Fault) {
        let method = (method != "*").then(|| method.parse().expect("an HTTP method"));
        self.lock().planned.push((When::Matching { method, path: path.to_owned(), times }, fault));
    }

    /// Applies a fault to all SSH connections to instances from now on.
    pub fn on_ssh(&self, fault: SshFault) {
        self.lock().ssh = Some(fault);
    }

    /// Sets the server's clock ahead by this much, in the `Date` of its answers.
    pub fn on_clock(&self, ahead: SignedDuration) {
        self.lock().clock_ahead = Some(ahead);
    }

    /// Removes all faults. Calls that hang lose their connection.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.planned.clear();
        state.ssh = None;
        state.clock_ahead = None;
        drop(state);
        self.inner.cleared.notify_waiters();
    }

    /// Removes all faults except that of the clock, as [`Faults::clear`] does, and returns the calls that had a fault since this was
    /// called last, with their faults.
    pub fn calm(&self) -> Vec<(Call, Fault)> {
        let mut state = self.lock();
        state.planned.clear();
        state.ssh = None;
        let struck = std::mem::take(&mut state.struck);
        drop(state);
        self.inner.cleared.notify_waiters();
        struck
    }

    /// All calls so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().log.clone()
    }

    /// Logs a call and returns its fault, if any.
    pub(crate) fn arrived(&self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        let whole = self.whole.as_ref().and_then(|whole| whole.arrived(method, path, query));
        self.inner.arrived(method, path, query).or(whole)
    }

    /// The same for a call that another member forwards, which the remote has already counted.
    pub(crate) fn forwarded(&self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        self.inner.arrived(method, path, query)
    }

    pub(crate) fn ssh(&self) -> Option<SshFault> {
        self.lock().ssh.or_else(|| self.whole.as_ref()?.lock().ssh)
    }

    /// The `Date` header, if the clock is wrong.
    pub(crate) fn date(&self) -> Option<String> {
        let ahead = self.lock().clock_ahead.or_else(|| self.whole.as_ref()?.lock().clock_ahead)?;
        let now = jiff::Timestamp::now().checked_add(ahead).ok()?;
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()
    }

    /// Returns when [`Faults::clear`] is called on these faults or on the remote's.
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
    if pattern == "**" {
        return true;
    }
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
        let call = Call { method: "PUT".into(), path: path.into(), query: String::new() };
        faults.on("*", "**", 1, Fault::Hang);
        assert_eq!(faults.arrived(&Method::GET, "/1.0/anything", ""), Some(Fault::Hang));
        assert_eq!(faults.calm()[..2], vec![(call, Fault::DropAfter); 2]);
        assert_eq!(faults.calm(), [], "since the last time");
    }

    #[test]
    fn a_calm_remote_keeps_its_time() {
        let faults = Faults::default();
        faults.on_clock(SignedDuration::from_hours(1));
        faults.on_ssh(SshFault::Silent);
        faults.on("GET", "/1.0", 9, Fault::Hang);
        faults.calm();
        assert_eq!(faults.ssh(), None);
        assert_eq!(faults.arrived(&Method::GET, "/1.0", ""), None);
        assert!(faults.date().is_some());
    }
}
