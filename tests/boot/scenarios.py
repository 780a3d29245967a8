#!/usr/bin/env python3
"""Plays scenarios on machines:   scenarios.py WORK BIN_DIR [SCENARIO…].

Without arguments all of them but `shop`, which `life` begins with. `scenarios.py --images [SCENARIO…]` prints the
images that they want.

WORK/images/NAME has kernel, disk.raw and evaluated.json of an image; WORK gets what the machines leave. Prints what was
seen. Where something was not, says which, with the end of that machine's console, and ends with status 1.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from environment import environment
from machine import MIB, Machine, ScenarioError, stopping, until
from outside import Customer, Remote
from restore import Backup, backed_up, restored
from stage import BOOT_TIMEOUT, DOMAIN, Shop, Stage, user_data


def shop(stage: Stage) -> None:
    """From the first boot to a purchase, and the next boot; then the volume is lost, and the money is got back."""
    with outside(stage) as (data, customer), Backup(stage.work / "backup") as backup:
        data += backup.user_data()
        with stage.instance("first", data) as first:
            volume = stage.volume("state")
            backup.attach(first)
            node, _ = first_boot(stage, first, volume, customer)
            earned = backed_up(stage, first, backup)
            reboot(stage, first, volume, node)
        volume.unlink()
        with stage.instance("restored", data) as second:
            backup.attach(second)
            second.start(stage.volume("new"))
            Shop(second).opens()
            second.reached()
            restored(stage, second, backup, customer, node, earned)


def life(stage: Stage) -> None:
    """From the first boot to an instance that was replaced."""
    with outside(stage) as (data, customer):
        volume = stage.volume("state")
        with stage.instance("first", data) as first:
            node, order = first_boot(stage, first, volume, customer)
            reboot(stage, first, volume, node)
        # Made larger while no instance has it, as `aws ec2 modify-volume` does.
        with volume.open("ab") as file:
            file.truncate(volume.stat().st_size + 1024 * MIB)
        with stage.instance("replaced", data) as second:
            replaced(stage, second, volume, node, order)


@contextmanager
def outside(stage: Stage) -> Iterator[tuple[str, Customer]]:
    """Start a remote and a customer; what the host's user-data says of the remote comes with them."""
    remote = Remote(stage.work / "remote", stage.bins)
    try:
        customer = Customer(stage.work / "customer")
        try:
            yield user_data(port=remote.port, token=remote.token), customer
        finally:
            customer.stop()
    finally:
        remote.stop()


def first_boot(stage: Stage, machine: Machine, volume: Path, customer: Customer) -> tuple[str, str]:
    """Start it on a blank volume and buy an environment there; return the node's id and the order's."""
    shop = Shop(machine)
    machine.start(volume)
    config = shop.opens()
    stage.figure(f"from power-on to the open shop, on a blank volume: {machine.since_start()}")
    machine.reached()
    shop.certificate.write_text(machine.run("cat /state/caddy/.local/share/caddy/pki/authorities/local/root.crt"))
    if shop.curl("/config.json", "--fail") is None or shop.curl("/", "--tls-max", "1.2") is not None:
        raise ScenarioError("Caddy's certificate is not of its own authority, or it speaks TLS 1.2")
    if machine.run("cat /state/network") != "regtest" or "ext4" not in machine.run("findmnt /state"):
        raise ScenarioError("/state is not on the volume")
    stage.say("the blank volume is formatted, and mounted at /state")
    if int(machine.run("findmnt --noheadings --bytes --output SIZE /")) < 3 << 30:
        raise ScenarioError(f"the root file system has not grown: {machine.run('findmnt --bytes /')}")
    stage.say("the root file system has grown to its disk")
    node = machine.lightning("getinfo")["id"]
    if config["node_id"] != node:
        raise ScenarioError(f"the page is of node {config['node_id']}, and the node is {node}")
    backup = "test -s /var/backup/clightning/regtest/hsm_secret"
    until("the node's secret is backed up", lambda: machine.ssh(backup).returncode == 0, BOOT_TIMEOUT, machine.alive)
    order = purchase(stage, machine, shop, customer, config)
    stage.healthy(machine)
    return node, order


def purchase(stage: Stage, machine: Machine, shop: Shop, customer: Customer, config: dict[str, str]) -> str:
    """Buy an environment through the front door, and return the order's id."""
    node = config["node_id"]
    customer.offer_chain(machine, stage.evaluated()["bitcoinCli"])
    customer.connect(machine, node)
    customer.open_channel(machine, node)
    until(
        "the shop has the channel too",
        lambda: "CHANNELD_NORMAL" in machine.run("lightning-cli listpeerchannels"),
        BOOT_TIMEOUT,
        machine.alive,
    )
    made = customer.call(node, config["rune"], "lnplaylive-createorder", 8, 1)
    if customer.node("pay", made["bolt11_invoice"])["status"] != "complete":
        raise ScenarioError("the invoice was not paid")
    bought = time.monotonic()
    order: str = made["invoice_id"]
    details = provisioned(lambda: customer.call(node, config["rune"], "lnplaylive-invoicestatus", "bolt11", order))
    stage.figure(f"from the payment to eight connection strings: {time.monotonic() - bought:.0f} s")
    path = re.search(r"&path=([^&]*)&", details["connection_strings"][7])
    assert path, details
    until("the last node answers behind the shop", lambda: shop.upgrades(path[1].replace("%2F", "/")), BOOT_TIMEOUT)
    return order


