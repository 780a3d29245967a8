#!/usr/bin/env python3
"""EC2's instance metadata service, version 2, for one connection on stdin and stdout:   imds.py DIRECTORY.

DIRECTORY holds the answers by path (1.0/user-data, …). As on EC2 with version 1 switched off, a request without a token
is refused. A file DIRECTORY/delay has the seconds that an answer takes.
"""

import sys
import time
from pathlib import Path

TOKEN = "AQAEAExampleTokenOfSession=="
TTL = "x-aws-ec2-metadata-token-ttl-seconds"


def main() -> None:
    """Answer one request."""
    directory = Path(sys.argv[1]).resolve()
    method, path, _ = sys.stdin.readline().split(" ", 2)
    headers = {}
    while line := sys.stdin.readline().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if (delay := directory / "delay").exists():
        time.sleep(float(delay.read_text()))
    status, body = answer(directory, method, path, headers)
    fields = {"Content-Type": "text/plain", "Content-Length": len(body), "Connection": "close"}
    if body == TOKEN.encode():
        # AWS's own clients take a token only with this.
        fields[TTL] = headers[TTL]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    sys.stdout.buffer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
    sys.stdout.flush()


def answer(directory: Path, method: str, path: str, headers: dict[str, str]) -> tuple[str, bytes]:
    """Return the status and body with which a request is answered."""
    if path == "/latest/api/token":
        if method != "PUT":
            return "405 Not Allowed", b""
        if not headers.get(TTL, "").isdigit():
            return "400 Bad Request", b""
        return "200 OK", TOKEN.encode()
    if headers.get("x-aws-ec2-metadata-token") != TOKEN:
        return "401 Unauthorized", b""
    file = (directory / path.lstrip("/")).resolve()
    if method != "GET" or directory not in file.parents or not file.exists():
        return "404 Not Found", b""
    if file.is_dir():
        return "200 OK", "\n".join(sorted(entry.name for entry in file.iterdir())).encode()
    return "200 OK", file.read_bytes()


main()
