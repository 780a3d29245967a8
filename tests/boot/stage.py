"""What scenarios are played on: machines of an image, their user-data, and the shop as its visitors see it."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import HERE, Machine, ScenarioError, until

DOMAIN = "shop.example"
EXAMPLE = HERE.parent.parent / "nixos/images/user-data.example"
# What listens on the host.
HOST = {"ssh": 22, "http": 80, "https": 443, "lightning": 9735}
# Seconds, of a machine that is emulated on two processors which others use as well.
BOOT_TIMEOUT = 900
# The partition that `disk` makes.
ROOT = "6e6f6465-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Stage:
    """Where one scenario happens. IMAGE/{kernel,disk.raw,evaluated.json} is what its machines are started from."""

    name: str
    work: Path
    image: Path
    bins: Path

    def say(self, what: str) -> None:
        """Print what was seen."""
        print(f"  {self.name}: {what}", flush=True)

    def figure(self, what: str) -> None:
        """Print what was measured; it is shown again at the end of all lanes."""
        self.say(what)
        if path := os.environ.get("TESTBED_FIGURES"):
            with Path(path).open("a") as file:
                file.write(f"boot: {what}\n")

    def volume(self, name: str, gib: int = 1) -> Path:
        """Make a blank disk."""
        path = self.work / f"{name}.raw"
        with path.open("wb") as file:
            file.truncate(gib << 30)
        return path

    def evaluated(self) -> dict[str, Any]:
        """Return what the image's expression evaluated to."""
        values: dict[str, Any] = json.loads((self.image / "evaluated.json").read_text())
        return values

    @contextmanager
    def instance(self, name: str, user_data: str = "", listening: dict[str, int] = HOST) -> Iterator[Machine]:
        """Make a machine that has not started yet. It is gone at the end."""
        # Without a first stage the kernel mounts the root file system, and stage 2 does what it does in a container.
        evaluated = self.evaluated()
        own = f"root=PARTUUID={ROOT} rootwait rw init={evaluated['toplevel']}/prepare-root"
        # On a busy machine an emulated timer may be late when the kernel tries it.
        own += " no_timer_check"
        command_line = " ".join([*evaluated["kernelParams"], own])
        machine = Machine(self.work / name, self.image, command_line, listening)
        machine.put("1.0/user-data", user_data)
        try:
            yield machine
        except ScenarioError as error:
            lines = [line for line in machine.said().splitlines() if " running (" not in line]
            console = "\n".join(lines[-40:])
            ends = f"-- its console:\n{console}\n-- its journal:\n{machine.logged(80)}"
            raise ScenarioError(f"{self.name}: {name}: {error}\n{ends}") from error
        finally:
            machine.kill()

    def healthy(self, machine: Machine) -> None:
        """Check that no unit has failed, and that none was dropped to break a cycle."""
        units = machine.run("systemctl list-units --all --plain --no-legend --full")
        (machine.work / "units").write_text(units + "\n")
        lines = [line.split() for line in units.splitlines()]
        if failed := [fields[0] for fields in lines if len(fields) > 3 and fields[2] == "failed"]:
            logs = machine.run(f"journalctl --no-pager -b -o cat -n 40 {' '.join(f'-u {unit}' for unit in failed)}")
            raise ScenarioError(f"units that have failed: {' '.join(failed)}\n{logs}")
        if cycles := machine.run("journalctl --no-pager -b -o cat | grep -i 'ordering cycle' || true"):
            raise ScenarioError(f"the boot had an ordering cycle:\n{cycles}")
        active = sum(1 for fields in lines if "active" in fields[2:3])
        self.say(f"{active} units are active, none has failed, and there was no ordering cycle")


def user_data(*, port: int = 8443, token: str = "none", **replaced: str) -> str:
    """Return the documentation's, on a test network and with this remote."""
    text = EXAMPLE.read_text()
    values = {"network": "regtest", "url": f"https://{Machine.OUTSIDE}:{port}", "token": token} | replaced
    for key, value in values.items():
        text, count = re.subn(rf'^{key} = ".*"$', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
        if not count:
            raise ScenarioError(f"{EXAMPLE} has no {key}")
    return text


class Shop:
    """The shop on a machine, as its visitors see it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.certificate = machine.work / "root.crt"

    def curl(self, path: str, *options: str) -> str | None:
        """Return what it answers, if it does."""
        trust = ["--cacert", str(self.certificate)] if self.certificate.exists() else ["--insecure"]
        connect = ["--connect-to", f"{DOMAIN}:443:127.0.0.1:{self.machine.ports['https']}", f"https://{DOMAIN}{path}"]
        ran = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "20", *trust, *options, *connect],
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout if ran.returncode == 0 else None

    def config(self) -> dict[str, str] | None:
        """Return what the page is told, once it is told whose node it is to talk to."""
        try:
            config = json.loads(self.curl("/config.json", "--fail") or "null")
        except json.JSONDecodeError:
            return None
        return config if config and config.get("node_id") and config.get("rune") else None

    def opens(self) -> dict[str, str]:
        """Wait until it has opened: the page, and the node's socket behind it. Return what the page is told."""
        config = until("the shop opens", self.config, BOOT_TIMEOUT, self.machine.goes_well)
        until("the node's socket is behind it", lambda: self.upgrades("/ws"), BOOT_TIMEOUT, self.machine.goes_well)
        assert isinstance(config, dict)
        return config

    def upgrades(self, path: str) -> bool:
        """Whether a WebSocket opens there."""
        return upgrades(
            f"https://{DOMAIN}{path}",
            "--insecure",
            "--connect-to",
            f"{DOMAIN}:443:127.0.0.1:{self.machine.ports['https']}",
        )


def upgrades(url: str, *options: str) -> bool:
    """Whether a WebSocket opens there."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    arguments = ["curl", "--silent", "--http1.1", "--max-time", "5", "--output", "/dev/null"]
    arguments += ["--write-out", "%{http_code}"]
    arguments += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    ran = subprocess.run([*arguments, *options, url], capture_output=True, text=True, check=False)
    return ran.stdout == "101"
