"""Reads an image on this machine: a disk image, and the build's description of it.

`nix-support/image-info.json` has the format of nixpkgs
(`nixos/maintainers/scripts/ec2/amazon-image.nix`): `label`, `system`, `boot_mode`, `logical_bytes`, `file`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import StopError

Architecture = Literal["x86_64", "arm64"]
BootMode = Literal["legacy-bios", "uefi"]
DiskFormat = Literal["VHD", "RAW", "VMDK"]

# EC2's import formats, by file suffix.
FORMATS: dict[str, DiskFormat] = {".vhd": "VHD", ".vpc": "VHD", ".raw": "RAW", ".img": "RAW", ".vmdk": "VMDK"}
ARCHITECTURES: dict[str, Architecture] = {"x86_64-linux": "x86_64", "aarch64-linux": "arm64"}
# The defaults of nixpkgs.
BOOT_MODES: dict[Architecture, BootMode] = {"x86_64": "legacy-bios", "arm64": "uefi"}

GIB = 1 << 30


@dataclass(frozen=True)
class Image:
    """A disk image that AWS can import."""

    path: Path
    # Of the file, in bytes.
    size: int
    sha256: str
    disk_format: DiskFormat
    architecture: Architecture
    boot_mode: BootMode
    # The version, such as `26.05.20260810.fcb8fcd`; may be empty.
    label: str
    # Size of the disk inside, in GiB; None if only AWS will find out.
    disk_gib: int | None

    @property
    def name(self) -> str:
        """The AMI's name. It contains the digest, so different contents have different names."""
        return "-".join(part for part in ("lnplaylive", self.label, self.architecture, self.sha256[:12]) if part)

    @property
    def key(self) -> str:
        """The name of the object in S3."""
        return f"{self.name}{self.path.suffix}"


def load(path: Path, architecture: Architecture | None = None) -> Image:
    """Reads an image, either a directory made by the build or a file.

    The architecture is required if there is no `image-info.json`. The whole file is read, for its digest.
    """
    if not path.exists():
        raise StopError(f"there is no image at {path}; build one with `nix build .#aws-image`, and pass ./result")
    info_file = (path if path.is_dir() else path.parent) / "nix-support" / "image-info.json"
    info = _read_info(info_file)
    if path.is_dir():
        if not info:
            raise StopError(f"{path} has no nix-support/image-info.json; pass the image file, and --architecture")
        path = _named_file(path, info_file, info)

    disk_format = FORMATS.get(path.suffix)
    if disk_format is None:
        raise StopError(
            f"AWS does not import {path.name}: it takes {', '.join(FORMATS)}; "
            'build the image with amazonImage.format = "vpc" or "raw"'
        )
    built_for = _architecture(info, info_file)
    if architecture is not None and built_for is not None and architecture != built_for:
        raise StopError(f"{info_file} says that the image is for {built_for}, --architecture says {architecture}")
    chosen = architecture or built_for
    if chosen is None:
        raise StopError(f"the architecture of {path} is unknown; add --architecture x86_64 or --architecture arm64")
    size = path.stat().st_size
    if size == 0:
        raise StopError(f"{path} is empty; build the image again")
    logical = info.get("logical_bytes")
    # The build's jq passes it as a string.
    disk_gib = -(-int(logical) // GIB) if isinstance(logical, int | str) and str(logical).isdigit() else None
    return Image(
        path=path,
        size=size,
        sha256=_digest(path),
        disk_format=disk_format,
        architecture=chosen,
        boot_mode=_boot_mode(info, info_file, chosen),
        label=str(info.get("label", "")),
        disk_gib=disk_gib,
    )


def _read_info(file: Path) -> dict[str, object]:
    try:
        info = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StopError(f"cannot read {file}: {error}; build the image again") from error
    if not isinstance(info, dict):
        raise StopError(f"{file} is not a JSON object; build the image again")
    return info


def _named_file(directory: Path, info_file: Path, info: dict[str, object]) -> Path:
    named = info.get("file")
    if not isinstance(named, str):
        raise StopError(f'{info_file} has no "file"; build the image again')
    # The path is the one at build time; in a copy of the directory the file is next to the description.
    for candidate in (directory / Path(named).name, Path(named)):
        if candidate.is_file():
            return candidate
    raise StopError(f"{info_file} names {Path(named).name}, which is not in {directory}; build or copy the image again")


def _architecture(info: dict[str, object], info_file: Path) -> Architecture | None:
    system = info.get("system")
    if system is None:
        return None
    if system not in ARCHITECTURES:
        raise StopError(f"{info_file} says that the image is for {system}; AWS runs {' and '.join(ARCHITECTURES)}")
    return ARCHITECTURES[str(system)]


def _boot_mode(info: dict[str, object], info_file: Path, architecture: Architecture) -> BootMode:
    mode = info.get("boot_mode", BOOT_MODES[architecture])
    if mode == "uefi":
        return "uefi"
    if mode == "legacy-bios" and architecture == "x86_64":
        return "legacy-bios"
    raise StopError(f"{info_file} says that the image boots by {mode}, which AWS does not support on {architecture}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
