"""Types of the values of settings. Types of texts are in `operations.engine.arguments`."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from chaos_engine.operations.engine.arguments import Folder

VOLATILE = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp")
"""Folders whose content is or may be lost at the next boot."""


def _text(value: object) -> object:
    """Refuse a value that is neither text, an address nor a network."""
    # Python takes the number 42 for an address too, 0.0.0.42
    if not isinstance(value, str | IPv4Address | IPv4Network):
        raise ValueError('it has to be text, in quotes, as "192.168.1.42"')
    return value


def _of_a_machine(address: IPv4Address) -> IPv4Address:
    """Refuse an address that no other machine can have."""
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_reserved:
        raise ValueError("no other machine is reached by that; give an address of the LAN")
    return address


def _with_prefix(value: object) -> object:
    """Return a network. Refuse one without a prefix, or with a host part, as 192.168.1.5/24."""
    try:
        network = IPv4Network(value, strict=False)
    except ValueError:
        return value
    address, slash, _ = str(value).partition("/")
    if not slash:
        raise ValueError(f"its prefix is missing, as in {address.rpartition('.')[0]}.0/24")
    if str(network.network_address) != address:
        raise ValueError(f"that is a machine's address in the network {network}")
    return network


def _number(value: object) -> object:
    """Refuse True and False."""
    if isinstance(value, bool):  # Python takes True and False for 1 and 0
        raise ValueError("it has to be a number")
    return value


def _file(path: str) -> str:
    """Refuse the content of a file in place of its path."""
    if "PRIVATE KEY" in path or "\n" in path:
        raise ValueError("that is a file's content; save it in a file, and give the file's path")
    if not path.strip() or "\0" in path:
        raise ValueError("it has to be the path of a file")
    return path


def _without_dots(folder: str) -> str:
    """Refuse a path with . or .. in it."""
    if {".", ".."} & {*folder.split("/")}:
        raise ValueError("give the folder itself, without . and ..")
    return folder


def _lasting(folder: str) -> str:
    """Refuse a folder whose content does not last."""
    for top in VOLATILE:
        if f"{folder}/".startswith(f"{top}/"):
            raise ValueError(f"what is in {top} does not stay there; choose another folder")
    return folder


MachineAddress = Annotated[IPv4Address, BeforeValidator(_text), AfterValidator(_of_a_machine)]
MachineAddressOrNone = Annotated[
    MachineAddress | None,
    # Only the word none means no address; Python's None is refused, since it may be a mistake
    BeforeValidator(lambda value: None if value == "none" else _text(value)),
]
"""An address, or ``None`` where the setting is the word ``none``."""
Network = Annotated[IPv4Network, BeforeValidator(_with_prefix), BeforeValidator(_text)]
Number = Annotated[int, BeforeValidator(_number)]
LocalFile = Annotated[str, AfterValidator(_file)]
LocalFileOrNone = Annotated[str, AfterValidator(lambda path: path and _file(path))]
PlainFolder = Annotated[Folder, AfterValidator(_without_dots)]
LastingFolder = Annotated[PlainFolder, AfterValidator(_lasting)]
