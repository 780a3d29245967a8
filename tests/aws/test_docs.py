"""Checks docs/deploy-aws.md against the tools."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import BUCKET, Command
from lnplaylive_aws import errors
from standin import StandIn

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
        "ec2 wait instance-stopped": "ec2:DescribeInstances",
        "ec2 wait snapshot-completed": "ec2:DescribeSnapshots",
    }
    commands = re.findall(r"\baws ((?:s3|ec2) (?:wait )?[a-z-]+)", GUIDE.read_text())
    assert commands
    named = {command: command.removeprefix("ec2 ").title().replace("-", "") for command in commands}
    return {special.get(command) or f"ec2:{name}" for command, name in named.items()}


def test_the_documented_policy_is_enough(
    publish: Command, deploy: Command, aws: StandIn, s3: Client, tmp_path: Path
) -> None:
    """The policy allows exactly the actions of a whole deployment, from the image to its removal."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"disk")
    aws.calls.clear()
    aws.fail("RegisterImage", "Unavailable", "busy")
    assert "busy" in publish(disk, "--architecture", "x86_64", "--create-role").error
    aws.heal()
    ami = publish(disk, "--architecture", "x86_64").json["ami"]
    deploy("--ami", ami, "--domain", "shop.example").json  # noqa: B018
    deploy("--replace", "--ami", ami).json  # noqa: B018
    aws.fail("RunInstances", "Unavailable", "busy")
    assert "in use again" in deploy("--replace", "--ami", ami).error
    deploy("--destroy", "--delete-data", "--yes").json  # noqa: B018

    iam = {"GetRole", "CreateRole", "PutRolePolicy"}
    called = {f"{'iam' if action in iam else 'ec2'}:{action}" for action in aws.actions() if " " not in action}
    # S3's permissions have other names than its requests.
    assert any(action.startswith(f"PUT /{BUCKET}/") for action in aws.actions())
    called |= {right for right in errors.ACTIONS.values() if re.fullmatch(r"s3:[A-Za-z]+", right)} | {"s3:GetObject"}
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
