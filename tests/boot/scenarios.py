#!/usr/bin/env python3
"""What is seen of the machine:   scenarios.py WORK BIN_DIR [SCENARIO…]

WORK has kernel, disk.raw and evaluated.json, and gets what the machines leave. Prints what was seen, and ends at the first thing that
was not, with the end of the console.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import HERE, MIB, Machine, Trouble, until
from outside import Customer, Remote

DOMAIN = "shop.example"
EXAMPLE = HERE.parent.parent / "nixos/images/user-data.example"
# Without KVM, on two processors that others use as well.
BOOT_TIMEOUT = 900


def say(what: str) -> None:
    print(f"  {what}", flush=True)


def figure(what: str) -> None:
    """Shown again at the end of all lanes."""
    say(what)
    if path := os.environ.get("TESTBED_FIGURES"):
        with open(path, "a") as file:
            file.write(f"boot: {what}\n")


class Place:
    """Where the machines run, and what they are started from."""

    def __init__(self, work: Path, bins: Path) -> None:
        self.work, self.bins = work, bins
        evaluated = json.loads((work / "evaluated.json").read_text())
        self.bitcoin_cli: str = evaluated["bitcoinCli"]
        # Without a first stage the kernel mounts the root file system itself, and stage 2 does what it does in a container.
        own = [
            "root=PARTUUID=6e6f6465-0000-4000-8000-000000000001",
            "rootwait",
            "rw",
            f"init={evaluated['toplevel']}/prepare-root",
        ]
        self.command_line = " ".join([*evaluated["kernelParams"], *own])
        self.started = 0

    def volume(self, name: str, gib: int = 1) -> Path:
        """A blank disk."""
        path = self.work / f"{name}.raw"
        with path.open("wb") as file:
            file.truncate(gib << 30)
        return path

    @contextmanager
    def instance(self, name: str, user_data: str) -> Iterator[Machine]:
        machine = Machine(self.work / name, self.work / "kernel", self.command_line, self.work / "disk.raw")
        machine.put("1.0/user-data", user_data)
        try:
            yield machine
        except Trouble as trouble:
            end = "\n".join(machine.said().splitlines()[-80:])
            raise Trouble(f"{name}: {trouble}\n-- its console:\n{end}") from trouble
        finally:
            machine.kill()


def user_data(*, port: int = 8443, token: str = "none", **replaced: str) -> str:
    """The documentation's, on a test network and with this remote."""
    text = EXAMPLE.read_text()
    values = {"network": "regtest", "url": f"https://{Machine.OUTSIDE}:{port}", "token": token} | replaced
    for key, value in values.items():
        text, count = re.subn(rf'^{key} = ".*"$', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
        if not count:
            raise Trouble(f"{EXAMPLE} has no {key}")
    return text


class Shop:
    """The shop on a machine, as its visitors see it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.certificate = machine.work / "root.crt"

    def curl(self, path: str, *options: str) -> str | None:
        certificate = ["--cacert", str(self.certificate)] if self.certificate.exists() else ["--insecure"]
        ran = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "20", *certificate, *options]
            + ["--connect-to", f"{DOMAIN}:443:127.0.0.1:{self.machine.ports['https']}", f"https://{DOMAIN}{path}"],
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout if ran.returncode == 0 else None

    def config(self) -> dict[str, str] | None:
        """What the page is told, once it is told whose node it is to talk to."""
        try:
            config = json.loads(self.curl("/config.json", "--fail") or "null")
        except json.JSONDecodeError:
            return None
        return config if config and config.get("node_id") and config.get("rune") else None

    def opens(self) -> dict[str, str]:
        """Waits until it has opened: the page, and the node's socket behind it."""
        config = until("the shop opens", self.config, BOOT_TIMEOUT, self.machine.goes_well)
        until("the node's socket is behind it", lambda: self.upgrades("/ws"), 120, self.machine.goes_well)
        assert isinstance(config, dict)
        return config

    def upgrades(self, path: str) -> bool:
        """Whether a WebSocket opens there."""
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        options = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
        ran = subprocess.run(
            [
                "curl",
                "--silent",
                "--http1.1",
                "--max-time",
                "5",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                *options,
            ]
            + [
                "--insecure",
                "--connect-to",
                f"{DOMAIN}:443:127.0.0.1:{self.machine.ports['https']}",
                f"https://{DOMAIN}{path}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout == "101"


def healthy(machine: Machine) -> None:
    """Every unit is as it should be, and none was dropped to break a cycle."""
    units = machine.run("systemctl list-units --all --plain --no-legend --full")
    (machine.work / "units").write_text(units + "\n")
    failed = [line.split()[0] for line in units.splitlines() if len(line.split()) > 3 and line.split()[2] == "failed"]
    if failed:
        logs = machine.run(f"journalctl --no-pager -b -o cat -n 40 {' '.join(f'-u {unit}' for unit in failed)}")
        raise Trouble(f"units that have failed: {' '.join(failed)}\n{logs}")
    cycles = machine.run("journalctl --no-pager -b -o cat | grep -i 'ordering cycle' || true")
    if cycles:
        raise Trouble(f"the boot had an ordering cycle:\n{cycles}")
    active = [line for line in units.splitlines() if " active " in line]
    say(f"no unit has failed, and there was no ordering cycle ({len(active)} units are active)")


def life(place: Place) -> None:
    """From the first boot to an instance that was replaced."""
    remote = Remote(place.work / "remote", place.bins)
    customer = Customer(place.work / "customer")
    volume = place.volume("state")
    data = user_data(port=remote.port, token=remote.token)
    try:
        with place.instance("first", data) as first:
            node, order = first_boot(first, volume, customer, place)
            reboot(first, volume, node)
        # Made larger while no instance has it, as `aws ec2 modify-volume` does.
        with volume.open("ab") as file:
            file.truncate(volume.stat().st_size + 1024 * MIB)
        with place.instance("replaced", data) as second:
            replaced(second, volume, node, order)
    finally:
        customer.stop()
        remote.stop()


def first_boot(machine: Machine, volume: Path, customer: Customer, place: Place) -> tuple[str, str]:
    shop = Shop(machine)
    machine.start(volume)
    config = shop.opens()
    figure(f"from power-on to the open shop, on a blank volume: {machine.seconds():.0f} s")
    until("SSH answers, with the key of the instance", lambda: machine.ssh("true").returncode == 0, 300, machine.alive)
    shop.certificate.write_text(machine.run("cat /state/caddy/.local/share/caddy/pki/authorities/local/root.crt"))
    if shop.curl("/config.json", "--fail") is None or shop.curl("/", "--tls-max", "1.2") is not None:
        raise Trouble("Caddy's certificate is not of its own authority, or it speaks TLS 1.2")
    if machine.run("cat /state/network") != "regtest" or "ext4" not in machine.run("findmnt /state"):
        raise Trouble("/state is not on the volume")
    say("the blank volume is formatted, and mounted at /state")
    if int(machine.run("findmnt --noheadings --bytes --output SIZE /")) < 3 << 30:
        raise Trouble(f"the root file system has not grown: {machine.run('findmnt --bytes /')}")
    say("the root file system has grown to its disk")
    node = machine.lightning("getinfo")["id"]
    if config["node_id"] != node:
        raise Trouble(f"the page is of node {config['node_id']}, and the node is {node}")
    machine.until("the node's secret is backed up", "test -s /var/backup/clightning/regtest/hsm_secret")

    machine.run(
        f"{place.bitcoin_cli} -regtest -rpccookiefile=/run/bitcoin-rpc/cookie addnode {machine.OUTSIDE}:{customer.chain_port} onetry"
    )
    customer.connect(machine, node)
    customer.open_channel(machine, node)
    until(
        "the shop has the channel too", lambda: "CHANNELD_NORMAL" in machine.run("lightning-cli listpeerchannels"), 120
    )
    made = customer.call(node, config["order_rune"], "lnplaylive-createorder", 8, 1)
    if customer.node("pay", made["bolt11_invoice"])["status"] != "complete":
        raise Trouble("the invoice was not paid")
    bought = time.monotonic()
    order = made["invoice_id"]
    details = provisioned(lambda: customer.call(node, config["rune"], "lnplaylive-invoicestatus", "bolt11", order))
    figure(f"from the payment to eight connection strings: {time.monotonic() - bought:.0f} s")
    path = re.search(r"&path=([^&]*)&", details["connection_strings"][7])
    assert path, details
    until("the last node answers behind the shop", lambda: shop.upgrades(path[1].replace("%2F", "/")), 120)
    healthy(machine)
    return node, order


def provisioned(status: Callable[[], dict]) -> dict:  # type: ignore[type-arg]
    def there() -> object:
        details = status()["deployment_details"]
        return details if isinstance(details, dict) and details["status"] == "provisioned" else None

    found = until("the environment is handed over", there, 300)
    assert isinstance(found, dict)
    return found


def reboot(machine: Machine, volume: Path, node: str) -> None:
    machine.ssh("systemctl reboot")
    machine.ended()
    machine.start(volume)
    config = Shop(machine).opens()
    figure(f"from power-on to the open shop, at a reboot: {machine.seconds():.0f} s")
    if config["node_id"] != node:
        raise Trouble(f"after a reboot it is another node: {config['node_id']}, and it was {node}")
    until("SSH answers", lambda: machine.ssh("true").returncode == 0, 300, machine.alive)
    healthy(machine)
    machine.ssh("systemctl poweroff")
    machine.ended()


def replaced(machine: Machine, volume: Path, node: str, order: str) -> None:
    machine.start(volume)
    config = Shop(machine).opens()
    figure(f"from power-on to the open shop, on another instance with the same volume: {machine.seconds():.0f} s")
    if config["node_id"] != node:
        raise Trouble(f"on a new instance it is another node: {config['node_id']}, and it was {node}")
    until("SSH answers", lambda: machine.ssh("true").returncode == 0, 300, machine.alive)
    provisioned(lambda: machine.lightning("lnplaylive-invoicestatus", "bolt11", order))
    say("it is the same node, and knows what it has sold")
    size = int(machine.run("findmnt --noheadings --bytes --output SIZE /state"))
    if size < 1900 * MIB:
        raise Trouble(f"the volume was made larger, and its file system has {size} bytes")
    say(f"the volume was made larger, and its file system has grown ({size // MIB} MiB)")
    healthy(machine)


# What is wrong, and the sentence that says what to do.


def wrong_user_data(place: Place) -> None:
    with place.instance("wrong-user-data", user_data().replace(f'domain = "{DOMAIN}"', "")) as machine:
        machine.start(place.volume("untouched"))
        say(machine.says(r"user-data: host\.domain: .*", BOOT_TIMEOUT))


def missing_volume(place: Place) -> None:
    with place.instance("missing-volume", user_data()) as machine:
        machine.start()
        say(machine.says("no disk is labelled .* attach a volume, or set host.state_volume = false", BOOT_TIMEOUT))


def two_blank_volumes(place: Place) -> None:
    with place.instance("two-blank-volumes", user_data()) as machine:
        volumes = [place.volume("one"), place.volume("two")]
        machine.start(*volumes)
        say(machine.says("several disks are blank: .* detach all but the one", BOOT_TIMEOUT))
        for volume in volumes:
            if volume.read_bytes().strip(b"\0"):
                raise Trouble(f"{volume} was written to")


def slow_metadata(place: Place) -> None:
    with place.instance("slow-metadata", user_data()) as machine:
        machine.put("delay", "8")
        machine.start()
        # That it asks for a volume shows that it has read its user-data.
        machine.says("no disk is labelled .* attach a volume", BOOT_TIMEOUT)
        say("metadata that takes its time is waited for")


def absent_metadata(place: Place) -> None:
    with place.instance("absent-metadata", user_data()) as machine:
        machine.start(metadata=False)
        say(machine.says("user-data: .*metadata service", BOOT_TIMEOUT))


SCENARIOS: dict[str, Callable[[Place], None]] = {
    "life": life,
    "wrong-user-data": wrong_user_data,
    "missing-volume": missing_volume,
    "two-blank-volumes": two_blank_volumes,
    "slow-metadata": slow_metadata,
    "absent-metadata": absent_metadata,
}


def main() -> None:
    # Whoever ends it ends its machines and daemons as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = Place(Path(sys.argv[1]), Path(sys.argv[2]))
    for name in sys.argv[3:] or SCENARIOS:
        print(f"boot: {name}", flush=True)
        began = time.monotonic()
        try:
            SCENARIOS[name](place)
        except Trouble as trouble:
            sys.exit(f"boot: {trouble}")
        say(f"({time.monotonic() - began:.0f} s)")
    for units in sorted(place.work.glob("*/units")):
        print(f"-- units of {units.parent.name}:\n{units.read_text()}")


main()
