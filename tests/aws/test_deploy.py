"""`deploy-aws`: first run, later runs, replacement, removal."""

import base64
import tomllib
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import Command
from lnplaylive_aws import instances as tool
from lnplaylive_aws.errors import StopError
from standin import REGION, StandIn

Client = Any

VERSION_1 = "lnplaylive-1"
VERSION_2 = "lnplaylive-2"
# The example in the documentation of the image.
EXAMPLE = Path(__file__).parents[2] / "nixos" / "images" / "user-data.example"


@pytest.fixture
def ami(aws: StandIn) -> str:
    """A published AMI."""
    return aws.add_ami(VERSION_1)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """An enrolment token, as a server prints it."""
    file = tmp_path / "eu-1.token"
    file.write_text("eyJjbGllbnRfbmFtZSI6Imxu\n")
    return file


@pytest.fixture
def shop(deploy: Command, ami: str, token: Path) -> dict[str, Any]:
    """A deployed shop."""
    return deploy("--ami", ami, *told(token)).json


def told(token: Path) -> list[str]:
    """The options from which user-data is built."""
    return ["--domain", "shop.example", "--remote", "eu-1", "https://203.0.113.7:8443", str(token)]


def instances(ec2: Client, *states: str) -> list[dict[str, Any]]:
    """The account's instances in these states."""
    wanted = [{"Name": "instance-state-name", "Values": list(states)}]
    found = ec2.describe_instances(Filters=wanted)["Reservations"]
    return [instance for reservation in found for instance in reservation["Instances"]]


def data_volume(ec2: Client) -> dict[str, Any]:
    """The only data volume."""
    (volume,) = ec2.describe_volumes(Filters=[{"Name": "tag:lnplaylive:role", "Values": ["data"]}])["Volumes"]
    assert isinstance(volume, dict)
    return volume


def user_data(ec2: Client, instance: str) -> str:
    """The user-data of the instance."""
    value = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
    return base64.b64decode(value).decode()


