//! bitcoind's RPC over one connection that is kept alive (HTTP/1.1), for a process with a single thread.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// A call may take so long; bcli's default.
const TIMEOUT: Duration = Duration::from_secs(60);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest head of an answer; bitcoind's has some 150 bytes.
const MAX_HEAD: usize = 8 << 10;

/// The longest answer. A block of 4 MB has 8 MB in hex.
const MAX_BODY: usize = 16 << 20;

/// bitcoind's code while it starts.
const IN_WARMUP: i64 = -28;

/// A failed call.
#[derive(Debug)]
pub(super) enum Error {
    /// bitcoind answered with an error.
    Refused {
        /// bitcoind's code (`src/rpc/protocol.h`).
        code: i64,
        /// Its text.
        message: String,
    },
    /// There is no usable answer: bitcoind is down or too slow.
    NoAnswer(io::Error),
}

impl Error {
    /// True if bitcoind is down or still starts.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code == IN_WARMUP,
            Self::NoAnswer(_) => true,
        }
    }
}

/// As `bitcoin-cli` writes it, since lightningd passes it on.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message } => write!(f, "error code: {code}\nerror message:\n{message}"),
            Self::NoAnswer(error) => write!(f, "error: bitcoind did not answer: {error}"),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::NoAnswer(error)
    }
}

/// An answer of bitcoind. The text of its result borrows from `body` ([`Answer::text`]), since a block is large.
#[derive(Debug)]
pub(super) struct Answer {
    body: Vec<u8>,
}

/// The body of an answer that is an error.
#[derive(Deserialize)]
struct Failure {
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
}

impl Answer {
    /// The result as any value.
    pub(super) fn value(&self) -> Result<Value, Error> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            result: Value,
        }
        Ok(serde_json::from_slice::<Body>(&self.body).map_err(io::Error::from)?.result)
    }

    /// The result as text without escapes, such as hex.
    pub(super) fn text(&self) -> Result<&str, Error> {
        #[derive(Deserialize)]
        struct Body<'a> {
            result: &'a str,
        }
        Ok(serde_json::from_slice::<Body>(&self.body).map_err(io::Error::from)?.result)
    }
}

/// bitcoind, and the connection to it while there is one.
#[derive(Debug)]
pub(super) struct BitcoinRpc {
    host: String,
    port: u16,
    /// The directory with `bitcoin.conf` or, for regtest, `regtest/.cookie`.
    dir: PathBuf,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The value of the header `Authorization`. A new bitcoind has a new cookie, and needs a new connection as well.
    login: String,
}

impl BitcoinRpc {
    /// The bitcoind at this address; `dir` is its data directory or one with the login in a `bitcoin.conf`.
    pub(super) fn new(host: String, port: u16, dir: PathBuf) -> Self {
        Self { host, port, dir, connection: None }
    }

    /// Calls `method`. It must be one that may be called twice: bitcoind closes connections that are idle, which shows in
    /// the next call only.
    pub(super) fn call(&mut self, method: &str, params: &Value) -> Result<Answer, Error> {
        let request = json!({"jsonrpc": "1.0", "id": 1, "method": method, "params": params}).to_string();
        if let Some(connection) = self.connection.take() {
            match self.exchange(connection, &request) {
                // It is slow rather than gone.
                Err(Error::NoAnswer(error)) if !is_timeout(&error) => {}
                answer => return answer,
            }
        }
        let connection = self.connect()?;
        self.exchange(connection, &request)
    }

