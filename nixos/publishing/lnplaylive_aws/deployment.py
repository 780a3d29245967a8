"""Deploys a shop on AWS: looks up its resources, plans the missing steps, and runs them.

Every resource gets the deployment's tag in the call that creates it, so each run finds what earlier runs created, even
if they were interrupted. The data volume holds the node. It is created once and moves from instance to instance; only
one instance has it at a time.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from . import instances, network, tags, volumes
from .errors import StopError, doing
from .instances import Instance
from .network import Address, Group, Rule
from .progress import Patience, Report
from .user_data import UserData
from .volumes import Volume

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.literals import InstanceTypeType


T = TypeVar("T")


class Action(StrEnum):
    """A kind of step. Its text completes the sentence "would …"; {} stands for the instance."""

    CREATE_GROUP = "create the security group"
    OPEN_PORTS = "open its ports"
    CREATE_VOLUME = "create the data volume"
    ALLOCATE_ADDRESS = "allocate an Elastic IP address"
    RETIRE = "mark the instance {} as being replaced"
    STOP = "stop the instance {}"
    DETACH_VOLUME = "detach the data volume from {}"
    LAUNCH = "start an instance"
    ATTACH_VOLUME = "attach the data volume to the instance"
    START = "restart the instance {}"
    ASSOCIATE_ADDRESS = "point the address to the instance"
    TERMINATE = "terminate the replaced instance {}"


@dataclass(frozen=True)
class Step:
    """One step. `instance` is the existing instance that it applies to, if any."""

    action: Action
    instance: str = ""

    def __str__(self) -> str:
        return self.action.value.format(self.instance)


@dataclass(frozen=True)
class Present:
    """The existing resources of a deployment."""

    group: Group | None = None
    volume: Volume | None = None
    address: Address | None = None
    # The instance in use.
    current: Instance | None = None
    # Instances whose replacement was interrupted.
    retired: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """The desired deployment."""

    deployment: str
    # None keeps the AMI; required for a first instance and for a replacement.
    ami: str | None
    # For this, `subnet`, `key_name` and `profile`: None keeps the existing instance's, or uses a default.
    type: "InstanceTypeType | None"
    data: UserData | None
    replace: bool = False
    subnet: str | None = None
    elastic_ip: bool = True
    # Size of the volumes in GiB.
    data_gib: int = 50
    root_gib: int = instances.ROOT_GIB
    key_name: str | None = None
    profile: str | None = None
    # Ranges of addresses that may use SSH.
    ssh_from: tuple[str, ...] = ()

    @property
    def rules(self) -> frozenset[Rule]:
        """The ports to open."""
        return network.OPEN | {Rule(22, source) for source in self.ssh_from}


def survey(ec2: "EC2Client", deployment: str, patience: Patience) -> Present:
    """Looks up the existing resources. Stops if they are ambiguous."""
    leaving = [instance.id for instance in instances.find(ec2, deployment, leaving=True)]
    if leaving:
        # An instance that is terminating may still have the volume.
        instances.wait(ec2, "instance_terminated", leaving, patience)
    there = instances.find(ec2, deployment)
    current = [instance for instance in there if not instance.retired]
    retired = tuple(instance for instance in there if instance.retired)
    if len(current) > 1:
        ids = ", ".join(instance.id for instance in current)
        raise StopError(
            f"the deployment {deployment} has more than one instance ({ids}); terminate all but the right one"
        )
    groups, addresses = network.find_groups(ec2, deployment), network.find_addresses(ec2, deployment)
    for what, found in (("security group", len(groups)), ("Elastic IP address", len(addresses))):
        if found > 1:
            raise StopError(
                f"more than one {what} has the tag {tags.DEPLOYMENT}={deployment}; remove it from all but one"
            )
    volume = volumes.only(volumes.find(ec2, deployment), deployment)
    if volume is not None and volume.attached_to not in (None, *(instance.id for instance in there)):
        raise StopError(
            f"the data volume {volume.id} is attached to {volume.attached_to}, which is no instance of the deployment "
            f"{deployment}; detach it first"
        )
    return Present(
        group=groups[0] if groups else None,
        volume=volume,
        address=addresses[0] if addresses else None,
        current=current[0] if current else None,
        retired=retired,
    )


def plan(present: Present, *, replace: bool, elastic_ip: bool, rules: frozenset[Rule]) -> list[Step]:
    """Returns the remaining steps, in order.

    An old instance is stopped before its volume is detached, and terminated when the new one has volume and address.
    """
    steps: list[Step] = []
    if present.group is None:
        steps += [Step(Action.CREATE_GROUP), Step(Action.OPEN_PORTS)]
    elif not rules <= present.group.rules:
        steps.append(Step(Action.OPEN_PORTS))
    if present.volume is None:
        steps.append(Step(Action.CREATE_VOLUME))
    if elastic_ip and present.address is None:
        steps.append(Step(Action.ALLOCATE_ADDRESS))

    current, old = present.current, list(present.retired)
    if replace and current is not None:
        steps.append(Step(Action.RETIRE, current.id))
        old.append(current)
        current = None
    holder = present.volume.attached_to if present.volume else None
    if current is None or holder != current.id:
        steps += [Step(Action.STOP, instance.id) for instance in old if instance.state != "stopped"]
        if holder is not None and holder in [instance.id for instance in old]:
            steps.append(Step(Action.DETACH_VOLUME, holder))
    if current is None:
        steps.append(Step(Action.LAUNCH))
    if current is None or holder != current.id:
        steps.append(Step(Action.ATTACH_VOLUME))
    if current is not None and current.state in ("stopping", "stopped"):
        steps.append(Step(Action.START, current.id))
    leads_to = present.address.instance if present.address else None
    if (elastic_ip or present.address is not None) and (current is None or leads_to != current.id):
        steps.append(Step(Action.ASSOCIATE_ADDRESS))
    steps += [Step(Action.TERMINATE, instance.id) for instance in old]
    return steps


@dataclass(frozen=True)
class Deployed:
    """The deployment after all steps."""

    instance: Instance
    volume: Volume
    group: str
    ip: str | None
    domain: str | None
    zone: str
    # Differences from the desired deployment that need a replacement.
    differs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """All inputs of the steps, checked before the first one runs."""

    ami: instances.Ami | None
    type: "InstanceTypeType | None"
    data: UserData
    subnet: network.Subnet | None
    key_name: str | None = None
    profile: str | None = None


def prepare(ec2: "EC2Client", present: Present, wanted: Wanted, steps: list[Step]) -> Prepared:
    """Checks everything that would make a later step fail: AMI, instance type, user-data, subnet."""
    model = present.current or next(iter(present.retired), None)
    data = wanted.data
    if data is None:
        if model is None:
            raise StopError("a first instance needs --domain, or --user-data with a file")
        data = instances.read_user_data(ec2, model.id)
    if Step(Action.LAUNCH) not in steps:
        return Prepared(ami=None, type=None, data=data, subnet=None)
    if wanted.ami is None:
        raise StopError("a new instance needs --ami; publish-aws-image prints it")
    ami = instances.find_ami(ec2, wanted.ami)
    chosen = wanted.type or (model.type if model else None) or instances.DEFAULT_TYPES.get(ami.architecture)
    if chosen is None:
        raise StopError(f"{ami.id} is for {ami.architecture}, which is not supported; publish another image")
    instances.check_type(ec2, chosen, ami)
    zone = present.volume.zone if present.volume else None
    named = wanted.subnet
    # The last instance's subnet, unless the volume has moved since.
    if named is None and model is not None and zone in (None, model.zone):
        named = model.subnet
    subnet = network.choose_subnet(ec2, named, zone, chosen)
    if present.group is not None and present.group.vpc != subnet.vpc:
        raise StopError(
            f"the security group {present.group.id} is in {present.group.vpc}, the subnet {subnet.id} in {subnet.vpc}; "
            "use a --subnet of that VPC, or delete the group"
        )
    profile = wanted.profile or (model.profile if model else None)
    if data.needs_role and profile is None:
        raise StopError(
            "the user-data has a table [host.backup], and the instance would have no role to upload with; add "
            '--instance-profile, see "Backup" in docs/deploy-aws.md'
        )
    return Prepared(
        ami=ami,
        type=chosen,
        data=data,
        subnet=subnet,
        key_name=wanted.key_name or (model.key_name if model else None),
        profile=profile,
    )


def differences(ec2: "EC2Client", present: Present, wanted: Wanted) -> list[str]:
    """Returns how the current instance differs from the desired one. Only a replacement changes it."""
    current = present.current
    differs: list[str] = []
    if current is None:
        return differs
    ip = present.address.ip if present.address else None
    if wanted.ami not in (None, current.ami):
        differs.append(f"AMI {current.ami}")
    if wanted.type not in (None, current.type):
        differs.append(f"instance type {current.type}")
    if wanted.profile not in (None, current.profile):
        differs.append(f"instance profile {current.profile}")
    if wanted.data is not None and wanted.data.announcing(ip).text != instances.read_user_data(ec2, current.id).text:
        differs.append("user-data")
    return differs


def deploy(
    ec2: "EC2Client", present: Present, wanted: Wanted, steps: list[Step], patience: Patience, report: Report
) -> Deployed:
    """Runs the steps of `plan`. If one fails, everything created so far stays for the next run."""
    prepared = prepare(ec2, present, wanted, steps)
    differs = differences(ec2, present, wanted) if present.current and not wanted.replace else []
    run = _Run(ec2, present, wanted, prepared, patience)
    for step in steps:
        report(str(step))
        try:
            run.do(step)
        except StopError as error:
            raise StopError(f"{error}. {run.give_back(step)}") from error
    return run.result(differs)


class _Run:
    """One pass over the steps, and its state."""

    def __init__(
        self, ec2: "EC2Client", present: Present, wanted: Wanted, prepared: Prepared, patience: Patience
    ) -> None:
        self._ec2, self._wanted, self._prepared, self._patience = ec2, wanted, prepared, patience
        self._group, self._volume, self._address = present.group, present.volume, present.address
        self._current, self._replaced = present.current, False
        self._retiring: Instance | None = None

    def do(self, step: Step) -> None:
        """Runs one step."""
        ec2, wanted, patience = self._ec2, self._wanted, self._patience
        match step.action:
            case Action.CREATE_GROUP:
                self._group = network.create_group(ec2, wanted.deployment, self._subnet.vpc)
            case Action.OPEN_PORTS:
                network.open_ports(ec2, self._have(self._group).id, wanted.rules - self._have(self._group).rules)
            case Action.CREATE_VOLUME:
                zone = self._subnet.zone
                self._volume = volumes.create(ec2, wanted.deployment, zone, wanted.data_gib, patience)
            case Action.ALLOCATE_ADDRESS:
                self._address = network.allocate(ec2, wanted.deployment)
            case Action.RETIRE:
                instances.mark_retired(ec2, step.instance, retired=True)
                self._retiring, self._current = self._current, None
            case Action.STOP:
                instances.stop(ec2, step.instance, patience)
            case Action.DETACH_VOLUME:
                volumes.detach(ec2, self._have(self._volume).id, step.instance, patience)
            case Action.LAUNCH:
                self._current = instances.launch(ec2, self._launch(), patience)
                self._retiring = None
            case Action.ATTACH_VOLUME:
                volumes.attach(ec2, self._have(self._volume).id, self._have(self._current).id, patience)
            case Action.START:
                instances.start(ec2, step.instance, patience)
            case Action.ASSOCIATE_ADDRESS:
                self._associate()
            case Action.TERMINATE:
                instances.terminate(ec2, [step.instance], patience)

    def give_back(self, failed: Step) -> str:
        """Restarts the old instance if its replacement could not be started, and returns the resulting state."""
        old = self._retiring
        if old is None:
            return "What was created so far is kept and charged: run the command again to continue, or use --destroy"
        try:
            holder = volumes.only(volumes.find(self._ec2, self._wanted.deployment), self._wanted.deployment)
            if holder is not None and holder.attached_to is None:
                volumes.attach(self._ec2, holder.id, old.id, self._patience)
            if failed.action != Action.RETIRE:
                instances.start(self._ec2, old.id, self._patience)
            instances.mark_retired(self._ec2, old.id, retired=False)
        except StopError as second:
            return f"And {old.id} could not be restarted: {second}; run the command again to continue the replacement"
        return f"{old.id} is in use again, as before"

    def result(self, differs: list[str]) -> Deployed:
        """Returns the deployment, reading again what AWS may have changed."""
        current, volume = self._have(self._current), self._have(self._volume)
        ip = self._address.ip if self._address else None
        if ip is None:
            ip = next(
                (each.ip for each in instances.find(self._ec2, self._wanted.deployment) if each.id == current.id), None
            )
        return Deployed(
            instance=current,
            volume=volume,
            group=self._have(self._group).id,
            ip=ip,
            domain=self._prepared.data.domain,
            zone=volume.zone,
            differs=differs,
        )

    def _associate(self) -> None:
        address, current = self._have(self._address), self._have(self._current)
        with doing(f"point {address.ip} to {current.id}"):
            self._ec2.associate_address(AllocationId=address.allocation, InstanceId=current.id, AllowReassociation=True)

    def _launch(self) -> instances.Launch:
        return instances.Launch(
            deployment=self._wanted.deployment,
            ami=self._have(self._prepared.ami),
            type=self._have(self._prepared.type),
            subnet=self._subnet.id,
            group=self._have(self._group).id,
            data=self._prepared.data.announcing(self._address.ip if self._address else None),
            root_gib=self._wanted.root_gib,
            key_name=self._prepared.key_name,
            profile=self._prepared.profile,
        )

    @property
    def _subnet(self) -> network.Subnet:
        return self._have(self._prepared.subnet)

    @staticmethod
    def _have(thing: "T | None") -> "T":
        assert thing is not None, "created by an earlier step"
        return thing
