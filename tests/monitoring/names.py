"""Checks that alerts and dashboard use metrics that there are, and that each alert is tested and says what to do."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Metrics of the node exporter and of Prometheus itself, on which rules and dashboard may rely.
FOREIGN = {
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "node_load1",
    "node_memory_MemAvailable_bytes",
    "node_memory_MemTotal_bytes",
    "node_systemd_unit_state",
    "up",
}
NAME = re.compile(r"\b(?:lnplaylive|node)_\w+|\bup\b")
# The counter of a histogram's bucket, for example, is documented with the histogram.
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")
STRING = re.compile(r'"[^"]*"')


def metrics(expression: str) -> set[str]:
    """The metrics that an expression asks for. Labels' values are none."""
    return set(NAME.findall(STRING.sub("", expression)))


def documented() -> set[str]:
    """The metrics in the tables of the operator's guide."""
    return set(re.findall(r"^\| `(lnplaylive_\w+)", (ROOT / "docs/operator.md").read_text(), re.MULTILINE))


def alerts() -> dict[str, str]:
    """The text of each alert's rule, by name."""
    parts = re.split(r"^ *- alert: (\w+)\n", (ROOT / "nixos/monitoring/alerts.yml").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def cases() -> list[tuple[str, bool]]:
    """The alert of each test case, and whether it is to fire."""
    text = (ROOT / "tests/monitoring/alerts-test.yml").read_text()
    return [
        (name, not rest.startswith("[]"))
        for name, rest in re.findall(r"alertname: (\w+),?\s+exp_alerts:\s*(\S+)", text)
    ]


def faults() -> list[str]:
    """What is wrong, in sentences."""
    found = []
    known = documented() | FOREIGN
    dashboard = json.loads((ROOT / "nixos/monitoring/dashboard.json").read_text())
    panels = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = {name: re.search(r"expr:(.*?)\n +(?:for|labels|#)", text, re.DOTALL) for name, text in alerts().items()}
    expressions = panels + [(name, rule.group(1)) for name, rule in rules.items() if rule]
    for where, expression in expressions:
        asked = metrics(expression)
        if not asked:
            found.append(f"{where}: no metric in {expression}")
        unknown = {name for name in asked if name not in known and SUFFIX.sub("", name) not in known}
        if unknown:
            found.append(f"{where}: not in docs/operator.md, nor of the node exporter: {', '.join(sorted(unknown))}")
    # Of what programs export, the documentation is compared with them while they run.
    scripts = [ROOT / f"nixos/modules/lnplaylive/{name}-metrics.sh" for name in ("backup", "upload")]
    written = {name for path in scripts for name in re.findall(r"metric=(lnplaylive_backup_\w+)", path.read_text())}
    if written != {name for name in documented() if name.startswith("lnplaylive_backup_")}:
        found.append(f"docs/operator.md does not list what {' and '.join(path.name for path in scripts)} write")
    tested = cases()
    for name, text in alerts().items():
        for fires in (True, False):
            if (name, fires) not in tested:
                found.append(f"{name}: no test in which it {'fires' if fires else 'does not fire'}")
        if not re.search(r"lnplay(?:ops|live)-\w+", text.split("description:")[-1]):
            found.append(f"{name}: its description names no method or program to use")
    found.extend(f"{name}: tested, and not in alerts.yml" for name in {name for name, _ in tested} - set(alerts()))
    print(f"monitoring: {len(rules)} alerts, {len(panels)} queries of the dashboard, {len(documented())} metrics")
    return found


def main() -> None:
    """Prints what is wrong, and fails if anything is."""
    found = faults()
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
