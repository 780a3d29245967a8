"""`deploy-aws`: deploys a shop from an AMI, replaces its instance, or removes it."""

import argparse
import ipaddress
import json
import re
import sys
from argparse import Namespace
from pathlib import Path

from . import command, deployment, destruction, role, user_data
from .clients import Clients, connect
from .errors import StopError
from .instances import ROOT_GIB
from .progress import Patience, to_stderr
from .user_data import Remote, UserData

# Size of the data volume in GiB: the UTXO set (about 12 on bitcoin), 20 of pruned blocks, the node, and room to grow.
DATA_GIB = {"bitcoin": 50, "signet": 25, "regtest": 10}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = command.parser(
        "deploy-aws",
        "Deploys a shop from an AMI: security group, data volume, address, instance. Existing resources are found by "
        "their tags; only missing ones are created. Prints one JSON object on stdout, and the next steps on stderr.",
    )
    parser.add_argument("--name", type=_name, default="shop", help="the deployment's name, in its tags; default: shop")
    parser.add_argument("--ami", help="the AMI, as printed by publish-aws-image; needed for a new instance")

    told = parser.add_argument_group("settings of the shop", "needed for the first instance; a replacement keeps them")
    told.add_argument("--domain", help="domain name of the shop, such as shop.example")
    told.add_argument("--email", help="e-mail address for messages of the certificate authority")
    told.add_argument("--contact", help="contact for buyers who need help: text, e-mail or URL")
    told.add_argument("--network", choices=list(DATA_GIB), help="default: bitcoin")
    told.add_argument(
        "--remote",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "URL", "TOKEN_FILE"),
        help="LXD or Incus server for environments, and a file with an enrolment token for it; can be repeated",
    )
    told.add_argument(
        "--environments",
        choices=["virtual-machine", "container"],
        help="kind of the environments' instances on the remotes; default: virtual-machine",
    )
    told.add_argument(
        "--user-data", type=Path, metavar="FILE", help="replaces these options; see nixos/images/user-data.example"
    )

    machine = parser.add_argument_group("the instance")
    machine.add_argument("--instance-type", help="default: t3.medium, or t4g.medium for arm64")
    machine.add_argument("--subnet", help="default: a default subnet")
    machine.add_argument("--no-elastic-ip", action="store_true", help="use an address that changes with the instance")
    machine.add_argument(
        "--data-gb",
        type=command.whole,
        metavar="N",
        help="size of a new data volume in GiB; default: 50, 25 for signet, 10 for regtest",
    )
    machine.add_argument("--root-gb", type=command.whole, default=ROOT_GIB, metavar="N", help=f"default: {ROOT_GIB}")
    machine.add_argument(
        "--instance-profile",
        type=_profile,
        metavar="NAME",
        help='instance profile whose role uploads backups; see "Backup" in docs/deploy-aws.md',
    )
    machine.add_argument("--key-name", help="EC2 key pair for SSH as root; needs --ssh-from")
    machine.add_argument(
        "--ssh-from", type=_cidr, action="append", default=[], metavar="CIDR", help="addresses that may use SSH"
    )

    parser.add_argument("--replace", action="store_true", help="replace the instance, keeping its volume and address")
    parser.add_argument("--destroy", action="store_true", help="delete the deployment, except its data volume")
    parser.add_argument("--delete-data", action="store_true", help="with --destroy: delete the data volume, too")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    options = parser.parse_args(arguments)
    if options.delete_data and not options.destroy:
        parser.error("--delete-data needs --destroy")
    if options.destroy and options.replace:
        parser.error("use either --destroy or --replace")
    return command.run(lambda: _destroy(options) if options.destroy else _deploy(options))


