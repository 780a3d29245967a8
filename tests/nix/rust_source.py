"""Checks that the source of the Nix package has all that cargo reads: all members, and all files that they include.

Nix copies only what nixos/rust.nix names, so what is missing there is found by nobody but the sandbox.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

INCLUDED = re.compile(r'include_(?:str|bytes)!\(\s*"([^"]+)"')


def needed(root: Path) -> set[Path]:
    """The members' directories, and the files outside of them that their sources include."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    metadata = json.loads(subprocess.check_output(command, cwd=root))
    members = [Path(package["manifest_path"]).parent for package in metadata["packages"]]
    sources = [source for member in members for source in member.rglob("*.rs")]
    files = [source.parent / name for source in sources for name in INCLUDED.findall(source.read_text())]
    return {Path(os.path.relpath(os.path.normpath(path), root)) for path in members + files}


def main() -> None:
    """Names what is missing, and fails if anything is."""
    root = Path(__file__).parents[2]
    named = [Path(name) for name in re.findall(r'\(root \+ "/([^"]+)"\)', (root / "nixos/rust.nix").read_text())]
    missing = sorted(path for path in needed(root) if not any(path.is_relative_to(name) for name in named))
    if missing:
        sys.exit("nixos/rust.nix leaves out of its source: " + ", ".join(map(str, missing)))
    print("rust source: complete")


if __name__ == "__main__":
    main()
