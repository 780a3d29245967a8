//! One remote: the connection to it, and what it reports.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lnplaylive_core::order::Placement;
use lnplaylive_core::secret::{Secret, read_secret};
use lnplaylive_core::settings::{self, InstanceType};
use lnplaylive_core::{ProjectName, ShopId};
use lxd_client::{Client, ClientConfig, ErrorKind, Fingerprint, Found as _, Identity, ServerInfo, Token};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::check::{self, Facts, Findings};
use crate::digest::Digests;
use crate::image::Image;
use crate::instance::{self, Limits, Plan};
use crate::load::{Load, Malformed, RemoteReport};
use crate::members::{self, Members};
use crate::old_images::OldImages;
use crate::profiles::Profiles;
use crate::{Error, Size, project};

/// How long a remote may take to report. All are asked at a time before each placement, so the slowest
/// holds the others up; one that needs longer for a listing is in no state to start instances.
const REPORT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a connection may take. Shorter than the report, so that another member of a cluster can be asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long what a remote says about itself is good: its operator changes it now and then.
const FACTS_MAX_AGE: Duration = Duration::from_secs(60);
/// Between two looks at whether a member still runs instances.
const MEMBER_PAUSE: Duration = Duration::from_secs(2);

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
    /// The shop that we are; `None` for those who make nothing.
    pub(crate) shop: Option<ShopId>,
    pub(crate) old_images: OldImages,
    facts: Mutex<Option<(Instant, Arc<Facts>)>>,
    members: Members,
    /// Held while a container is made: a server looks for user ids that are free, and notes later that they are taken (LXD's and
    /// Incus's `driver_lxc.go`, `findIdmap` and its callers), so that two could get the same.
    making: Mutex<()>,
    /// Where the URLs of a cluster's members are kept for the next start, when the one in the settings may be down.
    endpoints_file: PathBuf,
}

/// A client that the remote trusts, and what was learnt when it connected.
#[derive(Debug, Clone)]
struct Connection {
    client: Client,
    server: ServerInfo,
}

