"""The service role with which AWS's VM Import reads the image from S3.

Its name, trust and rights are what AWS documents under "Required permissions for VM Import/Export".
"""

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from .errors import StopError, doing, missing_permission
from .progress import Report

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

HOW = "run again with --create-role, or make it as docs/deploy-aws.md says"


def exists(iam: "IAMClient", name: str) -> bool | None:
    """Whether the role is there; None when we may not ask, and only the import itself will tell."""
    with doing(f"look for the role {name}"):
        try:
            iam.get_role(RoleName=name)
        except iam.exceptions.NoSuchEntityException:
            return False
        except ClientError as error:
            if missing_permission(error):
                return None
            raise
    return True


def require(found: bool | None, name: str, report: Report) -> None:
    """Stops where the role is known to be missing."""
    if found is None:
        report(f"not allowed to look whether the role {name} exists (iam:GetRole); going on as if it did")
    elif not found:
        raise StopError(f"AWS's VM Import needs a role named {name}, which this account does not have; {HOW}")


def create(iam: "IAMClient", name: str, bucket: str, partition: str) -> None:
    """Makes the role, or gives the one that is there access to the bucket."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "vmie.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:Externalid": "vmimport"}},
            }
        ],
    }
    rights = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket"],
                "Resource": [f"arn:{partition}:s3:::{bucket}", f"arn:{partition}:s3:::{bucket}/*"],
            },
            {
                "Effect": "Allow",
                "Action": ["ec2:ModifySnapshotAttribute", "ec2:CopySnapshot", "ec2:RegisterImage", "ec2:Describe*"],
                "Resource": "*",
            },
        ],
    }
    with doing(f"create the role {name}"), suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps(trust),
            Description="Lets VM Import read disk images from S3",
        )
    with doing(f"give the role {name} its policy"):
        # One policy for each bucket: a role that others use as well keeps theirs.
        iam.put_role_policy(RoleName=name, PolicyName=f"lnplaylive-{bucket}", PolicyDocument=json.dumps(rights))
