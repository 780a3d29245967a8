"""Fixtures: an account on the stand-in for each test, and the two commands."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Read by moto on import: do not load its thousand public AMIs.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

import boto3
import botocore.loaders
import pytest
import standin
from lnplaylive_aws import deploy_command, publish_command
from standin import REGION, StandIn

BUCKET = "images-of-ours"
# Shared by all sessions: loading the service model of EC2 for each command would take half of the time.
LOADER = botocore.loaders.create_loader()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON on stdout. Asserts that the command succeeded."""
        assert self.status == 0, self.stderr
        printed: dict[str, Any] = json.loads(self.stdout)
        return printed

    @property
    def error(self) -> str:
        """The last line of a failure: one sentence, no traceback."""
        assert self.status == 1, (self.status, self.stderr)
        assert self.stdout == ""
        assert "Traceback" not in self.stderr
        return self.stderr.strip().splitlines()[-1]


class Command(Protocol):
    """Runs a command."""

    def __call__(self, *arguments: str | Path) -> Outcome:
        """Runs it with these arguments."""


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    """The stand-in, shared by all tests because starting it takes a second."""
    with standin.serving() as started:
        yield started


@pytest.fixture
def aws(server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """An empty account, and an environment in which the commands can reach only the stand-in."""
    server.reset()
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return server


@pytest.fixture
def ec2(aws: StandIn) -> Any:  # noqa: ANN401
    """An EC2 client for the account."""
    return boto3.client("ec2", region_name=REGION)


@pytest.fixture
def s3(aws: StandIn) -> Any:  # noqa: ANN401
    """An S3 client, with the bucket created."""
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return client


@pytest.fixture
def deploy(aws: StandIn, capsys: pytest.CaptureFixture[str]) -> Command:
    """`deploy-aws`, in this process."""

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        always = ["--region", REGION, "--poll-secs", "0.01", "--timeout-mins", "0.1"]
        status = deploy_command.main([*always, *(str(argument) for argument in arguments)])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def publish(aws: StandIn, capsys: pytest.CaptureFixture[str]) -> Command:
    """`publish-aws-image`, in this process."""

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        always = ["--region", REGION, "--bucket", BUCKET, "--poll-secs", "0.01"]
        status = publish_command.main([*always, *(str(argument) for argument in arguments)])
        return Outcome(status, *capsys.readouterr())

    return run