impl Remote {
    pub(crate) fn new(
        settings: settings::Remote,
        state_dir: &Path,
        call_timeout: Duration,
        shop: Option<ShopId>,
        digests: Arc<Digests>,
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
            image: Image::new(shop.clone(), digests),
            shop,
            old_images: OldImages::default(),
            facts: Mutex::default(),
            members: Members::default(),
            making: Mutex::default(),
            endpoints_file: dir.join("endpoints"),
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
        config.limits.connect = CONNECT_TIMEOUT.min(self.call_timeout);
        let client = Client::new(config)?;
        let endpoints = std::iter::once(self.settings.url.clone()).chain(self.kept_endpoints());
        client.set_endpoints(endpoints.collect());
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
            write_private(&self.pin, &fingerprint.to_string()).map_err(|e| Error::State {
                remote: name.clone(),
                path: self.pin.clone(),
                source: e.into(),
            })?;
        }
        if server.environment.server_clustered {
            // For those who never survey, such as the culler: their next start may find the URL's host gone.
            client.set_endpoints(members::endpoints(&self.settings, &client.cluster_members().await?));
            self.keep_endpoints(&client);
        }
        Ok(Connection { client, server })
    }

    /// Uploads the image, and records how that ended.
    pub(crate) async fn upload_image(&self) {
        let upload = async { self.image.bring(&self.client().await?, &self.settings).await };
        let result = upload.await.map(drop).map_err(|error: Error| error.chain());
        if let Err(reason) = &result {
            let name = &self.settings.name;
            tracing::warn!("remote {name:?}: its image is not uploaded, trying again: {reason}");
        }
        self.image.end_upload(result);
    }

    /// What the remote says about itself, as far as it is checked before anything is sold on it. Asked again after a
    /// while, and always while something is wrong.
    async fn facts(&self, client: &Client) -> Result<Arc<Facts>, Error> {
        let image = self.image.check(client, &self.settings).await?;
        let mut kept = self.facts.lock().await;
        if let Some((at, facts)) = &*kept
            && at.elapsed() < FACTS_MAX_AGE
            && facts.image == image
        {
            return Ok(Arc::clone(facts));
        }
        let profiles = Profiles::read(client, &self.settings).await?;
        let network = match self.network(&profiles) {
            Some(name) => client.network(name).await.found()?,
            None => None,
        };
        // Of a pool that is not there the server itself tells when an instance is made.
        let pool = match profiles.pool() {
            Some(name) => client.storage_pool(name).await.found()?,
            None => None,
        };
        let mut acls = Vec::new();
        for name in network.iter().flat_map(check::acls_of) {
            acls.extend(client.network_acl(name).await.found()?);
        }
        let noticed = client.warnings().await.found()?.unwrap_or_default();
        let image_size = Image::size(image.as_ref(), &self.settings);
        let facts = Arc::new(Facts { profiles, pool, network, acls, image, image_size, noticed });
        let good = facts.findings(&self.settings).faults.is_empty();
        *kept = good.then(|| (Instant::now(), Arc::clone(&facts)));
        Ok(facts)
    }

    /// Makes the instance of a placement, or finds that it was made before.
    pub(crate) async fn create_instance(
        &self,
        size: Size,
        image_alias: &str,
        placement: &Placement,
        host: &str,
    ) -> Result<(), Error> {
        let Connection { client, server } = self.connection().await?;
        let facts = self.facts(&client).await?;
        let (settings, server) = (&self.settings, server.environment.server.as_str());
        let (profiles, image_size) = (&facts.profiles, facts.image_size);
        let plan = Plan { settings, profiles, server, image_alias, image_size, size, host };
        let _making = match settings.instance_type {
            InstanceType::Container => Some(self.making.lock().await),
            InstanceType::VirtualMachine => None,
        };
        instance::create(&client, plan, placement).await
    }

    /// Lets the instance of a placement that was prepared use as much as one of this size. Fails if it does not run.
    pub(crate) async fn grow_instance(
        &self,
        client: &Client,
        size: Size,
        placement: &Placement,
    ) -> Result<(), Error> {
        let facts = self.facts(client).await?;
        let limits = Limits {
            profiles: &facts.profiles,
            kind: self.settings.instance_type,
            image_size: facts.image_size,
            size,
        };
        instance::grow(client, limits, placement).await
    }

    /// The network that virtual machines are on; containers are on none.
    fn network<'a>(&'a self, profiles: &'a Profiles) -> Option<&'a str> {
        if self.settings.instance_type == InstanceType::Container {
            return None;
        }
        let from_profiles = || {
            let (_, nic) = profiles.nic.as_ref()?;
            // An interface that the server does not manage will be found out as such.
            nic.get("network").or_else(|| nic.get("parent")).map(String::as_str)
        };
        self.settings.vm_network.as_deref().or_else(from_profiles)
    }

    /// The URLs of a cluster's members, as they were last listed.
    fn kept_endpoints(&self) -> Vec<Url> {
        let text = std::fs::read_to_string(&self.endpoints_file).unwrap_or_default();
        let urls = text.lines().filter_map(|line| line.parse().ok());
        urls.filter(|url| *url != self.settings.url).collect()
    }

    /// Keeps the URLs of a cluster's members for the next start.
    fn keep_endpoints(&self, client: &Client) {
        let mut endpoints = client.endpoints();
        endpoints.retain(|url| *url != self.settings.url);
        endpoints.sort();
        let mut kept = self.kept_endpoints();
        kept.sort();
        if endpoints == kept {
            return;
        }
        let text = endpoints.iter().map(Url::as_str).collect::<Vec<_>>().join("\n");
        if let Err(error) = write_private(&self.endpoints_file, &text) {
            let file = self.endpoints_file.display();
            tracing::warn!(
                "remote {:?}: cannot keep its members' URLs in {file}: {error}",
                self.settings.name
            );
        }
    }

    /// Where the ports of an environment are reached, without brackets, that was placed on this member of a cluster. Its
    /// instance is where the cluster has it now, and that need not be where it was put.
    pub(crate) async fn host(
        &self,
        client: &Client,
        placed_on: Option<&str>,
        project: ProjectName,
    ) -> Result<String, Error> {
        let Some(placed_on) = placed_on else { return Ok(self.settings.host().to_owned()) };
        let located = self.locate(client, project).await?;
        let member = located.as_deref().unwrap_or(placed_on);
        if let Some(host) = self.members.host(&self.settings, member).await {
            return Ok(host);
        }
        let facts = self.facts(client).await?;
        self.members.of_cluster(client, &self.settings, &facts).await?;
        let host = self.members.host(&self.settings, member).await;
        host.ok_or_else(|| self.member_lost(member, "is no longer in the cluster"))
    }

    /// Returns, with an error that says so, once a member no longer runs instances. Waits for ever on a single server.
    pub(crate) async fn watch_member(&self, client: &Client, member: Option<&str>) -> Error {
        let Some(member) = member else { return std::future::pending().await };
        loop {
            // Could not ask: not known.
            if let Ok(listed) = client.cluster_members().await {
                match listed.iter().find(|listed| listed.server_name == *member) {
                    Some(listed) if listed.is_online() => {}
                    Some(listed) => return self.member_lost(member, &format!("is {}", listed.status)),
                    None => return self.member_lost(member, "is no longer in the cluster"),
                }
            }
            sleep(MEMBER_PAUSE).await;
        }
    }

    /// The member that a project's instance is on now, if there is an instance.
    pub(crate) async fn locate(
        &self,
        client: &Client,
        project: ProjectName,
    ) -> Result<Option<String>, Error> {
        let instances = client.locations(Some(&project.to_string())).await?;
        let ours = instances.into_iter().find(|instance| instance::is_ours(&instance.name));
        Ok(ours.map(|instance| instance.location))
    }

    fn member_lost(&self, member: &str, what: &str) -> Error {
        Error::MemberLost {
            remote: self.settings.name.clone(),
            member: member.to_owned(),
            what: what.to_owned(),
        }
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
        let load = match timeout(REPORT_TIMEOUT, self.load()).await {
            Ok(Ok(load)) => Ok(load),
            Ok(Err(error)) => {
                if matches!(&error, Error::Lxd(error) if matches!(error.kind(), ErrorKind::Forbidden(_))) {
                    // The next report begins with who we are.
                    *self.connection.lock().await = None;
                }
                Err(error.chain())
            }
            Err(_) => Err(format!("no report in {} s", REPORT_TIMEOUT.as_secs())),
        };
        RemoteReport { name: self.settings.name.clone(), load }
    }

    /// Three calls of a single server, one more where environments are virtual machines. Of a cluster another one, and
    /// two or three for each member, less often; and one to learn where instances are.
    pub(crate) async fn load(&self) -> Result<Load, Error> {
        let Connection { client, server } = self.connection().await?;
        let facts = self.facts(&client).await?;
        let Findings { faults, mut warnings } = facts.findings(&self.settings);
        if !faults.is_empty() {
            return Err(Error::Unfit { remote: self.settings.name.clone(), faults });
        }
        let projects = client.projects().await?;
        let (mut environments, malformed) = project::sort(&projects, self.shop.as_ref());
        warnings.extend(malformed.iter().map(|Malformed { project, error, .. }| {
            format!("project {project:?} looks like ours and is left alone: {error}; mend its configuration or delete it")
        }));
        let clustered = server.environment.server_clustered;
        let members = if clustered {
            let members = self.members.of_cluster(&client, &self.settings, &facts).await?;
            self.keep_endpoints(&client);
            self.members.locate(&client, &self.settings, &mut environments).await;
            members
        } else {
            for environment in &mut environments {
                environment.member = None;
                environment.host = Some(self.settings.host().to_owned());
            }
            vec![members::single(&client, &self.settings, &server, &facts).await?]
        };
        let clock_ahead = client.server_clock_ahead();
        Ok(Load { environments, malformed, members, clustered, warnings, clock_ahead })
    }
}

fn parse_token(text: &Secret) -> Result<Token, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Token::parse(text.expose())?)
}

pub(crate) fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    create_private_dir(path.parent().unwrap_or(Path::new(".")))?;
    atomic_file::replace(path, text.as_bytes(), 0o600)
}
