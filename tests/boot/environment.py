"""The environment's image: a machine that is told whose keys are whose, and brings eight nodes up."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from machine import Machine, ScenarioError, until
from stage import BOOT_TIMEOUT, Stage, upgrades

NODES = 8
# The first node's WebSocket inside.
FIRST_PORT = 20001
# Whom the shop logs in as.
ACCOUNT = "lnplay"


def environment(stage: Stage) -> None:
    """Boot it, and bring eight nodes up as the shop does."""
    nodes = {f"node {number}": FIRST_PORT + number for number in range(NODES)}
    with stage.instance("instance", listening={"ssh": 22} | nodes) as machine:
        machine.start(seed(machine), metadata=False)
        until(
            "SSH answers",
            lambda: machine.ssh("lnplay status", user=ACCOUNT).returncode != 255,
            BOOT_TIMEOUT,
            machine.goes_well,
        )
        stage.figure(f"from power-on of an environment's instance to its SSH: {machine.since_start()}")
        refused = machine.ssh("id", user=ACCOUNT)
        if "nothing else" not in refused.stdout + refused.stderr:
            raise ScenarioError(f"its account can run other commands than lnplay's: {refused}")
        began = time.monotonic()
        up = machine.ssh("lnplay up -", BOOT_TIMEOUT, ACCOUNT, json.dumps(spec(machine)))
        last = json.loads((up.stdout.splitlines() or ["{}"])[-1])
        if up.returncode or len(last.get("connection_strings", [])) != NODES:
            raise ScenarioError(f"lnplay up: exit status {up.returncode}: {up.stdout[-2000:]}{up.stderr[-2000:]}")
        stage.figure(f"from `lnplay up` to eight connection strings: {time.monotonic() - began:.0f} s")
        for node in nodes:
            url = f"http://127.0.0.1:{machine.ports[node]}/"
            until(f"{node} answers from outside", lambda url=url: upgrades(url), BOOT_TIMEOUT, machine.alive)  # type: ignore[misc]
        stage.say("its eight nodes answer from outside")
        machine.goes_well()


def seed(machine: Machine) -> Path:
    """Make the drive with what a server tells an instance: its host key, and whose key lets one in."""
    host_key = machine.work / "host-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True)
    public = host_key.with_suffix(".pub").read_text().strip()
    machine.known_hosts.write_text(f"* {public}\n")
    user_data = {
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_genkeytypes": ["ed25519"],
        "ssh_keys": {"ed25519_private": host_key.read_text(), "ed25519_public": public},
        "users": [
            {
                "name": ACCOUNT,
                "lock_passwd": True,
                "ssh_authorized_keys": [machine.key.with_suffix(".pub").read_text().strip()],
            }
        ],
    }
    files = machine.work / "seed"
    files.mkdir()
    (files / "meta-data").write_text("instance-id: lnplay\n")
    (files / "user-data").write_text(f"#cloud-config\n{json.dumps(user_data)}\n")
    drive = machine.work / "seed.iso"
    subprocess.run(["mkisofs", "-quiet", "-volid", "cidata", "-rational-rock", "-o", drive, files], check=True)
    return drive


def spec(machine: Machine) -> dict[str, Any]:
    """Return what is to be brought up, in a machine whose ports are forwarded to its address."""
    return {
        "environment": "test",
        "node_count": NODES,
        "block_time": 5,
        "coin_distribution": "egalitarian",
        "channel_setup": "none",
        "seed": 1,
        "names": [],
        "colors": [],
        "ports": {"listen_first": FIRST_PORT, "public_first": FIRST_PORT, "listen_address": machine.ADDRESS},
        "public_url_template": "ws://127.0.0.1:{port}",
        "connect_page": "https://shop.example/connect",
    }
