"""Finds, starts, stops and removes instances."""

import base64
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError

from . import tags, user_data, volumes
from .errors import StopError, code_of, doing
from .progress import Patience
from .user_data import UserData

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.literals import InstanceTypeType
    from mypy_boto3_ec2.type_defs import RunInstancesRequestTypeDef

# Two vCPUs and 4 GiB, which bitcoind needs for the first synchronisation.
DEFAULT_TYPES: "dict[str, InstanceTypeType]" = {"x86_64": "t3.medium", "arm64": "t4g.medium"}
# In GiB: the system, the images for environments, and room for logs.
ROOT_GIB = 16


@dataclass(frozen=True)
class Instance:
    """An instance of the deployment."""

    id: str
    state: str
    # Whether it is being replaced.
    retired: bool
    ami: str
    type: "InstanceTypeType"
    ip: str | None = None
    zone: str | None = None
    subnet: str | None = None
    key_name: str | None = None
    # Name of its instance profile, whose role it has.
    profile: str | None = None


@dataclass(frozen=True)
class Ami:
    """The image that instances are started from."""

    id: str
    architecture: str
    root_device: str
    root_gib: int


@dataclass(frozen=True)
class Launch:
    """The parameters of a new instance."""

    deployment: str
    ami: Ami
    type: "InstanceTypeType"
    subnet: str
    group: str
    data: UserData
    root_gib: int
    key_name: str | None
    profile: str | None


def find(ec2: "EC2Client", deployment: str, *, leaving: bool = False) -> list[Instance]:
    """Returns the deployment's instances: the existing ones, or those that are terminating."""
    states = ["shutting-down"] if leaving else ["pending", "running", "stopping", "stopped"]
    wanted = tags.filters({tags.DEPLOYMENT: deployment})
    wanted.append({"Name": "instance-state-name", "Values": states})
    with doing("look for instances"):
        found = ec2.describe_instances(Filters=wanted)["Reservations"]
    return [
        Instance(
            id=each["InstanceId"],
            state=each["State"]["Name"],
            retired=tags.RETIRED in tags.mapping(each.get("Tags")),
            ami=each["ImageId"],
            type=each["InstanceType"],
            ip=each.get("PublicIpAddress"),
            zone=each.get("Placement", {}).get("AvailabilityZone"),
            subnet=each.get("SubnetId"),
            key_name=each.get("KeyName") or None,
            # The ARN ends in /NAME, after the path if it has one.
            profile=each.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2] or None,
        )
        for reservation in found
        for each in reservation["Instances"]
    ]


def find_ami(ec2: "EC2Client", ami: str) -> Ami:
    """Returns an AMI that can be launched."""
    with doing(f"look at {ami}"):
        try:
            found = ec2.describe_images(ImageIds=[ami])["Images"]
        except ClientError as error:
            if not code_of(error).startswith("InvalidAMIID"):
                raise
            found = []
    if not found:
        raise StopError(
            f"there is no AMI {ami} in {ec2.meta.region_name}; publish-aws-image prints the AMI that it creates"
        )
    image = found[0]
    if image["State"] != "available":
        raise StopError(f"{ami} cannot be launched yet, it is {image['State']}; wait, or publish it again")
    root = image["RootDeviceName"]
    disks = [disk.get("Ebs", {}) for disk in image["BlockDeviceMappings"] if disk.get("DeviceName") == root]
    sizes = [disk["VolumeSize"] for disk in disks if "VolumeSize" in disk]
    return Ami(id=ami, architecture=image["Architecture"], root_device=root, root_gib=max(sizes, default=0))


def check_type(ec2: "EC2Client", instance_type: "InstanceTypeType", ami: Ami) -> None:
    """Raises `StopError` if the AMI does not run on that instance type."""
    with doing(f"look at the instance type {instance_type}"):
        try:
            found = ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
        except ClientError as error:
            if code_of(error) != "InvalidInstanceType":
                raise
            found = []
    if not found:
        raise StopError(f"there is no instance type {instance_type} in {ec2.meta.region_name}; choose another one")
    runs = found[0]["ProcessorInfo"]["SupportedArchitectures"]
    if ami.architecture not in runs:
        raise StopError(
            f"{ami.id} is for {ami.architecture}, and {instance_type} runs {' and '.join(runs)}; "
            f"choose another one, such as --instance-type {DEFAULT_TYPES.get(ami.architecture, 't3.medium')}"
        )


