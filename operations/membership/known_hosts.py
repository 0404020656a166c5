"""Remove a machine's host keys from the file known_hosts of this computer's user."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from pyinfra.api.host import Host
from pyinfra.connectors.sshuserclient.client import get_ssh_config

SSH_PORT = 22

BACKUP = ".old"
"""What is appended to the file's name for the backup. ssh-keygen uses the same name."""


def names_and_files(host: Host, others: Iterable[str]) -> tuple[list[str], list[Path]]:
    """Return the names under which host keys are stored, and the files that pyinfra reads.

    + host: a host of the inventory
    + others: other names and addresses of the same machine

    They follow from the host's data in the inventory and from the user's ssh configuration.
    """
    data = host.data
    name = str(data.get("ssh_hostname") or host.name)
    config = get_ssh_config(data.get("ssh_config_file"))
    found = config.lookup(name) if config else {}
    port = int(data.get("ssh_port") or found.get("port") or SSH_PORT)
    names = [host.name, name, str(found.get("hostname", name)), *others]
    file = data.get("ssh_known_hosts_file")
    files = [str(file)] if file else str(found.get("userknownhostsfile", "")).split()
    paths = [Path(one).expanduser() for one in files or ["~/.ssh/known_hosts"]]
    return [known_name(one, port) for one in dict.fromkeys(names)], paths


def known_name(name: str, port: int) -> str:
    """Return the name of a machine as known_hosts has it: ``pi1``, or ``[pi1]:2222``."""
    return name if port == SSH_PORT else f"[{name}]:{port}"


def without(content: bytes, names: Collection[str]) -> tuple[bytes, int]:
    """Return the content of a file known_hosts without a machine's keys, and how many lines change.

    + content: content of the file. The format is described in sshd(8), "SSH_KNOWN_HOSTS FILE
      FORMAT"
    + names: names and addresses of the machine, each as `known_name` returns it

    A line may be for several names; then the other names keep it. Comments and lines with a marker,
    such as ``@revoked``, stay. A pattern with a wildcard, such as ``pi*``, stays too, because it is
    for other machines as well. All other bytes stay. This is a pure function.
    """
    wanted = {name.lower().encode() for name in names}
    kept, changed = [], 0
    for line in content.splitlines(keepends=True):
        remaining = _remaining(line, wanted)
        changed += remaining != line
        kept.append(remaining)
    return b"".join(kept), changed


def remove_from(path: Path, names: Collection[str]) -> str:
    """Remove a machine's host keys from a file known_hosts; return the problem, "" if none.

    + names: see `without`

    The file as it was becomes the backup. Its mode and owner stay.
    """
    try:
        path = path.resolve()
        before = path.read_bytes()
        after, changed = without(before, names)
        if not changed:
            return ""
        shutil.copy2(path, path.with_name(path.name + BACKUP))
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copystat(path, temporary)
        if os.geteuid() == 0:
            shutil.chown(temporary, path.stat().st_uid, path.stat().st_gid)
        os.replace(temporary, path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def count_in(path: Path, names: Collection[str]) -> int:
    """Return how many lines `remove_from` would change, 0 if the file cannot be read."""
    try:
        return without(path.read_bytes(), names)[1]
    except OSError:
        return 0


def _remaining(line: bytes, wanted: Collection[bytes]) -> bytes:
    """Return what remains of a line, b"" if all its names are wanted to be removed."""
    words = line.split(None, 1)
    if len(words) < 2 or words[0].startswith((b"#", b"@")):
        return line
    names = words[0].split(b",")
    kept = [name for name in names if not _is_one(name, wanted)]
    if len(kept) == len(names):
        return line
    # A negated name alone matches nothing
    if all(name.startswith(b"!") for name in kept):
        return b""
    return line.replace(words[0], b",".join(kept), 1)


def _is_one(name: bytes, wanted: Collection[bytes]) -> bool:
    """Tell whether a host name in ``known_hosts``, hashed or not, is one of the wanted names."""
    if not name.startswith(b"|1|"):
        return name.lower() in wanted
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in name[3:].split(b"|"))
    except (ValueError, binascii.Error):
        return False
    return any(
        hmac.compare_digest(hmac.new(salt, one, hashlib.sha1).digest(), digest) for one in wanted
    )
