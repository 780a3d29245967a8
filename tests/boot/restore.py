"""The backup that leaves the machine, and what docs/deploy-aws.md says to do when the volume is lost."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Self

from machine import HERE, Machine, ScenarioError, until
from outside import Bucket, Customer
from stage import BOOT_TIMEOUT, Stage

GUIDE = HERE.parent.parent / "docs/deploy-aws.md"
UNIT = "lnplaylive-backup"


class Backup:
    """The operator's side: the bucket, and the key that decrypts what is in it."""

    NAME = "my-shop-backup"
    OBJECT = f"/{NAME}/shop.example/regtest.tar.age"

    def __init__(self, work: Path) -> None:
        work.mkdir()
        self.key = work / "lnplaylive-backup.key"
        subprocess.run(["age-keygen", "-o", self.key], check=True, capture_output=True)
        shown = subprocess.run(["age-keygen", "-y", self.key], check=True, capture_output=True, text=True)
        self.recipient = shown.stdout.strip()
        self.bucket = Bucket()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bucket.stop()

    def user_data(self) -> str:
        """Return what the host is told of it."""
        table = f'[host.backup]\nbucket = "{self.NAME}"\nregion = "eu-central-1"\n'
        return f'\n{table}recipients = ["{self.recipient}"]\n'

    def attach(self, machine: Machine) -> None:
        """Give the instance its role."""
        machine.put(f"latest/meta-data/iam/security-credentials/{Bucket.ROLE}", self.bucket.role())

    def versions(self) -> list[bytes]:
        """Return all that was uploaded, decrypted, the oldest first."""
        return [
            subprocess.run(["age", "--decrypt", "-i", self.key], input=sealed, check=True, capture_output=True).stdout
            for sealed in self.bucket.versions[self.OBJECT]
        ]

    def channels(self) -> int:
        """Return how many channels are in the last upload."""
        versions = self.versions()
        return len(json.loads(extracted(versions[-1], "channels.json"))) if versions else 0


def extracted(archive: bytes, name: str) -> bytes:
    """Return a file of an archive."""
    command = ["tar", "--extract", "--to-stdout", name]
    return subprocess.run(command, input=archive, check=True, capture_output=True).stdout


def backed_up(stage: Stage, machine: Machine, backup: Backup) -> int:
    """Wait until the machine has uploaded its channel, with the role of its instance and nothing else.

    Return the msat that its node has in the channel.
    """
    # There is no AWS here: what user-data cannot say, since only AWS knows the role, is said in the environment.
    where = f"http://{machine.OUTSIDE}:{backup.bucket.port}"
    directory = f"/run/systemd/system/{UNIT}.service.d"
    machine.run(
        f"mkdir -p {directory} && echo BACKUP_ENDPOINT={where} >/run/endpoint"
        f" && printf '[Service]\\nEnvironmentFile=/run/endpoint\\n' >{directory}/z.conf && systemctl daemon-reload"
        f" && systemctl stop {UNIT} && systemctl start {UNIT}",
        BOOT_TIMEOUT,
    )
    until("the channel is in the backup", lambda: backup.channels() == 1, BOOT_TIMEOUT, machine.alive)
    if backup.bucket.refused:
        raise ScenarioError(f"the role may only put objects, and this was tried: {', '.join(backup.bucket.refused)}")
    stage.say("the node's key and its channel are uploaded, encrypted, with the role of the instance")
    [channel] = machine.lightning("listpeerchannels")["channels"]
    return int(channel["to_us_msat"])


def documented(start: str) -> list[str]:
    """Return the commands of the guide's block that begins with these words, for the network of the test."""
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    found = [block for block in blocks if block.startswith(start)]
    if len(found) != 1:
        raise ScenarioError(f"{GUIDE.name} has {len(found)} blocks that begin with `{start}`")
    return [line.replace("/bitcoin", "/regtest") for line in found[0].splitlines()]


def restored(stage: Stage, machine: Machine, backup: Backup, customer: Customer, node: str, earned: int) -> None:
    """Get the node's money back on a new volume, with the commands of the guide."""
    archive = next(
        version for version in reversed(backup.versions()) if node in extracted(version, "restore.txt").decode()
    )
    customer.offer_chain(machine, stage.evaluated()["bitcoinCli"])
    for command in documented("systemctl stop lnplaylive-frontend"):
        machine.run(command)
    sent = base64.b64encode(archive).decode()
    machine.ssh("base64 -d | tar --extract --directory=/state/clightning/regtest hsm_secret channels.json", text=sent)
    answers = [machine.run(command, BOOT_TIMEOUT) for command in documented("chown -R clightning:clightning")]
    if node not in answers[2]:
        raise ScenarioError(f"the node should be {node}: {answers[2]}")
    # As the guide says of a peer that runs Core Lightning.
    customer.connect(machine, node)
    customer.close(node)

    def coins() -> list[int]:
        if machine.lightning("getinfo")["blockheight"] == customer.height():
            customer.mine(1)
        outputs = machine.lightning("listfunds")["outputs"]
        return [output["amount_msat"] for output in outputs if output["status"] == "confirmed"]

    back = until("the money of the channel is back", coins, BOOT_TIMEOUT, machine.alive)
    if back != [earned]:
        raise ScenarioError(f"the node had {earned} msat in its channel, and has {back} now")
    stage.say(f"the volume was lost, and the guide's commands brought the channel's {earned // 1000} sat back")