def test_a_shop_from_nothing(deploy: Command, ami: str, token: Path, aws: StandIn, ec2: Client) -> None:
    """Instance, volume, address and ports are as the image and the buyers need them."""
    outcome = deploy("--ami", ami, *told(token), "--email", "me@shop.example", "--environments", "container")

    made = outcome.json
    (instance,) = instances(ec2, "running")
    assert instance["InstanceId"] == made["instance"]
    assert instance["InstanceType"] == "t3.medium"
    assert instance["PublicIpAddress"] == made["address"]
    launched = aws.parameters("RunInstances")
    assert launched["MetadataOptions.HttpTokens"] == "required"
    assert launched["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert launched["BlockDeviceMapping.1.DeviceName"] == "/dev/xvda"
    assert launched["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    assert launched["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"

    volume = data_volume(ec2)
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (50, "gp3", True)
    assert [at["InstanceId"] for at in volume["Attachments"]] == [made["instance"]]

    assert launched["NetworkInterface.1.SecurityGroupId.1"] == made["security_group"]
    permissions = ec2.describe_security_groups(GroupIds=[made["security_group"]])["SecurityGroups"][0]["IpPermissions"]
    assert sorted(permission["FromPort"] for permission in permissions if permission["IpRanges"]) == [80, 443, 9735]
    assert sorted(permission["FromPort"] for permission in permissions if permission["Ipv6Ranges"]) == [80, 443, 9735]

    document = tomllib.loads(user_data(ec2, made["instance"]))
    assert document == {
        "host": {
            "DEPLOY_LNPLAYLIVE_FRONTEND": True,
            "domain": "shop.example",
            "network": "bitcoin",
            "announce": [f"{made['address']}:9735", "shop.example:9735"],
            "state_volume": True,
            "email": "me@shop.example",
        },
        "remotes": [
            {
                "name": "eu-1",
                "url": "https://203.0.113.7:8443",
                "token": "eyJjbGllbnRfbmFtZSI6Imxu",
                "instance_type": "container",
            }
        ],
    }
    assert f"point shop.example to {made['address']}" in outcome.stderr
    assert "eyJ" not in outcome.stdout + outcome.stderr


def test_a_second_run_changes_nothing(
    deploy: Command, shop: dict[str, Any], ami: str, token: Path, aws: StandIn
) -> None:
    """A run with the same options, or with none, changes nothing."""
    aws.calls.clear()

    again = deploy("--ami", ami, *told(token)).json
    bare = deploy().json

    assert again["did"] == bare["did"] == again["differs"] == []
    assert {again["instance"], bare["instance"]} == {shop["instance"]}
    assert bare["domain"] == "shop.example"
    assert aws.changes() == []


@pytest.mark.usefixtures("shop")
def test_what_only_a_replacement_changes_is_said(deploy: Command, aws: StandIn, token: Path) -> None:
    """A run without --replace reports differences but changes nothing, because replacing means downtime."""
    other = aws.add_ami(VERSION_2)
    aws.calls.clear()

    outcome = deploy("--ami", other, *told(token), "--contact", "help@shop.example", "--instance-type", "t3.large")

    assert len(outcome.json["differs"]) == 3
    assert "add --replace" in outcome.stderr
    assert aws.changes() == []


def test_replacing_keeps_volume_address_and_user_data(
    deploy: Command, shop: dict[str, Any], aws: StandIn, ec2: Client
) -> None:
    """An upgrade needs only the new AMI; the old instance is stopped before its volume is detached."""
    told_before = user_data(ec2, shop["instance"])
    other = aws.add_ami(VERSION_2)
    aws.calls.clear()

    made = deploy("--replace", "--ami", other).json

    assert made["instance"] != shop["instance"]
    assert (made["address"], made["volume"], made["ami"]) == (shop["address"], shop["volume"], other)
    assert [each["InstanceId"] for each in instances(ec2, "running", "stopped")] == [made["instance"]]
    assert [at["InstanceId"] for at in data_volume(ec2)["Attachments"]] == [made["instance"]]
    assert user_data(ec2, made["instance"]) == told_before
    moving = [
        call
        for call in aws.actions()
        if call in ("StopInstances", "DetachVolume", "RunInstances", "TerminateInstances")
    ]
    assert moving == ["StopInstances", "DetachVolume", "RunInstances", "TerminateInstances"]


def test_a_replacement_that_cannot_start_gives_the_old_one_back(
    deploy: Command, shop: dict[str, Any], aws: StandIn, ec2: Client
) -> None:
    """If a quota prevents the launch, the old instance is started again."""
    other = aws.add_ami(VERSION_2)
    aws.fail("RunInstances", "VcpuLimitExceeded", "You have requested more vCPU capacity than your limit")

    error = deploy("--replace", "--ami", other).error

    assert "the account's quota of vCPUs is used up" in error
    assert f"{shop['instance']} is in use again" in error
    assert [each["InstanceId"] for each in instances(ec2, "running")] == [shop["instance"]]
    assert [at["InstanceId"] for at in data_volume(ec2)["Attachments"]] == [shop["instance"]]
    aws.heal()
    assert deploy().json["did"] == []


def test_a_replacement_that_never_runs_is_removed(
    deploy: Command, shop: dict[str, Any], ami: str, ec2: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the new instance never runs, it is terminated and the old one is started again."""
    real = tool.wait

    def wait(client: Client, state: Any, ids: list[str], patience: Any) -> None:  # noqa: ANN401
        if state == "instance_running" and ids != [shop["instance"]]:
            raise StopError("cannot wait for it: it did not get there in time")
        real(client, state, ids, patience)

    monkeypatch.setattr(tool, "wait", wait)

    assert "in use again" in deploy("--replace", "--ami", ami).error
    assert [each["InstanceId"] for each in instances(ec2, "pending", "running", "stopped")] == [shop["instance"]]
    assert deploy().json["did"] == []


@pytest.mark.parametrize(
    "broken", ["StopInstances", "DetachVolume", "AttachVolume", "AssociateAddress", "TerminateInstances"]
)
def test_a_replacement_that_breaks_is_finished_by_the_next_run(
    deploy: Command, shop: dict[str, Any], aws: StandIn, ec2: Client, broken: str
) -> None:
    """The next run completes a replacement that failed at any step, even if the old instance could not be restarted."""
    other = aws.add_ami(VERSION_2)
    aws.fail(broken, "Unavailable", "The server is overloaded", status=400)
    aws.fail("StartInstances", "Unavailable", "The server is overloaded", status=400)
    assert "overloaded" in deploy("--replace", "--ami", other).error

    aws.heal()
    made = deploy("--ami", other).json

    assert (made["address"], made["volume"], made["ami"]) == (shop["address"], shop["volume"], other)
    assert [each["InstanceId"] for each in instances(ec2, "running", "stopped")] == [made["instance"]]
    assert [at["InstanceId"] for at in data_volume(ec2)["Attachments"]] == [made["instance"]]


@pytest.mark.parametrize(
    "broken", ["AuthorizeSecurityGroupIngress", "CreateVolume", "AllocateAddress", "RunInstances", "AttachVolume"]
)
def test_a_first_run_that_breaks_is_finished_by_the_next_one(
    deploy: Command, ami: str, token: Path, aws: StandIn, ec2: Client, broken: str
) -> None:
    """No resource is created twice."""
    aws.fail(broken, "Unavailable", "The server is overloaded", status=400)
    assert "run the command again to continue, or use --destroy" in deploy("--ami", ami, *told(token)).error

    aws.heal()
    made = deploy("--ami", ami, *told(token)).json

    assert len(instances(ec2, "running")) == len(ec2.describe_addresses()["Addresses"]) == 1
    assert [at["InstanceId"] for at in data_volume(ec2)["Attachments"]] == [made["instance"]]
    assert deploy().json["did"] == []


def test_a_dry_run_changes_nothing(deploy: Command, ami: str, token: Path, aws: StandIn) -> None:
    """A dry run prints the steps, and finds the errors that would stop a run."""
    outcome = deploy("--dry-run", "--ami", ami, *told(token))

    assert "start an instance" in outcome.json["would"]
    assert "would create the data volume" in outcome.stderr
    assert "there is no AMI ami-0123" in deploy("--dry-run", "--ami", "ami-0123", *told(token)).error
    assert aws.changes() == []


def test_destroy_keeps_the_node(deploy: Command, shop: dict[str, Any], ami: str, token: Path, ec2: Client) -> None:
    """--destroy keeps the data volume, and the next deployment uses it."""
    done = deploy("--destroy", "--yes").json

    assert done["kept"] == [shop["volume"]]
    assert instances(ec2, "running", "stopped") == []
    assert ec2.describe_addresses()["Addresses"] == []
    groups = ec2.describe_security_groups()["SecurityGroups"]
    assert [group["GroupName"] for group in groups] == ["default"]

    assert deploy("--ami", ami, *told(token)).json["volume"] == shop["volume"]


def test_destroy_with_the_data(deploy: Command, shop: dict[str, Any], ec2: Client) -> None:
    """--delete-data deletes everything, with a warning; a second run finds nothing to do."""
    outcome = deploy("--destroy", "--yes", "--delete-data")

    assert outcome.json["kept"] == []
    assert "without a backup they are lost" in outcome.stderr
    assert ec2.describe_volumes(VolumeIds=[])["Volumes"] == []
    assert deploy("--destroy", "--yes", "--delete-data").json["did"] == []


def test_destroy_asks(deploy: Command, shop: dict[str, Any], ec2: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, or with another name, nothing is deleted."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert "add --yes" in deploy("--destroy").error

    for typed, status in (("shops\n", 1), ("shop\n", 0)):
        assert len(instances(ec2, "running")) == 1
        monkeypatch.setattr("sys.stdin", Terminal(typed))
        assert deploy("--destroy").status == status
    assert instances(ec2, "running") == []


class Terminal:
    """A user who types one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        """There is a terminal."""
        return True

    def readline(self) -> str:
        """The line that is typed."""
        return self._line


def test_destroy_dry_run(deploy: Command, shop: dict[str, Any], aws: StandIn) -> None:
    """A dry run of --destroy changes nothing."""
    aws.calls.clear()
    assert f"terminate the instance {shop['instance']}" in deploy("--destroy", "--dry-run").json["would"]
    assert aws.changes() == []


def test_deployments_do_not_meet(deploy: Command, shop: dict[str, Any], ami: str, token: Path, ec2: Client) -> None:
    """Deployments with different names are independent."""
    second = deploy("--name", "test", "--ami", ami, *told(token), "--network", "regtest", "--no-elastic-ip").json

    assert second["instance"] != shop["instance"]
    assert second["volume"] != shop["volume"]
    assert second["address"] not in (None, shop["address"])
    deploy("--name", "test", "--destroy", "--yes", "--delete-data").json  # noqa: B018
    assert deploy().json["did"] == []


def test_ssh_is_closed_unless_asked_for(deploy: Command, shop: dict[str, Any], ec2: Client) -> None:
    """Port 22 is closed, and opened only for --ssh-from."""
    assert "must be used together" in deploy("--key-name", "me").error
    assert "must be used together" in deploy("--ssh-from", "203.0.113.7/32").error

    assert deploy("--key-name", "me", "--ssh-from", "203.0.113.7/32").json["did"] == ["open its ports"]

    found = ec2.describe_security_groups(GroupIds=[shop["security_group"]])["SecurityGroups"][0]["IpPermissions"]
    (ssh,) = [permission for permission in found if permission["FromPort"] == 22]
    assert ssh["IpRanges"] == [{"CidrIp": "203.0.113.7/32"}]


def test_the_volume_decides_on_the_zone(deploy: Command, ami: str, token: Path, ec2: Client) -> None:
    """A volume cannot leave its zone, so every instance is launched there."""
    ec2.create_volume(
        AvailabilityZone=f"{REGION}b",
        Size=40,
        TagSpecifications=[
            {
                "ResourceType": "volume",
                "Tags": [
                    {"Key": "lnplaylive:deployment", "Value": "shop"},
                    {"Key": "lnplaylive:role", "Value": "data"},
                ],
            }
        ],
    )
    elsewhere = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [f"{REGION}a"]}])["Subnets"][0]

    assert "use a --subnet there" in deploy("--ami", ami, *told(token), "--subnet", elsewhere["SubnetId"]).error
    assert deploy("--ami", ami, *told(token)).json["zone"] == f"{REGION}b"


