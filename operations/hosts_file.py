"""Keep a block of names in ``/etc/hosts``, and the rest of the file as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaos_engine.facts.cloud_init import CloudInit
from chaos_engine.facts.files import Content
from chaos_engine.facts.hosts import OwnName, entries
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import Address, DomainName
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.files import File
from chaos_engine.operations.undo import Undo

PATH = "/etc/hosts"
BEGIN = b"# BEGIN chaos-engine"
END = b"# END chaos-engine"


@converge(
    reads=lambda addresses, warn_of_cloud_init=True: [
        Read.of(Content, path=PATH),
        *files.reads([File(PATH, "", merged=True)]),
        Read.of(OwnName),
        Read.of(CloudInit),
    ]
)
def write_hosts_block(
    addresses: Mapping[DomainName, Address], warn_of_cloud_init: bool = True
) -> Commands:
    """Have names and their addresses in a block of ``/etc/hosts``.

    + addresses: IPv4 address of each name. Without any, the file is not changed. If its block has
      names then, the node is refused, since the names would be lost
    + warn_of_cloud_init: whether to warn if cloud-init writes the file anew at each boot; ``False``
      if the same run removes cloud-init

    A new block is added at the end, and an old one stays in its place. So the line 127.0.1.1 with
    the node's own name, which Debian and Ubuntu write, comes before the block and wins. Raises
    `NodeError` if the lines that begin and end the block are not one pair.

    **Example:** ``write_hosts_block(name="Name the nodes", addresses={"pi1": "192.168.1.50"})``
    """
    before = observe(Content, path=PATH)
    if before is None:
        before = b"127.0.0.1 localhost\n::1 localhost\n"
    if not addresses:
        if names := names_in_block(before):
            raise NodeError(
                f"the block in {PATH} has the names {', '.join(names)}, but this run has no "
                f"address for any name: put the addresses into {setting('nodes')}, or take the "
                "block out by undo of hosts_file"
            )
        current()[1].noop(f"{PATH}: no name has an address")
        return
    after = edit(before, addresses)
    for message in conflicts(before, addresses, observe(OwnName)):
        warn(message)
    manager = observe(CloudInit).manages_hosts
    if warn_of_cloud_init and manager:
        warn(
            f"cloud-init writes {PATH} anew at each boot, without these names, because of "
            f"manage_etc_hosts in {manager}: set that to false there, or remove cloud-init"
        )
    todo = files.decide([File(PATH, after, merged=True)])
    yield from files.transaction(todo, noop=f"{PATH}: as wanted")


def edit(data: bytes, addresses: Mapping[str, str]) -> bytes:
    """Return the content of a hosts file with the block for some names: a pure function.

    + data: the file's content, which stays as it is outside the block
    + addresses: address of each name

    A last line without a line feed gets one when the block is added after it. Raises `NodeError` as
    `write_hosts_block` does.
    """
    before, _, after = _parts(data)
    if before and not before.endswith(b"\n"):
        before += b"\n"
    lines = [f"{address} {name}\n".encode() for name, address in addresses.items()]
    head = BEGIN + b": written by its deploy, changes in this block are lost\n"
    return b"".join([before, head, *lines, END, b"\n", after])


def names_in_block(data: bytes) -> list[str]:
    """Return the names in the block, none if there is no block: a pure function.

    Raises `NodeError` as `write_hosts_block` does.
    """
    return [name for entry in entries(_parts(data)[1]) for name in entry.names]


def without_block(data: bytes) -> bytes:
    """Return the content of a hosts file without the block: a pure function.

    Raises `NodeError` as `write_hosts_block` does.
    """
    before, _, after = _parts(data)
    return before + after


def conflicts(data: bytes, addresses: Mapping[str, str], hostname: str = "") -> Iterator[str]:
    """Say which lines outside the block give another address to a name in it: a pure function.

    + data: the file's content
    + addresses: address of each name in the block
    + hostname: the node's own name, which may have a loopback address too
    """
    own = hostname.partition(".")[0].lower()
    before, _, after = _parts(data)
    for line, address, names in entries(before + after):
        for name in names:
            wanted = addresses.get(name.lower(), address)
            loopback = address.startswith("127.") and name.lower() == own
            if address and wanted != address and not loopback:
                yield (
                    f"{PATH} also has the line {line!r}, but {name} is {wanted}; "
                    f"take {name} out of that line"
                )


def _parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the lines before the block, the block, and the lines after it.

    Without a block, all lines are before it. Raises `NodeError` as `write_hosts_block` does.
    """
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    begins = [n for n, line in enumerate(lines) if line.strip().startswith(BEGIN)]
    ends = [n for n, line in enumerate(lines) if line.strip().startswith(END)]
    if not begins and not ends:
        return data, b"", b""
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise NodeError(
            f"{PATH} must have one line {BEGIN.decode()!r} and below it one {END.decode()!r}, or "
            f"neither; the first is there {len(begins)} times, the other {len(ends)} times: take "
            "these lines out, and the nodes' names that a run has written between them"
        )
    first, last = begins[0], ends[0] + 1
    return b"".join(lines[:first]), b"".join(lines[first:last]), b"".join(lines[last:])


UNDO = Undo(
    needed_when_joined=True,
    take_out={PATH: lambda current, original, written: without_block(current)},
)
