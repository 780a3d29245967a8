//! One remote: who it is, and how it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lnplaylive::order::PortBlock;
use lnplaylive::settings::{self, read_secret};
use lxd_client::{Client, ClientConfig, Fingerprint, Identity, Token};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::{Error, project};

/// How long a remote may take to report. All are asked at a time before each placement, so the slowest
/// holds the others up; one that needs longer for a listing is in no state to start instances.
const REPORT_TIME: Duration = Duration::from_secs(5);

/// How loaded a remote is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Our environments on it, those that are being made included.
    pub environments: u32,
    /// The ports that they use.
    pub ports: Vec<PortBlock>,
}

/// How a remote is, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteReport {
    /// Its name.
    pub name: String,
    /// Its load, or what went wrong when it was asked.
    pub load: Result<Load, String>,
}

/// One remote. The connection is made, and the client enrolled, when it is first needed.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) settings: settings::Remote,
    identity: Identity,
    token: Option<Token>,
    /// From the settings; else from the token, or as pinned on the first run.
    fingerprint: Option<Fingerprint>,
    pin: PathBuf,
    call_timeout: Duration,
    client: OnceCell<Client>,
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
        let token = settings
            .token_file
            .as_deref()
            .map(|path| {
                let text = read_secret(path).map_err(|e| unusable("token_file", path, e.into()))?;
                Token::parse(text.expose()).map_err(|e| unusable("token_file", path, e.into()))
            })
            .transpose()?;
        let pin = dir.join("server.fingerprint");
        let pinned = match std::fs::read_to_string(&pin) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(state(error.into())),
        };
        let fingerprint = settings
            .server_fingerprint
            .clone()
            .or(pinned)
            .map(|text| {
                text.trim().parse::<Fingerprint>().map_err(|e| unusable("server_fingerprint", &pin, e.into()))
            })
            .transpose()?;
        Ok(Self { settings, identity, token, fingerprint, pin, call_timeout, client: OnceCell::new() })
    }

    /// A client that the remote trusts. What failed is tried again at the next call.
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        self.client.get_or_try_init(|| self.connect()).await.cloned()
    }

    async fn connect(&self) -> Result<Client, Error> {
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
        if !client.server().await?.is_trusted() {
            let Some(token) = &self.token else {
                return Err(Error::NotEnrolled { remote: name.clone() });
            };
            client.enrol(token).await?;
            tracing::info!("remote {name:?}: enrolled, its certificate is {fingerprint} from now on");
        }
        if self.fingerprint.is_none() {
            write_pin(&self.pin, &fingerprint.to_string()).map_err(|e| Error::State {
                remote: name.clone(),
                path: self.pin.clone(),
                source: e.into(),
            })?;
        }
        Ok(client)
    }

    /// How the remote is.
    pub(crate) async fn report(&self) -> RemoteReport {
        let load = match timeout(REPORT_TIME, self.load()).await {
            Ok(Ok(load)) => Ok(load),
            Ok(Err(error)) => Err(error.chain()),
            Err(_) => Err(format!("no report in {} s", REPORT_TIME.as_secs())),
        };
        RemoteReport { name: self.settings.name.clone(), load }
    }

    async fn load(&self) -> Result<Load, Error> {
        let projects = self.client().await?.projects().await?;
        let ours: Vec<_> = projects.iter().filter_map(project::recognise).collect();
        Ok(Load {
            environments: u32::try_from(ours.len()).unwrap_or(u32::MAX),
            ports: ours.into_iter().filter_map(|o| o.ports).collect(),
        })
    }
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
