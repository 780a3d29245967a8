"""Imports an image from S3 as a snapshot. AWS does this in the background, in about ten minutes."""

import uuid
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from . import tags
from .errors import StopError, code_of, doing
from .image import Image
from .progress import Patience, Report

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import SnapshotTaskDetailTypeDef

# For this many seconds a new role may not be known everywhere at AWS.
ROLE_SETTLES = 60.0


class ImportFailedError(StopError):
    """AWS abandoned the import, so there is nothing to wait for."""


def find(ec2: "EC2Client", sha256: str) -> str | None:
    """Returns the id of the running import of this image, if there is one."""
    with doing("look for imports under way"):
        # Reads all imports, because AWS documents no filter by tag for them.
        for page in ec2.get_paginator("describe_import_snapshot_tasks").paginate():
            for task in page["ImportSnapshotTasks"]:
                carries = tags.mapping(task.get("Tags")).get(tags.IMAGE) == sha256
                if carries and task["SnapshotTaskDetail"].get("Status") == "active":
                    return task["ImportTaskId"]
    return None


def start(
    ec2: "EC2Client", bucket: str, image: Image, role: str, patience: Patience, *, role_is_new: bool = False
) -> str:
    """Starts the import and returns its id."""
    # Only for boto3's retries: the token of an earlier import would return that import.
    token = str(uuid.uuid4())
    settles = patience.now() + ROLE_SETTLES
    with doing("import the image into a snapshot"):
        while True:
            try:
                answer = ec2.import_snapshot(
                    ClientToken=token,
                    Description=image.name,
                    DiskContainer={
                        "Description": image.name,
                        "Format": image.disk_format,
                        "UserBucket": {"S3Bucket": bucket, "S3Key": image.key},
                    },
                    RoleName=role,
                    TagSpecifications=tags.specification("import-snapshot-task", {tags.IMAGE: image.sha256}),
                )
            except ClientError as error:
                if code_of(error) != "InvalidParameter" or "role" not in str(error):
                    raise
                if not role_is_new or patience.now() >= settles:
                    raise StopError(
                        f"the role {role} is missing or may not read s3://{bucket}; run again with --create-role"
                    ) from error
                patience.sleep(patience.interval)
            else:
                return answer["ImportTaskId"]


def wait(ec2: "EC2Client", task: str, patience: Patience, report: Report) -> str:
    """Waits for the import and returns the snapshot's id, in state `completed`.

    Raises `ImportFailedError` if AWS abandoned it, and `StopError` at the deadline, while it is still running.
    """
    end = patience.now() + patience.deadline
    said = ""
    while True:
        with doing(f"follow the import {task}"):
            found = ec2.describe_import_snapshot_tasks(ImportTaskIds=[task])["ImportSnapshotTasks"]
        detail: SnapshotTaskDetailTypeDef = found[0]["SnapshotTaskDetail"] if found else {}
        status, message = detail.get("Status", "unknown"), detail.get("StatusMessage", "")
        if status == "completed" and "SnapshotId" in detail:
            return detail["SnapshotId"]
        if status in ("deleting", "deleted", "error"):
            raise ImportFailedError(
                f"AWS abandoned the import {task}: {message or status}; if the role may not read the "
                "bucket, run again with --create-role, otherwise build and upload the image again"
            )
        line = f"import {task}: {detail.get('Progress', '0')} % {message}".rstrip()
        if line != said:
            said = line
            report(line)
        if patience.now() >= end:
            raise StopError(
                f"the import {task} is not done after {patience.deadline / 60:.0f} minutes (now: {status} {message}); "
                "it continues at AWS: run the command again to wait for it, with a longer --timeout-mins"
            )
        patience.sleep(patience.interval)
