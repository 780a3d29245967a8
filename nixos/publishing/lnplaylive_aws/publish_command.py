"""`publish-aws-image`: publishes an image as an AMI, once."""

import json
import sys
from argparse import Namespace
from pathlib import Path

from . import command, image, publishing
from .clients import connect
from .progress import Patience, to_stderr


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = command.parser(
        "publish-aws-image",
        "Publishes an image as an AMI: uploads it to S3, imports and registers it, and removes the upload. If the AMI "
        "exists, it is reported; an interrupted run is continued. Prints one JSON object on stdout.",
    )
    parser.add_argument("image", type=Path, help="the image: ./result of `nix build .#aws-image`, or the file in it")
    parser.add_argument("--bucket", required=True, help="S3 bucket for the upload, in the same region")
    parser.add_argument("--architecture", choices=["x86_64", "arm64"], help="needed if there is no image-info.json")
    parser.add_argument("--role-name", default="vmimport", help="role that lets AWS read the bucket; default: vmimport")
    parser.add_argument("--create-role", action="store_true", help="create that role, or give it access to the bucket")
    parser.add_argument("--keep-object", action="store_true", help="keep the uploaded image in the bucket")
    options = parser.parse_args(arguments)
    return command.run(lambda: _publish(options))


def _publish(options: Namespace) -> None:
    clients = connect(options.region, options.profile)
    disk = image.load(options.image, options.architecture)
    how = publishing.Options(
        bucket=options.bucket,
        role=options.role_name,
        create_role=options.create_role,
        keep_object=options.keep_object,
    )
    result: dict[str, object] = {
        "region": clients.region,
        "name": disk.name,
        "architecture": disk.architecture,
        "boot_mode": disk.boot_mode,
        "sha256": disk.sha256,
    }
    if options.dry_run:
        found = publishing.survey(clients, disk, how)
        todo = publishing.steps(found, how)
        publishing.check_role(clients, todo, how, to_stderr)
        for step in todo:
            to_stderr(f"would {step.value}")
        result |= {"ami": found.ami, "would": [step.name.lower() for step in todo]}
    else:
        patience = Patience(deadline=options.timeout_mins * 60, interval=options.poll_secs)
        published = publishing.publish(clients, disk, how, patience, to_stderr)
        result |= {"ami": published.ami, "snapshot": published.snapshot, "created": published.created}
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    sys.exit(main())
