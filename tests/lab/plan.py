"""What a lab consists of: its nodes, their addresses, its options. Pure: nothing is done here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network

from tests.lab.card_speed import SPEEDS
from tests.lab.errors import LabError

SUITES = ("trixie", "bookworm", "forky")
USERLANDS = ("debian", "ubuntu26")
"""Whose coreutils and sudo the workers have; images/ubuntu26 says what that is."""
WORKERS = tuple(f"pi{number}" for number in range(1, 51))
"""What workers may be called, in the order of their addresses."""
SITE = WORKERS[:10]
"""The workers of the Chaos Engine's own site."""
STORAGE = tuple(f"etcd{number}" for number in range(1, 4))
DEFAULT_WORKERS = ("pi1", "pi4", "pi5", "pi7")
NO_NODE = "none"

_GATEWAY, _COMPUTER, _REGISTRY, _FIRST_STORAGE, _FIRST_WORKER = 1, 2, 3, 40, 50
_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")
_CARD = re.compile(r"([a-z0-9]+)(?:=([0-9]{1,6})([MG]))?")
_CARD_MIB = 4096
_SMALLEST_CARD_MIB = 768
"""Less does not hold the image, and its packages while they are installed."""


@dataclass(frozen=True)
class Node:
    """A machine of the lab."""

    name: str
    role: str
    """`worker` or `storage`."""
    address: str

    @property
    def mac(self) -> str:
        """A hardware address in the Raspberry Pi's own range, the same at every boot."""
        octets = [int(part) for part in self.address.split(".")]
        return f"dc:a6:32:{octets[1]:02x}:{octets[2]:02x}:{octets[3]:02x}"


@dataclass(frozen=True)
class Plan:
    """The options of `up`, once they have been checked."""

    name: str
    subnet: str
    suite: str
    workers: tuple[str, ...]
    storage: tuple[str, ...]
    sudo_password: tuple[str, ...]
    """The workers whose sudo asks for the password."""
    swap: str
    """The one worker with active swap, or `none`."""
    legacy: tuple[str, ...] = ()
    """The workers that carry what this project's predecessor left."""
    card: tuple[str, ...] = ()
    """The workers whose disk is of limited size, as `NODE=MIBM`: `pi1=4096M`."""
    card_speed: str = ""
    """How slow these disks are, one of `card_speed.SPEEDS`; "" for as fast as this computer's."""
    like: str = ""
    """The folder with the disk that fresh workers begin with; "" for the image alone."""
    userland: str = USERLANDS[0]
    """One of USERLANDS."""

    @property
    def cards(self) -> dict[str, int]:
        """The size in MiB of each limited disk, by its worker."""
        pairs = (each.removesuffix("M").partition("=") for each in self.card)
        return {name: int(size) for name, _, size in pairs}

    @property
    def network(self) -> IPv4Network:
        return IPv4Network(self.subnet)

    def address(self, host: int) -> str:
        """Return the HOSTth address of the LAN."""
        return str(self.network.network_address + host)

    @property
    def gateway(self) -> str:
        return self.address(_GATEWAY)

    @property
    def computer(self) -> str:
        """The address of the computer that `lab run` runs commands as."""
        return self.address(_COMPUTER)

    @property
    def registry(self) -> str:
        """The address that container images are pulled from."""
        return self.address(_REGISTRY)

    def address_of(self, name: str) -> str:
        """Return the address of the node NAME, whether or not this lab has it."""
        if name in STORAGE:
            return self.address(_FIRST_STORAGE + STORAGE.index(name))
        return self.address(_FIRST_WORKER + WORKERS.index(name))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node: storage first, since it takes longest to be ready."""
        return tuple(
            [Node(name, "storage", self.address_of(name)) for name in self.storage]
            + [Node(name, "worker", self.address_of(name)) for name in self.workers]
        )

    @property
    def known(self) -> tuple[str, ...]:
        """The names that the lab's computers know addresses of: the site's, and its own."""
        return tuple(dict.fromkeys([*STORAGE, *SITE, *self.workers]))

    @property
    def storage_addresses(self) -> dict[str, str]:
        return {node.name: node.address for node in self.nodes if node.role == "storage"}

    def node(self, name: str) -> Node:
        """Return the node NAME."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise LabError(f"no node {name!r} in this lab; it has: {known}")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        fields = json.loads(text)
        for key in ("workers", "storage", "sudo_password", "card", "legacy"):
            fields[key] = tuple(fields.get(key, ()))
        return cls(**fields)


