"""What a command says while it works, and how long it waits."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import WaiterConfigTypeDef

Report = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Says one line on stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Patience:
    """How long to wait for something, and how often to look, in seconds."""

    deadline: float
    interval: float
    now: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def for_waiter(self) -> "WaiterConfigTypeDef":
        """The same for boto3's waiters, which count looks."""
        delay = max(1, round(self.interval))
        return {"Delay": delay, "MaxAttempts": max(1, round(self.deadline / delay))}
