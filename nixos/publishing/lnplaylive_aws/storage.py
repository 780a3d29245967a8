"""Uploads the image to S3, from where AWS imports it."""

import threading
from typing import TYPE_CHECKING

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from .errors import StopError, code_of, doing
from .image import Image
from .progress import Report

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
# Parts of 64 MiB, four at a time: 10,000 parts are enough for any image, and repeating one takes seconds.
TRANSFER = TransferConfig(multipart_threshold=64 * MIB, multipart_chunksize=64 * MIB, max_concurrency=4)
DIGEST = "sha256"


def check_bucket(s3: "S3Client", bucket: str, region: str) -> None:
    """Raises `StopError` unless the bucket exists and is in the region; imports cannot read others."""
    with doing(f"use the bucket {bucket}"):
        try:
            answer = s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchBucket"):
                raise StopError(
                    f"there is no bucket {bucket}; create it with `aws s3 mb s3://{bucket} --region {region}`"
                ) from error
            # A redirect means that it is in another region.
            if code_of(error) not in ("301", "PermanentRedirect"):
                raise
            where = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "another region")
        else:
            where = answer.get("BucketRegion") or region
    if where != region:
        raise StopError(f"the bucket {bucket} is in {where}, and the image goes to {region}; use a bucket there")


def holds(s3: "S3Client", bucket: str, image: Image) -> bool:
    """Returns whether the bucket has the complete image.

    S3 shows an object only once it is complete, so it is enough to compare its size and the digest in its metadata.
    """
    with doing(f"look for the image in the bucket {bucket}"):
        try:
            head = s3.head_object(Bucket=bucket, Key=image.key)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return False
            raise
    return head["ContentLength"] == image.size and head["Metadata"].get(DIGEST) == image.sha256


def upload(s3: "S3Client", bucket: str, image: Image, report: Report) -> None:
    """Uploads the image in parts, each with a checksum that S3 verifies."""
    percent = _Percent(image.size, report)
    with doing(f"upload {image.path.name} to s3://{bucket}"):
        s3.upload_file(
            Filename=str(image.path),
            Bucket=bucket,
            Key=image.key,
            ExtraArgs={"ChecksumAlgorithm": "SHA256", "Metadata": {DIGEST: image.sha256}},
            Config=TRANSFER,
            Callback=percent.add,
        )
    if not holds(s3, bucket, image):
        raise StopError(f"s3://{bucket}/{image.key} is not what was uploaded; if the image has changed, run again")


def remove(s3: "S3Client", bucket: str, key: str) -> None:
    """Removes the image, and parts of interrupted uploads, which would be charged indefinitely."""
    with doing(f"remove s3://{bucket}/{key}"):
        s3.delete_object(Bucket=bucket, Key=key)
        for left in s3.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=left["Key"], UploadId=left["UploadId"])


class _Percent:
    """Reports progress in steps of ten percent, from any thread."""

    def __init__(self, total: int, report: Report) -> None:
        self._total, self._report = total, report
        self._done, self._said = 0, 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Counts uploaded bytes."""
        with self._lock:
            self._done += count
            percent = self._done * 10 // self._total * 10
            if percent > self._said:
                self._said = percent
                self._report(f"uploaded {percent} % of {self._total // MIB} MiB")