def check_name(text: str) -> str:
    """Return TEXT if a lab may be called so: the name becomes part of names of the kernel's."""
    if not _NAME.fullmatch(text):
        raise LabError(
            f"--name {text!r}: at most 16 lower-case letters, digits and '-', a letter first"
        )
    return text


def parse_workers(text: str) -> tuple[str, ...]:
    """Return the names that `--workers TEXT` means: a number of them, or a comma list."""
    if text.isdecimal():
        if not 0 <= int(text) <= len(WORKERS):
            raise LabError(f"--workers {text}: a number from 0 to {len(WORKERS)}, or names")
        return WORKERS[: int(text)]
    return _chosen("--workers", text, WORKERS)


def parse_storage(text: str) -> tuple[str, ...]:
    """Return the names that `--storage TEXT` means."""
    if not text.isdecimal() or int(text) > len(STORAGE):
        raise LabError(f"--storage {text}: a number from 0 to {len(STORAGE)}")
    return STORAGE[: int(text)]


def parse_card(text: str) -> str:
    """Return `NODE=MIBM` for `--card TEXT`: NODE, or NODE=SIZE with a suffix M or G."""
    found = _CARD.fullmatch(text)
    if found is None:
        raise LabError(f"--card {text}: NODE or NODE=SIZE, the size as 900M or 4G")
    node, number, unit = found.groups()
    mib = int(number) * {"M": 1, "G": 1024}[unit] if number else _CARD_MIB
    if mib < _SMALLEST_CARD_MIB:
        raise LabError(f"--card {text}: at least {_SMALLEST_CARD_MIB}M")
    return f"{node}={mib}M"


def parse_subnet(text: str) -> str:
    """Return `--subnet TEXT` if the lab's host numbers (up to .254) fit into it."""
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise LabError(f"--subnet {text}: {error}; example: 10.20.30.0/24") from error
    if not 8 <= network.prefixlen <= 24:
        raise LabError(f"--subnet {text}: the prefix is to be from /8 to /24")
    return str(network)


def make(
    *,
    name: str,
    subnet: str = "192.168.1.0/24",
    suite: str = SUITES[0],
    workers: tuple[str, ...] = DEFAULT_WORKERS,
    storage: tuple[str, ...] = STORAGE,
    sudo_password: Iterable[str] = (),
    swap: str | None = None,
    card: Iterable[str] = (),
    card_speed: str = "",
    legacy: Iterable[str] = (),
    like: str = "",
    userland: str = USERLANDS[0],
) -> Plan:
    """Return the plan of a lab, checked as a whole; SWAP None means the first worker."""
    if not workers and not storage:
        raise LabError("a lab without any node: choose --workers or --storage")
    if (suite, userland) == ("bookworm", "ubuntu26"):
        raise LabError(
            "--userland ubuntu26: bookworm has no package sudo-rs, and its rust-coreutils 0.0.17 "
            "is older than any that Ubuntu has used; choose --suite trixie or forky"
        )
    passwords, predecessors = tuple(sudo_password), tuple(legacy)
    sizes = {each.partition("=")[0]: each for each in map(parse_card, card)}
    if card_speed and card_speed not in SPEEDS:
        raise LabError(f"--card-speed {card_speed}: one of {', '.join(SPEEDS)}")
    if card_speed and not sizes:
        raise LabError(f"--card-speed {card_speed}: no worker has a card; add: --card NODE")
    if swap is None:
        swap = workers[0] if workers else NO_NODE
    chosen = [("--sudo-password", each) for each in passwords]
    chosen += [("--card", each) for each in sizes]
    chosen += [("--legacy", each) for each in predecessors]
    for option, node in [*chosen, ("--swap", swap)]:
        if node not in workers and not (option == "--swap" and node == NO_NODE):
            known = ", ".join(workers)
            raise LabError(f"{option} {node}: not a worker of this lab; it has: {known}")
    return Plan(
        name=check_name(name),
        subnet=parse_subnet(subnet),
        suite=suite,
        workers=workers,
        storage=storage,
        sudo_password=passwords,
        swap=swap,
        card=tuple(sizes.values()),
        card_speed=card_speed,
        legacy=predecessors,
        like=like,
        userland=userland,
    )


def _chosen(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise LabError(f"{option}: no {name!r}; there are {', '.join(known)}")
    # In the order of the addresses, and each once, however they were given.
    return tuple(name for name in known if name in names)
