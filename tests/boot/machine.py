"""A machine in QEMU, as EC2 would start it: disks on NVMe, one network card, the metadata service at its address."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MIB = 1 << 20

# Set when the run is to end: what waits then stops waiting.
stopping = threading.Event()


class ScenarioError(Exception):
    """Something that should have been seen and was not."""


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(
    what: str, condition: Callable[[], object], timeout: float, alive: Callable[[], bool] = lambda: True
) -> object:
    """Wait until the condition holds, and return what it answered."""
    deadline = time.monotonic() + timeout
    while True:
        if found := condition():
            return found
        if not alive():
            raise ScenarioError(f"{what}: the machine ended before")
        if time.monotonic() > deadline:
            raise ScenarioError(f"{what}: not within {timeout:.0f} s")
        if stopping.wait(0.5):
            raise ScenarioError(f"{what}: the run was ended")


class Machine:
    """One instance. `work` keeps what belongs to it: its root disk, console and metadata."""

    # QEMU's own network: OUTSIDE is the machine that runs the tests, ADDRESS what DHCP gives; 169.254.169.254 is in it.
    NETWORK = "169.0.0.0/8"
    OUTSIDE = "169.0.2.2"
    ADDRESS = "169.0.2.15"
    # Empty slots that volumes can be attached to while it runs.
    SLOTS = 2

    def __init__(self, work: Path, image: Path, command_line: str, listening: dict[str, int]) -> None:
        self.work, self.kernel, self.command_line, self.listening = work, image / "kernel", command_line, listening
        work.mkdir(parents=True)
        self.root = work / "root.qcow2"
        disk = ["-F", "raw", "-b", image / "disk.raw", self.root, "4G"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *disk], check=True)
        self.metadata = work / "metadata"
        self.console = work / "console"
        self.console.touch()
        self.journal = work / "journal"
        # On this machine's loopback, what listens in it.
        self.ports = {name: free_port() for name in listening}
        # Where this is written, its host key has to be the one in it.
        self.known_hosts = work / "known_hosts"
        self.key = work / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        # A socket's path has to be short.
        self.sockets = tempfile.mkdtemp(prefix="boot-")
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.seen = 0
        self.attached = 0
        self.put("1.0/meta-data/instance-id", "i-0123456789abcdef0")
        self.put("1.0/meta-data/ami-manifest-path", "(unknown)")
        self.put("1.0/meta-data/hostname", "ip-10-0-0-10.eu-central-1.compute.internal")
        self.put("1.0/meta-data/public-keys/0/openssh-key", self.key.with_suffix(".pub").read_text())

    def put(self, path: str, text: str) -> None:
        """Set what the metadata service answers."""
        file = self.metadata / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    # -- Power

    def start(self, *volumes: Path, metadata: bool = True) -> None:
        """Start it with these data volumes attached."""
        forwards = "".join(
            f",hostfwd=tcp:127.0.0.1:{self.ports[name]}-:{inside}" for name, inside in self.listening.items()
        )
        service = f",guestfwd=tcp:169.254.169.254:80-cmd:{HERE / 'imds.py'} {self.metadata}" if metadata else ""
        # Not a thread for each processor: a kernel that patches its own code while another processor runs it panics
        # at times ("Oops: int3"): that processor still runs what was translated before.
        accelerator = "-accel tcg,thread=single -cpu max"
        if os.environ.get("BOOT_ACCELERATOR") == "kvm":
            accelerator = "-accel kvm -cpu host"
        arguments = f"qemu-system-x86_64 -machine q35 {accelerator} -smp 2 -m 1536 -nodefaults -no-user-config".split()
        arguments += ["-display", "none", "-no-reboot", "-kernel", str(self.kernel), "-append", self.command_line]
        arguments += ["-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"]
        arguments += ["-chardev", f"file,id=journal,path={self.journal},append=on", "-serial", "chardev:journal"]
        arguments += ["-qmp", f"unix:{self.sockets}/qmp,server=on,wait=off", "-device", "virtio-rng-pci"]
        for index, (path, kind) in enumerate([(self.root, "qcow2"), *((volume, "raw") for volume in volumes)]):
            arguments += ["-drive", f"file={path},format={kind},if=none,id=disk{index},cache=unsafe"]
            arguments += ["-device", f"nvme,drive=disk{index},serial=vol{index:08}"]
        for slot in range(self.SLOTS):
            arguments += ["-device", f"pcie-root-port,id=slot{slot},chassis={slot + 1}"]
        arguments += ["-netdev", f"user,id=ec2,net={self.NETWORK}{forwards}{service}"]
        arguments += ["-device", "virtio-net-pci,netdev=ec2"]
        self.seen = self.console.stat().st_size
        self.attached = 0
        self.started = time.monotonic()
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)

    def attach(self, volume: Path) -> None:
        """Attach a data volume to it while it runs."""
        slot, self.attached = self.attached, self.attached + 1
        file = {"driver": "file", "filename": str(volume), "cache": {"no-flush": True}}
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(60)
            monitor.connect(f"{self.sockets}/qmp")
            answers = monitor.makefile()
            answers.readline()
            for command, about in (
                ("qmp_capabilities", {}),
                ("blockdev-add", {"driver": "raw", "node-name": f"late{slot}", "file": file}),
                (
                    "device_add",
                    {"driver": "nvme", "drive": f"late{slot}", "serial": f"late{slot:07}", "bus": f"slot{slot}"},
                ),
            ):
                monitor.sendall(json.dumps({"execute": command, "arguments": about}).encode())
                # Events come between.
                answer = next(line for line in answers if not line.startswith('{"timestamp"'))
                if '"error"' in answer:
                    raise ScenarioError(f"attaching {volume}: {answer}")

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Take its power away, and what was made for it outside of its directory."""
        self.hang_up()
        shutil.rmtree(self.sockets, ignore_errors=True)
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ended(self, timeout: float = 900) -> None:
        """Wait until it has switched itself off, or asked for its next boot."""
        until("the machine ends", lambda: not self.alive(), timeout)
        self.process = None
        self.hang_up()

    def hang_up(self) -> None:
        """End the SSH connection that all commands share."""
        subprocess.run(
            ["ssh", "-F", "/dev/null", "-o", f"ControlPath={self.sockets}/ssh", "-O", "exit", "machine"],
            capture_output=True,
            check=False,
        )

    def since_start(self) -> str:
        """How long ago it was started, and what it has taken of this machine's processors."""
        taken = 0.0
        if self.process:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            taken = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        passed = time.monotonic() - self.started
        return f"{passed:.0f} s ({taken:.0f} s of processor time, load {os.getloadavg()[0]:.0f})"

    # -- What it says

    def said(self) -> str:
        """Return what it has said on its console since it was started."""
        with self.console.open("rb") as file:
            file.seek(self.seen)
            text = file.read().decode(errors="replace")
        return re.sub(r"\x1b(?:\[[0-9;?]*[A-Za-z]|.)|\r", "", text)

    def logged(self, lines: int) -> str:
        """Return the end of its journal, whatever boot it is of."""
        text = self.journal.read_text(errors="replace") if self.journal.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def goes_well(self) -> bool:
        """Whether it runs; raises if its console tells of a unit that failed or was dropped, or a missing program."""
        pattern = r".*(?:\[FAILED\]|\[DEPEND\]|ordering cycle|command not found).*"
        if wrong := re.search(pattern, self.said()):
            raise ScenarioError(f"the console says “{wrong[0].strip()}”")
        return self.alive()

    def says(self, sentence: str, timeout: float) -> str:
        """Wait for a line on its console in which this regular expression is found, and return the line."""
        pattern = re.compile(f".*{sentence}.*")

        def line() -> str | None:
            found = pattern.search(self.said())
            return found[0].strip() if found else None

        return str(until(f"the console says “{sentence}”", line, timeout, self.alive))

    # -- Inside, as its operator

    def ssh(
        self, command: str, timeout: float = 300, user: str = "root", text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, with `text` as its standard input."""
        # One connection for all commands: making one takes long in emulation, and sshd puts off who tries often.
        options = {
            "UserKnownHostsFile": str(self.known_hosts) if self.known_hosts.exists() else "/dev/null",
            "StrictHostKeyChecking": "yes" if self.known_hosts.exists() else "no",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
            "ConnectTimeout": "120",
            "ControlMaster": "auto",
            "ControlPath": f"{self.sockets}/ssh",
            "ControlPersist": "yes",
        }
        arguments = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(self.ports["ssh"])]
        for name, value in options.items():
            arguments += ["-o", f"{name}={value}"]
        try:
            return subprocess.run(
                [*arguments, f"{user}@127.0.0.1", command],
                capture_output=True,
                text=True,
                timeout=timeout,
                input=text,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(arguments, 255, "", "timed out")

    def reached(self, user: str = "root") -> None:
        """Wait until SSH lets its operator in."""
        until("SSH answers", lambda: self.ssh("true", user=user).returncode == 0, 900, self.alive)

    def run(self, command: str, timeout: float = 300) -> str:
        """Return what a command prints, which must succeed."""
        ran = self.ssh(command, timeout)
        if ran.returncode:
            raise ScenarioError(f"{command}: exit status {ran.returncode}: {ran.stdout}{ran.stderr}")
        return ran.stdout.strip()

    def lightning(self, *arguments: str) -> dict[str, Any]:
        """Return what its node answers to a command of lightning-cli."""
        answer: dict[str, Any] = json.loads(self.run(shlex.join(["lightning-cli", *arguments])))
        return answer
