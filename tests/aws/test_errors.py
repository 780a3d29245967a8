"""Errors of AWS, as the user reads them: one sentence, with what to do next."""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from conftest import BUCKET, Command
from lnplaylive_aws import importing
from lnplaylive_aws.errors import StopError, doing, missing_permission
from lnplaylive_aws.progress import Patience
from standin import REGION, StandIn

SHOP = ["--domain", "shop.example", "--network", "regtest"]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Some image."""
    file = tmp_path / "disk.raw"
    file.write_bytes(b"disk")
    return file


def test_without_credentials(deploy: Command, publish: Command, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both commands say how to configure credentials."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for error in (deploy().error, publish(disk, "--architecture", "x86_64").error):
        assert "no AWS credentials were found; run `aws configure`" in error


def test_with_half_of_the_credentials(deploy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the missing half."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "aws_secret_access_key" in deploy().error.lower()


@pytest.mark.parametrize("code", ["AuthFailure", "ExpiredToken", "InvalidClientTokenId", "RequestExpired"])
def test_with_credentials_that_aws_refuses(deploy: Command, aws: StandIn, code: str) -> None:
    """Credentials that are wrong, expired, or of an account without that region."""
    aws.fail("DescribeInstances", code, status=401)
    assert "aws sts get-caller-identity" in deploy().error


def test_with_a_profile_that_is_not_there(deploy: Command) -> None:
    """The error names the profile."""
    assert "no AWS profile 'nobody'" in deploy("--profile", "nobody").error


def test_an_unknown_region(deploy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt region gets a suggestion; no region at all is an error."""
    assert "did you mean eu-central-1?" in deploy("--region", "eu-centrl-1").error
    assert "no region is set" in deploy("--region", "").error


def test_aws_out_of_reach(deploy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint does not answer."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    assert "check --region and the network" in deploy().error


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        (
            "RunInstances",
            "VcpuLimitExceeded",
            "quota of vCPUs is used up in this region; choose a smaller --instance-type",
        ),
        ("RunInstances", "InsufficientInstanceCapacity", "no free machine of this type"),
        (
            "AllocateAddress",
            "AddressLimitExceeded",
            "quota of Elastic IP addresses is used up in this region; release one",
        ),
        ("CreateVolume", "VolumeLimitExceeded", "choose a smaller --data-gb"),
        ("CreateSecurityGroup", "SecurityGroupLimitExceeded", "quota of security groups"),
        ("RunInstances", "PendingVerification", "still verifying this account"),
        ("RunInstances", "InvalidKeyPair.NotFound", "no (InvalidKeyPair.NotFound)"),
    ],
)
def test_quotas(deploy: Command, aws: StandIn, action: str, code: str, said: str) -> None:
    """The error names the quota and a remedy."""
    aws.fail(action, code)
    error = deploy("--ami", aws.add_ami("lnplaylive"), *SHOP).error
    assert said in error
    assert error.startswith("error: cannot ")


@pytest.mark.parametrize(
    "action",
    ["DescribeInstances", "DescribeImages", "CreateSecurityGroup", "CreateVolume", "RunInstances", "AttachVolume"],
)
def test_missing_permissions(deploy: Command, aws: StandIn, action: str) -> None:
    """The error names the missing action, even if AWS's message does not."""
    ami = aws.add_ami("lnplaylive")
    aws.fail(action, "UnauthorizedOperation", "You are not authorized to perform this operation.", status=403)
    assert f"is not allowed to ec2:{action}; add that to its IAM policy" in deploy("--ami", ami, *SHOP).error


def test_a_missing_permission_for_a_part_of_an_upload(publish: Command, disk: Path, aws: StandIn) -> None:
    """boto3 wraps the answer; the error still names the action."""
    boto3.client("iam", region_name=REGION).create_role(RoleName="vmimport", AssumeRolePolicyDocument="{}")
    boto3.client("s3", region_name=REGION).create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    aws.fail(f"PUT /{BUCKET}/", "AccessDenied", "Access Denied", status=403)
    assert "is not allowed to s3:PutObject" in publish(disk, "--architecture", "x86_64").error


def test_the_action_in_the_message_wins() -> None:
    """A call may need another permission, such as passing a role."""
    refused = ClientError(
        {
            "Error": {
                "Code": "UnauthorizedOperation",
                "Message": "User: arn:aws:iam::1:user/me is not authorized to perform: iam:PassRole on resource: r",
            }
        },
        "RunInstances",
    )
    assert missing_permission(refused) == "iam:PassRole"
    with pytest.raises(StopError, match=r"cannot start it: .* not allowed to iam:PassRole"), doing("start it"):
        raise refused


def test_an_import_followed_by_stubs() -> None:
    """The states in AWS's documentation, stubbed in botocore because moto has no snapshot imports."""
    ec2 = boto3.client("ec2", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")
    details = [
        {"Status": "active", "Progress": "3", "StatusMessage": "pending"},
        {"Status": "active", "Progress": "3", "StatusMessage": "pending"},
        {"Status": "active", "Progress": "47", "StatusMessage": "downloading/converting"},
        {"Status": "completed", "SnapshotId": "snap-1", "StatusMessage": "done"},
    ]
    said: list[str] = []
    with Stubber(ec2) as stub:
        for detail in details:
            stub.add_response(
                "describe_import_snapshot_tasks",
                {"ImportSnapshotTasks": [{"ImportTaskId": "import-snap-1", "SnapshotTaskDetail": detail}]},
                {"ImportTaskIds": ["import-snap-1"]},
            )
        clock = Clock()
        patience = Patience(deadline=60, interval=10, now=clock.now, sleep=clock.sleep)
        assert importing.wait(ec2, "import-snap-1", patience, said.append) == "snap-1"
        stub.assert_no_pending_responses()
    assert clock.time == 30
    assert said == ["import import-snap-1: 3 % pending", "import import-snap-1: 47 % downloading/converting"]


class Clock:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Advances the clock."""
        self.time += seconds


@pytest.mark.parametrize("module", ["publish_command", "deploy_command"])
def test_as_a_process(aws: StandIn, module: str, disk: Path) -> None:
    """Exit status 1 and one line on stderr; 2 for an invalid command line."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", f"lnplaylive_aws.{module}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))

    rest = [str(disk), "--bucket", "b", "--architecture", "x86_64"] if module == "publish_command" else []
    stopped = run("--region", "nowhere-1", *rest)
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert len(stopped.stderr.splitlines()) == 1
    assert run("--poll-secs", "-1", *rest).returncode == 2