def test_a_volume_that_was_moved_takes_the_instance_along(
    deploy: Command, shop: dict[str, Any], ami: str, ec2: Client
) -> None:
    """A volume moved to another zone by a snapshot, as in the documentation."""
    ec2.stop_instances(InstanceIds=[shop["instance"]])
    snapshot = ec2.create_snapshot(VolumeId=shop["volume"])["SnapshotId"]
    marks = [{"Key": "lnplaylive:deployment", "Value": "shop"}, {"Key": "lnplaylive:role", "Value": "data"}]
    moved = ec2.create_volume(
        AvailabilityZone=f"{REGION}b",
        SnapshotId=snapshot,
        TagSpecifications=[{"ResourceType": "volume", "Tags": marks}],
    )["VolumeId"]
    ec2.delete_tags(Resources=[shop["volume"]], Tags=[{"Key": "lnplaylive:deployment"}])

    made = deploy("--replace", "--ami", ami).json

    assert (made["volume"], made["zone"], made["address"]) == (moved, f"{REGION}b", shop["address"])
    (instance,) = instances(ec2, "running", "stopped")
    assert instance["Placement"]["AvailabilityZone"] == f"{REGION}b"


def profile(name: str, *, role: bool = True) -> None:
    """Creates an instance profile, with a role of the same name."""
    iam = boto3.client("iam", region_name=REGION)
    iam.create_instance_profile(InstanceProfileName=name, Path="/ours/")
    if role:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def profile_of(ec2: Client) -> str | None:
    """The instance profile of the running instance."""
    (instance,) = instances(ec2, "running")
    arn = instance.get("IamInstanceProfile", {}).get("Arn", "")
    return arn.rpartition("/")[2] or None


