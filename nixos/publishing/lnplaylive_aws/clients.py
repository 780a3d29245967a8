"""Clients for AWS, with time-outs, for a region that exists."""

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ProfileNotFound

from .errors import NO_CREDENTIALS, StopError, doing

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

# A call without an answer is retried, five attempts in all. The longest call uploads one part of an image.
CONFIG = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5})


@dataclass(frozen=True)
class Clients:
    """One client for each service, all for the same region. Created on first use, because that takes a while."""

    region: str
    session: boto3.Session

    @cached_property
    def ec2(self) -> "EC2Client":
        """Instances, volumes, images."""
        return self.session.client("ec2", config=CONFIG)

    @cached_property
    def s3(self) -> "S3Client":
        """Storage for uploaded images."""
        return self.session.client("s3", config=CONFIG)

    @cached_property
    def iam(self) -> "IAMClient":
        """Roles."""
        return self.session.client("iam", config=CONFIG)


def connect(region: str | None, profile: str | None) -> Clients:
    """Clients for the region (default: the profile's), with credentials from the usual places of AWS tools."""
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
    except ProfileNotFound as error:
        raise StopError(f"there is no AWS profile {profile!r}; see `aws configure list-profiles`") from error
    region = session.region_name
    if not region:
        raise StopError("no region is set; add --region, such as --region eu-central-1")
    known = [name for partition in session.get_available_partitions() for name in _regions(session, partition)]
    if region not in known:
        close = difflib.get_close_matches(region, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "see `aws ec2 describe-regions`"
        raise StopError(
            f"region {region!r} is unknown: {hint} "
            f"(a region that is newer than boto3 {boto3.__version__} needs a newer boto3)"
        )
    with doing("read the AWS credentials"):
        if session.get_credentials() is None:
            raise StopError(NO_CREDENTIALS)
    return Clients(region=region, session=session)


def _regions(session: boto3.Session, partition: str) -> list[str]:
    return session.get_available_regions("ec2", partition_name=partition)
