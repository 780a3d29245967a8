"""Tries the scripts that make the local copies and upload them, with the real rclone and age.

The storage is moto's, and enforces the policy of docs/deploy-aws.md. On Debian the scripts find only programs that
their packages declare.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import SHUT_RDWR, create_connection, create_server, socket
from typing import Any

import boto3
import pytest
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from standin import REGION, StandIn

Client = Any

TOP = Path(__file__).parents[2]
COPY = TOP / "nixos/modules/clightning-backup.sh"
UPLOAD = TOP / "nixos/modules/lnplaylive/backup-upload.sh"
GUIDE = TOP / "docs/deploy-aws.md"
BUCKET = "backups-of-ours"
PREFIX = "shop.example"
OBJECT = f"{PREFIX}/bitcoin.tar.age"
PUT = f"PUT /{BUCKET}/{OBJECT}"
# Something like a key, to look for where it must not be.
SECRET = b"hsm secret of 32 bytes, as it is"
ORDERS = {
    "provisioned": [{"invoice_id": "kept", "refunded_at": None}],
    "failed": [{"invoice_id": "owed", "refunded_at": None}, {"invoice_id": "returned", "refunded_at": "2026-01-01"}],
}


@dataclass(frozen=True)
class Identity:
    """A pair of keys of age."""

    file: Path
    recipient: str

    def open(self, sealed: bytes) -> dict[str, bytes] | None:
        """The files in an archive, or None if it is for somebody else."""
        done = subprocess.run(["age", "--decrypt", "-i", self.file], input=sealed, capture_output=True, check=False)
        if done.returncode != 0:
            return None
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            assert all(member.isfile() for member in archive)
            return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def printed(*command: str | Path) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def identities(tmp_path: Path) -> list[Identity]:
    """The operator's, a partner's, and somebody else's."""
    made = []
    for name in ("operator", "partner", "other"):
        file = tmp_path / f"{name}.key"
        subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
        made.append(Identity(file, printed("age-keygen", "-y", file).strip()))
    return made


def declared(module: str, name: str, path: Path) -> str:
    """A PATH with the programs that a script's package declares; all programs where this is not Debian."""
    if not shutil.which("dpkg"):
        return os.environ["PATH"]
    nix = (TOP / "nixos/modules" / module).read_text()
    (inputs,) = re.findall(rf'name = "{name}";\s*runtimeInputs = \[(.*?)\]', nix, re.DOTALL)
    names = re.findall(r"^\s*pkgs\.(\S+)$", inputs, re.MULTILINE)
    packages = printed(sys.executable, TOP / "tests/store/programs.py", *names).split()
    for program in re.findall(r"^(?:/usr)?/s?bin/[^/]+$", printed("dpkg", "--listfiles", *packages), re.MULTILINE):
        (path / Path(program).name).unlink(missing_ok=True)
        (path / Path(program).name).symlink_to(program)
    return str(path)


