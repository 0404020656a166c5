"""The command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab import card_speed, cluster, computer, host, nodes, plan, predecessor
from tests.lab.cgroup import Group
from tests.lab.errors import LabError
from tests.lab.progress import say

_SWAP_TAKEN = "this computer (or another lab on it) swaps, and swap is not apart in a node"


def parser() -> argparse.ArgumentParser:
    """Return the lab's argument parser."""
    top = argparse.ArgumentParser(
        prog="lab", description="A virtual cluster of work nodes and storage nodes."
    )
    top.add_argument(
        "--name",
        default=os.environ.get("LAB_NAME", "lab"),
        help="which lab, if there are several (default: $LAB_NAME, or lab)",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the lab; nothing happens to nodes that run")
    up.add_argument("--workers", metavar="N|NAMES", help="default: pi1,pi4,pi5,pi7")
    up.add_argument("--storage", metavar="N", help="number of storage nodes (default: 3)")
    up.add_argument("--subnet", metavar="CIDR", help="default: 192.168.1.0/24")
    up.add_argument("--suite", choices=plan.SUITES, help="Debian of the nodes (default: trixie)")
    up.add_argument(
        "--userland",
        choices=plan.USERLANDS,
        help="whose coreutils and sudo the workers have: debian is GNU's and Miller's (default), "
        "ubuntu26 uutils and sudo-rs, as Ubuntu 26.04",
    )
    up.add_argument(
        "--sudo-password",
        metavar="NODE",
        action="append",
        help="this worker's sudo asks for the password, which is `ubuntu`",
    )
    up.add_argument(
        "--swap", metavar="NODE|none", help="the worker with active swap (default: the first)"
    )

    up.add_argument(
        "--card",
        metavar="NODE[=SIZE]",
        action="append",
        help="all of this worker but swap lies on a disk of its own of limited size (default: 4G)",
    )
    up.add_argument(
        "--card-speed",
        choices=tuple(card_speed.SPEEDS),
        help="how slow the disks of --card are (default: as this computer's disk)",
    )
    up.add_argument(
        "--legacy",
        metavar="NODE",
        action="append",
        help="this worker carries what the Ansible playbooks left that were before this package",
    )
    up.add_argument(
        "--like", metavar="FOLDER", help="fresh workers begin with the disk that `save` put there"
    )

    down = commands.add_parser("down", help="remove the lab, but for its cache")
    down.add_argument("--cache", action="store_true", help="remove images and packages too")

    status = commands.add_parser("status", help="show nodes and where things are")
    status.add_argument("--json", action="store_true")

    run = commands.add_parser("run", help="run a command as a computer on the cluster's LAN")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- CMD")

    inside = commands.add_parser("exec", help="run a command as root inside a node")
    inside.add_argument("node", metavar="NODE")
    inside.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- CMD")

    power = commands.add_parser("power", help="cut a node's power, switch it on, or both")
    power.add_argument("node", metavar="NODE")
    power.add_argument("action", choices=("cut", "on", "cycle"))
    power.add_argument(
        "--lose",
        action="store_true",
        help="with cut and cycle: what is not on the node's card yet is gone",
    )

    save = commands.add_parser("save", help="copy the disk of a worker that is off")
    save.add_argument("node", metavar="NODE")
    save.add_argument("folder", metavar="FOLDER", type=Path)

    reset = commands.add_parser("reset", help="bring a node back to the fresh image")
    reset.add_argument("node", metavar="NODE")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        plan.check_name(options.name)
        host.check()
        _dispatch(options)
    except BrokenPipeError:
        # Whoever read our output has had enough; nor is Python to complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LabError, OSError, RuntimeError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; running the command again goes on from here", file=sys.stderr)
        return 130
    return 0


def _dispatch(options: argparse.Namespace) -> None:
    name = options.name
    if options.command == "up":
        cluster.up(_plan(options))
    elif options.command == "down":
        cluster.down(name)
        if options.cache:
            cluster.remove_cache()
    elif options.command == "status":
        _status(name, as_json=options.json)
    elif options.command == "run":
        computer.become(cluster.load(name), _command(options))
    elif options.command == "exec":
        _exec(name, options.node, _command(options))
    elif options.command == "save":
        lab = cluster.load(name)
        nodes.save(lab, lab.node(options.node), options.folder.absolute())
    else:
        if options.command == "reset":
            _switch(name, options.node, "reset")
        elif options.lose and options.action == "on":
            raise LabError("--lose: nothing is lost by switching a node on; choose cut or cycle")
        else:
            _switch(name, options.node, options.action, lose=options.lose)


def _plan(options: argparse.Namespace) -> plan.Plan:
    """Return the plan that the options mean: of a lab that is up, unless they contradict it."""
    given = {
        "subnet": options.subnet,
        "suite": options.suite,
        "userland": options.userland,
        "workers": None if options.workers is None else plan.parse_workers(options.workers),
        "storage": None if options.storage is None else plan.parse_storage(options.storage),
        "sudo_password": options.sudo_password,
        "swap": options.swap,
        "card": None if options.card is None else [plan.parse_card(text) for text in options.card],
        "card_speed": options.card_speed,
        "legacy": options.legacy,
        "like": options.like and str(Path(options.like).absolute()),
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    current = cluster.find(options.name)
    if current is None:
        if options.swap != plan.NO_NODE and not host.claim_swap():
            if options.swap:
                raise LabError(f"--swap {options.swap}: {_SWAP_TAKEN}")
            say(f"no node gets active swap: {_SWAP_TAKEN}")
            chosen["swap"] = plan.NO_NODE
        return plan.make(name=options.name, **chosen)
    for key, value in chosen.items():
        has = getattr(current, key)
        if has != (tuple(value) if isinstance(value, list) else value):
            raise LabError(
                f"the lab is up with other options ({key} is {has}); remove it first: lab down"
            )
    return current


def _command(options: argparse.Namespace) -> list[str]:
    words: list[str] = options.arguments
    if words[:1] == ["--"]:
        words = words[1:]
    if not words:
        raise LabError(f"what is to be run? lab {options.command} ... -- COMMAND")
    return words


def _exec(lab: str, node: str, command: list[str]) -> None:
    cluster.load(lab).node(node)
    line = nodes.inside(lab, node, command)
    # So that it ends with the node's power.
    Group.of(lab, node, "exec").adopt()
    process = subprocess.Popen(line)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the command, too
    signal.signal(signal.SIGTERM, lambda *_: os.kill(process.pid, signal.SIGTERM))
    status = process.returncode = nodes.follow(process)
    sys.exit(status if status >= 0 else 128 - status)


def _switch(lab: str, name: str, action: str, *, lose: bool = False) -> None:
    current = cluster.load(lab)
    node = current.node(name)
    if action == "reset":
        nodes.reset(current, node)
    elif action in ("cut", "cycle"):
        nodes.cut(lab, name, lose=lose)
    if action != "cut":
        nodes.power_on(lab, name)
        nodes.wait_for_ssh(current, node)
    if action == "reset" and name in current.legacy:
        predecessor.ensure(current, node)


def _status(name: str, *, as_json: bool) -> None:
    found = cluster.status(name)
    if as_json:
        print(json.dumps(found, indent=2), flush=True)
        return
    if not found["up"]:
        print(f"the lab {name!r} is not up")
        return
    release = f"Debian {found['suite']}, userland {found['userland']}"
    print(f"the lab {name!r}: {found['subnet']}, {release}")
    for node in found["nodes"]:
        state = "ssh" if node["ssh"] else "booting" if node["running"] else "off"
        print(f"  {node['name']:6} {node['role']:8} {node['address']:15} {state}")