def _deploy(options: Namespace) -> None:
    data = _told(options)
    if bool(options.key_name) != bool(options.ssh_from) and not options.replace:
        raise StopError("--key-name and --ssh-from must be used together: a key, and where it may be used from")
    clients, patience = _connect(options)
    if options.instance_profile is not None:
        role.require_profile(clients.iam, options.instance_profile, to_stderr)
    wanted = deployment.Wanted(
        deployment=options.name,
        ami=options.ami,
        type=options.instance_type,
        data=data,
        replace=options.replace,
        subnet=options.subnet,
        elastic_ip=not options.no_elastic_ip,
        data_gib=options.data_gb or DATA_GIB[options.network or "bitcoin"],
        root_gib=options.root_gb,
        key_name=options.key_name,
        profile=options.instance_profile,
        ssh_from=tuple(options.ssh_from),
    )
    present = deployment.survey(clients.ec2, options.name, patience)
    steps = deployment.plan(present, replace=wanted.replace, elastic_ip=wanted.elastic_ip, rules=wanted.rules)
    if options.dry_run:
        deployment.prepare(clients.ec2, present, wanted, steps)
        for step in steps:
            to_stderr(f"would {step}")
        _print({"region": clients.region, "name": options.name, "would": [str(step) for step in steps]})
        return
    made = deployment.deploy(clients.ec2, present, wanted, steps, patience, to_stderr)
    _print(
        {
            "region": clients.region,
            "name": options.name,
            "instance": made.instance.id,
            "ami": made.instance.ami,
            "instance_type": made.instance.type,
            "zone": made.zone,
            "address": made.ip,
            "volume": made.volume.id,
            "security_group": made.group,
            "domain": made.domain,
            "differs": made.differs,
            "did": [str(step) for step in steps],
        }
    )
    if made.differs:
        to_stderr(f"the instance keeps its {', '.join(made.differs)}; add --replace to change that")
    for line in _next(made, clients.region):
        to_stderr(line)


def _next(made: deployment.Deployed, region: str) -> list[str]:
    lines = ["next:"]
    if made.domain is not None:
        lines += [
            f"  1. at your DNS provider, point {made.domain} to {made.ip} (record type A)",
            f"  2. when the name resolves, within minutes: curl https://{made.domain}/healthz",
        ]
    lines += [
        f"  boot log: aws ec2 get-console-output --latest --output text --region {region} "
        f"--instance-id {made.instance.id}",
        "  backups, and a channel for buyers' payments: docs/deploy-aws.md",
    ]
    return lines


def _destroy(options: Namespace) -> None:
    clients, patience = _connect(options)
    remains = destruction.survey(clients.ec2, options.name)
    todo = remains.described(delete_data=options.delete_data)
    kept = [] if options.delete_data else [volume.id for volume in remains.volumes]
    for line in todo:
        to_stderr(f"would {line}" if options.dry_run else line)
    if options.delete_data and remains.volumes:
        to_stderr("the node's key, its channels and its coins are on the data volume: without a backup they are lost")
    if not options.dry_run and todo:
        _confirm(options)
        destruction.destroy(clients.ec2, remains, patience, to_stderr, delete_data=options.delete_data)
    for volume in kept:
        to_stderr(f"kept, still charged: the data volume {volume}; the next deploy-aws --name {options.name} uses it")
    result: dict[str, object] = {"region": clients.region, "name": options.name, "kept": kept}
    _print(result | {"would" if options.dry_run else "did": todo})


def _confirm(options: Namespace) -> None:
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise StopError("standard input is not a terminal, so it cannot ask for confirmation; add --yes")
    print(f"Type the deployment's name ({options.name}) to continue: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != options.name:
        raise StopError("not confirmed; nothing was removed")


def _told(options: Namespace) -> UserData | None:
    built_from = [options.domain, options.email, options.contact, options.network, options.environments, options.remote]
    if options.user_data is not None:
        if any(built_from):
            raise StopError("--user-data replaces --domain, --remote and the other settings; leave those out")
        return user_data.read(options.user_data)
    if options.domain is None:
        if any(built_from):
            raise StopError("--email, --contact, --network, --remote and --environments need --domain")
        return None
    remotes = [Remote(name, url, Path(file)) for name, url, file in options.remote]
    if not remotes:
        to_stderr("no --remote: the shop will open, but has nothing to sell")
    return user_data.build(
        options.domain,
        options.network or "bitcoin",
        options.email,
        options.contact,
        remotes,
        options.environments or "virtual-machine",
    )


def _connect(options: Namespace) -> tuple[Clients, Patience]:
    clients = connect(options.region, options.profile)
    return clients, Patience(deadline=options.timeout_mins * 60, interval=options.poll_secs)


def _print(result: dict[str, object]) -> None:
    json.dump(result, sys.stdout, indent=2)
    print()


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 31 letters a to z, digits or hyphens, a letter first")
    return text


def _profile(text: str) -> str:
    # IAM's rule for names.
    if not re.fullmatch(r"[A-Za-z0-9_+=,.@-]{1,128}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of an instance profile; leave out its ARN and path")
    return text


def _cidr(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of addresses, such as 203.0.113.7/32") from error


if __name__ == "__main__":
    sys.exit(main())