def test_a_role_for_backups(deploy: Command, shop: dict[str, Any], ami: str, aws: StandIn, ec2: Client) -> None:
    """The instance gets the profile at a replacement, and keeps it at the next one."""
    profile("lnplaylive-backup")
    assert profile_of(ec2) is None
    assert deploy("--instance-profile", "lnplaylive-backup").json["differs"] == ["instance profile None"]
    assert profile_of(ec2) is None
    for options in (["--instance-profile", "lnplaylive-backup"], []):
        deploy("--replace", "--ami", ami, *options).json  # noqa: B018
        assert profile_of(ec2) == "lnplaylive-backup"
    assert deploy("--instance-profile", "lnplaylive-backup").json["differs"] == []


def test_a_role_that_cannot_be_used(deploy: Command, shop: dict[str, Any], ami: str, aws: StandIn, ec2: Client) -> None:
    """It is known before the running instance is touched."""
    profile("empty", role=False)
    aws.calls.clear()
    replace = ["--replace", "--ami", ami, "--instance-profile"]
    assert "there is no instance profile nobodys in this account" in deploy(*replace, "nobodys").error
    assert "the instance profile empty has no role" in deploy(*replace, "empty").error
    with pytest.raises(SystemExit):
        deploy(*replace, "arn:aws:iam::123456789012:instance-profile/empty")
    assert aws.changes() == []

    # Without the permission to look, AWS decides.
    profile("fine")
    aws.fail("GetInstanceProfile", "AccessDenied")
    outcome = deploy(*replace, "fine")
    assert "iam:GetInstanceProfile" in outcome.stderr
    assert outcome.json["differs"] == []
    assert profile_of(ec2) == "fine"


