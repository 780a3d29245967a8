//! One remote: who it is, and how it is.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use lnplaylive::order::PortBlock;
use lnplaylive::secret::{Secret, read_secret};
use lnplaylive::{ProjectName, settings};
use lxd_client::{Client, ClientConfig, ErrorKind, Fingerprint, Identity, Resources, Token};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::image::Image;
use crate::{Error, project};

/// How long a remote may take to report. All are asked at a time before each placement, so the slowest
/// holds the others up; one that needs longer for a listing is in no state to start instances.
const REPORT_TIME: Duration = Duration::from_secs(5);

/// How long what the members of a cluster said about their machines is good: asking is a call each.
const MEMBERS_AGE: Duration = Duration::from_secs(10);

/// How loaded a remote is.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Our environments on it, those that are being made included.
    pub environments: Vec<Environment>,
    /// The machine's memory; of a cluster that of all members that are online.
    pub memory: Memory,
    /// Threads that it can run at a time.
    pub cpus: u64,
    /// Runnable tasks, average of a minute; `None` where the remote does not tell (LXD 5.0).
    pub cpu_load: Option<f64>,
    /// The members of a cluster; `None` of a single server.
    pub members: Option<Members>,
}

/// One of our environments, as its remote has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Environment {
    /// The project that it is in.
    pub project: ProjectName,
    /// When it ends: the later of what the project's name and its key say.
    pub expires_at: Timestamp,
    /// Its ports; `None` where they cannot be read.
    pub ports: Option<PortBlock>,
    /// Its virtual machine's static address; `None` of a container, and where it cannot be read.
    pub address: Option<Ipv4Addr>,
    /// Whether it was handed over.
    pub provisioned: bool,
}

impl Load {
    /// The ports that environments use.
    pub fn ports(&self) -> impl Iterator<Item = PortBlock> {
        self.environments.iter().filter_map(|e| e.ports)
    }

    /// Of these, the ports of environments that are being made: they do not use all of their memory yet.
    pub fn coming(&self) -> impl Iterator<Item = PortBlock> {
        self.environments.iter().filter(|e| !e.provisioned).filter_map(|e| e.ports)
    }
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// How much there is.
    pub total: u64,
    /// How much of it is used.
    pub used: u64,
}

/// The members of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Members {
    /// How many there are.
    pub total: u32,
    /// How many of them run instances now.
    pub online: u32,
}

/// What the machines behind a remote have.
#[derive(Debug, Clone, Copy)]
struct Machines {
    memory: Memory,
    cpus: u64,
    cpu_load: Option<f64>,
}

/// How a remote is, or why that is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteReport {
    /// Its name.
    pub name: String,
    /// Its load, or what went wrong when it was asked.
    pub load: Result<Load, String>,
}

/// One remote. The connection is made, and the client enrolled, when it is first needed, and again once the remote
/// has stopped trusting us.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) settings: settings::Remote,
    identity: Identity,
    token: Option<Token>,
    /// From the settings; else from the token, or as pinned on the first run.
    fingerprint: Option<Fingerprint>,
    pin: PathBuf,
    call_timeout: Duration,
    connection: Mutex<Option<Connection>>,
    pub(crate) image: Image,
    /// What the members of a cluster said, and when.
    machines: Mutex<Option<(Instant, Machines)>>,
}

/// A client that the remote trusts, and what was learnt when it connected.
#[derive(Debug, Clone)]
struct Connection {
    client: Client,
    clustered: bool,
}

