"""Install Debian's package log2ram on a node of the lab."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from tests.bench.nodes import inside
from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.lab import builders
from tests.lab.plan import SUITES

# Debian 13 has no package log2ram. Forky's needs nothing but bash, so it runs there too. rsync,
# which it recommends, is that of the node's own release, with what that depends on
_FILES = {("forky", "log2ram"): "log2ram_*.deb", (SUITES[0], "rsync"): "*.deb"}

_PUT = """
mkdir -p /run/log2ram
base64 -d >/run/log2ram/{name} <<'END'
{text}
END
"""


def install(cluster: Cluster, node: str) -> None:
    """Install log2ram as its package does, and boot, which it needs for /var/log to be in RAM."""
    installed = set(cluster.exec(node, "dpkg-query -W -f '${Package}\\n'").split())
    if "log2ram" not in installed:
        script = "set -eu\n"
        with tempfile.TemporaryDirectory() as work:
            for (suite, package), files in _FILES.items():
                root = Path(work, suite)
                builders.unpack(suite, [package], root)
                for file in (root / builders.DOWNLOADED).glob(files):
                    if file.name.split("_")[0] not in installed:
                        text = base64.encodebytes(file.read_bytes()).decode()
                        script += _PUT.format(name=file.name, text=text)
        inside(cluster, node, f"{script}dpkg -i /run/log2ram/*.deb; sync -f /\n")
        cluster.power(node, "cycle")
    wait_for(
        f"log2ram on {node}",
        lambda: cluster.exec(node, "findmnt -no SOURCE /var/log", ok=False) == "log2ram",
    )
