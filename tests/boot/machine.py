"""A machine in QEMU, as EC2 would start it: disks on NVMe, one network card, and the metadata service at its address."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
MIB = 1 << 20


class Trouble(Exception):
    """Something that should have been seen and was not."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(
    what: str, condition: Callable[[], object], timeout: float, alive: Callable[[], bool] = lambda: True
) -> object:
    """Waits until the condition holds, and returns what it answered."""
    deadline = time.monotonic() + timeout
    while True:
        if found := condition():
            return found
        if not alive():
            raise Trouble(f"{what}: the machine has ended before")
        if time.monotonic() > deadline:
            raise Trouble(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.5)


class Machine:
    """One instance. `work` keeps what belongs to it: its root disk, console and metadata."""

    # As QEMU's own network has it: 169.0.0.2 is this machine, 169.254.169.254 is in the same network.
    NETWORK = "169.0.0.0/8"
    OUTSIDE = "169.0.0.2"

    def __init__(self, work: Path, kernel: Path, command_line: str, image: Path, *, root_gib: int = 4) -> None:
        self.work, self.kernel, self.command_line = work, kernel, command_line
        work.mkdir(parents=True)
        self.root = work / "root.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, self.root, f"{root_gib}G"], check=True
        )
        self.metadata = work / "metadata"
        self.console = work / "console"
        self.console.touch()
        self.ports = {name: free_port() for name in ("ssh", "http", "https", "lightning")}
        self.key = work / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        # A socket's path has to be short.
        self.sockets = tempfile.mkdtemp(prefix="boot-")
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.seen = 0
        self.put("1.0/meta-data/instance-id", "i-0123456789abcdef0")
        self.put("1.0/meta-data/ami-manifest-path", "(unknown)")
        self.put("1.0/meta-data/hostname", "ip-10-0-0-10.eu-central-1.compute.internal")
        self.put("1.0/meta-data/public-keys/0/openssh-key", self.key.with_suffix(".pub").read_text())

    def put(self, path: str, text: str) -> None:
        """Sets what the metadata service answers."""
        file = self.metadata / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    # -- Power

    def start(self, *volumes: Path, metadata: bool = True) -> None:
        """Starts it with these data volumes attached."""
        forwards = "".join(
            f",hostfwd=tcp:127.0.0.1:{self.ports[name]}-:{inside}"
            for name, inside in (("ssh", 22), ("http", 80), ("https", 443), ("lightning", 9735))
        )
        service = f",guestfwd=tcp:169.254.169.254:80-cmd:{HERE / 'imds.py'} {self.metadata}" if metadata else ""
        disks = [(self.root, "qcow2"), *((volume, "raw") for volume in volumes)]
        accelerator = ["-accel", "tcg,thread=multi", "-cpu", "max"]
        if os.environ.get("BOOT_ACCELERATOR") == "kvm":
            accelerator = ["-accel", "kvm", "-cpu", "host"]
        arguments = [
            "qemu-system-x86_64",
            "-machine",
            "q35",
            *accelerator,
            "-smp",
            "2",
            "-m",
            "1536",
            "-nodefaults",
            "-no-user-config",
        ]
        arguments += ["-display", "none", "-no-reboot", "-kernel", str(self.kernel), "-append", self.command_line]
        arguments += ["-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"]
        arguments += ["-device", "virtio-rng-pci"]
        for index, (path, kind) in enumerate(disks):
            arguments += ["-drive", f"file={path},format={kind},if=none,id=disk{index},cache=unsafe"]
            arguments += ["-device", f"nvme,drive=disk{index},serial=vol{index:08}"]
        arguments += [
            "-netdev",
            f"user,id=ec2,net={self.NETWORK}{forwards}{service}",
            "-device",
            "virtio-net-pci,netdev=ec2",
        ]
        self.seen = self.console.stat().st_size
        self.started = time.monotonic()
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Takes its power away, and what was made for it outside of its directory."""
        self.hang_up()
        shutil.rmtree(self.sockets, ignore_errors=True)
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ended(self, timeout: float = 180) -> None:
        """Waits until it has switched itself off, or asked for its next boot."""
        assert self.process
        self.process.wait(timeout)
        self.process = None
        self.hang_up()

    def hang_up(self) -> None:
        subprocess.run(
            ["ssh", "-F", "/dev/null", "-o", f"ControlPath={self.sockets}/ssh", "-O", "exit", "machine"],
            capture_output=True,
            check=False,
        )

    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    # -- What it says

    def said(self) -> str:
        """On its console, since it was started."""
        with self.console.open("rb") as file:
            file.seek(self.seen)
            text = file.read().decode(errors="replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)

    def goes_well(self) -> bool:
        """Whether it runs, and has said nothing on its console of a unit that failed or was dropped, or of a program that is missing."""
        pattern = r".*(?:\[FAILED\]|\[DEPEND\]|ordering cycle|command not found).*"
        if wrong := re.search(pattern, self.said()):
            raise Trouble(f"the console says “{wrong[0].strip()}”")
        return self.alive()

    def says(self, sentence: str, timeout: float = 300) -> str:
        """Waits for a line on its console in which this regular expression is found."""
        pattern = re.compile(f".*{sentence}.*")

        def line() -> str | None:
            found = pattern.search(self.said())
            return found[0].strip() if found else None

        return str(until(f"the console says “{sentence}”", line, timeout, self.alive))

    # -- Inside, as its operator

    def ssh(self, command: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        # One connection for all commands: making one takes long where the machine is emulated, and sshd puts off who tries often.
        options = [
            "UserKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "ConnectTimeout=120",
        ]
        options += ["ControlMaster=auto", f"ControlPath={self.sockets}/ssh", "ControlPersist=yes"]
        arguments = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(self.ports["ssh"])]
        for option in options:
            arguments += ["-o", option]
        try:
            return subprocess.run(
                [*arguments, "root@127.0.0.1", command],
                capture_output=True,
                text=True,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(arguments, 255, "", "timed out")

    def run(self, command: str, timeout: float = 180) -> str:
        """What a command prints; it must succeed."""
        ran = self.ssh(command, timeout)
        if ran.returncode:
            raise Trouble(f"{command}: exit status {ran.returncode}: {ran.stdout}{ran.stderr}")
        return ran.stdout.strip()

    def lightning(self, *arguments: str) -> dict:  # type: ignore[type-arg]
        return json.loads(self.run(shlex.join(["lightning-cli", *arguments])))  # type: ignore[no-any-return]

    def until(self, what: str, command: str, timeout: float = 300) -> str:
        """Waits until a command succeeds in it, and returns what it prints."""
        out: list[str] = []

        def succeeds() -> bool:
            ran = self.ssh(command)
            out[:] = [ran.stdout.strip()]
            return ran.returncode == 0

        until(what, succeeds, timeout, self.alive)
        return out[0]
