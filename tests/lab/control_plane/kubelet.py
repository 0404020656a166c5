"""What the lab's stand-in for kubelet does for its cluster while it runs.

It registers its node, renews the node's lease, and keeps the static pods of a controller, with the
mirror pods by which the cluster sees them. kube-apiserver is the only one that runs: it is started
anew when its manifest has changed, and by a kubelet of another minor version, as in real upgrades.
Unlike a real one it writes into the store by itself, so it also does that while no API server
answers.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from . import objects as made
from .store import Objects, Store

MANIFESTS = Path("/etc/kubernetes/manifests")
SERVER = "kube-apiserver"
SERVICE = "lab-apiserver.service"
STARTED_WITH = Path("/run/lab-apiserver/started-with")
"""The hash of the manifest that the running kube-apiserver has, and kubelet's minor version."""

MIRROR_LAG_SECONDS = 30.0
"""How long a mirror pod says Ready after its container has ended: 31 s were seen."""


class Kubelet:
    """The kubelet of a node with an ADDRESS, of VERSION, in the cluster of STORE."""

    def __init__(self, store: Store, name: str, address: str, version: str) -> None:
        self.store, self.name, self.address, self.version = store, name, address, version
        self._answered = float("-inf")
        self._server: str | None = None

    def register(self) -> None:
        """Make the Node, or say how it is now; all else of one that is known stays."""
        key, now = f"nodes/{self.name}", made.node(self.name, self.address, self.version)
        with self.store.transaction() as objects:
            if key in objects:
                now = {**objects[key], "status": now["status"]}
            objects.put(key, now)
        self.store.beat(self.name)

    def beat(self, moment: float, *, static: Mapping[str, str], answers: bool) -> None:
        """Tell the cluster how the node is at a MOMENT of a clock.

        + static: the hash of the manifest of each static pod, by name
        + answers: whether the kube-apiserver is ready
        """
        server = static.get(SERVER, "")
        if self._server not in (None, server):
            # Another pod, which has not been ready yet
            self._answered = float("-inf")
        elif answers:
            self._answered = moment
        self._server = server
        ready = moment - self._answered <= MIRROR_LAG_SECONDS
        with self.store.transaction() as objects:
            # A real one of a node that was deleted does not register it again until it restarts
            if f"nodes/{self.name}" not in objects:
                return
            self._mirror(objects, static, ready=ready)
        self.store.beat(self.name)

    def _mirror(self, objects: Objects, static: Mapping[str, str], *, ready: bool) -> None:
        for pod in objects.of("pods", "kube-system"):
            metadata = pod["metadata"]
            shown = metadata.get("annotations", {}).get(made.HASH)
            if shown is None or pod["spec"].get("nodeName") != self.name:
                continue
            if static.get(metadata["labels"]["component"]) != shown:
                objects.remove(f"pods/kube-system/{metadata['name']}")
        for component, digest in static.items():
            key = f"pods/kube-system/{component}-{self.name}"
            pod = objects.get(key) or made.mirror_pod(
                component, objects[f"nodes/{self.name}"], digest
            )
            works = ready or component != SERVER
            condition = {"type": "Ready", "status": "True" if works else "False"}
            status = {"phase": "Running", "conditions": [condition]}
            if pod.get("status") != status:
                objects.put(key, {**pod, "status": status})


def flags(process: str) -> dict[str, str]:
    """Return the flags of a process as `--name=value` by name; none if it has ended."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except OSError:
        return {}
    pairs = (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def systemctl(*words: str) -> str:
    """Run systemctl and return what it prints, whatever its status."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def own_address() -> str:
    """Return the address that this node has on the LAN."""
    links = json.loads(subprocess.check_output(["ip", "-json", "-4", "address", "show", "eth0"]))
    return str(links[0]["addr_info"][0]["local"])


def digests(folder: Path) -> dict[str, str]:
    """Return the hash of each manifest in a folder, by the name of its static pod."""
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            found[file.stem] = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        except FileNotFoundError:  # moved away meanwhile
            continue
    return found


def keep_server(digest: str | None, minor: str) -> str | None:
    """Start, restart and stop the kube-apiserver, whose container needs Docker.

    Return the hash of the manifest that it was started with, None if there is none.

    + digest: the hash of its manifest, None if it has none
    + minor: the minor version of this kubelet
    """
    active, docker = systemctl("is-active", SERVICE, "docker.service").split()
    if digest is None:
        if active != "inactive":
            systemctl("stop", SERVICE)
        return None
    wanted = f"{digest} {minor}"
    started = STARTED_WITH.read_text() if STARTED_WITH.exists() else wanted
    if docker == "active" and (active == "inactive" or (active == "active" and started != wanted)):
        systemctl("restart", "--no-block", SERVICE)
        started = wanted
    STARTED_WITH.parent.mkdir(exist_ok=True)
    STARTED_WITH.write_text(started)
    return started.split()[0]


def is_ready() -> bool:
    """Whether the kube-apiserver of this node is ready."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = "https://127.0.0.1:6443/readyz"
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def main(folder: str) -> None:
    """Do it until this process is ended, with kubelet's store in FOLDER."""
    process = systemctl("show", "--property=MainPID", "--value", "kubelet")
    given = flags(process)
    if not given:
        raise SystemExit("kubelet has ended")
    version = subprocess.check_output(["/usr/bin/kubelet", "--version"], text=True).split()[1]
    kubelet = Kubelet(
        Store(Path(folder)),
        given.get("hostname-override") or socket.gethostname(),
        given.get("node-ip") or own_address(),
        version,
    )
    kubelet.register()
    while True:
        static = digests(MANIFESTS)
        running = keep_server(static.pop(SERVER, None), version.split(".")[1])
        if running is not None:
            static[SERVER] = running
        kubelet.beat(time.monotonic(), static=static, answers=running is not None and is_ready())
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
