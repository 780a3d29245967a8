"""The instance's subnet, firewall rules and address."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from . import tags
from .errors import StopError, code_of, doing
from .progress import Patience

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.literals import InstanceTypeType
    from mypy_boto3_ec2.type_defs import FilterTypeDef, IpPermissionTypeDef

EVERYBODY = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, order=True)
class Rule:
    """A TCP port open to a range of addresses."""

    port: int
    source: str

    def __str__(self) -> str:
        return f"{self.port} from {self.source}"


# The shop, the certificate authority's challenge, and Lightning.
OPEN = frozenset(Rule(port, source) for port in (443, 80, 9735) for source in EVERYBODY)


@dataclass(frozen=True)
class Group:
    """A security group, and its TCP rules for single ports."""

    id: str
    vpc: str
    rules: frozenset[Rule]


@dataclass(frozen=True)
class Subnet:
    """A subnet, with its VPC and availability zone."""

    id: str
    vpc: str
    zone: str


@dataclass(frozen=True)
class Address:
    """An Elastic IP address."""

    allocation: str
    ip: str
    # The instance that it points to.
    instance: str | None


def find_groups(ec2: "EC2Client", deployment: str) -> list[Group]:
    """The deployment's security groups: at most one, unless somebody added more."""
    with doing("look for the security group"):
        found = ec2.describe_security_groups(Filters=tags.filters({tags.DEPLOYMENT: deployment}))["SecurityGroups"]
    return [
        Group(
            id=group["GroupId"],
            vpc=group["VpcId"],
            rules=frozenset(
                Rule(permission["FromPort"], source)
                for permission in group["IpPermissions"]
                if permission["IpProtocol"] == "tcp" and permission.get("FromPort") == permission.get("ToPort")
                for source in [
                    *(range4["CidrIp"] for range4 in permission["IpRanges"]),
                    *(range6["CidrIpv6"] for range6 in permission["Ipv6Ranges"]),
                ]
            ),
        )
        for group in found
    ]


def create_group(ec2: "EC2Client", deployment: str, vpc: str) -> Group:
    """Creates a security group without rules."""
    with doing("create the security group"):
        made = ec2.create_security_group(
            GroupName=f"lnplaylive-{deployment}",
            Description="lnplay.live: web shop and Lightning",
            VpcId=vpc,
            TagSpecifications=tags.specification(
                "security-group", {tags.DEPLOYMENT: deployment, "Name": f"lnplaylive {deployment}"}
            ),
        )
    return Group(id=made["GroupId"], vpc=vpc, rules=frozenset())


def open_ports(ec2: "EC2Client", group: str, rules: frozenset[Rule]) -> None:
    """Adds rules. Existing ones are not an error."""
    for rule in sorted(rules):
        permission: IpPermissionTypeDef = {"IpProtocol": "tcp", "FromPort": rule.port, "ToPort": rule.port}
        if ":" in rule.source:
            permission["Ipv6Ranges"] = [{"CidrIpv6": rule.source}]
        else:
            permission["IpRanges"] = [{"CidrIp": rule.source}]
        with doing(f"open port {rule}"):
            try:
                ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
            except ClientError as error:
                if code_of(error) != "InvalidPermission.Duplicate":
                    raise


def delete_group(ec2: "EC2Client", group: str, patience: Patience) -> None:
    """Deletes a group, once AWS reports that nothing uses it."""
    end = patience.now() + patience.deadline
    with doing(f"delete the security group {group}"):
        while True:
            try:
                ec2.delete_security_group(GroupId=group)
            except ClientError as error:
                if code_of(error) == "InvalidGroup.NotFound":
                    return
                if code_of(error) != "DependencyViolation" or patience.now() >= end:
                    raise
                patience.sleep(patience.interval)
            else:
                return


def find_addresses(ec2: "EC2Client", deployment: str) -> list[Address]:
    """The deployment's addresses: at most one."""
    with doing("look for the address"):
        found = ec2.describe_addresses(Filters=tags.filters({tags.DEPLOYMENT: deployment}))["Addresses"]
    return [
        Address(allocation=each["AllocationId"], ip=each["PublicIp"], instance=each.get("InstanceId") or None)
        for each in found
    ]


def allocate(ec2: "EC2Client", deployment: str) -> Address:
    """Allocates an address that stays the same when the instance is replaced."""
    with doing("allocate an Elastic IP address"):
        made = ec2.allocate_address(
            Domain="vpc",
            TagSpecifications=tags.specification(
                "elastic-ip", {tags.DEPLOYMENT: deployment, "Name": f"lnplaylive {deployment}"}
            ),
        )
    return Address(allocation=made["AllocationId"], ip=made["PublicIp"], instance=None)


def choose_subnet(ec2: "EC2Client", named: str | None, zone: str | None, instance_type: "InstanceTypeType") -> Subnet:
    """Returns the named subnet, or a default one in a zone with that instance type; `zone` restricts the choice."""
    with doing("look for a subnet"):
        if named is not None:
            found = ec2.describe_subnets(SubnetIds=[named])["Subnets"]
        else:
            found = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    if not found:
        raise StopError(
            "this region has no default subnet; create one with `aws ec2 create-default-vpc`, or use --subnet"
        )
    subnets = sorted((each["AvailabilityZone"], each["SubnetId"], each["VpcId"]) for each in found)
    if zone is not None:
        subnets = [each for each in subnets if each[0] == zone]
        if not subnets:
            raise StopError(
                f"the data volume is in {zone}, where {named or 'no default subnet'} is not; use a --subnet there"
            )
    wanted: list[FilterTypeDef] = [{"Name": "instance-type", "Values": [instance_type]}]
    with doing("ask where AWS has such instances"):
        offers = ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=wanted)
    zones = {offer["Location"] for offer in offers["InstanceTypeOfferings"]}
    for place, subnet, vpc in subnets:
        if place in zones:
            return Subnet(id=subnet, vpc=vpc, zone=place)
    places = ", ".join(each[0] for each in subnets)
    raise StopError(f"AWS has no {instance_type} in {places}; choose another --instance-type")