@pytest.fixture(scope="session")
def uploading(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The upload's PATH."""
    return declared("lnplaylive/backup.nix", "lnplaylive-backup-upload", tmp_path_factory.mktemp("uploading"))


@pytest.fixture(scope="session")
def copying(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PATH of the script that makes the copies."""
    return declared("clightning.nix", "clightning-backup", tmp_path_factory.mktemp("copying"))


@dataclass
class Host:
    """A host with local copies, and what the unit gives the script."""

    top: Path
    path: str
    credentials: Path
    environment: dict[str, str]
    said: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def copies(self) -> Path:
        """The directory with the copies."""
        return self.top / "copies"

    def record(self, network: str = "bitcoin") -> Path:
        """The file whose modification time is that of the last upload."""
        return self.top / "uploaded" / network

    def program(self, name: str, text: str) -> None:
        """Puts a program in front of the declared ones. It can start the real one as "$REAL"."""
        file = self.top / "bin" / name
        real = Path(self.path) / name if os.pathsep not in self.path else shutil.which(name)
        file.write_text(f"#!/bin/sh\nREAL={real}\n{text}")
        file.chmod(0o755)

    def run(self) -> int:
        """Runs the script, and returns its status."""
        before = contents(self.copies)
        scratch = self.top / "run"
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-euo", "pipefail", UPLOAD, self.copies, self.record().parent],
            env={
                "PATH": f"{self.top / 'bin'}{os.pathsep}{self.path}",
                "RUNTIME_DIRECTORY": str(scratch),
                "CREDENTIALS_DIRECTORY": str(self.credentials),
                "TMPDIR": str(self.top / "tmp"),
                "BACKUP_PAUSES": "",
                **self.environment,
                **self.extra,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        self.said = done.stdout + done.stderr
        assert list(scratch.iterdir()) == []
        assert list((self.top / "tmp").iterdir()) == []
        if "rclone" not in [program.name for program in (self.top / "bin").iterdir()]:
            assert contents(self.copies) == before, "the copies were touched"
        return done.returncode


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    """The files below a directory, with the time of their last change."""
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in directory.rglob("*") if file.is_file()}


def policy() -> str:
    """The documented policy of the instance's role, for our bucket."""
    (text,) = re.findall(r"cat >backup-policy.json <<EOF\n(\{.*?\n\})\nEOF", GUIDE.read_text(), re.DOTALL)
    return str(text).replace("$BACKUP_BUCKET", BUCKET).replace("$PREFIX", PREFIX)


@contextmanager
def enforced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Permissions are checked inside the block."""
    with monkeypatch.context() as patch:
        patch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        patch.setattr(ActionAuthenticatorMixin, "request_count", 0)
        yield


@pytest.fixture
def storage(aws: StandIn, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The versioned bucket, as its owner sees it."""
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return client


@pytest.fixture
def host(aws: StandIn, storage: Client, uploading: str, identities: list[Identity], tmp_path: Path) -> Host:
    """A host whose role has the documented policy."""
    iam = boto3.client("iam", region_name=REGION)
    iam.create_user(UserName="host")
    iam.put_user_policy(UserName="host", PolicyName="backup", PolicyDocument=policy())
    key = iam.create_access_key(UserName="host")["AccessKey"]
    top = tmp_path / "host"
    for directory in ("bin", "copies/bitcoin", "uploaded", "run", "tmp", "credentials"):
        (top / directory).mkdir(parents=True)
    (top / "copies/bitcoin/hsm_secret").write_bytes(SECRET)
    (top / "copies/bitcoin/emergency.recover").write_bytes(b"channels: none")
    (top / "credentials/backup_credentials").write_text(
        f"[default]\naws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    )
    host = Host(
        top=top,
        path=uploading,
        credentials=top / "credentials",
        environment={
            "BACKUP_BUCKET": BUCKET,
            "BACKUP_PREFIX": PREFIX,
            "BACKUP_REGION": REGION,
            "BACKUP_ENDPOINT": aws.url,
            "BACKUP_RECIPIENTS": f"{identities[0].recipient},{identities[1].recipient}",
            "LIGHTNING_NETWORK": "bitcoin",
        },
    )
    answers = "\n".join(
        f"    state={state}) echo '{json.dumps({'orders': orders})}' ;;" for state, orders in ORDERS.items()
    )
    host.program(
        "lightning-cli",
        '[ "$*" != "--keywords getinfo" ] || { echo \'{"id": "02ab"}\'; exit; }\n'
        '[ "$1 $2" = "--keywords lnplayops-orders" ] || exit 2\n'
        f"case $3 in\n{answers}\n    *) echo '{{\"orders\": []}}' ;;\nesac\n",
    )
    return host


def versions(storage: Client, name: str = OBJECT) -> list[bytes]:
    """All versions of an object, the newest first."""
    listed = storage.list_object_versions(Bucket=BUCKET, Prefix=name).get("Versions", [])
    ordered = sorted(listed, key=lambda version: (not version["IsLatest"], -version["LastModified"].timestamp()))
    return [
        storage.get_object(Bucket=BUCKET, Key=name, VersionId=version["VersionId"])["Body"].read()
        for version in ordered
    ]


def age_by(file: Path, seconds: float) -> None:
    """Makes a file as old as that."""
    then = file.stat().st_mtime - seconds
    os.utime(file, (then, then))


def test_each_change_is_a_version_that_only_the_recipients_can_read(
    host: Host, storage: Client, identities: list[Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is uploaded decrypts to the same bytes, for every recipient and nobody else."""
    with enforced(monkeypatch):
        assert host.run() == 0, host.said
    channel = host.copies / "bitcoin/emergency.recover"
    channel.write_bytes(b"channels: one")
    with enforced(monkeypatch):
        assert host.run() == 0, host.said
    newest, oldest = versions(storage)
    for sealed, channels in ((newest, b"channels: one"), (oldest, b"channels: none")):
        assert SECRET not in sealed
        assert channels not in sealed
        for identity in identities[:2]:
            files = identity.open(sealed)
            assert files is not None
            assert files.keys() == {"hsm_secret", "emergency.recover", "restore.txt", "orders.json"}
            assert (files["hsm_secret"], files["emergency.recover"]) == (SECRET, channels)
            assert b'recoverchannel scb="$(cat channels.json)"' in files["restore.txt"]
            assert b"node id:  02ab\n" in files["restore.txt"]
        assert identities[2].open(sealed) is None


def test_the_documented_role_cannot_read_or_delete(
    host: Host, storage: Client, aws: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its policy is enough for the upload, and for nothing else."""
    text = (host.credentials / "backup_credentials").read_text()
    key, secret = re.findall(r" = (.*)", text)
    role = boto3.client("s3", region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret)
    with enforced(monkeypatch):
        assert host.run() == 0, host.said
        refused: list[Callable[[], Any]] = [
            lambda: role.get_object(Bucket=BUCKET, Key=OBJECT),
            lambda: role.delete_object(Bucket=BUCKET, Key=OBJECT),
            lambda: role.list_objects_v2(Bucket=BUCKET),
            lambda: role.list_object_versions(Bucket=BUCKET),
            lambda: role.put_object(Bucket=BUCKET, Key="elsewhere/bitcoin.tar.age"),
            lambda: role.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}),
        ]
        for attempt in refused:
            with pytest.raises(Exception, match="AccessDenied"):
                attempt()
    # It asked for nothing that the policy does not allow.
    assert [call.action for call in aws.calls if call.action.endswith(OBJECT)][:1] == [PUT]
    assert len(versions(storage)) == 1


def test_only_what_has_changed_or_is_old_is_uploaded(host: Host, storage: Client, identities: list[Identity]) -> None:
    """An hourly run uploads nothing most of the time."""
    assert host.run() == 0, host.said
    first = host.record().stat().st_mtime
    assert host.run() == 0, host.said
    assert (len(versions(storage)), host.record().stat().st_mtime) == (1, first)
    age_by(host.record(), 24 * 60 * 60)
    assert host.run() == 0, host.said
    assert len(versions(storage)) == 2
    assert host.record().stat().st_mtime >= first
    # The clock was wrong.
    age_by(host.record(), -60 * 60)
    assert host.run() == 0, host.said
    assert len(versions(storage)) == 3
    host.extra = {"BACKUP_RECIPIENTS": identities[2].recipient}
    assert host.run() == 0, host.said
    newest = versions(storage)[0]
    assert len(versions(storage)) == 4
    assert identities[0].open(newest) is None
    assert identities[2].open(newest) is not None


def test_payments_are_not_uploaded_one_by_one(host: Host, storage: Client, identities: list[Identity]) -> None:
    """They change emergency.recover, but no channel. A day later it is uploaded as it is then."""
    channels = host.copies / "bitcoin/channels.json"
    channels.write_text('["00"]')
    assert host.run() == 0, host.said
    (host.copies / "bitcoin/emergency.recover").write_bytes(b"paid")
    age_by(host.copies / "bitcoin/emergency.recover", 60)
    assert host.run() == 0, host.said
    assert len(versions(storage)) == 1
    channels.write_text('["00", "01"]')
    assert host.run() == 0, host.said
    assert len(versions(storage)) == 2
    files = identities[0].open(versions(storage)[0])
    assert files is not None
    assert (files["channels.json"], files["emergency.recover"]) == (b'["00", "01"]', b"paid")
    # The node could not tell its channels when emergency.recover was copied: it may have a new one.
    (host.copies / "bitcoin/emergency.recover").write_bytes(b"opened")
    assert host.run() == 0, host.said
    assert len(versions(storage)) == 3


def test_each_network_has_an_object(host: Host, storage: Client, identities: list[Identity]) -> None:
    """Also one whose node does not run, and one that has no channel backup."""
    (host.copies / "signet").mkdir()
    (host.copies / "signet/hsm_secret").write_bytes(b"another")
    assert host.run() == 0, host.said
    (sealed,) = versions(storage, f"{PREFIX}/signet.tar.age")
    files = identities[0].open(sealed)
    assert files is not None
    assert files.keys() == {"hsm_secret", "restore.txt"}
    assert b"node id:  unknown" in files["restore.txt"]
    assert files["hsm_secret"] == b"another"
    assert len(versions(storage)) == 1
    assert host.record("signet").exists()


def test_orders_that_are_owed_something_are_in_the_archive(
    host: Host, storage: Client, identities: list[Identity]
) -> None:
    """If the node answers. If it does not, the archive has none."""
    assert host.run() == 0, host.said
    files = identities[0].open(versions(storage)[0])
    assert files is not None
    assert [order["invoice_id"] for order in json.loads(files["orders.json"])] == ["kept", "owed"]
    for broken in (
        "exit 1",
        "echo '{\"orders\": [{'",
        "case $3 in state=failed) exit 1 ;; esac\necho '{\"orders\": []}'",
    ):
        host.program("lightning-cli", broken)
        age_by(host.record(), 24 * 60 * 60)
        assert host.run() == 0, host.said
        files = identities[0].open(versions(storage)[0])
        assert files is not None
        assert files.keys() == {"hsm_secret", "emergency.recover", "restore.txt"}


def test_failures_say_what_to_do(host: Host, storage: Client, aws: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails, no time is recorded, and the copies are as they were."""
    host.extra = {"BACKUP_BUCKET": "no-such-bucket-of-ours"}
    assert host.run() != 0
    assert "cannot upload no-such-bucket-of-ours/shop.example/bitcoin.tar.age" in host.said
    assert "NoSuchBucket" in host.said
    assert "check that the bucket exists in eu-central-1" in host.said
    assert "not uploaded: bitcoin" in host.said
    assert "systemctl start lnplaylive-backup" in host.said
    assert not host.record().exists()

    host.extra = {"BACKUP_PREFIX": "of-somebody-else"}
    with enforced(monkeypatch):
        assert host.run() != 0
    assert "AccessDenied" in host.said
    assert "may s3:PutObject there" in host.said

    host.extra = {"BACKUP_RECIPIENTS": "age1nonsense"}
    assert host.run() != 0
    assert "cannot encrypt the copies of bitcoin for age1nonsense" in host.said
    assert "check host.backup.recipients" in host.said

    with create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    host.extra = {"BACKUP_ENDPOINT": f"http://127.0.0.1:{port}"}
    assert host.run() != 0
    assert f"to http://127.0.0.1:{port}" in host.said
    assert versions(storage) == []
    assert not host.record().exists()


def test_a_failed_upload_is_tried_again(host: Host, storage: Client, aws: StandIn) -> None:
    """As often as there are pauses."""
    aws.fail(PUT, "SlowDown", "later", status=503)
    host.extra = {"BACKUP_PAUSES": "0 0"}
    aws.calls.clear()
    assert host.run() != 0
    assert host.said.count("cannot upload") == 3
    aws.heal()

    aws.fail(PUT, "SlowDown", "later", status=503, times=aws.actions().count(PUT) // 3)
    assert host.run() == 0, host.said
    assert host.said.count("cannot upload") == 1
    assert len(versions(storage)) == 1
    assert host.record().exists()


def test_nothing_is_uploaded_before_it_is_complete(host: Host, storage: Client, identities: list[Identity]) -> None:
    """An encryption that ends half-way is not a version."""
    assert host.run() == 0, host.said
    age_by(host.record(), 24 * 60 * 60)
    # In the file, as age would leave it, or to where it is piped.
    host.program("age", 'for last; do :; done\n"$REAL" "$@" || exit\n: >"$last.half"; rm "$last.half"; exit 1\n')
    assert host.run() != 0
    assert len(versions(storage)) == 1
    host.program("age", "head -c 100 >/dev/null; printf half; exit 1\n")
    assert host.run() != 0
    assert len(versions(storage)) == 1
    (host.top / "bin/age").unlink()
    host.program("tar", '"$REAL" "$@"; exit 1\n')
    assert host.run() != 0
    assert len(versions(storage)) == 1
    assert identities[0].open(versions(storage)[0]) is not None


@contextmanager
def cutting(url: str, after: int) -> Iterator[str]:
    """A way to a server on which connections are cut when so many bytes have been sent to it."""
    port = int(url.rsplit(":", 1)[1])

    def forward(client: socket) -> None:
        with client, create_connection(("127.0.0.1", port)) as server:
            left = after
            while left > 0 and (data := client.recv(min(left, 4096))):
                server.sendall(data)
                left -= len(data)
            for side in (server, client):
                side.shutdown(SHUT_RDWR)

    with create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=forward, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_interrupted_upload_leaves_the_former_version(
    host: Host, storage: Client, aws: StandIn, identities: list[Identity]
) -> None:
    """The connection breaks in the middle of the object."""
    assert host.run() == 0, host.said
    channel = host.copies / "bitcoin/emergency.recover"
    channel.write_bytes(os.urandom(64 * 1024))
    with cutting(aws.url, after=16 * 1024) as url:
        host.extra = {"BACKUP_ENDPOINT": url}
        recorded = host.record().stat().st_mtime
        assert host.run() != 0
    assert PUT in aws.actions()
    assert host.record().stat().st_mtime == recorded
    (former,) = versions(storage)
    files = identities[0].open(former)
    assert files is not None
    assert files["emergency.recover"] == b"channels: none"
    host.extra = {}
    assert host.run() == 0, host.said
    files = identities[0].open(versions(storage)[0])
    assert files is not None
    assert files["emergency.recover"] == channel.read_bytes()


def test_a_change_during_the_upload_is_uploaded_too(
    host: Host, storage: Client, identities: list[Identity], tmp_path: Path
) -> None:
    """A unit that runs is not started again, so the run itself looks again."""
    channel = host.copies / "bitcoin/emergency.recover"
    mark = tmp_path / "mark"
    host.program("rclone", f'[ -e {mark} ] || {{ : >{mark}; printf "channels: one" >{channel}; }}\nexec "$REAL" "$@"\n')
    assert host.run() == 0, host.said
    assert len(versions(storage)) == 2
    files = identities[0].open(versions(storage)[0])
    assert files is not None
    assert files["emergency.recover"] == b"channels: one"


def test_without_copies_there_is_nothing_to_do(host: Host, storage: Client) -> None:
    """The node has not started yet, which can take days."""
    shutil.rmtree(host.copies / "bitcoin")
    assert host.run() == 0
    assert "the node has not started" in host.said
    assert versions(storage) == []


@dataclass
class Node:
    """A node's data, and the copies of it."""

    top: Path
    path: str

    def answers(self, **methods: object) -> None:
        """Lets the node answer these methods, and fail at all others."""
        cases = "".join(f"    {method}) echo '{json.dumps(answer)}' ;;\n" for method, answer in methods.items())
        program = self.top / "bin/lightning-cli"
        program.write_text(f"#!/bin/sh\ncase $1 in\n{cases}    *) exit 1 ;;\nesac\n")
        program.chmod(0o755)

    def copy(self, status: int = 0) -> dict[str, bytes]:
        """Makes the copies, and returns them. The script ends with this status."""
        copies = self.top / "copies"
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-euo", "pipefail", COPY, self.top / "data"],
            env={"PATH": f"{self.top / 'bin'}{os.pathsep}{self.path}"},
            cwd=copies,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert all(file.stat().st_mode & 0o777 == 0o400 for file in copies.rglob("*") if file.is_file())
        return {str(file.relative_to(copies)): file.read_bytes() for file in copies.rglob("*") if file.is_file()}


@pytest.fixture
def node(copying: str, tmp_path: Path) -> Node:
    """A node on regtest that answers nothing."""
    for directory in ("bin", "data/regtest", "copies"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "data/regtest/hsm_secret").write_bytes(SECRET)
    (tmp_path / "data/regtest/emergency.recover").write_bytes(b"channels")
    node = Node(tmp_path, copying)
    node.answers()
    return node


def channel(address: str, tlvs: str) -> str:
    """A channel's backup: id, channel id, node id, address, outpoint, amount, type, TLVs."""
    before = "01" * 8 + "02" * 32 + "03" * 33 + address + "04" * 36 + "05" * 8 + "0003" + "401000"
    return f"{before}{len(tlvs) // 2:08x}{tlvs}"


@pytest.mark.parametrize(
    "address",
    ["01" + "7f000001" + "2607", "02" + "fe" * 16 + "2607", "04" + "ab" * 35 + "2607", "0505" + "a1" * 5 + "2607"],
    ids=["ipv4", "ipv6", "tor", "dns"],
)
def test_channels_are_copied_without_their_secrets(node: Node, address: str) -> None:
    """So that `recoverchannel` can be used with them."""
    node.answers(
        getinfo={"network": "regtest"}, staticbackup={"scb": [channel(address, "010203ff"), channel(address, "")]}
    )
    copies = node.copy()
    assert copies["regtest/hsm_secret"] == SECRET
    assert copies["regtest/emergency.recover"] == b"channels"
    assert json.loads(copies["regtest/channels.json"]) == [channel(address, ""), channel(address, "")]


def test_the_list_of_channels_stays_if_the_node_cannot_tell_it(node: Node) -> None:
    """The files of the data directory are copied all the same."""
    assert node.copy().keys() == {"regtest/hsm_secret", "regtest/emergency.recover"}
    known = channel("01" + "7f000001" + "2607", "")
    node.answers(getinfo={"network": "regtest"}, staticbackup={"scb": [known]})
    assert json.loads(node.copy()["regtest/channels.json"]) == [known]
    (node.top / "data/regtest/emergency.recover").write_bytes(b"more channels")
    node.answers()
    copies = node.copy()
    assert json.loads(copies["regtest/channels.json"]) == [known]
    assert copies["regtest/emergency.recover"] == b"more channels"
    for garbled in ({}, {"scb": [known[:-2]]}, {"scb": [channel("09" + "00" * 6, "")]}):
        node.answers(getinfo={"network": "regtest"}, staticbackup=garbled)
        assert json.loads(node.copy(status=1)["regtest/channels.json"]) == [known]
    node.answers(getinfo={"network": "regtest"})
    assert json.loads(node.copy(status=1)["regtest/channels.json"]) == [known]


def test_a_list_that_is_confirmed_is_newer_than_the_other(node: Node) -> None:
    """By this the upload knows that both have the same channels."""
    copies = node.top / "copies/regtest"
    for scb in (["known"], ["known"], []):
        channels = [channel("01" + "7f000001" + "2607", "") for _ in scb]
        node.answers(getinfo={"network": "regtest"}, staticbackup={"scb": channels})
        node.copy()
        assert (copies / "channels.json").stat().st_mtime_ns > (copies / "emergency.recover").stat().st_mtime_ns
    node.answers()
    node.copy()
    assert (copies / "channels.json").stat().st_mtime_ns < (copies / "emergency.recover").stat().st_mtime_ns


def test_a_node_without_a_database_keeps_the_list(node: Node) -> None:
    """It has the key, and has yet to be told of its channels."""
    known = channel("01" + "7f000001" + "2607", "")
    for channels in ([], [known], []):
        node.answers(getinfo={"network": "regtest"}, staticbackup={"scb": channels})
        copies = node.copy()
    assert json.loads(copies["regtest/channels.json"]) == [known]


def test_the_copies_of_another_node_are_kept(node: Node) -> None:
    """A host with a new data disk, on which there is a new node."""
    known = channel("01" + "7f000001" + "2607", "")
    node.answers(getinfo={"network": "regtest"}, staticbackup={"scb": [known]})
    before = node.copy()
    (node.top / "data/regtest/hsm_secret").unlink()
    (node.top / "data/regtest/hsm_secret").write_bytes(b"another key")
    node.answers(getinfo={"network": "regtest"}, staticbackup={"scb": []})
    for _ in range(2):
        after = node.copy()
    (kept,) = {name.split("/")[0] for name in after} - {"regtest"}
    assert kept.startswith("regtest.until-")
    assert {name: after[name.replace("regtest", kept)] for name in before} == before
    assert (after["regtest/hsm_secret"], after["regtest/channels.json"]) == (b"another key", b"[]\n")
