"""The errors that end a command, in one sentence: what was tried, why it failed, what to do next."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
    WaiterError,
)
from botocore.parsers import ResponseParserError

NO_CREDENTIALS = (
    "no AWS credentials were found; run `aws configure` or `aws sso login`, or set AWS_PROFILE, "
    "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)


class StopError(Exception):
    """Ends a command. Its text is shown to the user."""


DENIED = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Forbidden", "403"})

REJECTED_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

# Remedies for quotas, and for refusals that are not about permissions.
REMEDIES = {
    "VcpuLimitExceeded": (
        "the account's quota of vCPUs is used up in this region; choose a smaller --instance-type, or request an "
        'increase in the console under Service Quotas, Amazon EC2, "Running On-Demand Standard instances" (L-1216C47A)'
    ),
    "InstanceLimitExceeded": (
        "the account's quota of instances is used up in this region; request an increase under Service Quotas"
    ),
    "InsufficientInstanceCapacity": (
        "AWS has no free machine of this type in this availability zone; try again later, or choose another type"
    ),
    "AddressLimitExceeded": (
        "the account's quota of Elastic IP addresses is used up in this region; release one, use --no-elastic-ip, or "
        'request an increase in the console under Service Quotas, Amazon EC2, "EC2-VPC Elastic IPs" (L-0263D0A3)'
    ),
    "VolumeLimitExceeded": (
        "the account's quota of EBS storage is used up in this region; choose a smaller --data-gb, or request an "
        "increase in the console under Service Quotas, Amazon EBS"
    ),
    "SecurityGroupLimitExceeded": (
        "the account's quota of security groups is used up in this region; delete one, or request an increase in the "
        "console under Service Quotas, Amazon VPC"
    ),
    "ResourceCountLimitExceeded": (
        "too many imports are running in this region; wait for them (`aws ec2 describe-import-snapshot-tasks`)"
    ),
    "SnapshotLimitExceeded": (
        "the account's quota of snapshots is used up in this region; delete some, or request an increase in the console"
    ),
    "PendingVerification": "AWS is still verifying this account, and will send an e-mail when that is done",
    "OptInRequired": "the account is not signed up for this service or region; finish that in the console",
    "Blocked": "the account is blocked; contact AWS Support",
}

# Operations whose IAM action has another name.
ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "DeleteObject": "s3:DeleteObject",
    "GetBucketLocation": "s3:GetBucketLocation",
    "GetInstanceProfile": "iam:GetInstanceProfile",
    "GetRole": "iam:GetRole",
    "CreateRole": "iam:CreateRole",
    "PutRolePolicy": "iam:PutRolePolicy",
}


def code_of(error: ClientError) -> str:
    """Returns AWS's error code, such as `InvalidVolume.NotFound`, or the HTTP status of an answer without a body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def missing_permission(error: ClientError) -> str | None:
    """Returns the IAM action that was denied, or None for other errors."""
    if code_of(error) not in DENIED:
        return None
    named = re.search(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)", str(error))
    if named:
        return named.group(1)
    return ACTIONS.get(error.operation_name, f"ec2:{error.operation_name}")


def explain(error: BotoCoreError | ClientError | Boto3Error) -> str:
    """Returns the reason and the remedy, to complete a sentence."""
    if isinstance(error, ClientError):
        return _explain_answer(error)
    # boto3's transfers keep the original error only as the context.
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError | BotoCoreError):
        return explain(error.__context__)
    if isinstance(error, NoCredentialsError):
        return NO_CREDENTIALS
    if isinstance(error, PartialCredentialsError):
        return f"the AWS credentials are incomplete; {error}"
    if isinstance(error, SSOError | TokenRetrievalError):
        return "the AWS single sign-on session has ended; run `aws sso login`"
    if isinstance(error, EndpointConnectionError):
        return f"{error}; check --region and the network"
    if isinstance(error, WaiterError):
        return f"it did not finish in time ({error.kwargs.get('reason')}); run the command again to continue"
    return str(error)


def _explain_answer(error: ClientError) -> str:
    action = missing_permission(error)
    if action is not None:
        return f"the AWS user or role in use is not allowed to {action}; add that to its IAM policy"
    code = code_of(error)
    if code in REJECTED_CREDENTIALS:
        return (
            f"AWS does not accept the credentials ({code}); they are wrong, have expired, or the region is not enabled "
            "for the account: see `aws sts get-caller-identity`"
        )
    if code in REMEDIES:
        return REMEDIES[code]
    message = str(error.response.get("Error", {}).get("Message", "")).strip()
    return f"{message} ({code})" if message else str(error)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Converts AWS errors inside the block into a `StopError` that begins with what was tried."""
    try:
        yield
    except ResponseParserError as error:
        raise StopError(f"cannot {what}: AWS sent a malformed answer; try again") from error
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise StopError(f"cannot {what}: {explain(error)}") from error
