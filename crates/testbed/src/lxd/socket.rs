//! The API on a daemon's unix socket, which trusts everybody who can open it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::wait::{Step, until};
use crate::{Error, Result};

/// The calls made here read or write some rows; creating a pool or a bridge takes at most a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a call and returns the answer's `metadata`. For a call that starts an operation that is the operation.
pub(super) async fn call(socket: &Path, method: &str, path: &str, body: &Value) -> Result<Value> {
    let failed =
        |problem: String| Error::Unusable(format!("{method} {path} over {}: {problem}", socket.display()));
    let text = match timeout(CALL_TIMEOUT, exchange(socket, method, path, body)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer in {} s", CALL_TIMEOUT.as_secs()))),
    };
    let answer = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let mut answer: Value = serde_json::from_str(answer)
        .map_err(|e| failed(format!("an answer that is no JSON ({e}): {text}")))?;
    if answer["type"] == "error" {
        return Err(failed(answer["error"].as_str().unwrap_or("no reason given").to_owned()));
    }
    Ok(answer["metadata"].take())
}

/// Reads a file that the API has; one that is not there is empty.
pub(super) async fn read(socket: &Path, path: &str) -> Result<String> {
    let failed =
        |problem: String| Error::Unusable(format!("GET {path} over {}: {problem}", socket.display()));
    let text = match timeout(CALL_TIMEOUT, exchange(socket, "GET", path, &Value::Null)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer in {} s", CALL_TIMEOUT.as_secs()))),
    };
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.lines().next().is_some_and(|line| line.contains(" 200 ")) => {
            Ok(body.to_owned())
        }
        _ => Ok(String::new()),
    }
}

/// Makes a call that starts an operation, waits until it has ended, and returns its metadata.
pub(super) async fn carry_out(
    socket: &Path,
    method: &str,
    path: &str,
    body: &Value,
    within: Duration,
) -> Result<Value> {
    let started = call(socket, method, path, body).await?;
    // Some calls are done at once.
    if started["status_code"].is_null() {
        return Ok(started);
    }
    // Polled, because Incus answers a wait that times out with an error.
    let at = format!("/1.0/operations/{}", started["id"].as_str().unwrap_or_default());
    let mut operation = until(&format!("the end of {method} {path}"), within, async || {
        let operation = call(socket, "GET", &at, &Value::Null).await?;
        let ended = operation["status_code"].as_u64().is_some_and(|code| code >= 200);
        Ok(if ended { Step::Done(operation) } else { Step::NotYet(operation.to_string()) })
    })
    .await?;
    match operation["err"].as_str() {
        None | Some("") => Ok(operation["metadata"].take()),
        Some(error) => Err(Error::Unusable(format!("{method} {path} over {}: {error}", socket.display()))),
    }
}

/// Sends one request. With HTTP/1.0 the answer ends with the connection.
async fn exchange(socket: &Path, method: &str, path: &str, body: &Value) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: daemon\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
