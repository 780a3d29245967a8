"""The plan of the remaining steps, for every state that an interrupted run can leave."""

from dataclasses import replace

import pytest
from lnplaylive_aws import network, publishing
from lnplaylive_aws.deployment import Action, Present, Step, plan
from lnplaylive_aws.instances import Instance
from lnplaylive_aws.network import Address, Group
from lnplaylive_aws.publishing import Found, Options
from lnplaylive_aws.volumes import Volume

GROUP = Group(id="sg-1", vpc="vpc-1", rules=network.OPEN)
NEW = Instance(id="i-new", state="running", retired=False, ami="ami-2", type="t3.medium")
OLD = Instance(id="i-old", state="running", retired=False, ami="ami-1", type="t3.medium")
VOLUME = Volume(id="vol-1", zone="eu-central-1a", gib=40, attached_to="i-old")
ADDRESS = Address(allocation="eipalloc-1", ip="198.51.100.1", instance="i-old")
COMPLETE = Present(group=GROUP, volume=VOLUME, address=ADDRESS, current=OLD)


def planned(present: Present, *, new: bool = False, elastic_ip: bool = True) -> list[str]:
    """The names of the plan's steps."""
    return [
        f"{step.action.name} {step.instance}".strip()
        for step in plan(present, replace=new, elastic_ip=elastic_ip, rules=network.OPEN)
    ]


def test_from_nothing() -> None:
    """A first run creates everything, the volume before the instance that waits for it."""
    assert planned(Present()) == [
        "CREATE_GROUP",
        "OPEN_PORTS",
        "CREATE_VOLUME",
        "ALLOCATE_ADDRESS",
        "LAUNCH",
        "ATTACH_VOLUME",
        "ASSOCIATE_ADDRESS",
    ]


def test_nothing_is_left_to_do() -> None:
    """A complete deployment needs no steps."""
    assert planned(COMPLETE) == []
    assert planned(replace(COMPLETE, address=None), elastic_ip=False) == []


def test_replacing() -> None:
    """The old instance is stopped before the volume moves, and terminated last."""
    assert planned(COMPLETE, new=True) == [
        "RETIRE i-old",
        "STOP i-old",
        "DETACH_VOLUME i-old",
        "LAUNCH",
        "ATTACH_VOLUME",
        "ASSOCIATE_ADDRESS",
        "TERMINATE i-old",
    ]


def test_a_replacement_that_was_cut_off_is_finished() -> None:
    """A replacement interrupted after any step is completed without --replace."""
    whole = planned(COMPLETE, new=True)
    retired = replace(OLD, retired=True)
    stopped = replace(retired, state="stopped")
    free = replace(VOLUME, attached_to=None)
    moved = replace(VOLUME, attached_to="i-new")
    after = [
        replace(COMPLETE, current=None, retired=(retired,)),
        replace(COMPLETE, current=None, retired=(stopped,)),
        replace(COMPLETE, current=None, retired=(stopped,), volume=free),
        replace(COMPLETE, current=NEW, retired=(stopped,), volume=free),
        replace(COMPLETE, current=NEW, retired=(stopped,), volume=moved),
        replace(COMPLETE, current=NEW, retired=(stopped,), volume=moved, address=replace(ADDRESS, instance="i-new")),
        replace(COMPLETE, current=NEW, volume=moved, address=replace(ADDRESS, instance="i-new")),
    ]
    assert [planned(present) for present in after] == [whole[done:] for done in range(1, len(whole) + 1)]


def test_the_volume_never_leaves_an_instance_that_runs() -> None:
    """In every state, STOP comes before DETACH_VOLUME of the same instance."""
    for retired in (replace(OLD, retired=True), replace(OLD, retired=True, state="stopping")):
        for current in (None, NEW):
            steps = planned(replace(COMPLETE, current=current, retired=(retired,)))
            assert steps.index("STOP i-old") < steps.index("DETACH_VOLUME i-old") < steps.index("ATTACH_VOLUME")


def test_a_stopped_instance_is_started() -> None:
    """A stopped instance is started, and gets its volume back if it was detached."""
    stopped = replace(COMPLETE, current=replace(OLD, state="stopped"))
    assert planned(stopped) == ["START i-old"]
    assert planned(replace(stopped, volume=replace(VOLUME, attached_to=None))) == ["ATTACH_VOLUME", "START i-old"]


def test_only_missing_ports_are_opened() -> None:
    """Only missing rules are added; other rules are not touched."""
    more = replace(GROUP, rules=network.OPEN | {network.Rule(22, "203.0.113.7/32")})
    fewer = replace(GROUP, rules=frozenset())
    assert planned(replace(COMPLETE, group=more)) == []
    assert planned(replace(COMPLETE, group=fewer)) == ["OPEN_PORTS"]


def test_an_address_that_is_there_is_used() -> None:
    """An existing address is used even with --no-elastic-ip, because DNS may point to it."""
    elsewhere = replace(COMPLETE, address=replace(ADDRESS, instance=None))
    assert planned(elsewhere, elastic_ip=False) == ["ASSOCIATE_ADDRESS"]


def test_steps_say_what_they_do() -> None:
    """The texts that a dry run prints."""
    assert str(Step(Action.STOP, "i-1")) == "stop the instance i-1"
    assert str(Step(Action.LAUNCH)) == "start an instance"


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (Found(), ["UPLOAD", "IMPORT", "REGISTER", "REMOVE_OBJECT"]),
        (Found(uploaded=True), ["IMPORT", "REGISTER", "REMOVE_OBJECT"]),
        (Found(task="import-snap-1", uploaded=True), ["JOIN_IMPORT", "REGISTER", "REMOVE_OBJECT"]),
        (Found(snapshot="snap-1", uploaded=True), ["REGISTER", "REMOVE_OBJECT"]),
        (Found(snapshot="snap-1"), ["REGISTER"]),
        (Found(ami="ami-1", uploaded=True), ["REMOVE_OBJECT"]),
        (Found(ami="ami-1"), []),
    ],
)
def test_publishing_goes_on_where_it_was(found: Found, left: list[str]) -> None:
    """Publishing continues after any completed step."""
    assert [step.name for step in publishing.steps(found, Options(bucket="b"))] == left


def test_publishing_keeps_what_it_is_told_to() -> None:
    """The upload is kept on request, and the role is created only if there is something to import."""
    kept = Options(bucket="b", keep_object=True, create_role=True)
    assert [step.name for step in publishing.steps(Found(uploaded=True), kept)] == ["CREATE_ROLE", "IMPORT", "REGISTER"]
    assert publishing.steps(Found(ami="ami-1", uploaded=True), kept) == []
