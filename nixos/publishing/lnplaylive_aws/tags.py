"""The tags by which a later run finds what an earlier one made."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import ResourceTypeType
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagSpecificationTypeDef, TagTypeDef

# The deployment that a resource belongs to.
DEPLOYMENT = "lnplaylive:deployment"
# What a resource is for within it.
ROLE = "lnplaylive:role"
# On an instance that is being replaced.
RETIRED = "lnplaylive:retired"
# SHA-256 of the image file, on all that was made of it.
IMAGE = "lnplaylive:image-sha256"


def pairs(tags: Mapping[str, str]) -> "list[TagTypeDef]":
    """Tags as AWS takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def mapping(tags: "Iterable[TagTypeDef] | None") -> dict[str, str]:
    """Tags as AWS returns them, by key."""
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def specification(kind: "ResourceTypeType", tags: Mapping[str, str]) -> "list[TagSpecificationTypeDef]":
    """Tags for a resource of that kind, set in the call that makes it: there is no moment without them."""
    return [{"ResourceType": kind, "Tags": pairs(tags)}]


def filters(tags: Mapping[str, str]) -> "list[FilterTypeDef]":
    """Finds resources that carry all of the tags."""
    return [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
