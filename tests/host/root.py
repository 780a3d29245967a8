#!/usr/bin/env python3
"""Puts a host's units into a Debian root file system:   root.py HOST.json DERIVATIONS.json ROOT DIST

HOST.json is what host.nix evaluates to, DERIVATIONS.json what `nix derivation show --recursive` says of its derivations. Nothing
is built: scripts and configuration files are written as their derivations have them, and for every program of nixpkgs stands
the one of that name in ROOT/usr/local/all.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

PROGRAMS = "/usr/local/all"


def toml(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items() if item is not None) + "}"
        case list():
            return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value)


def main() -> None:
    host = json.loads(Path(sys.argv[1]).read_text())
    shown = json.loads(Path(sys.argv[2]).read_text())
    root, dist = Path(sys.argv[3]), Path(sys.argv[4])

    def put(path: str, text: str, mode: int = 0o644) -> None:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    # Text files by their place in the store.
    files: dict[str, tuple[str, int]] = {}
    for derivation in shown.get("derivations", shown).values():
        environment = derivation["env"]
        path = next(iter(derivation["outputs"].values())).get("path")
        if path and "text" in environment:
            path = path if path.startswith("/") else f"/nix/store/{path}"
            mode = 0o755 if environment.get("executable") == "1" else 0o644
            files[path + environment.get("destination", "")] = (environment["text"], mode)

    caddyfile = next(text for path, (text, _) in files.items() if path.endswith("-Caddyfile/Caddyfile"))
    put("/etc/caddy/caddy_config", caddyfile)
    settings = "".join(f"{key} = {toml(value)}\n" for key, value in host["settings"].items() if value is not None)
    put(host["configFile"], settings)
    wanted = [settings, *host["units"].values()]
    for name, text in host["units"].items():
        # Caddy's own unit comes with it.
        place = "caddy.service.d/overrides.conf" if name == "caddy.service" else name
        put(f"/etc/systemd/system/{place}", text)
        for target in re.findall(r"^WantedBy=(.*)$", text, re.MULTILINE):
            link = root / f"etc/systemd/system/{target}.wants/{name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to("/lib/systemd/system/caddy.service" if name == "caddy.service" else f"../{name}")
    lines = [
        f"d {path} {kind['mode']} {kind['user']} {kind['group']} - -" for path, kind in host["directories"].items()
    ]
    put("/etc/tmpfiles.d/host.conf", "\n".join(lines) + "\n")

    # What these name in the store, and what that names.
    seen: set[str] = set()
    while wanted:
        for path in set(re.findall(r"/nix/store/[^\s\"':;=,]+", wanted.pop())) - seen:
            seen.add(path)
            base = "/".join(path.split("/")[:4])
            below = [file for file in files if file == base or file.startswith(f"{base}/")]
            for file in below:
                put(file, *files[file])
                wanted.append(files[file][0])
            if below or (root / path.lstrip("/")).exists():
                continue
            if "/bin" in path:
                programs = root / f"{base}/bin".lstrip("/")
                if not programs.is_symlink():
                    programs.parent.mkdir(parents=True, exist_ok=True)
                    programs.symlink_to(PROGRAMS)
            elif "frontend-dist" in path:
                shutil.copytree(dist, root / path.lstrip("/"))
            elif "image" in path:
                put(path, "the simulated remote does not look into it")


main()
