"""make screenshot: docs/report.png and docs/report-phone.png, an example of the report's page.

Needs Debian's package chromium. The nodes are made up; all else is what `report` writes.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from chaos_engine.facts.certificates import CertificateState
from chaos_engine.facts.haproxy import ServerState
from chaos_engine.facts.thermal import ThermalState
from chaos_engine.facts.writers import Writer
from chaos_engine.operations.report.contents import (
    Found,
    NodeReport,
    Report,
    node_report,
    sample_of,
    unread_report,
)
from chaos_engine.operations.report.page import html
from chaos_engine.operations.report.wear import DAY, MB, Sample
from tests.unit.test_report import CARD

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOW = 1_795_000_000
RATING = 117
DAYS = 60

CONCERNS = (
    *("preflight", "uncordon", "hosts_file", "journald", "rsyslog", "log_mount", "docker"),
    *("packages", "swap", "cri_dockerd", "kubernetes", "etcd_certificates", "kernel"),
)

CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    *("--enable-logging=stderr", "--v=0"),
)
"""Chromium without a window. Root has no sandbox. The console of a page goes to stderr."""


def example() -> Report:
    """Return a report about five nodes: one writes more of late, one has problems, one is off."""
    found = Found(
        concerns={name: [] for name in CONCERNS},
        versions={
            "kernel": "6.12.34+rpt-rpi-v8",
            "docker": "26.1.5+dfsg1",
            "kubelet": "1.36.2-1.1",
            "system": "debian 13",
        },
        joined=True,
        skew=0,
        thermal=ThermalState(48.7, False, ()),
        certificates=(
            CertificateState("/etc/kubernetes/pki/ca.crt", "CN=kubernetes", NOW + 3000 * DAY, NOW),
            CertificateState("/etc/kubernetes/client.crt", "CN=etcd-client", NOW + 300 * DAY, NOW),
        ),
    )
    troubled = replace(
        found,
        concerns={
            **found.concerns,
            "log_mount": ["/var/log is in RAM; systemd keeps retrying the mount by itself"],
        },
        thermal=ThermalState(72.1, True, ("too low voltage since the boot",)),
    )
    servers = (ServerState("pi1", "UP", 60 * DAY), ServerState("pi4", "UP", 3 * DAY))
    return Report(
        NOW,
        (
            _node("pi1", replace(found, servers=servers), 5, 60),
            _node("pi4", found, 4, 6),
            _node("pi5", troubled, 5, 7),
            _node("pi7", found, 6, 7),
            unread_report("pi8", "Could not connect (timed out)", _samples(4, 5)[:40]),
        ),
    )


def _node(name: str, found: Found, before: int, after: int) -> NodeReport:
    """Return a node that writes so many MB a day, before and after the fortieth day."""
    *earlier, last = _samples(before, after)
    card = replace(CARD, written=last.written, uptime=last.uptime, boot_id=last.boot_id)
    identity = sample_of(card, NOW).card
    writers = (
        Writer("dockerd", 1, last.written // 2),
        Writer("containerd-shim", 12, last.written // 5),
        Writer("systemd", 3, last.written // 9),
        Writer("rsyslogd", 1, 400_000),
    )
    own = replace(found, card=card, writers=writers)
    return node_report(name, own, [replace(o, card=identity) for o in earlier], NOW, RATING)


def _samples(before: int, after: int) -> list[Sample]:
    """Return the counters of a report a day."""
    chance, written, found = random.Random(before * after), 0.0, []
    for day in range(1, DAYS + 1):
        written += (before if day < 40 else after) * MB * (1 + chance.random() / 2)
        found.append(Sample(NOW - (DAYS - day) * DAY, "", "boot", int(written), day * float(DAY)))
    return found


def shoot(page: Path, picture: Path, width: int, height: int) -> list[str]:
    """Take a picture of a page, and return what the page said on the console.

    Headless Chromium has no window as narrow as a phone, so the page is in a frame, which is cut.
    """
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<!DOCTYPE html><body style="margin:0"><iframe src="{page.name}" '
        f'style="border:0;width:{width}px;height:{height}px"></iframe>'
    )
    size = f"--window-size={max(width, 500)},{height}"
    done = subprocess.run(
        [*CHROMIUM, size, f"--screenshot={picture}", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def main() -> int:
    """Write the pictures."""
    if not shutil.which(CHROMIUM[0]):
        print("there is no chromium; install Debian's package chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "index.html"
        page.write_text(html(example(), "../docs/{page}.md"))
        for name, width, height in (("report.png", 1280, 1240), ("report-phone.png", 390, 1240)):
            if said := shoot(page, DOCS / name, width, height):
                print("\n".join(said), file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
