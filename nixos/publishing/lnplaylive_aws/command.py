"""Options and exit statuses that the two commands share."""

import argparse
import re
import sys
from collections.abc import Callable

from .errors import StopError


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser with the common options."""
    made = argparse.ArgumentParser(prog=name, description=description)
    made.add_argument("--region", help="AWS region, such as eu-central-1; default: the profile's")
    made.add_argument("--profile", help="profile of the AWS configuration; default: AWS_PROFILE")
    made.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")
    made.add_argument(
        "--timeout-mins", type=positive, default=60, metavar="N", help="maximum wait for AWS; default: 60"
    )
    made.add_argument("--poll-secs", type=positive, default=15, metavar="N", help="polling interval; default: 15")
    return made


def positive(text: str) -> float:
    """Parses a number greater than zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def whole(text: str) -> int:
    """Parses a whole number of GiB, within EBS's limits for a volume."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 16384:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 16384")
    return int(text)


def run(work: Callable[[], None]) -> int:
    """Runs a command and returns its exit status: 0, 1 with a sentence on stderr, or 130 after Ctrl-C."""
    try:
        work()
    except StopError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the command again to continue", file=sys.stderr)
        return 130
    return 0
