"""Checks docs/deploy-aws.md against the tools."""

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import BUCKET, Command
from lnplaylive_aws import errors
from standin import REGION, StandIn

Client = Any

GUIDE = Path(__file__).parents[2] / "docs" / "deploy-aws.md"


def policy() -> set[str]:
    """The actions that the documented policy allows."""
    (text,) = re.findall(r"```json\n(\{\n  \"Version\".*?)```", GUIDE.read_text(), re.DOTALL)
    return {action for statement in json.loads(text)["Statement"] for action in statement["Action"]}


def by_hand() -> set[str]:
    """The actions that the guide's own `aws` commands need."""
    special = {
        "s3 mb": "s3:CreateBucket",
        "s3 rb": "s3:DeleteBucket",
        "s3api list-object-versions": "s3:ListBucketVersions",
        "s3api put-bucket-lifecycle-configuration": "s3:PutLifecycleConfiguration",
        "ec2 wait instance-stopped": "ec2:DescribeInstances",
        "ec2 wait snapshot-completed": "ec2:DescribeSnapshots",
    }
    commands = re.findall(r"\baws ((?:s3|s3api|ec2|iam) (?:wait )?[a-z-]+)", GUIDE.read_text())
    assert commands

    def named(command: str) -> str:
        service, name = command.split(maxsplit=1)
        return f"{service.removesuffix('api')}:{name.title().replace('-', '')}"

    rights = {special.get(command) or named(command) for command in commands}
    # An older version of an object, which has a permission of its own.
    return rights | ({"s3:GetObjectVersion"} if "--version-id" in GUIDE.read_text() else set())


def test_the_documented_policy_is_enough(
    publish: Command, deploy: Command, aws: StandIn, s3: Client, tmp_path: Path
) -> None:
    """The policy allows exactly the actions of a whole deployment, from the image to its removal."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"disk")
    iam = boto3.client("iam", region_name=REGION)
    iam.create_instance_profile(InstanceProfileName="backup")
    iam.create_role(RoleName="backup", AssumeRolePolicyDocument="{}")
    iam.add_role_to_instance_profile(InstanceProfileName="backup", RoleName="backup")
    aws.calls.clear()
    aws.fail("RegisterImage", "Unavailable", "busy")
    assert "busy" in publish(disk, "--architecture", "x86_64", "--create-role").error
    aws.heal()
    ami = publish(disk, "--architecture", "x86_64").json["ami"]
    deploy("--ami", ami, "--domain", "shop.example").json  # noqa: B018
    deploy("--replace", "--ami", ami, "--instance-profile", "backup").json  # noqa: B018
    aws.fail("RunInstances", "Unavailable", "busy")
    assert "in use again" in deploy("--replace", "--ami", ami).error
    deploy("--destroy", "--delete-data", "--yes").json  # noqa: B018

    of_iam = {"GetRole", "CreateRole", "PutRolePolicy", "GetInstanceProfile"}
    called = {f"{'iam' if action in of_iam else 'ec2'}:{action}" for action in aws.actions() if " " not in action}
    # S3's permissions have other names than its requests.
    assert any(action.startswith(f"PUT /{BUCKET}/") for action in aws.actions())
    called |= {right for right in errors.ACTIONS.values() if re.fullmatch(r"s3:[A-Za-z]+", right)} | {"s3:GetObject"}
    # Launching with a role.
    called.add("iam:PassRole")
    assert policy() == called | by_hand()


@pytest.mark.parametrize("command", ["publish", "deploy"])
def test_documented_options_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands know every option in the guide's command lines."""
    from lnplaylive_aws import deploy_command, publish_command

    main, app = {
        "publish": (publish_command.main, "publish-aws-image"),
        "deploy": (deploy_command.main, "deploy-aws"),
    }[command]
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    lines = GUIDE.read_text().replace("\\\n", " ").splitlines()
    used = {option for line in lines if f".#{app}" in line for option in re.findall(r"--[a-z-]{2,}", line)}
    assert used
    assert used <= known
