"""Publishes an image as an AMI: looks up what exists, plans the missing steps, and runs them.

A later run finds the result of every step: an object named after the image's digest, an import and a snapshot tagged
with it, an AMI named after it. The next run therefore completes an interrupted one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from . import importing, role, storage, tags
from .clients import Clients
from .errors import StopError, doing
from .image import Image
from .progress import Patience, Report

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import EbsBlockDeviceTypeDef

# The device that the image's boot loader was installed for (GRUB on /dev/xvda).
ROOT_DEVICE = "/dev/xvda"


class Step(StrEnum):
    """A kind of step. Its text completes the sentence "would …"."""

    CREATE_ROLE = "create the role for imports"
    UPLOAD = "upload the image"
    IMPORT = "import it into a snapshot"
    JOIN_IMPORT = "wait for the running import"
    REGISTER = "register the AMI"
    REMOVE_OBJECT = "remove the uploaded image"


@dataclass(frozen=True)
class Found:
    """What AWS already has of the image."""

    ami: str | None = None
    snapshot: str | None = None
    # The id of a running import.
    task: str | None = None
    # Whether S3 has the complete object.
    uploaded: bool = False


@dataclass(frozen=True)
class Options:
    """How to publish."""

    bucket: str
    role: str = "vmimport"
    create_role: bool = False
    # Keep the uploaded image.
    keep_object: bool = False


@dataclass(frozen=True)
class Published:
    """The published AMI."""

    ami: str
    # None if the AMI existed before.
    snapshot: str | None
    created: bool


def steps(found: Found, options: Options) -> list[Step]:
    """Returns the remaining steps, in order."""
    todo: list[Step] = []
    uploads = found.uploaded
    if found.ami is None:
        if found.snapshot is None and found.task is None:
            if options.create_role:
                todo.append(Step.CREATE_ROLE)
            if not found.uploaded:
                todo.append(Step.UPLOAD)
                uploads = True
            todo.append(Step.IMPORT)
        elif found.snapshot is None:
            todo.append(Step.JOIN_IMPORT)
        todo.append(Step.REGISTER)
    if uploads and not options.keep_object:
        todo.append(Step.REMOVE_OBJECT)
    return todo


def survey(clients: Clients, image: Image, options: Options) -> Found:
    """Looks up what earlier runs left."""
    ami = find_ami(clients.ec2, image)
    if ami is not None:
        try:
            uploaded = storage.holds(clients.s3, options.bucket, image)
        except StopError:
            # The bucket matters only for tidying up, so an AMI is found without permissions on the bucket.
            uploaded = False
        return Found(ami=ami, uploaded=uploaded)
    storage.check_bucket(clients.s3, options.bucket, clients.region)
    return Found(
        snapshot=_find_snapshot(clients.ec2, image.sha256),
        task=importing.find(clients.ec2, image.sha256),
        uploaded=storage.holds(clients.s3, options.bucket, image),
    )


def find_ami(ec2: "EC2Client", image: Image) -> str | None:
    """Returns the account's AMI of this image, by its name."""
    with doing("look for the AMI"):
        found = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [image.name]}])["Images"]
    return found[0]["ImageId"] if found else None


def _find_snapshot(ec2: "EC2Client", sha256: str) -> str | None:
    with doing("look for the image's snapshot"):
        found = ec2.describe_snapshots(OwnerIds=["self"], Filters=tags.filters({tags.IMAGE: sha256}))["Snapshots"]
    return next((snapshot["SnapshotId"] for snapshot in found if snapshot["State"] == "completed"), None)


def check_role(clients: Clients, todo: list[Step], options: Options, report: Report) -> None:
    """Raises `StopError` before the upload if the import could not read it."""
    if Step.IMPORT in todo and Step.CREATE_ROLE not in todo:
        role.require(role.exists(clients.iam, options.role), options.role, report)


def publish(clients: Clients, image: Image, options: Options, patience: Patience, report: Report) -> Published:
    """Runs the remaining steps, and returns the AMI once it can be launched.

    If a step fails, it removes what would be charged for without use, and reports what it could not remove. It keeps
    what a running import reads; the next run waits for that import.
    """
    found = survey(clients, image, options)
    todo = steps(found, options)
    check_role(clients, todo, options, report)
    run = _Run(clients, image, options, patience, report, found)
    try:
        for step in todo:
            run.do(step)
    except BaseException as error:
        run.clean_up(error)
        raise
    assert run.ami is not None, "the last step sets the AMI"
    _await_ami(clients.ec2, run.ami, patience)
    return Published(ami=run.ami, snapshot=run.snapshot, created=Step.REGISTER in todo)


