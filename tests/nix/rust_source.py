"""Checks that the source of the Nix package has all that cargo reads: its members, and what they include or open.

Nix copies only what nixos/rust.nix names, so what is missing there is found by nobody but the sandbox.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

INCLUDED = re.compile(r'include_(?:str|bytes)!\(\s*"([^"]+)"')
# What is opened by a path from the member's directory.
OPENED = re.compile(r'env!\("CARGO_MANIFEST_DIR"\)(?:\)\s*\.join\(|,\s*)"/?(\.\./[^"]+)"')


def needed(root: Path) -> set[Path]:
    """The members' directories, and what their sources and tests read outside of them. Nix runs no benches."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    metadata = json.loads(subprocess.check_output(command, cwd=root))
    members = [Path(package["manifest_path"]).parent for package in metadata["packages"]]
    sources = [
        (member, source) for member in members for source in member.rglob("*.rs") if "benches" not in source.parts
    ]
    files = [source.parent / name for _, source in sources for name in INCLUDED.findall(source.read_text())]
    files += [member / name for member, source in sources for name in OPENED.findall(source.read_text())]
    return {Path(os.path.relpath(os.path.normpath(path), root)) for path in members + files}


def main() -> None:
    """Names what is missing, and fails if anything is."""
    root = Path(__file__).parents[2]
    named = [Path(name) for name in re.findall(r'\(root \+ "/([^"]+)"\)', (root / "nixos/rust.nix").read_text())]

    def is_named(path: Path) -> bool:
        # Of a directory, a part is enough.
        return any(path.is_relative_to(name) or name.is_relative_to(path) for name in named)

    missing = sorted(path for path in needed(root) if not is_named(path))
    if missing:
        sys.exit("nixos/rust.nix leaves out of its source: " + ", ".join(map(str, missing)))
    print("rust source: complete")


if __name__ == "__main__":
    main()
