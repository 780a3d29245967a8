//! The environment that is supervised, as all rooms of the supervisor share it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use lnplaylive_core::{ConnectionString, EnvironmentSpec};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bitcoind::{self, Bitcoind, Login};
use crate::child::{self, Arguments, Child, Recipe};
use crate::confine::{self, Confinement, Disk, Limits, Users};
use crate::node::{self, Identity, InnerPorts, Node};
use crate::settings::Settings;
use crate::state::StateDir;
use crate::{chain, lock};

use super::journal::Journal;
use super::switches::Switches;

/// The time-out of each wait while a new environment comes up. Less than that of the whole, so that the error names the
/// daemon that was waited for.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// A node that runs and answers.
pub(super) struct Started {
    pub(super) node: Node,
    pub(super) child: Child,
    pub(super) identity: Identity,
    /// An address of its wallet, if it is to be funded.
    pub(super) address: Option<String>,
}

/// An environment and its daemons.
pub(super) struct Environment {
    pub(super) settings: Settings,
    pub(super) users: Option<Users>,
    pub(super) dir: StateDir,
    pub(super) spec: EnvironmentSpec,
    pub(super) nodes: Vec<Node>,
    pub(super) bitcoind: Bitcoind,
    pub(super) journal: Journal,
    pub(super) switches: Switches,
    children: Mutex<Children>,
    /// The nodes stop first, while bitcoind still answers them.
    node_group: Group,
    bitcoind_group: Group,
}

/// The children, as far as they were started.
#[derive(Default)]
struct Children {
    bitcoind: Option<Child>,
    nodes: BTreeMap<u32, Kept>,
}

/// A node that is kept running until `stop`.
struct Kept {
    child: Child,
    stop: CancellationToken,
}

/// Children that are stopped together.
#[derive(Default)]
struct Group {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Group {
    async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Environment {
    /// The environment in the state directory. Starts nothing.
    pub(super) fn load(settings: Settings, users: Option<Users>, dir: StateDir) -> anyhow::Result<Self> {
        let spec = dir.stored_spec()?.context("there is no environment here; begin with `lnplay up SPEC`")?;
        spec.validate().context("the stored spec")?;
        let nodes = node::plan(&spec, &dir, settings.address)?;
        let rpc = (settings.address, InnerPorts::of(&spec).bitcoin_rpc).into();
        let login = users.map(|users| Login::load_or_make(dir.bitcoin_client(), users.group()));
        let login = login.transpose().context("the nodes' login at bitcoind")?;
        Ok(Self {
            bitcoind: Bitcoind::new(dir.bitcoin(), rpc, login),
            journal: Journal::new(),
            switches: Switches::load(&dir),
            children: Mutex::default(),
            node_group: Group::default(),
            bitcoind_group: Group::default(),
            settings,
            users,
            dir,
            spec,
            nodes,
        })
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of bitcoind's process.
    pub(super) fn bitcoind_status(&self) -> child::Status {
        self.children().bitcoind.as_ref().map(Child::status).unwrap_or_default()
    }

    /// The state of a node's process.
    pub(super) fn node_status(&self, index: u32) -> child::Status {
        self.children().nodes.get(&index).map(|kept| kept.child.status()).unwrap_or_default()
    }

    /// The nodes that are not switched off.
    pub(super) fn nodes_on(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !self.switches.is_off(node.index))
    }

    /// Starts bitcoind and keeps it running.
    pub(super) fn start_bitcoind(&self) -> Child {
        let (bitcoind, dir) = (self.bitcoind.clone(), self.dir.clone());
        // It would refuse to start on a chain that is hours ahead of the clock.
        let arguments = move || {
            let tip = chain::stored_tip(&dir);
            bitcoind.arguments(tip.and_then(|tip| chain::mock_time(tip.time, chain::clock())))
        };
        let recipe = Recipe {
            grace: bitcoind::GRACE,
            ..self.recipe(
                "bitcoind",
                &self.settings.bitcoind,
                Arc::new(arguments),
                &self.bitcoind.datadir,
                |users| (users.bitcoind(), confine::BITCOIND),
            )
        };
        let Group { stop, tasks } = &self.bitcoind_group;
        let child = Child::keep(recipe, stop.clone(), tasks);
        self.children().bitcoind = Some(child.clone());
        child
    }

    /// Starts a node and keeps it running, unless that was done before.
    pub(super) fn start_node(&self, node: &Node) -> Child {
        if let Some(kept) = self.children().nodes.get(&node.index) {
            return kept.child.clone();
        }
        let arguments: Vec<OsString> = node.arguments(&self.spec, &self.settings, &self.bitcoind);
        let recipe = Recipe {
            variables: node::variables(self.settings.chain_backend),
            ..self.recipe(
                &node.child_name(),
                &self.settings.lightningd,
                Arc::new(move || arguments.clone()),
                node.dir(),
                |users| (users.node(node.index), confine::NODE),
            )
        };
        let stop = self.node_group.stop.child_token();
        let child = Child::keep(recipe, stop.clone(), &self.node_group.tasks);
        self.children().nodes.insert(node.index, Kept { child: child.clone(), stop });
        child
    }

    /// Stops a node and returns when it has ended. Succeeds if it does not run.
    pub(super) async fn stop_node(&self, index: u32) {
        let Some(Kept { child, stop }) = self.children().nodes.remove(&index) else { return };
        stop.cancel();
        child.wait_for_end().await;
    }

    /// The connection strings of all nodes as they are now, node 0's first. Every node must have been up once.
    pub(super) fn connection_strings(&self) -> anyhow::Result<Vec<ConnectionString>> {
        let string = |node: &Node| {
            let identity = node::stored_identity(&self.dir, node.index)?;
            let identity =
                identity.with_context(|| format!("the identity of node {} is lost", node.index))?;
            node.connection_string(&self.spec, identity)
        };
        self.nodes.iter().map(string).collect()
    }

    fn recipe(
        &self,
        name: &str,
        program: &OsStr,
        arguments: Arguments,
        dir: &Path,
        confined: impl Fn(Users) -> (u32, Limits),
    ) -> Recipe {
        let log = self.dir.log(name);
        let confined = self.users.map(|users| (users, confined(users)));
        Recipe {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            lock: self.dir.child_lock(name),
            dir: dir.to_owned(),
            variables: Vec::new(),
            confinement: confined.map(|(users, (uid, limits))| Confinement::new(users, uid, limits)),
            disk: confined.map(|(_, (_, Limits { disk, .. }))| Disk {
                dir: dir.to_owned(),
                log: log.clone(),
                limit: disk,
            }),
            log,
            grace: node::GRACE,
        }
    }

    /// Ends the children of a supervisor that was killed. They got SIGTERM when it died; this waits for them.
    pub(super) async fn end_leftovers(&self) -> anyhow::Result<()> {
        let mut leaving = JoinSet::new();
        for path in self.dir.child_locks()? {
            leaving.spawn(async move { lock::evict(&path, node::GRACE).await });
        }
        while let Some(done) = leaving.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Stops all daemons.
    pub(super) async fn stop(&self) {
        self.node_group.stop().await;
        self.bitcoind_group.stop().await;
    }
}
