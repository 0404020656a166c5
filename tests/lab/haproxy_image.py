"""An image of HAProxy, laid out like Docker's official one, with the program of Debian.

The official one: github.com/docker-library/haproxy, Dockerfile-debian.template. Unlike there, no
more of Debian is in it than HAProxy needs, a shell and a few programs to look around.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path, PurePath

from tests.lab import builders, linux
from tests.lab.errors import LabError
from tests.lab.registry_storage import Image

PACKAGES = ("haproxy", "base-files", "coreutils", "dash")

_ID = 99
_PROGRAM = "usr/sbin/haproxy"
_TOOLS = ("usr/bin/sh", "usr/bin/cat", "usr/bin/id", "usr/bin/ls", "usr/bin/sleep")
_ENTRYPOINT = """\
#!/bin/sh
set -e
case ${1-} in
    -*) set -- haproxy "$@" ;;
esac
# A master with its worker (SIGUSR2 reloads), not in the background.
if [ "${1-}" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
"""
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    f"haproxy:x:{_ID}:{_ID}::/var/lib/haproxy:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\nhaproxy:x:{_ID}:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_LINKS = {
    **{name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")},
    "var/run": "/run",
}
# Images are the same bytes whenever they are made from the same packages.
_CREATED = datetime(2025, 1, 1, tzinfo=timezone.utc)
_LIST_LIBRARIES = 'for program; do LD_TRACE_LOADED_OBJECTS=1 "$program"; done'


_Member = tuple[tarfile.TarInfo, bytes]


def make(root: Path) -> tuple[str, Image]:
    """Return HAProxy's version and the image, from PACKAGES unpacked in ROOT with merged /usr."""
    package = next((root / builders.DOWNLOADED).glob("haproxy_*.deb"))
    version, architecture = parse_package(package.name)
    programs = [f"/{name}" for name in (_PROGRAM, *_TOOLS)]
    traced = linux.run("chroot", str(root), "/usr/bin/sh", "-c", _LIST_LIBRARIES, "sh", *programs)
    config = {
        "User": "haproxy",
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"HAPROXY_VERSION={version}",
        ],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
        "WorkingDir": "/var/lib/haproxy",
        "StopSignal": "SIGUSR1",
    }
    content = layer(root, libraries(traced))
    return version, Image(architecture, config, content, _CREATED.isoformat())


def parse_package(name: str) -> tuple[str, str]:
    """Return the upstream version and the architecture that the NAME of a .deb tells."""
    match = re.fullmatch(r"[^_]+_(?:\d+%3a)?([^_-]+)-[^_]+_([^_]+)\.deb", name)
    if match is None:
        raise LabError(f"{name}: not the name of a Debian package with a Debian revision")
    return match[1], match[2]


def libraries(traced: str) -> set[str]:
    """Return the files that programs load, from what the dynamic linker says of them."""
    missing = re.findall(r"(\S+) => not found", traced)
    if missing:
        raise LabError(f"libraries are missing: {', '.join(missing)}")
    return set(re.findall(r"(/\S+) \(0x", traced))


def layer(root: Path, loaded: set[str]) -> bytes:
    """Return the tar archive of the image's files: those that are LOADED, and its own."""
    content = io.BytesIO()
    members = {info.name: (info, data) for info, data in _members(root, loaded)}
    for parent in {str(parent) for name in members for parent in PurePath(name).parents[:-1]}:
        # Docker may give folders that are not listed a mode of its own.
        members.setdefault(parent, _folder(parent))
    with tarfile.open(fileobj=content, mode="w") as tar:
        for _, (info, data) in sorted(members.items()):
            info.mtime = int(_CREATED.timestamp())
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


def _members(root: Path, loaded: set[str]) -> Iterator[_Member]:
    for name in ("dev", "proc", "run", "sys"):
        yield _folder(name)
    yield _folder("root", 0o700)
    yield _folder("tmp", 0o1777)
    yield _folder("var/lib/haproxy", owner=_ID)
    for name, target in _LINKS.items():
        yield _link(name, target)
    for name, text in _FILES.items():
        yield _file(name, text.encode())
    yield _file("usr/local/bin/docker-entrypoint.sh", _ENTRYPOINT.encode(), 0o755)
    yield _file("usr/local/sbin/haproxy", (root / _PROGRAM).read_bytes(), 0o755)
    yield _file("etc/os-release", (root / "usr/lib/os-release").read_bytes())
    for error in (root / "etc/haproxy/errors").iterdir():
        yield _file(f"usr/local/etc/haproxy/errors/{error.name}", error.read_bytes())
    for path in (*_TOOLS, *loaded):
        # By the name that it is loaded by, wherever that links to.
        place = root / path.lstrip("/")
        real = (place.parent.resolve() / place.name).relative_to(root.resolve())
        yield _file(str(real), place.read_bytes(), 0o755)


def _folder(name: str, mode: int = 0o755, owner: int = 0) -> _Member:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
    return info, b""


def _link(name: str, target: str) -> _Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def _file(name: str, content: bytes, mode: int = 0o644) -> _Member:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    return info, content
