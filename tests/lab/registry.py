"""The registry of container images that answers in the lab for Docker's public one.

Debian's docker-registry, unpacked instead of installed: as an installed service it would run on
the developer's computer. It is bookworm's, because that runs with any C library since 2.34.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import builders, haproxy_image, registry_storage

NAME = "registry-1.docker.io"
"""Whom Docker asks for images whose name has no registry."""

_PROGRAM = "docker-registry"
_PACKAGES = {
    "trixie": haproxy_image.PACKAGES,
    "bookworm": (*haproxy_image.PACKAGES, _PROGRAM),
}


def build(place: Path) -> None:
    """Put the program and its storage, with the HAProxy of two Debians, at PLACE."""
    with tempfile.TemporaryDirectory(dir=place) as work, ThreadPoolExecutor() as pool:
        roots = {suite: Path(work, suite) for suite in _PACKAGES}
        jobs = [
            pool.submit(_add_haproxy, place / "storage", suite, root)
            for suite, root in roots.items()
        ]
        for job in jobs:
            job.result()
        shutil.copy2(roots["bookworm"] / "usr/bin" / _PROGRAM, place / _PROGRAM)


def command(piece: Path, configured: Path) -> list[str]:
    """Return the registry of PIECE, with its configuration in the file CONFIGURED.

    It writes a line for each request, as in Apache's combined log, to its standard output.
    """
    return [str(piece / _PROGRAM), "serve", str(configured)]


def configuration(piece: Path, address: str, certificate: Path, key: Path) -> str:
    """Return the configuration that serves the storage of PIECE, read-only, at ADDRESS."""
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(piece / "storage")},
            "maintenance": {"readonly": {"enabled": True}, "uploadpurging": {"enabled": False}},
        },
        "http": {
            "addr": f"{address}:443",
            # Signs the state of uploads, of which there are none; random, with a warning, if unset.
            "secret": "none",
            "tls": {"certificate": str(certificate), "key": str(key)},
        },
    }
    # JSON is YAML.
    return json.dumps(settings, indent=2)


def _add_haproxy(storage: Path, suite: str, root: Path) -> None:
    builders.unpack(suite, _PACKAGES[suite], root)
    version, image = haproxy_image.make(root)
    # 3.0.11 is found as 3.0, too.
    tags = (version, version.rpartition(".")[0])
    registry_storage.add(storage, "library/haproxy", tags, image)
