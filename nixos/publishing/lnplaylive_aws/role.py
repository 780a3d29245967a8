"""Roles: the one with which AWS's VM Import reads the image from S3, and the instance's own.

The first one's name, trust policy and permissions follow AWS's page "Required permissions for VM Import/Export".
"""

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from .errors import StopError, doing, missing_permission
from .progress import Report

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

HOW = "run again with --create-role, or create it as described in docs/deploy-aws.md"


def exists(iam: "IAMClient", name: str) -> bool | None:
    """Returns whether the role exists, or None without the permission to ask; then only the import will tell."""
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
    """Raises `StopError` if the role is known to be missing."""
    if found is None:
        report(f"no permission to check that the role {name} exists (iam:GetRole); continuing")
    elif not found:
        raise StopError(f"AWS's VM Import needs a role named {name}, which this account does not have; {HOW}")


def require_profile(iam: "IAMClient", name: str, report: Report) -> None:
    """Raises `StopError` if the instance profile is known to be missing, or to have no role."""
    how = 'see "Backup" in docs/deploy-aws.md'
    with doing(f"look for the instance profile {name}"):
        try:
            found = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        except iam.exceptions.NoSuchEntityException as error:
            raise StopError(f"there is no instance profile {name} in this account; create it: {how}") from error
        except ClientError as error:
            if missing_permission(error) is None:
                raise
            report(
                f"no permission to check that the instance profile {name} exists (iam:GetInstanceProfile); continuing"
            )
            return
    if not found["Roles"]:
        raise StopError(f"the instance profile {name} has no role; add one with add-role-to-instance-profile: {how}")


def create(iam: "IAMClient", name: str, bucket: str, partition: str) -> None:
    """Creates the role, or gives an existing one access to the bucket."""
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
        # One policy for each bucket, so that a role that is used for others keeps its policies.
        iam.put_role_policy(RoleName=name, PolicyName=f"lnplaylive-{bucket}", PolicyDocument=json.dumps(rights))
