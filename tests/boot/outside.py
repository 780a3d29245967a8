"""What is outside of the machine: a remote, a bucket for its backup, and a customer with a node and a chain."""

import json
import subprocess
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from machine import Machine, ScenarioError, free_port, until

# Seconds, for what a machine does that is emulated while others use the same processors.
PATIENCE = 900


class Remote:
    """A simulated server for environments, on this machine's loopback."""

    def __init__(self, work: Path, bins: Path) -> None:
        work.mkdir()
        self.port = free_port()
        announcement = work / "announcement"
        with announcement.open("wb") as out:
            self.process = subprocess.Popen(
                [bins / "lnplaylive-demo", "remote", "--listen", f"127.0.0.1:{self.port}"],
                cwd=work,
                stdout=out,
                stderr=(work / "log").open("wb"),
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(work)},
            )
        until(
            "the simulated remote announces itself", lambda: announcement.read_bytes().endswith(b"\n"), 60, self.alive
        )
        self.token: str = json.loads(announcement.read_text())["token"]

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


class Bucket:
    """A bucket with versioning, and a role that may put objects into it and do nothing else.

    What it refuses is what S3 refuses of such a role. It does not check signatures, only whose key they were made with.
    """

    ROLE = "lnplaylive-backup"
    KEY = "ASIAIOSFODNN7EXAMPLE"
    SESSION = "the session of the role"

    def __init__(self) -> None:
        self.versions: dict[str, list[bytes]] = defaultdict(list)
        self.refused: list[str] = []
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                credential = query.get("X-Amz-Credential") or self.headers.get("Authorization", "")
                session = query.get("X-Amz-Security-Token") or self.headers.get("X-Amz-Security-Token")
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if bucket.KEY not in credential or session != bucket.SESSION:
                    self.refuse()
                    return
                bucket.versions[url.path].append(body)
                self.answer(200, b"")

            def refuse(self) -> None:
                bucket.refused.append(f"{self.command} {self.path.partition('?')[0]}")
                self.answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

            do_GET = do_HEAD = do_POST = do_DELETE = refuse  # noqa: N815

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("ETag", '"0"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def role(self) -> str:
        """Return what the metadata service says of the role."""
        credentials = {
            "Code": "Success",
            "LastUpdated": "2026-01-01T00:00:00Z",
            "Type": "AWS-HMAC",
            "AccessKeyId": self.KEY,
            "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "Token": self.SESSION,
            "Expiration": "2099-01-01T00:00:00Z",
        }
        return json.dumps(credentials)

    def stop(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()


class Customer:
    """A node of Core Lightning's with money, on a regtest chain that it makes itself."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.chain_port, self.rpc_port, port = free_port(), free_port(), free_port()
        for directory in ("chain", "node"):
            (work / directory).mkdir(parents=True)
        chain = ["-regtest", f"-datadir={work}/chain", f"-rpcport={self.rpc_port}", "-rpcuser=u", "-rpcpassword=p"]
        self.processes = [
            self.spawn("bitcoind", *chain, "-server", f"-bind=127.0.0.1:{self.chain_port}", "-nodebuglogfile"),
        ]
        self.chain_cli = ["bitcoin-cli", *chain]
        until("the customer's chain answers", lambda: self.try_run(*self.chain_cli, "getblockcount"), 60)
        self.node_cli = ["lightning-cli", f"--lightning-dir={work}/node", "--network=regtest"]
        rpc = [f"--bitcoin-rpcport={self.rpc_port}", "--bitcoin-rpcuser=u", "--bitcoin-rpcpassword=p"]
        self.processes.append(self.spawn("lightningd", *self.node_cli[1:], f"--bind-addr=127.0.0.1:{port}", *rpc))
        until("the customer's node answers", lambda: self.try_run(*self.node_cli, "getinfo"), 120)
        self.address = self.node("newaddr", "bech32")["bech32"]
        self.mine(101)

    def spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a daemon, with a log of its own."""
        log = (self.work / f"{program}.log").open("wb")
        return subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def try_run(self, *command: str) -> str | None:
        """Return what a command prints, if it succeeds."""
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return ran.stdout.strip() or "ok" if ran.returncode == 0 else None

    def node(self, *arguments: str) -> dict[str, Any]:
        """Return what its node answers to a command of lightning-cli."""
        ran = subprocess.run([*self.node_cli, *arguments], capture_output=True, text=True, check=False, timeout=300)
        if ran.returncode:
            raise ScenarioError(f"customer's {' '.join(arguments)}: {ran.stdout}{ran.stderr}")
        return dict(json.loads(ran.stdout))

    def mine(self, blocks: int) -> None:
        """Make blocks, whose coins it gets."""
        subprocess.run(
            [*self.chain_cli, "generatetoaddress", str(blocks), self.address], check=True, stdout=subprocess.DEVNULL
        )

    def height(self) -> int:
        """How many blocks there are."""
        return int(self.try_run(*self.chain_cli, "getblockcount") or 0)

    def usable(self) -> bool:
        """Whether it can pay through a channel."""
        channels = self.node("listpeerchannels")["channels"]
        return any(channel["state"] == "CHANNELD_NORMAL" and channel["peer_connected"] for channel in channels)

    def offer_chain(self, machine: Machine, bitcoin_cli: str) -> None:
        """Have the machine's bitcoind take its blocks from this one."""
        command = f"{bitcoin_cli} -regtest -rpccookiefile=/run/bitcoin-rpc/cookie"
        machine.run(f"{command} addnode {machine.OUTSIDE}:{self.chain_port} onetry")

    def close(self, node: str) -> None:
        """Close the channel to a node, if it has not closed it by itself."""
        closed = self.try_run(*self.node_cli, "--keywords", "close", f"id={node}", "unilateraltimeout=1")
        if not closed and self.usable():
            raise ScenarioError("the customer cannot close its channel")

    def connect(self, machine: Machine, node: str) -> None:
        """Connect to the machine's node."""
        until(
            "the customer reaches the node",
            lambda: self.try_run(*self.node_cli, "connect", node, "127.0.0.1", str(machine.ports["lightning"])),
            PATIENCE,
            machine.alive,
        )

    def open_channel(self, machine: Machine, node: str) -> None:
        """Open a channel to the machine's node, and wait until it is usable."""
        # Emulated, it takes a second or so for each block.
        until(
            f"the node knows the chain of {self.height()} blocks",
            lambda: machine.lightning("getinfo")["blockheight"] == self.height(),
            PATIENCE,
            machine.alive,
        )
        until(
            "the customer has coins",
            lambda: any(o["status"] == "confirmed" for o in self.node("listfunds")["outputs"]),
            60,
        )
        self.node("--keywords", "fundchannel", f"id={node}", "amount=10000000", "feerate=1000perkb")
        self.mine(6)
        until("the customer has a channel", self.usable, PATIENCE, machine.alive)

    def call(self, node: str, rune: str, method: str, *parameters: object) -> dict[str, Any]:
        """Call a method as the web shop does, by a rune that everybody has."""
        arguments = [f"peer_id={node}", f"rune={rune}", f"method={method}", f"params={json.dumps(parameters)}"]
        return self.node("--keywords", "commando", *arguments)

    def stop(self) -> None:
        """End its daemons."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