def provisioned(status: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Wait until an order is handed over, and return its details."""

    def there() -> object:
        details = status()["deployment_details"]
        return details if isinstance(details, dict) and details["status"] == "provisioned" else None

    found = until("the environment is handed over", there, BOOT_TIMEOUT)
    assert isinstance(found, dict)
    return found


def reboot(stage: Stage, machine: Machine, volume: Path, node: str) -> None:
    """Boot it again, and leave it switched off."""
    machine.ssh("systemctl reboot")
    machine.ended()
    machine.start(volume)
    config = Shop(machine).opens()
    stage.figure(f"from power-on to the open shop, at a reboot: {machine.since_start()}")
    if config["node_id"] != node:
        raise ScenarioError(f"after a reboot it is another node: {config['node_id']}, and it was {node}")
    machine.reached()
    stage.healthy(machine)
    machine.ssh("systemctl poweroff")
    machine.ended()


def replaced(stage: Stage, machine: Machine, volume: Path, node: str, order: str) -> None:
    """Start another instance, slow metadata and all, and attach the volume when it asks for it."""
    machine.put("delay", "5")
    machine.start()
    stage.say(machine.says("no disk is labelled .* attach a volume, or set host.state_volume = false", BOOT_TIMEOUT))
    stage.say("metadata that takes its time was waited for")
    (machine.metadata / "delay").unlink()
    machine.attach(volume)
    config = Shop(machine).opens()
    stage.figure(f"from power-on to the open shop, on another instance with the same volume: {machine.since_start()}")
    if config["node_id"] != node:
        raise ScenarioError(f"on a new instance it is another node: {config['node_id']}, and it was {node}")
    machine.reached()
    provisioned(lambda: machine.lightning("lnplaylive-invoicestatus", "bolt11", order))
    stage.say("it is the same node, and knows what it has sold")
    size = int(machine.run("findmnt --noheadings --bytes --output SIZE /state"))
    if size < 1900 * MIB:
        raise ScenarioError(f"the volume was made larger, and its file system has {size} bytes")
    stage.say(f"the volume was made larger, and its file system has grown ({size // MIB} MiB)")
    stage.healthy(machine)


# What is wrong, and the sentence that says what to do.


def wrong_user_data(stage: Stage) -> None:
    """User-data without the domain that it needs."""
    with stage.instance("instance", user_data().replace(f'domain = "{DOMAIN}"', "")) as machine:
        volume = stage.volume("untouched")
        machine.start(volume)
        stage.say(machine.says(r"user-data: host\.domain: .*", BOOT_TIMEOUT))
        untouched(volume)


def two_blank_volumes(stage: Stage) -> None:
    """Two disks, either of which could be the one for the state."""
    with stage.instance("instance", user_data()) as machine:
        volumes = [stage.volume("one"), stage.volume("two")]
        machine.start(*volumes)
        stage.say(machine.says("several disks are blank: .* detach all but the one", BOOT_TIMEOUT))
        for volume in volumes:
            untouched(volume)


def absent_metadata(stage: Stage) -> None:
    """No metadata service at all."""
    with stage.instance("instance", user_data()) as machine:
        machine.start(metadata=False)
        stage.say(machine.says("user-data: .*metadata service", BOOT_TIMEOUT))


def untouched(volume: Path) -> None:
    """Check that nothing was written to a volume."""
    if volume.stat().st_blocks:
        raise ScenarioError(f"{volume.name} was written to")


# The name of each scenario, the image that its machines are of, and what happens. What takes longest is first.
SCENARIOS: dict[str, tuple[str, Callable[[Stage], None]]] = {
    "life": ("host", life),
    "shop": ("host", shop),
    "environment": ("environment", environment),
    "two-blank-volumes": ("host", two_blank_volumes),
    "wrong-user-data": ("host", wrong_user_data),
    "absent-metadata": ("host", absent_metadata),
}


def play(name: str, work: Path, bins: Path) -> str | None:
    """Play a scenario, and return what was wrong."""
    image, scenario = SCENARIOS[name]
    stage = Stage(name, work / name, work / "images" / image, bins)
    stage.work.mkdir()
    began = time.monotonic()
    try:
        scenario(stage)
    except ScenarioError as error:
        stage.say("FAILED")
        return str(error)
    stage.say(f"passed in {time.monotonic() - began:.0f} s")
    return None


def main() -> None:
    """Play the scenarios, as many at a time as there are processors."""
    only_images = sys.argv[1:2] == ["--images"]
    names = sys.argv[2 if only_images else 3 :] or [name for name in SCENARIOS if name != "shop"]
    if unknown := [name for name in names if name not in SCENARIOS]:
        sys.exit(f"boot: no scenario is named {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if only_images:
        print("\n".join(dict.fromkeys(SCENARIOS[name][0] for name in names)))
        return
    work, bins = Path(sys.argv[1]), Path(sys.argv[2])
    # Whoever ends it ends its machines and daemons as well.
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        played = [pool.submit(play, name, work, bins) for name in names]
        try:
            wrong = [what for one in played if (what := one.result())]
        finally:
            stopping.set()
    for units in sorted(work.glob("*/*/units")):
        print(f"-- units of {units.parent.relative_to(work)}:\n{units.read_text()}")
    for what in wrong:
        print(f"boot: {what}", file=sys.stderr)
    passed = len(names) - len(wrong)
    print(f"  {passed} passed\n  {len(wrong)} failed")
    sys.exit(1 if wrong else 0)


main()
