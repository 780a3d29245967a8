//! The API over a daemon's unix socket, which trusts whoever can open it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{Error, Result};

/// Each of the calls made here looks something up or writes a row; making a pool or a bridge takes a second at most.
const CALL_TIME: Duration = Duration::from_secs(30);

/// One call; returns the answer's `metadata`. Of a call that goes on in the background it is the operation.
pub(super) async fn call(socket: &Path, method: &str, path: &str, body: &Value) -> Result<Value> {
    let failed =
        |problem: String| Error::Unusable(format!("{method} {path} over {}: {problem}", socket.display()));
    let text = match timeout(CALL_TIME, exchange(socket, method, path, body)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer in {} s", CALL_TIME.as_secs()))),
    };
    let answer = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let mut answer: Value = serde_json::from_str(answer)
        .map_err(|e| failed(format!("an answer that is no JSON ({e}): {text}")))?;
    if answer["type"] == "error" {
        return Err(failed(answer["error"].as_str().unwrap_or("no reason given").to_owned()));
    }
    Ok(answer["metadata"].take())
}

/// HTTP/1.0, so that the answer simply ends with the connection.
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
