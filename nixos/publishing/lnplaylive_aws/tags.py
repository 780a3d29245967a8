"""Tags, by which a run finds what earlier runs created."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import ResourceTypeType
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagSpecificationTypeDef, TagTypeDef

# The deployment that a resource belongs to.
DEPLOYMENT = "lnplaylive:deployment"
# The purpose of a resource within the deployment.
ROLE = "lnplaylive:role"
# Set on an instance that is being replaced.
RETIRED = "lnplaylive:retired"
# SHA-256 of the image file, on everything made from it.
IMAGE = "lnplaylive:image-sha256"


def pairs(tags: Mapping[str, str]) -> "list[TagTypeDef]":
    """Converts tags to AWS's format."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def mapping(tags: "Iterable[TagTypeDef] | None") -> dict[str, str]:
    """Converts tags from AWS's format."""
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def specification(kind: "ResourceTypeType", tags: Mapping[str, str]) -> "list[TagSpecificationTypeDef]":
    """Tags for a new resource, set in the call that creates it, so that it is never without them."""
    return [{"ResourceType": kind, "Tags": pairs(tags)}]


def filters(tags: Mapping[str, str]) -> "list[FilterTypeDef]":
    """A filter for resources that have all these tags."""
    return [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
