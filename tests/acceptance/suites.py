"""Choose the release of Debian of the acceptance tests' nodes, and list its versions."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tests.lab.plan import USERLANDS


@dataclass(frozen=True)
class Suite:
    """A release of Debian, with its versions of deployed programs as these print them."""

    name: str
    docker: str
    systemd: str
    rsyslog: str
    gluster: str


BOOKWORM = Suite("bookworm", docker="20.10.", systemd="252", rsyslog="8.2302.", gluster="10.")
TRIXIE = Suite("trixie", docker="26.1.", systemd="257", rsyslog="8.2504.", gluster="11.")

FORKY = Suite("forky", docker="28.", systemd="262", rsyslog="8.26", gluster="11.")

SUITE = {suite.name: suite for suite in (BOOKWORM, TRIXIE, FORKY)}[
    os.environ.get("ACCEPTANCE_SUITE") or TRIXIE.name
]
"""ACCEPTANCE_SUITE=bookworm, or forky, runs the same tests on that."""

USERLAND = os.environ.get("ACCEPTANCE_USERLAND") or USERLANDS[0]
"""ACCEPTANCE_USERLAND=ubuntu26 runs the same tests with that."""

OPTIONS = ("--suite", SUITE.name, "--userland", USERLAND)
"""What tells `lab up` so."""