def read_user_data(ec2: "EC2Client", instance: str) -> UserData:
    """Returns the user-data that the instance was launched with."""
    with doing(f"read the user-data of {instance}"):
        found = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]
    try:
        text = base64.b64decode(found.get("Value", "")).decode()
    except ValueError as error:
        raise StopError(f"the user-data of {instance} is not text; use --domain or --user-data") from error
    return user_data.parse(text, f"the user-data of {instance}")


def launch(ec2: "EC2Client", wanted: Launch, patience: Patience) -> Instance:
    """Launches an instance and waits until it is running. Its system is still booting then."""
    name = f"lnplaylive {wanted.deployment}"
    marks = {tags.DEPLOYMENT: wanted.deployment, "Name": name}
    request: RunInstancesRequestTypeDef = {
        "ImageId": wanted.ami.id,
        "InstanceType": wanted.type,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": wanted.data.text,
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": wanted.subnet,
                "Groups": [wanted.group],
                "AssociatePublicIpAddress": True,
            }
        ],
        # IMDSv2 only, and not reachable through another hop, such as a container.
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [
            {
                "DeviceName": wanted.ami.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": max(wanted.root_gib, wanted.ami.root_gib),
                    "DeleteOnTermination": True,
                    "Encrypted": True,
                },
            }
        ],
        "InstanceInitiatedShutdownBehavior": "stop",
        "TagSpecifications": [
            *tags.specification("instance", marks),
            *tags.specification("volume", marks | {tags.ROLE: volumes.ROLE_ROOT}),
        ],
    }
    if wanted.key_name is not None:
        request["KeyName"] = wanted.key_name
    if wanted.profile is not None:
        request["IamInstanceProfile"] = {"Name": wanted.profile}
    with doing("start the instance"):
        made = ec2.run_instances(**request)["Instances"][0]
    try:
        wait(ec2, "instance_running", [made["InstanceId"]], patience)
    except StopError:
        # Otherwise it could come up later, when another instance has the volume.
        with suppress(ClientError):
            ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
        raise
    return Instance(id=made["InstanceId"], state="running", retired=False, ami=wanted.ami.id, type=wanted.type)


def mark_retired(ec2: "EC2Client", instance: str, *, retired: bool) -> None:
    """Marks an instance as being replaced, or removes the mark."""
    with doing(f"mark {instance} as being replaced"):
        if retired:
            ec2.create_tags(Resources=[instance], Tags=tags.pairs({tags.RETIRED: "true"}))
        else:
            ec2.delete_tags(Resources=[instance], Tags=[{"Key": tags.RETIRED}])


def stop(ec2: "EC2Client", instance: str, patience: Patience) -> None:
    """Shuts an instance down cleanly, and waits until it is stopped."""
    with doing(f"stop {instance}"):
        ec2.stop_instances(InstanceIds=[instance])
    wait(ec2, "instance_stopped", [instance], patience)


def start(ec2: "EC2Client", instance: str, patience: Patience) -> None:
    """Starts a stopped instance again, after waiting until it is stopped."""
    wait(ec2, "instance_stopped", [instance], patience)
    with doing(f"start {instance}"):
        ec2.start_instances(InstanceIds=[instance])
    wait(ec2, "instance_running", [instance], patience)


def terminate(ec2: "EC2Client", ids: list[str], patience: Patience) -> None:
    """Terminates instances, and waits until they have released their resources."""
    with doing(f"terminate {', '.join(ids)}"):
        ec2.terminate_instances(InstanceIds=ids)
    wait(ec2, "instance_terminated", ids, patience)


def wait(
    ec2: "EC2Client",
    state: Literal["instance_running", "instance_stopped", "instance_terminated"],
    ids: list[str],
    patience: Patience,
) -> None:
    """Waits until all instances are in that state."""
    how = patience.for_waiter()
    with doing(f"wait for {', '.join(ids)}"):
        # The type stubs know waiters only by literal names.
        match state:
            case "instance_running":
                ec2.get_waiter(state).wait(InstanceIds=ids, WaiterConfig=how)
            case "instance_stopped":
                ec2.get_waiter(state).wait(InstanceIds=ids, WaiterConfig=how)
            case "instance_terminated":
                ec2.get_waiter(state).wait(InstanceIds=ids, WaiterConfig=how)
