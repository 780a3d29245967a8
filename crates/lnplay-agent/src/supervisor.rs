//! The process that brings an environment up and keeps it up until SIGTERM.

mod channels;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use bitcoin::Amount;
use lnplaylive_core::progress::{Line, Progress};
use lnplaylive_core::{ConnectionString, EnvironmentSpec};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::bitcoind::{Bitcoind, Login};
use crate::chain::{self, Funding, MiningKey};
use crate::child::{Child, Recipe};
use crate::confine::{self, Confinement, Disk, Limits, Users};
use crate::control::{self, NodeStatus, Phase, Request, Status};
use crate::node::{self, Identity, InnerPorts, Node};
use crate::room::Room;
use crate::settings::Settings;
use crate::state::{self, StateDir};
use crate::{coins, lock, service};

/// 64 nodes on two busy cores take a tenth of this.
const BRING_UP_LIMIT: Duration = Duration::from_secs(180);
/// The limit of each wait within it, so that the error names the one that was waited for.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// A node closes its database and its daemons in well under a second; 64 of them take turns.
const NODE_GRACE: Duration = Duration::from_secs(15);
/// bitcoind writes its chain state.
const BITCOIND_GRACE: Duration = Duration::from_secs(20);
/// How long those who follow may take to read the last lines.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a kill of bitcoind costs at most, see [`Bitcoind::flush`].
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// The longest that a supervisor takes to end on SIGTERM.
pub const GRACE: Duration = Duration::from_secs(15 + 20 + 10);

/// What the supervisor's tasks share.
struct Shared {
    settings: Settings,
    users: Option<Users>,
    dir: StateDir,
    spec: EnvironmentSpec,
    nodes: Vec<Node>,
    bitcoind: Bitcoind,
    journal: watch::Sender<Vec<Line>>,
    /// bitcoind, then the nodes, as they are started.
    children: Mutex<Vec<Child>>,
}

