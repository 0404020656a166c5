"""Write a block of host names into ``/etc/hosts``, and change nothing else in the file."""

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
    """Write host names and their addresses into a block of ``/etc/hosts``.

    + addresses: IPv4 address of each host name. If there are none, the file is not changed
    + warn_of_cloud_init: whether to warn if cloud-init rewrites the file at each boot. Pass
      ``False`` if the same run removes cloud-init

    A new block is added at the end of the file. An existing block stays in its place. Debian and
    Ubuntu write a line 127.0.1.1 with the node's own name. This line comes before a new block, so
    it wins over the address that the block has for the node.

    Raises `NodeError` if a marker line of the block is missing, repeated or out of order. Also
    raises `NodeError` if `addresses` is empty and the block has names.

    **Example:** ``write_hosts_block(name="Name the nodes", addresses={"pi1": "192.168.1.50"})``
    """
    before = observe(Content, path=PATH)
    if before is None:
        before = b"127.0.0.1 localhost\n::1 localhost\n"
    if not addresses:
        if names := names_in_block(before):
            raise NodeError(
                f"the block in {PATH} has the names {', '.join(names)}, but {setting('nodes')} "
                f"has no addresses: add the addresses to {setting('nodes')}, or undo the concern "
                "hosts_file to remove the block"
            )
        current()[1].noop(f"{PATH}: no addresses are wanted")
        return
    after = edit(before, addresses)
    for message in conflicts(before, addresses, observe(OwnName)):
        warn(message)
    manager = observe(CloudInit).manages_hosts
    if warn_of_cloud_init and manager:
        warn(
            f"cloud-init rewrites {PATH} at each boot, without the nodes' names, because "
            f"manage_etc_hosts is on in {manager}; set it to false there, or remove cloud-init"
        )
    todo = files.decide([File(PATH, after, merged=True)])
    yield from files.transaction(todo, noop=f"{PATH}: as wanted")


def edit(data: bytes, addresses: Mapping[str, str]) -> bytes:
    """Write a block of names and addresses into the content of a hosts file.

    This is a pure function.

    Returns the new content.

    + data: the file's present content. Everything outside the block stays as it is
    + addresses: address of each host name

    If the file does not end with a line feed, one is added before a new block. Raises `NodeError`
    if a marker line of the block is missing, repeated or out of order.
    """
    before, _, after = _parts(data)
    if before and not before.endswith(b"\n"):
        before += b"\n"
    lines = [f"{address} {name}\n".encode() for name, address in addresses.items()]
    head = BEGIN + b": written by its deploy, changes in this block are lost\n"
    return b"".join([before, head, *lines, END, b"\n", after])


def names_in_block(data: bytes) -> list[str]:
    """Return the host names in the block of a hosts file, [] without a block.

    This is a pure function.

    Raises `NodeError` if a marker line of the block is missing, repeated or out of order.
    """
    return [name for entry in entries(_parts(data)[1]) for name in entry.names]


def without_block(data: bytes) -> bytes:
    """Return the content of a hosts file without the block. This is a pure function.

    Raises `NodeError` if a marker line of the block is missing, repeated or out of order.
    """
    before, _, after = _parts(data)
    return before + after


def conflicts(data: bytes, addresses: Mapping[str, str], hostname: str = "") -> Iterator[str]:
    """Yield a warning for each contradiction between the block and another line.

    This is a pure function.

    A line contradicts the block if the line gives another address to a name in the block.

    + data: the content of the hosts file
    + addresses: address of each name in the block
    + hostname: the node's own name. A loopback address for it is no contradiction
    """
    own = hostname.partition(".")[0].lower()
    before, _, after = _parts(data)
    for line, address, names in entries(before + after):
        for name in names:
            wanted = addresses.get(name.lower(), address)
            loopback = address.startswith("127.") and name.lower() == own
            if address and wanted != address and not loopback:
                yield (
                    f"{PATH} also has the line {line!r}, but the address of {name} is {wanted}; "
                    f"remove {name} from that line"
                )


def _parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Split a hosts file into the lines before the block, the block, and the lines after it.

    Without a block, all lines are in the first part. Raises `NodeError` if a marker line of the
    block is missing, repeated or out of order.
    """
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    begins = [n for n, line in enumerate(lines) if line.strip().startswith(BEGIN)]
    ends = [n for n, line in enumerate(lines) if line.strip().startswith(END)]
    if not begins and not ends:
        return data, b"", b""
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise NodeError(
            f"{PATH} has the line {BEGIN.decode()!r} {len(begins)} times and {END.decode()!r} "
            f"{len(ends)} times, but it must have each line once, in this order. Remove all of "
            "these lines, and the lines with the nodes' addresses and names after the first one"
        )
    first, last = begins[0], ends[0] + 1
    return b"".join(lines[:first]), b"".join(lines[first:last]), b"".join(lines[last:])


UNDO = Undo(
    needed_when_joined=True,
    take_out={PATH: lambda current, original, written: without_block(current)},
)
