"""`publish-aws-image`, from the image on disk to the AMI."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from conftest import BUCKET, Command
from standin import REGION, StandIn

Client = Any
MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A copy of the directory that `nix build .#aws-image` creates."""
    directory = tmp_path / "result"
    (directory / "nix-support").mkdir(parents=True)
    disk = directory / "lnplaylive-26.05-x86_64-linux.vhd"
    disk.write_bytes(bytes(range(256)) * 4096)
    describe(directory)
    return directory


@pytest.fixture
def role(aws: StandIn) -> None:
    """An existing role for imports."""
    boto3.client("iam", region_name=REGION).create_role(RoleName="vmimport", AssumeRolePolicyDocument="{}")


def describe(directory: Path, **changes: object) -> None:
    """Writes the build's description of its image."""
    info = {
        "label": "26.05.20260810",
        "boot_mode": "legacy-bios",
        "system": "x86_64-linux",
        "logical_bytes": str(5 * 1024 * MIB + 1),
        "file": "/nix/store/0000-lnplaylive/lnplaylive-26.05-x86_64-linux.vhd",
    }
    (directory / "nix-support" / "image-info.json").write_text(json.dumps(info | changes))


def objects(s3: Client) -> list[str]:
    """The objects in the bucket."""
    return [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@pytest.mark.usefixtures("role")
def test_an_image_becomes_an_ami(publish: Command, image: Path, aws: StandIn, ec2: Client, s3: Client) -> None:
    """The AMI matches the image, and nothing else is left."""
    outcome = publish(image)

    made = outcome.json
    assert made["created"]
    assert made["name"].startswith("lnplaylive-26.05.20260810-x86_64-")
    (ami,) = ec2.describe_images(Owners=["self"])["Images"]
    assert (ami["ImageId"], ami["Name"]) == (made["ami"], made["name"])
    registered = aws.parameters("RegisterImage")
    assert registered["Architecture"] == "x86_64"
    assert registered["BootMode"] == "legacy-bios"
    assert registered["ImdsSupport"] == "v2.0"
    assert registered["EnaSupport"] == "true"
    assert registered["VirtualizationType"] == "hvm"
    assert registered["RootDeviceName"] == registered["BlockDeviceMapping.1.DeviceName"] == "/dev/xvda"
    assert registered["BlockDeviceMapping.1.Ebs.SnapshotId"] == made["snapshot"]
    assert registered["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    assert registered["BlockDeviceMapping.1.Ebs.VolumeSize"] == "6"
    assert aws.parameters("ImportSnapshot")["DiskContainer.Format"] == "VHD"
    assert "19 % converting" in outcome.stderr
    assert objects(s3) == []


@pytest.mark.usefixtures("role", "s3")
def test_the_same_image_is_published_once(publish: Command, image: Path, aws: StandIn) -> None:
    """A second run finds the AMI, changes nothing, and needs no access to the bucket."""
    first = publish(image).json
    aws.calls.clear()
    aws.fail("HEAD /", "403", status=403)

    second = publish(image).json

    assert second["ami"] == first["ami"]
    assert not second["created"]
    assert aws.changes() == []


@pytest.mark.usefixtures("role", "s3")
def test_another_image_is_another_ami(publish: Command, image: Path) -> None:
    """The name contains the digest, so a different image gets a different AMI."""
    first = publish(image).json
    (image / "lnplaylive-26.05-x86_64-linux.vhd").write_bytes(b"other")

    second = publish(image).json

    assert second["ami"] != first["ami"]


def test_an_arm_image_boots_by_uefi(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """An arm64 image boots by UEFI; --create-role gives access to this bucket only."""
    describe(image, system="aarch64-linux", boot_mode="uefi")

    publish(image, "--create-role").json  # noqa: B018

    registered = aws.parameters("RegisterImage")
    assert (registered["Architecture"], registered["BootMode"]) == ("arm64", "uefi")
    iam: Client = boto3.client("iam", region_name=REGION)
    trust = iam.get_role(RoleName="vmimport")["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"Service": "vmie.amazonaws.com"}
    policy = iam.get_role_policy(RoleName="vmimport", PolicyName=f"lnplaylive-{BUCKET}")["PolicyDocument"]
    assert policy["Statement"][0]["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]


@pytest.mark.usefixtures("s3", "role")
def test_create_role_leaves_what_a_role_has(publish: Command, image: Path) -> None:
    """An existing role keeps its other policies."""
    iam = boto3.client("iam", region_name=REGION)
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    others = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.put_role_policy(RoleName="vmimport", PolicyName="others", PolicyDocument=others)

    publish(image, "--create-role").json  # noqa: B018

    assert sorted(iam.list_role_policies(RoleName="vmimport")["PolicyNames"]) == [f"lnplaylive-{BUCKET}", "others"]


@pytest.mark.usefixtures("role")
def test_a_dry_run_changes_nothing(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """A dry run prints the steps and changes nothing."""
    aws.calls.clear()

    outcome = publish(image, "--dry-run")

    assert outcome.json["would"] == ["upload", "import", "register", "remove_object"]
    assert "would import it into a snapshot" in outcome.stderr
    assert aws.changes() == []


def test_without_the_role_nothing_is_uploaded(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """Without the role, nothing is uploaded."""
    assert "needs a role named vmimport" in publish(image).error
    assert "--create-role" in publish(image, "--dry-run").error
    assert objects(s3) == []


@pytest.mark.usefixtures("role")
def test_a_role_that_cannot_be_looked_at_may_be_there(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """Without permission to look the role up, the import is tried; its error says what to do."""
    aws.fail("GetRole", "AccessDenied", status=403)
    assert publish(image).json["created"]

    aws.heal()
    (image / "lnplaylive-26.05-x86_64-linux.vhd").write_bytes(b"other")
    aws.fail("ImportSnapshot", "InvalidParameter", "The service role vmimport provided does not exist")
    assert "vmimport is missing or may not read" in publish(image).error


@pytest.mark.usefixtures("s3")
def test_a_new_role_is_given_time(publish: Command, image: Path, aws: StandIn) -> None:
    """The import is retried until a new role is known everywhere at AWS."""
    aws.fail("ImportSnapshot", "InvalidParameter", "The service role vmimport provided does not exist", times=3)

    assert publish(image, "--create-role").json["created"]
    assert aws.actions().count("ImportSnapshot") == 4


@pytest.mark.usefixtures("role")
def test_where_registering_fails_nothing_is_left(
    publish: Command, image: Path, aws: StandIn, ec2: Client, s3: Client
) -> None:
    """If registering fails, neither the snapshot nor the object is left."""
    aws.fail(
        "RegisterImage",
        "UnauthorizedOperation",
        "You are not authorized to perform: ec2:RegisterImage. Encoded authorization failure message: 4Hxq",
        status=403,
    )

    error = publish(image).error

    assert error == (
        "error: cannot register the AMI: the AWS user or role in use is not allowed to ec2:RegisterImage; "
        "add that to its IAM policy"
    )
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    assert objects(s3) == []

    aws.heal()
    assert publish(image).json["created"]


@pytest.mark.usefixtures("role")
def test_an_import_that_fails_leaves_nothing(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """A failed import leaves nothing, and AWS's reason is reported."""
    aws.script = [{"status": "deleted", "statusMessage": "ClientError: Disk validation failed"}]

    assert "Disk validation failed" in publish(image).error
    assert objects(s3) == []


@pytest.mark.usefixtures("role")
def test_an_import_that_takes_too_long_is_joined(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """At the deadline the import and its object are kept, and the next run waits for it."""
    aws.script = [{"status": "active", "progress": "40"}] * 1000

    error = publish(image, "--timeout-mins", "0.0001").error
    assert "run the command again to wait for it" in error
    assert len(objects(s3)) == 1

    (running,) = aws.imports.values()
    running.states = iter([{"status": "active", "progress": "80"}, {"status": "completed"}])
    assert publish(image, "--dry-run").json["would"] == ["join_import", "register", "remove_object"]
    assert publish(image).json["created"]
    assert len(aws.imports) == 1
    assert objects(s3) == []


@pytest.mark.usefixtures("role")
def test_a_whole_upload_is_not_repeated(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """A complete object is not uploaded again; any other object is replaced."""
    aws.fail("ImportSnapshot", "ResourceCountLimitExceeded", "too many")
    assert "too many imports are running" in publish(image, "--keep-object").error
    (key,) = objects(s3)
    aws.heal()

    assert publish(image, "--dry-run").json["would"] == ["import", "register", "remove_object"]
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"cut off")
    assert "upload" in publish(image, "--dry-run").json["would"]


@pytest.mark.usefixtures("role")
def test_a_large_image_goes_in_parts(
    publish: Command, image: Path, aws: StandIn, s3: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part has a checksum, and progress is reported."""
    parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    monkeypatch.setattr("lnplaylive_aws.storage.TRANSFER", parts)
    with (image / "lnplaylive-26.05-x86_64-linux.vhd").open("wb") as file:
        file.truncate(12 * MIB)

    outcome = publish(image, "--keep-object")

    assert outcome.json["created"]
    assert "uploaded 100 % of 12 MiB" in outcome.stderr
    (key,) = objects(s3)
    assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == 12 * MIB
    assert len([call for call in aws.actions() if call.startswith("PUT ")]) == 4


@pytest.mark.usefixtures("role")
def test_what_cannot_be_tidied_up_is_said(publish: Command, image: Path, aws: StandIn, s3: Client) -> None:
    """The AMI is registered even if the upload cannot be removed, and the next run removes it."""
    aws.fail(f"DELETE /{BUCKET}", "AccessDenied", status=403)
    outcome = publish(image)
    assert outcome.json["created"]
    assert "not allowed to s3:DeleteObject" in outcome.stderr

    aws.heal()
    assert not publish(image).json["created"]
    assert objects(s3) == []


def test_a_bucket_is_needed(publish: Command, image: Path, aws: StandIn) -> None:
    """A missing bucket, a forbidden one and one in another region give different errors."""
    assert "aws s3 mb s3://images-of-ours" in publish(image).error

    boto3.client("s3", region_name="us-west-2").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    assert "is in us-west-2, and the image goes to eu-central-1" in publish(image).error

    aws.fail(f"HEAD /{BUCKET}", "403", status=403)
    assert "not allowed to s3:ListBucket" in publish(image).error


@pytest.mark.usefixtures("s3", "role")
def test_a_file_alone_needs_its_architecture(publish: Command, tmp_path: Path) -> None:
    """A file without a description needs --architecture."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"disk")

    assert "add --architecture" in publish(disk).error
    assert publish(disk, "--architecture", "arm64").json["boot_mode"] == "uefi"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"system": "riscv64-linux"}, "the image is for riscv64-linux"),
        ({"system": "aarch64-linux"}, "boots by legacy-bios, which AWS does not support on arm64"),
        ({"boot_mode": "coreboot"}, "boots by coreboot"),
        ({"file": "/nix/store/0000/gone.vhd"}, "names gone.vhd, which is not in"),
        ({"file": 7}, 'has no "file"'),
    ],
)
@pytest.mark.usefixtures("aws")
def test_a_wrong_description(publish: Command, image: Path, changes: dict[str, object], said: str) -> None:
    """A wrong description stops the run before any request to AWS."""
    describe(image, **changes)
    assert said in publish(image).error


def test_a_wrong_image(publish: Command, image: Path, aws: StandIn, tmp_path: Path) -> None:
    """Images that are missing, empty, of an unsupported format, or without a readable description."""
    assert "nix build .#aws-image" in publish(tmp_path / "nowhere").error
    qcow = tmp_path / "disk.qcow2"
    qcow.write_bytes(b"QFI")
    assert "AWS does not import disk.qcow2" in publish(qcow).error
    assert "--architecture says arm64" in publish(image, "--architecture", "arm64").error
    (image / "lnplaylive-26.05-x86_64-linux.vhd").write_bytes(b"")
    assert "is empty" in publish(image).error
    (image / "nix-support" / "image-info.json").write_text("{")
    assert "image-info.json" in publish(image).error
    (image / "nix-support" / "image-info.json").unlink()
    assert "has no nix-support/image-info.json" in publish(image).error
    assert aws.calls == []
