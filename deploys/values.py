"""Define types for the values of settings, such as addresses and folders.

Types that operations use too are in `operations.engine.arguments`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from chaos_engine.deploys.settings import did_you_mean
from chaos_engine.operations.engine.arguments import Folder

VOLATILE = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp")
"""Folders that may lose their content at the next boot."""


def _text(value: object) -> object:
    """Refuse a value that is not a text, an address or a network."""
    # IPv4Address would accept the number 42 as the address 0.0.0.42
    if not isinstance(value, str | IPv4Address | IPv4Network):
        raise ValueError('it has to be text, in quotes, such as "192.168.1.42"')
    return value


def _of_a_machine(address: IPv4Address) -> IPv4Address:
    """Refuse an address that cannot belong to another machine, such as 127.0.0.1."""
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_reserved:
        raise ValueError(
            "this address cannot belong to another machine; give an address of the LAN"
        )
    return address


def _with_prefix(value: object) -> object:
    """Convert a value to a network. Return it unchanged if it is neither network nor address.

    Refuse a value without a prefix, such as 192.168.1.0. Refuse the address of a machine, such as
    192.168.1.5/24.
    """
    try:
        network = IPv4Network(value, strict=False)
    except ValueError:
        return value
    address, slash, _ = str(value).partition("/")
    if not slash:
        raise ValueError(f"the prefix is missing; write it as in {address.rpartition('.')[0]}.0/24")
    if str(network.network_address) != address:
        raise ValueError(f"this is the address of a machine; its network is {network}")
    return network


def _number(value: object) -> object:
    """Refuse ``True`` and ``False``, which Python would accept as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("it has to be a number")
    return value


def _file(path: str) -> str:
    """Refuse a text that cannot be a path, such as the content of a file."""
    if "PRIVATE KEY" in path or "\n" in path:
        raise ValueError(
            "this is the content of a file; save the content to a file, and give the file's path"
        )
    if not path.strip() or "\0" in path:
        raise ValueError("it has to be the path of a file")
    return path


def _without_dots(folder: str) -> str:
    """Refuse a path that contains the folder ``.`` or ``..``."""
    if {".", ".."} & {*folder.split("/")}:
        raise ValueError("give the path of the folder without . and ..")
    return folder


def _lasting(folder: str) -> str:
    """Refuse a folder that may lose its content at the next boot."""
    for top in VOLATILE:
        if f"{folder}/".startswith(f"{top}/"):
            raise ValueError(f"{top} may lose its content at the next boot; choose another folder")
    return folder


def _split(value: object) -> object:
    """Split a text such as "docker,swap" into names. Return any other value unchanged."""
    return tuple(re.findall(r"[^\s,]+", value)) if isinstance(value, str) else value


def check_concern_names(
    names: Sequence[str], listed: Sequence[str], verb: str, others: Collection[str] = ()
) -> None:
    """Refuse an empty list, and a name that no concern has.

    + names: the value of the setting
    + listed: the names of concerns that the error message lists
    + verb: what the deploy does to the concerns, such as "undo"
    + others: names that are right too, but that the error message does not list

    Raises ``ValueError``, from which pydantic makes an error about the setting.
    """
    # If an empty list meant all concerns, an empty variable of a shell would undo everything
    if not names:
        raise ValueError(
            f"it is empty; give a concern's name, or remove the setting to {verb} all concerns"
        )
    known = {*listed, *others}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"{name} is no concern{hint}; concerns are {', '.join(listed)}")


MachineAddress = Annotated[IPv4Address, BeforeValidator(_text), AfterValidator(_of_a_machine)]
MachineAddressOrNone = Annotated[
    MachineAddress | None,
    # The word none means no address. Python's None is refused, because it may be a mistake
    BeforeValidator(lambda value: None if value == "none" else _text(value)),
]
"""The type of a setting that is an address or the word ``none``. The word becomes ``None``."""
Network = Annotated[IPv4Network, BeforeValidator(_with_prefix), BeforeValidator(_text)]
Number = Annotated[int, BeforeValidator(_number)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
"""The type of a setting that is a number greater than 0, with or without decimals."""
LocalFile = Annotated[str, AfterValidator(_file)]
LocalFileOrNone = Annotated[str, AfterValidator(lambda path: path and _file(path))]
PlainFolder = Annotated[Folder, AfterValidator(_without_dots)]
LastingFolder = Annotated[PlainFolder, AfterValidator(_lasting)]
ConcernNames = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""The type of a setting that names concerns: a list, or a text such as ``docker,swap``."""
