//! An instance's SSH server: runs commands as processes of the instance.

use std::{
    collections::HashMap, os::unix::process::ExitStatusExt as _, process::Stdio, sync::Arc, time::Duration,
};

use russh::{
    Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig,
    keys::PublicKey,
    server::{self, Auth, ChannelOpenHandle, Handle, Msg, Session},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    process::{Child, ChildStdin},
    sync::mpsc,
};

use crate::cloud_init::Ssh;

/// Creates the process for a command line.
pub(crate) type Shell = Arc<dyn Fn(&str) -> tokio::process::Command + Send + Sync>;

/// The common state of an instance's connections.
#[derive(Clone)]
pub(crate) struct Server {
    config: Arc<server::Config>,
    ssh: Arc<Ssh>,
    shell: Shell,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) fn new(ssh: Ssh, shell: Shell) -> Self {
        let config = server::Config {
            keys: vec![ssh.host_key.clone()],
            methods: (&[russh::MethodKind::PublicKey][..]).into(),
            // Guessing is impossible, and tests fail to authenticate often.
            auth_rejection_time: Duration::ZERO,
            // Clients keep connections open as long as they like.
            inactivity_timeout: None,
            nodelay: true,
            ..server::Config::default()
        };
        Self { config: Arc::new(config), ssh: Arc::new(ssh), shell }
    }

    /// The same server with an unknown host key.
    pub(crate) fn with_other_host_key(&self) -> Self {
        let keys = vec![crate::cloud_init::generate_host_key()];
        let old = &self.config;
        let config = server::Config {
            keys,
            methods: old.methods.clone(),
            auth_rejection_time: old.auth_rejection_time,
            inactivity_timeout: old.inactivity_timeout,
            nodelay: old.nodelay,
            ..server::Config::default()
        };
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Serves a connection until it ends.
    pub(crate) async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let handler = Connection { server: self.clone(), channels: HashMap::new(), user: String::new() };
        let ended = match server::run_stream(self.config.clone(), stream, handler).await {
            Ok(session) => session.await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an SSH connection ended");
        }
    }
}

struct Connection {
    server: Server,
    /// Channels without a command.
    channels: HashMap<ChannelId, Channel<Msg>>,
    /// The user who logged in.
    user: String,
}

/// The image's account, and the commands that its forced command accepts.
const ACCOUNT: &str = "lnplay";
const ACCOUNTS_COMMANDS: [&str; 4] = ["lnplay up -", "lnplay status", "lnplay desk", "lnplay down"];

/// The command that runs if `user` requests `command`.
fn forced(user: &str, command: &str) -> String {
    if user != ACCOUNT || ACCOUNTS_COMMANDS.contains(&command) {
        return command.to_owned();
    }
    "echo 'this account can run only lnplay' >&2; exit 1".to_owned()
}

impl Connection {
    fn judge(&self, user: &str, key: &PublicKey) -> Auth {
        if self.server.ssh.allows(user, key) { Auth::Accept } else { Auth::reject() }
    }
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.judge(user, offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        user.clone_into(&mut self.user);
        Ok(self.judge(user, key.public_key))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(channel) = self.channels.remove(&id) else { return session.channel_failure(id) };
        let command = forced(&self.user, &String::from_utf8_lossy(data));
        let spawned = (self.server.shell)(&command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // In its own process group, so that signals reach the shell's children.
            .process_group(0)
            .spawn();
        match spawned {
            Ok(child) => {
                session.channel_success(id)?;
                tokio::spawn(attend(child, channel, session.handle()));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot start a shell");
                session.channel_failure(id)
            }
        }
    }
}

/// Connects a process with its channel. Like sshd, it closes the channel when the process has exited *and* nobody holds its output
/// open any more. If the client leaves, the process keeps running without input and output.
async fn attend(mut child: Child, channel: Channel<Msg>, session: Handle) {
    let id = channel.id();
    let (input, output) = channel.split();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut reading = tokio::spawn(feed(input, stdin, child.id()));
    let copy = async {
        let out = pass(stdout, output.make_writer());
        let err = pass(stderr, output.make_writer_ext(Some(1)));
        tokio::select! {
            ((), ()) = async { tokio::join!(out, err) } => true,
            _ = &mut reading => false,
        }
    };
    let (status, client_is_there) = tokio::join!(child.wait(), copy);
    reading.abort();
    if client_is_there && let Err(error) = finish(&output, id, &session, status).await {
        tracing::debug!(%error, "the client left as its command ended");
    }
}

async fn pass(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) {
    if let Some(mut from) = from {
        // The client may have left; dropping `from` tells the process.
        tokio::io::copy(&mut from, &mut to).await.ok();
    }
}

async fn finish(
    output: &ChannelWriteHalf<Msg>,
    id: ChannelId,
    session: &Handle,
    status: std::io::Result<std::process::ExitStatus>,
) -> Result<(), russh::Error> {
    output.eof().await?;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => output.exit_status(code.unsigned_abs()).await?,
            (None, signal) => {
                let name = signal
                    .and_then(|s| nix::sys::signal::Signal::try_from(s).ok())
                    .map_or("TERM", |s| s.as_str());
                let name = Sig::Custom(name.trim_start_matches("SIG").to_owned());
                let told =
                    session.exit_signal_request(id, name, status.core_dumped(), String::new(), String::new());
                told.await.map_err(|()| russh::Error::SendError)?;
            }
        },
        Err(error) => tracing::warn!(%error, "could not send a command's exit status"),
    }
    output.close().await
}

/// Passes on input and signals until the client has closed the channel.
async fn feed(mut input: ChannelReadHalf, stdin: Option<ChildStdin>, group: Option<u32>) {
    let (sender, mut receiver) = mpsc::channel::<hyper::body::Bytes>(16);
    tokio::spawn(async move {
        let Some(mut stdin) = stdin else { return };
        while let Some(data) = receiver.recv().await {
            if stdin.write_all(&data).await.is_err() {
                return;
            }
        }
    });
    let mut sender = Some(sender);
    while let Some(message) = input.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(sender) = &sender {
                    // The process may have closed its stdin.
                    sender.send(data).await.ok();
                }
            }
            ChannelMsg::Eof => sender = None,
            ChannelMsg::Signal { signal } => send_signal(&signal, group),
            _ => {}
        }
    }
}

fn send_signal(signal: &Sig, group: Option<u32>) {
    use nix::sys::signal::{Signal, killpg};
    let signal = match signal {
        Sig::ABRT => Signal::SIGABRT,
        Sig::ALRM => Signal::SIGALRM,
        Sig::HUP => Signal::SIGHUP,
        Sig::INT => Signal::SIGINT,
        Sig::KILL => Signal::SIGKILL,
        Sig::QUIT => Signal::SIGQUIT,
        Sig::TERM => Signal::SIGTERM,
        Sig::USR1 => Signal::SIGUSR1,
        _ => return,
    };
    if let Some(group) = group.and_then(|g| i32::try_from(g).ok()) {
        // It may have exited.
        killpg(nix::unistd::Pid::from_raw(group), signal).ok();
    }
}