def test_backups_need_a_role_or_a_key(deploy: Command, ami: str, aws: StandIn, ec2: Client, tmp_path: Path) -> None:
    """Otherwise every upload would fail, on a shop that is running."""
    file = tmp_path / "user-data"
    table = 'domain = "shop.example"\n[host.backup]\nbucket = "b-of-ours"\nregion = "eu-central-1"\n'
    file.write_text(f"[host]\n{table}")
    assert "add --instance-profile" in deploy("--ami", ami, "--user-data", file).error
    assert aws.changes() == []
    file.write_text(f'[host]\n{table}access_key_id = "A"\n')
    assert deploy("--ami", ami, "--user-data", file).json["differs"] == []
    file.write_text(f"[host]\n{table}")
    profile("backup")
    deploy("--replace", "--ami", ami, "--user-data", file, "--instance-profile", "backup").json  # noqa: B018
    assert profile_of(ec2) == "backup"


def test_two_nodes_are_not_guessed_between(deploy: Command, shop: dict[str, Any], ec2: Client) -> None:
    """Two volumes, or a volume in use elsewhere, are errors."""
    marks = [{"Key": "lnplaylive:deployment", "Value": "shop"}, {"Key": "lnplaylive:role", "Value": "data"}]
    second = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    ec2.create_tags(Resources=[second], Tags=marks)
    assert "more than one data volume" in deploy().error
    ec2.delete_volume(VolumeId=second)

    ec2.delete_tags(Resources=[shop["instance"]], Tags=[{"Key": "lnplaylive:deployment"}])
    assert f"attached to {shop['instance']}, which is no instance of the deployment" in deploy().error


def test_an_ami_for_another_processor(deploy: Command, aws: StandIn, token: Path) -> None:
    """An arm64 AMI gets a default type that runs it; other types are refused."""
    arm = aws.add_ami("lnplaylive-arm", "arm64")

    error = deploy("--ami", arm, *told(token), "--instance-type", "t3.medium").error
    assert "is for arm64, and t3.medium runs" in error
    assert "there is no instance type t9.huge" in deploy("--ami", arm, *told(token), "--instance-type", "t9.huge").error
    assert aws.changes() == []
    assert deploy("--ami", arm, *told(token)).json["instance_type"] == "t4g.medium"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the image's example is not there")
def test_the_documented_user_data_is_taken(deploy: Command, ami: str, ec2: Client) -> None:
    """The example is accepted unchanged."""
    made = deploy("--ami", ami, "--user-data", EXAMPLE).json

    assert made["domain"] == "shop.example"
    assert user_data(ec2, made["instance"]) == EXAMPLE.read_text()


def test_wrong_user_data(deploy: Command, ami: str, aws: StandIn, token: Path, tmp_path: Path) -> None:
    """Wrong user-data stops the run before anything is created, and the error shows no token."""
    file = tmp_path / "user-data"

    def error_of(text: str) -> str:
        file.write_text(text)
        return deploy("--ami", ami, "--user-data", file).error

    assert "is not TOML" in error_of("#!/bin/sh\nrm -rf /")
    assert "has no table [host]" in error_of("host = 3")
    assert "without a domain" in error_of("[host]\nDEPLOY_LNPLAYLIVE_FRONTEND = true")
    assert "remove that line" in error_of('[host]\ndomain = "shop.example"\nstate_volume = false')
    assert "and EC2 accepts 16384" in error_of("[host]\n#" + "é" * 8192)
    assert "cannot read the user-data" in deploy("--ami", ami, "--user-data", tmp_path / "nowhere").error
    file.write_text("[host]")
    assert "leave those out" in deploy("--ami", ami, "--user-data", file, "--domain", "shop.example").error

    assert "is not a host name" in deploy("--ami", ami, "--domain", "https://shop.example").error
    assert "need --domain" in deploy("--ami", ami, "--network", "signet").error
    assert "needs --domain, or --user-data" in deploy("--ami", ami).error
    assert "a new instance needs --ami" in deploy(*told(token)).error
    remote = ["--domain", "shop.example", "--remote", "eu-1"]
    assert "begin with https://" in deploy("--ami", ami, *remote, "http://203.0.113.7", token).error
    assert "is not an address" in deploy("--ami", ami, "--domain", "shop.example", "--email", "me").error
    assert "one line of 1 to 200 bytes" in deploy("--ami", ami, "--domain", "shop.example", "--contact", "a\nb").error
    assert "a name is up to 63" in deploy("--ami", ami, *told(token), *told(token)).error
    token.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n")
    error = deploy("--ami", ami, *remote, "https://203.0.113.7:8443", token).error
    assert "does not contain an enrolment token" in error
    assert "MIIB" not in error
    assert aws.changes() == []


def test_nothing_to_sell_is_said(deploy: Command, ami: str) -> None:
    """A shop can open without remotes."""
    outcome = deploy("--ami", ami, "--domain", "shop.example", "--network", "signet")
    assert outcome.status == 0
    assert "nothing to sell" in outcome.stderr
