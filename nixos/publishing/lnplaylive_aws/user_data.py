"""User-data, which the image reads at boot: a TOML document as in `nixos/images/user-data.example`."""

import json
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .errors import StopError

# EC2's limit, in bytes before base64.
LIMIT = 16 * 1024
# A token has some hundred bytes; a longer file is not a token.
TOKEN_LIMIT = 8 * 1024

# Stands for the instance's address, which is known only when it is allocated.
ELASTIC_IP = "ELASTIC_IP"

Network = Literal["bitcoin", "signet", "regtest"]
InstanceKind = Literal["virtual-machine", "container"]
REMOTE_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
EMAIL = re.compile(r"[A-Za-z0-9.+_-]+@(?P<domain>.+)")
DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])")


@dataclass(frozen=True)
class UserData:
    """A checked document, with the facts that the tools need."""

    text: str
    domain: str | None
    # Whether the host uploads backups with the role of its instance.
    needs_role: bool = False

    def announcing(self, ip: str | None) -> "UserData":
        """Return the document with this Elastic IP address, or without its entry if there is none."""
        if ip is None:
            return replace(self, text=re.sub(rf'"{ELASTIC_IP}:\d+",? *', "", self.text))
        return replace(self, text=self.text.replace(f'"{ELASTIC_IP}:', f'"{ip}:'))

    def __repr__(self) -> str:
        """Omits the text, which contains tokens."""
        return f"UserData(domain={self.domain!r})"


@dataclass(frozen=True)
class Remote:
    """An LXD or Incus server, and the file with its enrolment token."""

    name: str
    url: str
    token_file: Path


def build(
    domain: str, network: Network, email: str | None, contact: str | None, remotes: list[Remote], kind: InstanceKind
) -> UserData:
    """Builds the user-data of a shop. Rejects what the image would reject at boot, minutes later."""
    if not DOMAIN.fullmatch(domain):
        raise StopError(f"--domain {domain!r} is not a host name, such as shop.example")
    host: dict[str, str | bool | list[str]] = {
        "DEPLOY_LNPLAYLIVE_FRONTEND": True,
        "domain": domain,
        "network": network,
        # Not every node looks names up.
        "announce": [f"{ELASTIC_IP}:9735", f"{domain}:9735"],
        "state_volume": True,
    }
    if email is not None:
        address = EMAIL.fullmatch(email)
        if address is None or not DOMAIN.fullmatch(address["domain"].lower()):
            raise StopError(f"--email {email!r} is not an address such as operator@shop.example")
        host["email"] = email
    parts = [_table("[host]", host)]
    names = [remote.name for remote in remotes]
    for remote in remotes:
        if not REMOTE_NAME.fullmatch(remote.name) or names.count(remote.name) > 1:
            raise StopError(
                f"--remote {remote.name!r}: a name is up to 63 letters, digits, hyphens and underscores, "
                "and each remote needs a name of its own"
            )
        if not remote.url.startswith("https://"):
            raise StopError(f"the remote {remote.name} has the URL {remote.url!r}, which does not begin with https://")
        entry = {"name": remote.name, "url": remote.url, "token": _token(remote), "instance_type": kind}
        parts.append(_table("[[remotes]]", entry))
    if contact is not None:
        if not contact.strip() or len(contact.encode()) > 200 or not contact.isprintable():
            raise StopError("--contact must be one line of 1 to 200 bytes")
        parts += [_table(f"[{table}]", {"contact": contact}) for table in ("shop", "frontend")]
    return parse("\n".join(parts), "the user-data made from the options")


def read(file: Path) -> UserData:
    """Reads user-data from a file."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StopError(f"cannot read the user-data {file}: {error}") from error
    return parse(text, str(file))


def parse(text: str, where: str) -> UserData:
    """Checks what can be checked here. The image checks the rest at boot."""
    size = len(text.encode())
    if size > LIMIT:
        raise StopError(f"{where} has {size} bytes, and EC2 accepts {LIMIT}; shorten it, certificates first")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StopError(f"{where} is not TOML: {error}; see nixos/images/user-data.example") from error
    host: Any = document.get("host")
    if not isinstance(host, dict):
        raise StopError(f"{where} has no table [host]; see nixos/images/user-data.example")
    if host.get("state_volume") is False:
        raise StopError(f"{where} says state_volume = false, but this tool always uses a volume; remove that line")
    domain: Any = host.get("domain")
    if host.get("DEPLOY_LNPLAYLIVE_FRONTEND") is True and not isinstance(domain, str):
        raise StopError(f'{where} turns the web shop on without a domain; add domain = "shop.example" to [host]')
    backup: Any = host.get("backup")
    return UserData(
        text=text,
        domain=domain if isinstance(domain, str) else None,
        needs_role=isinstance(backup, dict) and "access_key_id" not in backup,
    )


def _token(remote: Remote) -> str:
    try:
        with remote.token_file.open("rb") as file:
            token = file.read(TOKEN_LIMIT + 1)
    except OSError as error:
        raise StopError(f"cannot read the token of the remote {remote.name}: {error}") from error
    text = token.decode("ascii", "replace").strip()
    if len(token) > TOKEN_LIMIT or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise StopError(
            f"{remote.token_file} does not contain an enrolment token; create one for the remote {remote.name} "
            "with `incus config trust add lnplaylive` or `lxc config trust add`, and save the token that it prints"
        )
    return text


def _table(header: str, entries: dict[str, Any]) -> str:
    # JSON strings and booleans are valid TOML.
    return "\n".join(
        [header, *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()), ""]
    )
