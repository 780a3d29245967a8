"""A stand-in for AWS on loopback: moto's server, with a layer in front that adds what moto lacks.

Moto has no snapshot imports, and forgets most of the parameters with which an AMI is registered. This layer adds both.
It also records every call, and can make any call fail as AWS does. Unlike in AWS, nothing takes time, quotas and
permissions exist only if a test sets them, and nothing boots.
"""

import io
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION: Final = "eu-central-1"
NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"

Start = Callable[..., Any]
Environ = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A request: an action of EC2 or IAM with its parameters, or the method and path for S3."""

    action: str
    parameters: dict[str, str]


@dataclass
class Fault:
    """An error to answer instead of performing a call."""

    code: str
    message: str
    status: int
    times: int


@dataclass
class Import:
    """An import of a snapshot that runs through scripted states."""

    tags: dict[str, str]
    description: str
    states: Iterator[dict[str, str]]
    shown: dict[str, str] = field(default_factory=lambda: {"status": "active", "progress": "0"})


class Quiet(WSGIRequestHandler):
    """A request handler without logging."""

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Does nothing."""


class StandIn:
    """A server that tests use one after the other."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.calls: list[Call] = []
        self.imports: dict[str, Import] = {}
        self._faults: dict[str, Fault] = {}
        self._numbers = itertools.count(1)
        self.script: list[dict[str, str]] = []

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Resets to an empty account and imports that succeed."""
        for service in ("ec2", "s3", "iam"):
            self._reset_backends(service)
        self.calls.clear()
        self.imports.clear()
        self._faults.clear()
        self.script = [
            {"status": "active", "progress": "19", "statusMessage": "converting"},
            {"status": "completed"},
        ]

    @staticmethod
    def _reset_backends(service: Any) -> None:  # noqa: ANN401
        from moto.backends import get_backend

        for account in get_backend(service).values():
            for backend in account.values():
                backend.reset()

    def fail(self, action: str, code: str, message: str = "no", *, status: int = 400, times: int = 1000) -> None:
        """Makes an action fail: `RunInstances`, or for S3 the method and a part of the path, `HEAD /bucket`."""
        self._faults[action] = Fault(code, message, status, times)

    def heal(self) -> None:
        """Removes all failures."""
        self._faults.clear()

    def actions(self) -> list[str]:
        """The actions so far, in order."""
        return [call.action for call in self.calls]

    def changes(self) -> list[str]:
        """The actions so far that change state."""
        reading = ("Describe", "Get", "List", "HEAD ", "GET ")
        return [action for action in self.actions() if not action.startswith(reading)]

    def parameters(self, action: str) -> dict[str, str]:
        """The parameters of the last call of an action."""
        return next(call.parameters for call in reversed(self.calls) if call.action == action)

    @property
    def ec2(self) -> Any:  # noqa: ANN401
        """Moto's own state of EC2."""
        return ec2_backends[DEFAULT_ACCOUNT_ID][REGION]

    def add_ami(self, name: str, architecture: str = "x86_64") -> str:
        """Registers an AMI."""
        ami = self.ec2.register_image(name)
        ami.architecture, ami.root_device_name, ami.root_device_type = architecture, "/dev/xvda", "ebs"
        return str(ami.id)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answers one request."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        form = method == "POST" and "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", "")
        if form:
            body = environ["wsgi.input"].read(length)
            environ["wsgi.input"] = io.BytesIO(body)
            parameters = {key: values[0] for key, values in parse_qs(body.decode(), keep_blank_values=True).items()}
            action = parameters.pop("Action")
        else:
            parameters, action = {}, f"{method} {path}"
        self.calls.append(Call(action, parameters))
        fault = self._fault(action)
        if fault is not None:
            return self._answer_fault(fault, start, is_s3=not form, head=method == "HEAD")
        match action:
            case "ImportSnapshot":
                return self._import(parameters, start)
            case "DescribeImportSnapshotTasks":
                return self._tasks(parameters, start)
            case "RegisterImage":
                return self._register(parameters, environ, start)
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer

    def _fault(self, action: str) -> Fault | None:
        for named, fault in self._faults.items():
            if fault.times > 0 and (action == named or (" " in named and action.startswith(named))):
                fault.times -= 1
                return fault
        return None

    def _answer_fault(self, fault: Fault, start: Start, *, is_s3: bool, head: bool) -> list[bytes]:
        inside = f"<Code>{fault.code}</Code><Message>{escape(fault.message)}</Message>"
        if is_s3:
            text = "" if head else f"<Error>{inside}</Error>"
        else:
            # The formats of EC2 and of IAM in one.
            text = f"<Response><Errors><Error>{inside}</Error></Errors><Error>{inside}</Error></Response>"
        return _send(start, text, fault.status)

    def _import(self, parameters: dict[str, str], start: Start) -> list[bytes]:
        task = f"import-snap-{next(self._numbers):017x}"
        tags = {
            value: parameters[key.replace(".Key", ".Value")]
            for key, value in parameters.items()
            if re.fullmatch(r"TagSpecification\.1\.Tag\.[0-9]+\.Key", key)
        }
        description = parameters["Description"]
        self.imports[task] = Import(tags=tags, description=description, states=iter(self.script))
        inside = f"<importTaskId>{task}</importTaskId><description>{description}</description>"
        return _send(start, f'<ImportSnapshotResponse xmlns="{NAMESPACE}">{inside}</ImportSnapshotResponse>')

    def _tasks(self, parameters: dict[str, str], start: Start) -> list[bytes]:
        items = []
        asked = parameters.get("ImportTaskId.1")
        for task, running in self.imports.items():
            if asked not in (None, task):
                continue
            if asked is not None:
                running.shown = dict(next(self.imports[task].states, running.shown))
                if running.shown["status"] == "completed" and "snapshotId" not in running.shown:
                    running.shown["snapshotId"] = self._snapshot(running.description)
            detail = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in running.shown.items())
            tags = "".join(f"<item><key>{k}</key><value>{v}</value></item>" for k, v in running.tags.items())
            items.append(
                f"<item><importTaskId>{task}</importTaskId><snapshotTaskDetail>{detail}</snapshotTaskDetail>"
                f"<tagSet>{tags}</tagSet></item>"
            )
        inside = f"<importSnapshotTaskSet>{''.join(items)}</importSnapshotTaskSet>"
        return _send(
            start,
            f'<DescribeImportSnapshotTasksResponse xmlns="{NAMESPACE}">{inside}</DescribeImportSnapshotTasksResponse>',
        )

    def _snapshot(self, description: str) -> str:
        volume = self.ec2.create_volume(size=4, zone_name=f"{REGION}a")
        snapshot = self.ec2.create_snapshot(volume.id, description)
        self.ec2.delete_volume(volume.id)
        return str(snapshot.id)

    def _register(self, parameters: dict[str, str], environ: Environ, start: Start) -> Iterable[bytes]:
        answer = b"".join(self._moto(environ, start))
        found = re.search(rb"<imageId>(ami-[0-9a-f]+)</imageId>", answer)
        if found:
            ami = self.ec2.amis[found.group(1).decode()]
            ami.architecture = parameters["Architecture"]
            ami.root_device_name = parameters["RootDeviceName"]
        return [answer]


def _send(start: Start, text: str, status: int = 200) -> list[bytes]:
    body = text.encode()
    start(
        f"{status} {'OK' if status == 200 else 'No'}",
        [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))],
    )
    return [body]


@contextmanager
def serving() -> Iterator[StandIn]:
    """A server, for as long as the block lasts."""
    standin = StandIn()
    try:
        yield standin
    finally:
        standin.close()