impl Remote {
    pub(crate) fn new(
        settings: settings::Remote,
        state_dir: &Path,
        call_timeout: Duration,
    ) -> Result<Self, Error> {
        let dir = state_dir.join(&settings.name);
        let key = |name: &str| format!("remotes.{}.{name}", settings.name);
        let unusable = |name: &str, path: &Path, source: Box<dyn std::error::Error + Send + Sync>| {
            Error::Settings { key: key(name), what: format!("cannot use {}", path.display()), source }
        };
        let state = |source: Box<dyn std::error::Error + Send + Sync>| Error::State {
            remote: settings.name.clone(),
            path: dir.clone(),
            source,
        };

        let identity = if let (Some(cert), Some(key_file)) = (&settings.cert_file, &settings.key_file) {
            let read =
                |name: &str, path: &Path| std::fs::read(path).map_err(|e| unusable(name, path, e.into()));
            Identity::from_pem(&read("cert_file", cert)?, &read("key_file", key_file)?)
                .map_err(|e| unusable("cert_file", cert, e.into()))?
        } else {
            create_private_dir(&dir).map_err(|e| state(e.into()))?;
            Identity::load_or_create(&dir, "lnplaylive").map_err(|e| state(e.into()))?
        };
        let pin = dir.join("server.fingerprint");
        let pinned = match std::fs::read_to_string(&pin) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(state(error.into())),
        };
        let token = match settings.token_file.as_deref().map(|path| (path, read_secret(path))) {
            None => None,
            // It has done its work on the first run: it may be gone, or kept from this program.
            Some((_, Err(_))) if pinned.is_some() => None,
            Some((path, text)) => {
                let token = text.map_err(Box::from).and_then(|text| parse_token(&text));
                Some(token.map_err(|e| unusable("token_file", path, e))?)
            }
        };
        let fingerprint = settings
            .server_fingerprint
            .clone()
            .or(pinned)
            .map(|text| {
                text.trim().parse::<Fingerprint>().map_err(|e| unusable("server_fingerprint", &pin, e.into()))
            })
            .transpose()?;
        Ok(Self {
            settings,
            identity,
            token,
            fingerprint,
            pin,
            call_timeout,
            connection: Mutex::default(),
            image: Image::default(),
            machines: Mutex::default(),
        })
    }

    /// A client that the remote trusts. What failed is tried again at the next call.
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        Ok(self.connection().await?.client)
    }

    async fn connection(&self) -> Result<Connection, Error> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        Ok(kept.insert(self.connect().await?).clone())
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let name = &self.settings.name;
        let expected = self.fingerprint.or_else(|| self.token.as_ref().map(|t| *t.fingerprint()));
        let Some(fingerprint) = expected else {
            return Err(Error::NotEnrolled { remote: name.clone() });
        };
        let mut config =
            ClientConfig::new(name, self.settings.url.clone(), self.identity.clone(), fingerprint);
        config.limits.total = self.call_timeout;
        config.limits.connect = config.limits.connect.min(self.call_timeout);
        let client = Client::new(config)?;
        let mut server = client.server().await?;
        if !server.is_trusted() {
            let Some(token) = self.current_token() else {
                return Err(Error::NotEnrolled { remote: name.clone() });
            };
            client.enrol(&token).await.map_err(|error| self.not_enrolled(error))?;
            // To those whom it trusts it tells more.
            server = client.server().await?;
            tracing::info!("remote {name:?}: enrolled, its certificate is {fingerprint} from now on");
        }
        if self.fingerprint.is_none() {
            write_pin(&self.pin, &fingerprint.to_string()).map_err(|e| Error::State {
                remote: name.clone(),
                path: self.pin.clone(),
                source: e.into(),
            })?;
        }
        Ok(Connection { client, clustered: server.environment.server_clustered })
    }

    /// The token in its file as it is now: after the first one was used, the operator may have put another.
    fn current_token(&self) -> Option<Token> {
        let now = self.settings.token_file.as_deref().and_then(|path| read_secret(path).ok());
        now.and_then(|text| parse_token(&text).ok()).or_else(|| self.token.clone())
    }

    fn not_enrolled(&self, source: lxd_client::Error) -> Error {
        match (source.kind(), &self.settings.token_file) {
            (ErrorKind::Forbidden(_), Some(file)) => Error::TokenRefused {
                remote: self.settings.name.clone(),
                file: file.clone(),
                source: source.into(),
            },
            _ => source.into(),
        }
    }

    /// How the remote is.
    pub(crate) async fn report(&self) -> RemoteReport {
        let load = match timeout(REPORT_TIME, self.load()).await {
            Ok(Ok(load)) => Ok(load),
            Ok(Err(error)) => {
                if matches!(&error, Error::Lxd(error) if matches!(error.kind(), ErrorKind::Forbidden(_))) {
                    // The next report begins with who we are.
                    *self.connection.lock().await = None;
                }
                Err(error.chain())
            }
            Err(_) => Err(format!("no report in {} s", REPORT_TIME.as_secs())),
        };
        RemoteReport { name: self.settings.name.clone(), load }
    }

    /// Two calls of a single server; of a cluster one more for each member, every [`MEMBERS_AGE`]. Until the image was
    /// seen, another one.
    async fn load(&self) -> Result<Load, Error> {
        let Connection { client, clustered } = self.connection().await?;
        self.image.check(&client, &self.settings).await?;
        let projects = client.projects().await?;
        let environments = projects.iter().filter_map(project::recognise).collect();
        let (machines, members) = if clustered {
            let members = client.cluster_members().await?;
            let online: Vec<_> = members.iter().filter(|m| m.is_online()).map(|m| &*m.server_name).collect();
            let count = |n| u32::try_from(n).unwrap_or(u32::MAX);
            let counts = Members { total: count(members.len()), online: count(online.len()) };
            (self.members_machines(&client, &online).await?, Some(counts))
        } else {
            (Machines::of(&client.resources().await?), None)
        };
        Ok(Load {
            environments,
            memory: machines.memory,
            cpus: machines.cpus,
            cpu_load: machines.cpu_load,
            members,
        })
    }

    /// What all members together have. The server chooses the member for an instance.
    async fn members_machines(&self, client: &Client, online: &[&str]) -> Result<Machines, Error> {
        let mut kept = self.machines.lock().await;
        if let Some((at, machines)) = *kept
            && at.elapsed() < MEMBERS_AGE
        {
            return Ok(machines);
        }
        let each = try_join_all(online.iter().map(|member| client.member_resources(member))).await?;
        let sum = each.iter().map(Machines::of).reduce(Machines::plus);
        let none = Machines { memory: Memory::default(), cpus: 0, cpu_load: None };
        let machines = sum.unwrap_or(none);
        *kept = Some((Instant::now(), machines));
        Ok(machines)
    }
}

impl Machines {
    fn of(resources: &Resources) -> Self {
        let memory = Memory { total: resources.memory_total, used: resources.memory_used };
        Self { memory, cpus: resources.cpu_total, cpu_load: resources.load }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            memory: Memory {
                total: self.memory.total + other.memory.total,
                used: self.memory.used + other.memory.used,
            },
            cpus: self.cpus + other.cpus,
            cpu_load: self.cpu_load.zip(other.cpu_load).map(|(a, b)| a + b),
        }
    }
}

fn parse_token(text: &Secret) -> Result<Token, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Token::parse(text.expose())?)
}

fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Whole or not at all.
fn write_pin(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    create_private_dir(dir)?;
    let file = tempfile::NamedTempFile::new_in(dir)?;
    std::fs::write(file.path(), text)?;
    file.persist(path).map(drop).map_err(|e| e.error)
}
