"""The data volume: chain, node and certificates. It outlives every instance."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import tags
from .errors import StopError, doing
from .progress import Patience

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

ROLE_DATA = "data"
ROLE_ROOT = "root"
# The device name for EC2. On the instance it is an NVMe device, which the image finds by its label.
DEVICE = "/dev/sdf"


@dataclass(frozen=True)
class Volume:
    """An EBS volume."""

    id: str
    zone: str
    gib: int
    # The instance that it is attached to.
    attached_to: str | None


def find(ec2: "EC2Client", deployment: str) -> list[Volume]:
    """The deployment's data volumes: at most one."""
    wanted = {tags.DEPLOYMENT: deployment, tags.ROLE: ROLE_DATA}
    with doing("look for the data volume"):
        found = ec2.describe_volumes(Filters=tags.filters(wanted))["Volumes"]
    return [
        Volume(
            id=each["VolumeId"],
            zone=each["AvailabilityZone"],
            gib=each["Size"],
            attached_to=next((at["InstanceId"] for at in each["Attachments"] if at["State"] != "detached"), None),
        )
        for each in found
        if each["State"] not in ("deleting", "deleted", "error")
    ]


def create(ec2: "EC2Client", deployment: str, zone: str, gib: int, patience: Patience) -> Volume:
    """Creates a blank volume, encrypted with the account's key. The image formats it."""
    with doing("create the data volume"):
        made = ec2.create_volume(
            AvailabilityZone=zone,
            Size=gib,
            VolumeType="gp3",
            Encrypted=True,
            TagSpecifications=tags.specification(
                "volume",
                {tags.DEPLOYMENT: deployment, tags.ROLE: ROLE_DATA, "Name": f"lnplaylive {deployment} data"},
            ),
        )["VolumeId"]
    wait_free(ec2, made, patience)
    return Volume(id=made, zone=zone, gib=gib, attached_to=None)


def wait_free(ec2: "EC2Client", volume: str, patience: Patience) -> None:
    """Waits until the volume is detached."""
    with doing(f"wait for the volume {volume}"):
        ec2.get_waiter("volume_available").wait(
            VolumeIds=[volume],
            WaiterConfig=patience.for_waiter(),
        )


def detach(ec2: "EC2Client", volume: str, instance: str, patience: Patience) -> None:
    """Detaches the volume from a stopped instance. Never forced, because that could lose written data."""
    with doing(f"detach the volume {volume}"):
        ec2.detach_volume(VolumeId=volume, InstanceId=instance)
    wait_free(ec2, volume, patience)


def attach(ec2: "EC2Client", volume: str, instance: str, patience: Patience) -> None:
    """Attaches the volume to the instance; it is kept when the instance is terminated."""
    with doing(f"attach the volume {volume} to {instance}"):
        ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)
        ec2.get_waiter("volume_in_use").wait(
            VolumeIds=[volume],
            WaiterConfig=patience.for_waiter(),
        )


def delete(ec2: "EC2Client", volume: str) -> None:
    """Deletes the volume, and the node on it."""
    with doing(f"delete the volume {volume}"):
        ec2.delete_volume(VolumeId=volume)


def only(found: list[Volume], deployment: str) -> Volume | None:
    """Returns the only volume. Raises `StopError` for two, because the right one cannot be guessed."""
    if len(found) > 1:
        ids = ", ".join(volume.id for volume in found)
        raise StopError(
            f"the deployment {deployment} has more than one data volume ({ids}); "
            f"remove the tag {tags.DEPLOYMENT} from all but the right one"
        )
    return found[0] if found else None