class _Run:
    """One pass over the steps, and its state."""

    def __init__(
        self,
        clients: Clients,
        image: Image,
        options: Options,
        patience: Patience,
        report: Report,
        found: Found,
    ) -> None:
        self._clients, self._image, self._options = clients, image, options
        self._patience, self._report = patience, report
        self.ami, self.snapshot, self._task = found.ami, found.snapshot, found.task
        self._object, self._made_snapshot = found.uploaded, False

    def do(self, step: Step) -> None:
        """Runs one step."""
        clients, image, options = self._clients, self._image, self._options
        match step:
            case Step.CREATE_ROLE:
                role.create(clients.iam, options.role, options.bucket, clients.ec2.meta.partition)
            case Step.UPLOAD:
                self._object = True
                storage.upload(clients.s3, options.bucket, image, self._report)
            case Step.IMPORT:
                self._task = importing.start(
                    clients.ec2,
                    options.bucket,
                    image,
                    options.role,
                    self._patience,
                    role_is_new=options.create_role,
                )
                self._await_snapshot(self._task)
            case Step.JOIN_IMPORT:
                assert self._task is not None, "only an import that was found is joined"
                self._await_snapshot(self._task)
            case Step.REGISTER:
                assert self.snapshot is not None, "the snapshot comes first"
                self.ami = _register(clients.ec2, image, self.snapshot)
                self._made_snapshot = False
            case Step.REMOVE_OBJECT:
                self._remove_object()

    def _await_snapshot(self, task: str) -> None:
        try:
            self.snapshot = importing.wait(self._clients.ec2, task, self._patience, self._report)
        except importing.ImportFailedError:
            self._task = None
            raise
        self._task, self._made_snapshot = None, True
        with doing(f"tag the snapshot {self.snapshot}"):
            self._clients.ec2.create_tags(
                Resources=[self.snapshot],
                Tags=tags.pairs({tags.IMAGE: self._image.sha256, "Name": self._image.name}),
            )

    def clean_up(self, error: BaseException) -> None:
        """Removes what this run created, except what a running import needs. Reports what it could not remove."""
        if self._task is not None:
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            if self._made_snapshot and self.snapshot is not None and not interrupted:
                with doing(f"remove the snapshot {self.snapshot}"):
                    self._clients.ec2.delete_snapshot(SnapshotId=self.snapshot)
        except StopError as second:
            self._report(f"{second}; it is charged until it is removed")
        if self._object and not self._options.keep_object:
            self._remove_object()

    def _remove_object(self) -> None:
        """Removes the uploaded image. A failure is only reported, because the AMI is usable."""
        try:
            storage.remove(self._clients.s3, self._options.bucket, self._image.key)
        except StopError as error:
            self._report(f"{error}; it is charged until it is removed")
        else:
            self._object = False


def _register(ec2: "EC2Client", image: Image, snapshot: str) -> str:
    disk: EbsBlockDeviceTypeDef = {"SnapshotId": snapshot, "VolumeType": "gp3", "DeleteOnTermination": True}
    if image.disk_gib is not None:
        disk["VolumeSize"] = image.disk_gib
    with doing("register the AMI"):
        return ec2.register_image(
            Name=image.name,
            Description="lnplay.live in a box",
            Architecture=image.architecture,
            BootMode=image.boot_mode,
            RootDeviceName=ROOT_DEVICE,
            BlockDeviceMappings=[{"DeviceName": ROOT_DEVICE, "Ebs": disk}],
            VirtualizationType="hvm",
            EnaSupport=True,
            # Instances of this AMI require IMDSv2, no matter who launches them.
            ImdsSupport="v2.0",
            TagSpecifications=tags.specification("image", {tags.IMAGE: image.sha256, "Name": image.name}),
        )["ImageId"]


def _await_ami(ec2: "EC2Client", ami: str, patience: Patience) -> None:
    with doing(f"wait for {ami}"):
        ec2.get_waiter("image_available").wait(
            ImageIds=[ami],
            WaiterConfig=patience.for_waiter(),
        )
