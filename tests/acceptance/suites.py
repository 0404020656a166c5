"""The Debian that the acceptance tests' nodes are of, and what it brings that the tests look at."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """A release of Debian: the versions that it has of what is deployed, as programs say them."""

    name: str
    docker: str
    systemd: str
    rsyslog: str
    gluster: str


BOOKWORM = Suite("bookworm", docker="20.10.", systemd="252", rsyslog="8.2302.", gluster="10.")
TRIXIE = Suite("trixie", docker="26.1.", systemd="257", rsyslog="8.2504.", gluster="11.")

SUITE = {suite.name: suite for suite in (BOOKWORM, TRIXIE)}[
    os.environ.get("ACCEPTANCE_SUITE", TRIXIE.name)
]
"""ACCEPTANCE_SUITE=bookworm runs the same tests on that."""
