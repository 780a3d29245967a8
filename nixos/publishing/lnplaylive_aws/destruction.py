"""Deletes a deployment: everything, but the data volume only on request."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import instances, network, volumes
from .errors import doing
from .network import Address
from .progress import Patience, Report
from .volumes import Volume

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


@dataclass(frozen=True)
class Remains:
    """All resources with the deployment's tag."""

    instances: tuple[str, ...]
    addresses: tuple[Address, ...]
    groups: tuple[str, ...]
    volumes: tuple[Volume, ...]

    def described(self, *, delete_data: bool) -> list[str]:
        """Lists what would be removed, a line for each resource."""
        return [
            *(f"terminate the instance {each}" for each in self.instances),
            *(f"release the address {each.ip}" for each in self.addresses),
            *(f"delete the security group {each}" for each in self.groups),
            *(f"delete the data volume {each.id}, and the node on it" for each in self.volumes if delete_data),
        ]


def survey(ec2: "EC2Client", deployment: str) -> Remains:
    """Looks up the existing resources."""
    return Remains(
        instances=tuple(
            each.id for leaving in (False, True) for each in instances.find(ec2, deployment, leaving=leaving)
        ),
        addresses=tuple(network.find_addresses(ec2, deployment)),
        groups=tuple(group.id for group in network.find_groups(ec2, deployment)),
        volumes=tuple(volumes.find(ec2, deployment)),
    )


def destroy(ec2: "EC2Client", remains: Remains, patience: Patience, report: Report, *, delete_data: bool) -> None:
    """Removes the resources, instances first. If it is interrupted, the next run removes the rest."""
    if remains.instances:
        report(f"terminate {', '.join(remains.instances)}")
        # Termination shuts the system down cleanly, as stopping does.
        instances.terminate(ec2, list(remains.instances), patience)
    for address in remains.addresses:
        report(f"release {address.ip}")
        with doing(f"release the address {address.ip}"):
            ec2.release_address(AllocationId=address.allocation)
    for group in remains.groups:
        report(f"delete {group}")
        network.delete_group(ec2, group, patience)
    if delete_data:
        for volume in remains.volumes:
            report(f"delete {volume.id}")
            volumes.wait_free(ec2, volume.id, patience)
            volumes.delete(ec2, volume.id)