    fn connect(&self) -> io::Result<Connection> {
        let login = STANDARD.encode(login(&self.dir)?);
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host));
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return Ok(Connection { stream, login });
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    fn exchange(&mut self, mut connection: Connection, request: &str) -> Result<Answer, Error> {
        let message = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{request}",
            self.host,
            connection.login,
            request.len()
        );
        connection.stream.write_all(message.as_bytes())?;
        let Response { status, body, keep } = read_response(&mut connection.stream)?;
        if keep {
            self.connection = Some(connection);
        }
        // Errors come with a status of their own and a body. A wrong password, a method that is not allowed and a full queue
        // come without one.
        if status != 200 {
            let failure: Option<Failure> = serde_json::from_slice(&body).ok();
            return Err(match failure.and_then(|failure| failure.error) {
                Some(Refusal { code, message }) => Error::Refused { code, message },
                None => io::Error::other(format!("HTTP status {status}")).into(),
            });
        }
        Ok(Answer { body })
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// `user:password`, from `bitcoin.conf` in the directory, or else bitcoind's cookie.
fn login(dir: &Path) -> io::Result<String> {
    let conf = match fs::read_to_string(dir.join("bitcoin.conf")) {
        Ok(conf) => conf,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let value = |key: &str| conf.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if let (Some(user), Some(password)) = (value("rpcuser"), value("rpcpassword")) {
        return Ok(format!("{user}:{password}"));
    }
    let cookie = dir.join("regtest/.cookie");
    fs::read_to_string(&cookie)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", cookie.display())))
}

struct Response {
    status: u16,
    body: Vec<u8>,
    /// The connection can be used for another call.
    keep: bool,
}

fn read_response(stream: &mut impl Read) -> io::Result<Response> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let (status, keep, start, length) = loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(&bytes).map_err(|error| invalid(format!("not HTTP: {error}")))?;
        if let httparse::Status::Complete(start) = parsed {
            let header = |name: &str| {
                let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                found.and_then(|header| std::str::from_utf8(header.value).ok())
            };
            let length = header("Content-Length").and_then(|length| length.trim().parse::<usize>().ok());
            let length = length.ok_or_else(|| invalid("an answer without Content-Length".to_owned()))?;
            let keep = !header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            break (head.code.unwrap_or_default(), keep, start, length);
        }
        if bytes.len() > MAX_HEAD {
            return Err(invalid(format!("an answer with a head of more than {MAX_HEAD} bytes")));
        }
    };
    if length > MAX_BODY {
        return Err(invalid(format!("an answer of {length} bytes; at most {MAX_BODY} are read")));
    }
    let read = bytes.len() - start;
    if read > length {
        return Err(invalid("more than an answer".to_owned()));
    }
    bytes.drain(..start);
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[read..])?;
    Ok(Response { status, body: bytes, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes one by one, as a slow connection may.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }

    #[test]
    fn an_answer_is_read_however_it_arrives() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 14\r\n\r\n{\"result\":\"a\"}";
        for response in [read_response(&mut text.as_bytes()), read_response(&mut Slow(text.as_bytes()))] {
            let response = response.expect("an answer");
            assert_eq!((response.status, response.keep), (200, true));
            assert_eq!(Answer { body: response.body }.text().expect("text"), "a");
        }
        let closing = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let response = read_response(&mut closing.as_bytes()).expect("an answer");
        assert_eq!((response.status, response.keep, response.body.len()), (401, false, 0));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}",
            &long,
        ] {
            assert!(read_response(&mut text.as_bytes()).is_err(), "{text:.60}");
        }
    }

    /// Calls a server that gives each connection so many answers, each the number of the connection.
    fn answers(per_connection: usize, calls: usize) -> Vec<String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.expect("a connection");
                for _ in 0..per_connection {
                    let mut chunk = [0; 4096];
                    // Short requests arrive whole.
                    if stream.read(&mut chunk).unwrap_or(0) == 0 {
                        break;
                    }
                    let body = format!("{{\"result\":\"{number}\",\"error\":null}}");
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
                }
            }
        });
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("bitcoin.conf"), "rpcuser=a\nrpcpassword=b\n").expect("written");
        let mut rpc = BitcoinRpc::new("127.0.0.1".to_owned(), address.port(), dir.path().to_owned());
        let mut call = || rpc.call("getbestblockhash", &json!([])).expect("an answer");
        (0..calls).map(|_| call().text().expect("text").to_owned()).collect()
    }

    #[test]
    fn a_connection_is_used_for_all_calls_and_replaced_when_it_is_closed() {
        assert_eq!(answers(9, 3), ["0", "0", "0"]);
        assert_eq!(answers(2, 5), ["0", "0", "1", "1", "2"]);
    }

    #[test]
    fn the_login_is_that_of_the_configuration_or_else_the_cookie() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(login(dir.path()).expect_err("there is none").to_string().contains(".cookie"));
        fs::create_dir(dir.path().join("regtest")).expect("made");
        fs::write(dir.path().join("regtest/.cookie"), "__cookie__:abc").expect("written");
        assert_eq!(login(dir.path()).expect("a login"), "__cookie__:abc");
        fs::write(dir.path().join("bitcoin.conf"), "regtest=1\nrpcuser=nodes\nrpcpassword=x=y\n")
            .expect("written");
        assert_eq!(login(dir.path()).expect("a login"), "nodes:x=y");
    }
}
