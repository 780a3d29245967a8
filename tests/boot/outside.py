"""What is outside of the machine: a remote for environments, and a customer with a node and a chain of their own."""

import json
import subprocess
from pathlib import Path
from typing import Any

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
