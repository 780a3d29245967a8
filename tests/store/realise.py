#!/usr/bin/env python3
"""Realises a part of an evaluated Nix store in a Debian root file system, without building any package.

    realise.py DERIVATIONS.json STORE DEBIAN OURS ROOT PATH…

DERIVATIONS.json is what `nix derivation show --recursive` prints, STORE the directory where Nix keeps what was not
built (sources), DEBIAN what `debian` has unpacked, OURS a directory of programs by package (OURS/PACKAGE/bin/…), ROOT a
copy of DEBIAN's root, and each PATH a path in the store.

What NixOS is made of besides packages, and only that, is built as its derivations say, in ROOT: units, scripts, /etc.
In the place of a package stands a view of the Debian packages that are named for it in programs.py: its programs, and
nothing of any other package. A package for which none is named stands empty. At the end, nothing is left outside of the
store that a PATH could find.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import programs

STORE = "/nix/store"
REFERENCE = re.compile(rb"/nix/store/([0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211})(?![0-9A-Za-z+._?=-])")
# systemd's own directories of what NixOS picks from, or replaces.
PICKED = {
    "system": "example/systemd/system",
    "user": "example/systemd/user",
    "system-generators": "lib/systemd/system-generators",
    "user-generators": "lib/systemd/user-generators",
}


class BuildError(Exception):
    """A derivation that could not be built."""


def attributes(derivation: dict[str, Any]) -> dict[str, Any]:
    """Return all that a derivation is made with."""
    return {**derivation["env"], **(derivation.get("structuredAttrs") or {})}


def shell(value: object) -> str:
    """A value as bash writes it."""
    if value is True:
        return "1"
    if value is False or value is None:
        return "''"
    return "'" + str(value).replace("'", "'\\''") + "'"


def declarations(values: dict[str, Any]) -> str:
    """Structured attributes as Nix writes them for bash: scalars, lists of scalars, and sets of scalars."""

    def scalar(value: object) -> bool:
        return value is None or isinstance(value, (str, int, float, bool))

    lines = []
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            continue
        if scalar(value):
            lines.append(f"declare {name}={shell(value)}")
        elif isinstance(value, list) and all(map(scalar, value)):
            lines.append(f"declare -a {name}=({' '.join(map(shell, value))})")
        elif isinstance(value, dict) and all(map(scalar, value.values())):
            pairs = " ".join(f"[{shell(key)}]={shell(item)}" for key, item in value.items())
            lines.append(f"declare -A {name}=({pairs})")
    return "\n".join(lines) + "\n"


class Realiser:
    """A store that is being made, in a root file system."""

    def __init__(self, shown: dict[str, Any], store: Path, debian: Path, ours: Path, root: Path) -> None:
        self.derivations = shown.get("derivations", shown)
        self.store, self.ours, self.root = store, ours, root
        self.lists = debian / "packages"
        # By what is below /nix/store: the derivation whose output it is, and which output.
        self.origins: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        for key, derivation in self.derivations.items():
            for output, about in derivation["outputs"].items():
                if path := about.get("path"):
                    self.origins[path.removeprefix(f"{STORE}/")] = key
                    self.outputs[path.removeprefix(f"{STORE}/")] = output
        self.done: set[str] = set()
        self.empty: set[str] = set()
        self.setup = ""

    def at(self, path: str) -> Path:
        """Where a path of the system is in the root file system."""
        return self.root / path.lstrip("/")

    # -- Paths in the store

    def realise(self, name: str) -> None:
        """Makes what is below /nix/store under this name, and all that it refers to."""
        pending = [name]
        while pending:
            name = pending.pop()
            if name in self.done:
                continue
            self.done.add(name)
            self.make(name)
            pending.extend(self.references(self.at(f"{STORE}/{name}")) - self.done)

    def references(self, path: Path) -> set[str]:
        """Return what is below /nix/store by whose name a file, or a file in a directory, refers to it."""
        if path.is_symlink():
            found = REFERENCE.findall(bytes(path.readlink()))
        elif path.is_dir():
            return set().union(*(self.references(item) for item in path.iterdir()))
        elif not path.exists() or path.stat().st_size > 1 << 20:
            return set()
        else:
            content = path.read_bytes()
            # Debian's programs know nothing of the store.
            found = [] if content.startswith(b"\x7fELF") else REFERENCE.findall(content)
        names = {item.decode() for item in found}
        return {item for item in names if item in self.origins or (self.store / item).exists()}

    def make(self, name: str) -> None:
        """Make what is below /nix/store under this name."""
        target = self.at(f"{STORE}/{name}")
        if target.exists() or target.is_symlink():
            return
        key = self.origins.get(name)
        if key is None:
            source = self.store / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
            return
        derivation = self.derivations[key]
        values = attributes(derivation)
        package = values.get("pname") or values.get("name", "")
        if view := programs.special(values.get("name", "")):
            self.view(target, values.get("name", ""), view)
        elif package not in programs.VIEWS and self.is_text(values):
            self.build(key, derivation, values)
        else:
            self.view(target, package, programs.VIEWS.get(package))

    def is_text(self, values: dict[str, Any]) -> bool:
        """Whether a derivation only puts together what is there: it unpacks and compiles nothing."""
        return bool(values.get("buildCommand")) or bool(
            "pname" not in values and values.get("dontUnpack") and values.get("buildPhase") and not values.get("CFLAGS")
        )

    # -- Derivations

    def inputs(self, values: dict[str, Any]) -> set[str]:
        """Return what a derivation refers to, below /nix/store."""
        found = {item.decode() for item in REFERENCE.findall(json.dumps(values).encode())}
        own = {
            values.get("out", "").removeprefix(f"{STORE}/"),
            *(str(values.get(o, "")).removeprefix(f"{STORE}/") for o in ("bin", "dev")),
        }
        return {item for item in found - own if not self.is_stdenv(item)}

    def is_stdenv(self, name: str) -> bool:
        """Whether this name below /nix/store is of a standard environment."""
        return name.endswith("-stdenv-linux")

    def build(self, key: str, derivation: dict[str, Any], values: dict[str, Any]) -> None:
        """Builds what needs no compiler, with Debian's tools."""
        for name in self.inputs(values) | {source.removeprefix(f"{STORE}/") for source in derivation["inputs"]["srcs"]}:
            self.realise(name)
        stdenv = next(
            (str(value) for value in values.values() if isinstance(value, str) and self.is_stdenv(value)),
            f"{STORE}/stdenv",
        )
        setup = self.at(stdenv) / "setup"
        setup.parent.mkdir(parents=True, exist_ok=True)
        setup.write_text(self.setup)

        top = self.at("/build")
        shutil.rmtree(top, ignore_errors=True)
        top.mkdir()
        environment = {
            "PATH": "/usr/bin:/usr/sbin",
            "HOME": "/homeless-shelter",
            "NIX_BUILD_TOP": "/build",
            "NIX_STORE": STORE,
            "NIX_BUILD_CORES": "1",
            "TMPDIR": "/build",
            "LC_ALL": "C",
        }
        outputs = {
            name: f"{STORE}/{output['path'].removeprefix(f'{STORE}/')}"
            for name, output in derivation["outputs"].items()
        }
        if structured := derivation.get("structuredAttrs"):
            structured = {**structured, "outputs": outputs}
            (top / ".attrs.json").write_text(json.dumps(structured))
            (top / ".attrs.sh").write_text(declarations(structured))
            environment |= {"NIX_ATTRS_JSON_FILE": "/build/.attrs.json", "NIX_ATTRS_SH_FILE": "/build/.attrs.sh"}
        as_file = set(str(values.get("passAsFile", "")).split())
        for name, value in derivation["env"].items():
            if name in as_file:
                (top / f".attr-{name}").write_text(value)
                environment[f"{name}Path"] = f"/build/.attr-{name}"
            else:
                environment[name] = value
        environment |= {} if structured else outputs
        ran = subprocess.run(
            [
                "chroot",
                self.root,
                "/usr/bin/bash",
                "-c",
                'cd /build && exec /usr/bin/bash "$@"',
                "bash",
                *derivation["args"],
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if ran.returncode:
            raise BuildError(f"{key}: exit status {ran.returncode}\n{ran.stdout.decode(errors='replace')[-3000:]}")
        self.done.update(path.removeprefix(f"{STORE}/") for path in outputs.values() if self.at(path).exists())
        for path in outputs.values():
            for name in self.references(self.at(path)):
                self.realise(name)

    # -- Packages

    def view(self, target: Path, package: str, view: programs.View | None) -> None:
        """Lays out a package's programs and data."""
        if view and view.text:
            target.write_text(view.text)
            return
        target.mkdir(parents=True)
        if view is None:
            self.empty.add(package)
            return
        here = "/" + str(target.relative_to(self.root))
        output = self.outputs.get(target.name, "out")
        if output in ("man", "doc", "info", "dev", "debug", "devdoc"):
            return
        bin_dir = target / "bin"
        bin_dir.mkdir()
        (target / "sbin").symlink_to("bin")
        for source in view.ours:
            shutil.copytree(self.ours / source, target, dirs_exist_ok=True, symlinks=True, copy_function=os.link)
        for source in view.debian:
            self.programs(source, bin_dir, here)
        for name, source in view.renamed.items():
            (bin_dir / source).rename(bin_dir / name)
        for name, source in view.links.items():
            (bin_dir / name).symlink_to(source)
        for name, text in view.scripts.items():
            (bin_dir / name).write_text(text)
            (bin_dir / name).chmod(0o755)
        for name, text in view.texts.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(text)
        for name, source in view.data.items():
            place, found = target / name, self.at(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if found.is_dir() else shutil.copy)(found, place)
        if view.wrapped_with:
            self.wrap(target, view.wrapped_with)
        if view.systemd:
            self.systemd(target, here)
        elif output in ("out", "bin"):
            for source in (source for source in view.debian if ":" not in source):
                self.units(source, target)
        for unit in target.rglob("*.service"):
            self.adapt(unit, target, here)

    def programs(self, source: str, bin_dir: Path, here: str) -> None:
        """Links what a Debian package has in its bin and sbin directories, or one program of it."""
        package, _, only = source.partition(":")
        listing = self.lists / package
        if not listing.exists():
            raise BuildError(f"{here}: Debian's {package} was not unpacked")
        for line in listing.read_text().splitlines():
            path = line.removeprefix(".")
            match = re.fullmatch(r"(?:/usr)?/s?bin/([^/]+)", path)
            if not match or only not in ("", match[1]):
                continue
            program, place = self.at(f"/usr/bin/{match[1]}"), bin_dir / match[1]
            if not program.exists() and not program.is_symlink():
                program = self.at(f"/usr/sbin/{match[1]}")
            if place.exists() or place.is_symlink():
                continue
            if program.is_symlink():
                to = str(program.readlink())
                inside = re.fullmatch(r"(?:(?:\.\./)*|/)(?:(?:usr/)?s?bin/)?([^/]+)", to)
                place.symlink_to(inside[1] if inside else os.path.normpath(f"/usr/bin/{to}" if to[0] != "/" else to))
                continue
            with program.open("rb") as file:
                first = file.readline(200)
            if shebang := re.match(rb"#! ?(?:/usr)?/bin/(perl|python3|bash)\b", first):
                place.write_bytes(b"#!/usr/lib/interpreters/" + shebang[1] + program.read_bytes()[shebang.end() :])
                place.chmod(0o755)
            else:
                os.link(program, place)

    def wrap(self, target: Path, packages: tuple[str, ...]) -> None:
        """Let programs find those of the packages that their derivation names."""
        names = self.inputs(attributes(self.derivations[self.origins[target.name]]))
        found = {}
        # Where its programs have an output of their own, that comes last.
        for name in sorted(names & self.origins.keys(), key=lambda name: self.outputs[name] == "bin"):
            package = attributes(self.derivations[self.origins[name]]).get("pname")
            if package in packages and self.outputs[name] in ("out", "bin", "guest"):
                self.realise(name)
                found[package] = f"{STORE}/{name}/bin"
        if missing := set(packages) - found.keys():
            raise BuildError(f"{target.name} is not wrapped with {', '.join(sorted(missing))}")
        path = ":".join(found.values())
        for program in (target / "bin").iterdir():
            if not program.is_symlink():
                inner = program.rename(program.with_name(f".{program.name}-wrapped"))
                command = f'exec -a "$0" "/{inner.relative_to(self.root)}" "$@"'
                program.write_text(f"#!/usr/lib/interpreters/bash\nexport PATH={path}:$PATH\n{command}\n")
                program.chmod(0o755)

    def systemd(self, target: Path, here: str) -> None:
        """Lay out systemd's own units and helpers, at the places where nixpkgs has them."""
        lib = target / "lib/systemd"
        lib.mkdir(parents=True)
        for item in self.at("/usr/lib/systemd").iterdir():
            if item.name not in PICKED:
                (lib / item.name).symlink_to(f"/usr/lib/systemd/{item.name}")
        for name, place in PICKED.items():
            source = self.at(f"/usr/lib/systemd/{name}")
            if source.is_dir():
                shutil.copytree(source, target / place, symlinks=True)
        for name in programs.MISSING_UNITS:
            unit = target / PICKED["system"] / name
            if not unit.exists():
                service = "[Service]\nType=oneshot\nExecStart=/bin/sh -c :\n" if name.endswith(".service") else ""
                unit.write_text(f"[Unit]\nDescription={name}, which is not here\n{service}")
        for name in ("tmpfiles.d", "sysctl.d", "sysusers.d"):
            shutil.copytree(self.at(f"/usr/lib/{name}"), target / "example" / name)
        for name in ("modprobe.d", "udev/rules.d", "udev/hwdb.d"):
            source = self.at(f"/usr/lib/{name}")
            if source.is_dir():
                shutil.copytree(source, target / "lib" / name, symlinks=True)
        for item in self.at("/usr/lib/udev").iterdir():
            if item.name not in ("rules.d", "hwdb.d", "hwdb.bin"):
                (target / "lib/udev").mkdir(exist_ok=True)
                (target / "lib/udev" / item.name).symlink_to(f"/usr/lib/udev/{item.name}")

    def units(self, package: str, target: Path) -> None:
        """Copies the units that a Debian package has."""
        for line in (self.lists / package).read_text().splitlines():
            if match := re.fullmatch(r"(?:/usr)?/lib/systemd/((?:system|user)/.*[^/])", line.removeprefix(".")):
                source, place = self.at(f"/usr/lib/systemd/{match[1]}"), target / "lib/systemd" / match[1]
                if source.is_symlink() or source.is_file():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, place, follow_symlinks=False)

    def adapt(self, unit: Path, target: Path, here: str) -> None:
        """Let a unit of Debian's start its package's programs by their store paths, and link to those beside it."""
        if unit.is_symlink():
            to = str(unit.readlink())
            if to.startswith("/usr/lib/systemd/"):
                unit.unlink()
                unit.symlink_to(Path(to).name)
            return
        if not unit.is_file():
            return

        def place(match: re.Match[str]) -> str:
            return f"{match[1]}{here}/bin/{match[2]}" if (target / "bin" / match[2]).exists() else match[0]

        text = re.sub(
            r"^(Exec\w+=[-+!:@|]*)(?:/usr/s?bin/)?([a-z][\w.-]*)(?=\s|$)", place, unit.read_text(), flags=re.MULTILINE
        )
        unit.write_text(text)

    # -- The end

    def close(self) -> None:
        """Takes out of the root what the store has, and what NixOS does not look at."""
        for name in ("system", "user"):
            shutil.rmtree(self.at(f"/usr/lib/systemd/{name}"), ignore_errors=True)
        # Where systemd has been built to look for its own; nixpkgs' looks in its store path.
        for name in ("system-generators", "user-generators"):
            for generator in self.at(f"/usr/lib/systemd/{name}").iterdir():
                if generator.name not in programs.GENERATORS:
                    generator.unlink()
        for name in ("tmpfiles.d", "sysctl.d", "sysusers.d", "modprobe.d", "environment.d"):
            shutil.rmtree(self.at(f"/usr/lib/{name}"), ignore_errors=True)
        kept = self.at("/usr/lib/interpreters")
        kept.mkdir(exist_ok=True)
        for name in ("perl", "python3", "bash"):
            shutil.copy(self.at(f"/usr/bin/{name}"), kept / name)
        # Helpers that are another name of a program.
        for link in self.at("/usr/lib/systemd").rglob("*"):
            if link.is_symlink() and re.match(r"(\.\./|/usr/)+s?bin/", to := str(link.readlink())):
                program = self.at(to) if to[0] == "/" else link.resolve()
                link.unlink()
                os.link(program, link)
        for directory in ("/usr/bin", "/usr/sbin"):
            if self.at(directory).is_symlink():
                continue
            for item in self.at(directory).iterdir():
                # What systemd itself has been built to start.
                if item.name not in programs.COMPILED_IN:
                    item.unlink()
        for name in ("/build", "/debian-etc"):
            shutil.rmtree(self.at(name), ignore_errors=True)


def main() -> None:
    """Realise the paths that are named by arguments."""
    shown, store, debian, ours, root, *paths = sys.argv[1:]
    realiser = Realiser(json.loads(Path(shown).read_text()), Path(store), Path(debian), Path(ours), Path(root))
    realiser.at(STORE).mkdir(parents=True, exist_ok=True)
    nixpkgs = os.environ["NIXPKGS"]
    generic = (Path(nixpkgs) / "pkgs/stdenv/generic/setup.sh").read_text()
    # What the standard environment's own first lines would set.
    own = """
        export SHELL=/usr/bin/bash
        initialPath=/usr defaultNativeBuildInputs= defaultBuildInputs= outputDev=out
        die() { echo "$*" >&2; exit 1; }
    """
    realiser.setup = own + generic
    try:
        for path in paths:
            realiser.realise(path.removeprefix(f"{STORE}/"))
    except BuildError as failure:
        sys.exit(f"realise: {failure}")
    realiser.close()
    print(f"realise: {len(realiser.done)} paths; standing empty: {' '.join(sorted(realiser.empty))}")


if __name__ == "__main__":
    main()