/// Runs the environment whose spec is in the state directory until SIGTERM, or until it cannot be brought up.
/// Returns at once when a supervisor is there already.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let dir = StateDir::new(&settings.dir)?;
    let users = settings.users()?;
    dir.create(users)?;
    let Some(lock) = lock::try_acquire(&dir.supervisor_lock()).context("taking the supervisor's lock")?
    else {
        info!("another supervisor is at work");
        return Ok(());
    };
    // Never let go of while this process lives: who finds the lock free finds nothing of us.
    std::mem::forget(lock);
    let mut stopped = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;

    let spec = dir.stored_spec()?.context("there is no environment here; begin with `lnplay up SPEC`")?;
    spec.validate().context("the stored spec")?;
    let nodes = node::plan(&spec, &dir, settings.address)?;
    let rpc = (settings.address, InnerPorts::of(&spec).bitcoin_rpc).into();
    let login = users.map(|users| Login::make(dir.bitcoin_client(), users.group()));
    let login = login.transpose().context("making the nodes' login to bitcoind")?;
    let bitcoind = Bitcoind { datadir: dir.bitcoin(), rpc, login };
    let shared = Arc::new(Shared {
        journal: watch::Sender::new(Vec::new()),
        children: Mutex::default(),
        settings,
        users,
        dir,
        spec,
        nodes,
        bitcoind,
    });

    let listening = CancellationToken::new();
    let followers = TaskTracker::new();
    let listener = listen(&shared.dir)?;
    service::notify_ready()?;
    followers.spawn(serve(shared.clone(), listener, followers.clone(), listening.clone()));

    let stop = Stop::default();
    let work = async {
        let key = MiningKey::load_or_make(&shared.dir)?;
        let strings = timeout(BRING_UP_LIMIT, shared.bring_up(&key, &stop))
            .await
            .with_context(|| format!("the environment was not up after {BRING_UP_LIMIT:?}"))??;
        info!("ready");
        shared.tell(Line::Ready { connection_strings: strings });
        shared.mine(&key).await
    };
    let result: anyhow::Result<()> = tokio::select! {
        result = work => result,
        _ = stopped.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    // From now on whoever comes waits for the lock, to start a supervisor of their own.
    listening.cancel();
    let _gone = std::fs::remove_file(shared.dir.control());
    let message = match &result {
        Ok(()) => "lnplay was told to stop".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    info!("stopping: {message}");
    shared.tell(Line::Failed { message });
    stop.all().await;
    followers.close();
    let _late = timeout(FAREWELL, followers.wait()).await;
    result
}

/// A node that answers.
struct Started {
    node: Node,
    child: Child,
    identity: Identity,
    /// Where to pay to, while it is not funded.
    address: Option<String>,
}

/// Ends the children: the nodes while bitcoind still answers them, then bitcoind.
#[derive(Default)]
struct Stop {
    nodes: CancellationToken,
    bitcoind: CancellationToken,
    node_tasks: TaskTracker,
    bitcoind_tasks: TaskTracker,
}

impl Stop {
    async fn all(&self) {
        for (token, tasks) in [(&self.nodes, &self.node_tasks), (&self.bitcoind, &self.bitcoind_tasks)] {
            token.cancel();
            tasks.close();
            tasks.wait().await;
        }
    }
}

impl Shared {
    /// Adds a line for those who follow. After the last line there is none.
    fn tell(&self, line: Line) {
        self.journal.send_modify(|lines| {
            if !lines.last().is_some_and(is_last) {
                lines.push(line);
            }
        });
    }

    fn progress(&self, step: &str, done: usize, total: usize, message: impl Into<String>) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let message = message.into();
        info!(step, done, total, message);
        self.tell(Line::Progress(Progress {
            step: step.to_owned(),
            done: count(done),
            total: count(total),
            message,
        }));
    }

    fn start_bitcoind(&self, stop: &Stop) -> Child {
        let confined = |users: Users| (users.bitcoind(), confine::BITCOIND);
        let recipe = Recipe {
            grace: BITCOIND_GRACE,
            ..self.recipe("bitcoind", &self.settings.bitcoind, &self.bitcoind.datadir, confined)
        };
        let recipe = Recipe { arguments: self.bitcoind.arguments(), ..recipe };
        self.keep(Child::keep(recipe, stop.bitcoind.clone(), &stop.bitcoind_tasks))
    }

    fn start_node(&self, node: &Node, stop: &Stop) -> Child {
        let confined = |users: Users| (users.node(node.index), confine::NODE);
        let recipe = Recipe {
            arguments: node.arguments(&self.spec, &self.settings, &self.bitcoind),
            variables: node::VARIABLES.to_vec(),
            ..self.recipe(&node.child_name(), &self.settings.lightningd, node.dir(), confined)
        };
        self.keep(Child::keep(recipe, stop.nodes.clone(), &stop.node_tasks))
    }

    /// What is the same for every daemon; `confined` is what it is confined to where there are users for that.
    fn recipe(
        &self,
        name: &str,
        program: &OsStr,
        dir: &Path,
        confined: impl Fn(Users) -> (u32, Limits),
    ) -> Recipe {
        let log = self.dir.log(name);
        let confined = self.users.map(|users| (users, confined(users)));
        Recipe {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
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
            grace: NODE_GRACE,
        }
    }

    fn keep(&self, child: Child) -> Child {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(child.clone());
        child
    }

    async fn bring_up(
        self: &Arc<Self>,
        key: &MiningKey,
        stop: &Stop,
    ) -> anyhow::Result<Vec<ConnectionString>> {
        self.progress("start-bitcoind", 0, 1, "Starting bitcoind");
        self.end_leftovers().await?;
        let bitcoind = self.start_bitcoind(stop);
        bitcoind.wait_until(STEP_LIMIT, || self.bitcoind.height()).await?;
        let total = Amount::from_sat(coins::PER_NODE * u64::from(self.spec.node_count));
        let coinbases = chain::coinbases_for(total);
        self.progress("mature-chain", 0, 1, "Mining the first blocks");
        let high = state::read_json(&self.dir.height())?.unwrap_or(0);
        chain::mature(&self.bitcoind, key, coinbases, high).await?;

        let funding: Option<Funding> = state::read_json(&self.dir.funding())?;
        let started = self.start_nodes(funding.is_none(), stop).await?;
        publish_room(&started).await?;
        self.fund(key, coinbases, funding, &started).await?;
        self.open_channels(key, &started).await?;
        started
            .into_iter()
            .map(|Started { node, identity, .. }| node.connection_string(&self.spec, identity))
            .collect()
    }

    /// Ends children of a supervisor that was killed. They were told when it went; this waits for them.
    async fn end_leftovers(&self) -> anyhow::Result<()> {
        let mut leaving = JoinSet::new();
        for path in self.dir.child_locks()? {
            leaving.spawn(async move { lock::evict(&path, NODE_GRACE).await });
        }
        while let Some(done) = leaving.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Starts all nodes and waits for each of them; has each make an address if there is something to pay to it.
    async fn start_nodes(&self, to_fund: bool, stop: &Stop) -> anyhow::Result<Vec<Started>> {
        let total = self.nodes.len();
        self.progress("start-nodes", 0, total, "Starting the nodes");
        let mut starting = JoinSet::new();
        for node in self.nodes.iter().cloned() {
            node.create_dir(self.users)?;
            let access = self.spec.node_access;
            let child = self.start_node(&node, stop);
            starting.spawn(async move {
                let id = child.wait_until(STEP_LIMIT, || node.id()).await?;
                let identity = node.identity(id, access).await?;
                let address = if to_fund { Some(node.new_address().await?) } else { None };
                anyhow::Ok(Started { node, child, identity, address })
            });
        }
        let mut ready: Vec<Started> = Vec::with_capacity(total);
        while let Some(done) = starting.join_next().await {
            let started = done??;
            let message = format!("{} is up", started.node.name);
            ready.push(started);
            self.progress("start-nodes", ready.len(), total, message);
        }
        ready.sort_by_key(|started| started.node.index);
        Ok(ready)
    }

    /// Funds all nodes in one transaction, once, and waits until they have seen it.
    async fn fund(
        &self,
        key: &MiningKey,
        coinbases: u32,
        stored: Option<Funding>,
        nodes: &[Started],
    ) -> anyhow::Result<()> {
        let total = nodes.len();
        self.progress("fund-nodes", 0, total, "Funding the nodes");
        let amounts = coins::allocate(
            self.spec.coin_distribution,
            self.spec.channel_setup,
            self.spec.node_count,
            self.spec.seed,
        );
        let mut funding = match stored {
            Some(funding) => funding,
            None => self.make_funding(key, coinbases, nodes, &amounts).await?,
        };
        if funding.height.is_some() {
            // Handed over before: what the nodes have is their owners' business.
            self.progress("fund-nodes", total, total, "The nodes were funded before");
            return Ok(());
        }
        let height = chain::confirm(&self.bitcoind, key, &funding).await?;
        let mut seeing = JoinSet::new();
        for (Started { node, child, .. }, sat) in nodes.iter().zip(amounts) {
            let (node, child) = (node.clone(), child.clone());
            seeing.spawn(async move {
                child.wait_until(STEP_LIMIT, || node.wait_for_block(height)).await?;
                let has = child.wait_until(STEP_LIMIT, || node.confirmed_sat()).await?;
                ensure!(has >= sat, "node {} has {has} sat at block {height}, not {sat}", node.index);
                Ok(node.name)
            });
        }
        let mut funded = 0;
        while let Some(done) = seeing.join_next().await {
            let name = done??;
            funded += 1;
            self.progress("fund-nodes", funded, total, format!("{name} has its coins"));
        }
        funding.height = Some(height);
        state::write_json(&self.dir.funding(), &funding)
    }

    /// Makes and stores the transaction that pays each node its amount.
    async fn make_funding(
        &self,
        key: &MiningKey,
        coinbases: u32,
        nodes: &[Started],
        amounts: &[u64],
    ) -> anyhow::Result<Funding> {
        let mut inputs = Vec::new();
        for height in 1..=coinbases {
            inputs.push(self.bitcoind.coinbase(height).await?);
        }
        let mut outputs = Vec::new();
        for (started, sat) in nodes.iter().zip(amounts) {
            let address = started.address.as_deref().context("no address of a node that is to be funded")?;
            outputs.push((chain::script_of(address)?, Amount::from_sat(*sat)));
        }
        let transaction = chain::funding_transaction(key, &inputs, &outputs)?;
        let funding = Funding { transaction, height: None };
        state::write_json(&self.dir.funding(), &funding)?;
        Ok(funding)
    }

    /// Mines a block each block time, for ever.
    async fn mine(&self, key: &MiningKey) -> anyhow::Result<()> {
        let mut ticks = interval(Duration::from_secs(self.spec.block_time.into()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let address = key.address();
        let (mut flushed, mut failing, mut high) = (Instant::now(), false, 0);
        loop {
            ticks.tick().await;
            let mut mined = self.bitcoind.mine(1, &address).await;
            if let Ok(height) = self.bitcoind.height().await
                && high < height
            {
                high = height;
                if let Err(error) = state::write_json(&self.dir.height(), &high) {
                    warn!("{error:#}");
                }
            }
            if mined.is_ok() && flushed.elapsed() >= FLUSH_EVERY {
                flushed = Instant::now();
                mined = self.bitcoind.flush().await;
            }
            // bitcoind comes back by itself; once per outage is enough said.
            if let Err(error) = &mined
                && !failing
            {
                warn!("no block mined: {:#}", anyhow!("{error}"));
            }
            failing = mined.is_err();
        }
    }

    async fn status(&self) -> Status {
        let children: Vec<_> = {
            let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
            children.iter().map(Child::status).collect()
        };
        let mut children = children.into_iter();
        let bitcoind = children.next().unwrap_or_default();
        // Less than those who ask wait for it all.
        let limit = control::ANSWER_LIMIT / 2;
        let mut asked = JoinSet::new();
        for node in self.nodes.iter().cloned() {
            let child = children.next().unwrap_or_default();
            asked.spawn(async move {
                let height = timeout(limit, node.height()).await.ok().and_then(Result::ok);
                (node, child, height)
            });
        }
        let block_height = timeout(limit, self.bitcoind.height()).await.ok().and_then(Result::ok);
        let status = |(node, child, block_height): (Node, _, _)| NodeStatus {
            index: node.index,
            node_id: node::stored_identity(&self.dir, node.index)
                .ok()
                .flatten()
                .map(|identity| identity.node_id),
            name: node.name,
            block_height,
            child,
        };
        let mut nodes: Vec<_> = asked.join_all().await.into_iter().map(status).collect();
        nodes.sort_by_key(|node| node.index);
        let phase = match self.journal.borrow().last() {
            Some(Line::Ready { .. }) => Phase::Ready,
            Some(Line::Failed { .. }) => Phase::Failed,
            Some(Line::Progress(_)) | None => Phase::Starting,
        };
        let answer = block_height.is_some() && nodes.iter().all(|node| node.block_height.is_some());
        Status {
            phase,
            ready: phase == Phase::Ready && answer,
            environment: Some(self.spec.environment.clone()),
            block_height,
            bitcoind,
            nodes,
        }
    }
}

/// Gives every node the directory of all of them.
async fn publish_room(nodes: &[Started]) -> anyhow::Result<()> {
    let entries = nodes.iter().map(|Started { node, identity, .. }| node.entry(identity.node_id.clone()));
    let room = Arc::new(Room::of(entries.collect()));
    let mut publishing = JoinSet::new();
    for Started { node, child, .. } in nodes {
        let (node, child, room) = (node.clone(), child.clone(), room.clone());
        publishing.spawn(async move { child.wait_until(STEP_LIMIT, || node.publish(&room)).await });
    }
    while let Some(done) = publishing.join_next().await {
        done??;
    }
    Ok(())
}

fn is_last(line: &Line) -> bool {
    !matches!(line, Line::Progress(_))
}

fn listen(dir: &StateDir) -> anyhow::Result<UnixListener> {
    let path = dir.control();
    // Left by a supervisor that was killed; the lock says that none lives.
    let _none = std::fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(shared: Arc<Shared>, listener: UnixListener, tasks: TaskTracker, end: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tasks.spawn(async move {
                    if let Err(error) = answer(&shared, stream).await {
                        // They have gone: `lnplay up` may be interrupted at any time.
                        info!("a connection ended: {error:#}");
                    }
                });
            }
            Err(error) => {
                warn!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(shared: &Shared, mut stream: UnixStream) -> anyhow::Result<()> {
    match control::read_request(&mut stream).await? {
        Request::Status => write_line(&mut stream, &shared.status().await).await,
        Request::Follow => {
            let mut journal = shared.journal.subscribe();
            let mut sent = 0;
            loop {
                let news = journal.borrow_and_update().get(sent..).unwrap_or_default().to_vec();
                for line in &news {
                    write_line(&mut stream, line).await?;
                }
                sent += news.len();
                if news.last().is_some_and(is_last) {
                    return Ok(());
                }
                journal.changed().await?;
            }
        }
    }
}

async fn write_line(stream: &mut UnixStream, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    timeout(control::ANSWER_LIMIT, stream.write_all(&line)).await.context("they do not read")??;
    Ok(())
}
