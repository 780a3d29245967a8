"""Progress messages, and how long to wait."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import WaiterConfigTypeDef

Report = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Prints a line to stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to poll, in seconds."""

    deadline: float
    interval: float
    now: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def for_waiter(self) -> "WaiterConfigTypeDef":
        """The same for boto3's waiters, which count polls."""
        delay = max(1, round(self.interval))
        return {"Delay": delay, "MaxAttempts": max(1, round(self.deadline / delay))}
