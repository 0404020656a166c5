"""What the lab's stand-in for kubelet does for its cluster while it runs.

It registers its node, renews the node's lease, and keeps the static pod of a controller,
kube-apiserver, with the mirror pod by which the cluster sees it. Unlike a real one it writes into
the store by itself, so it also does that while no API server answers.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from . import objects as made
from .store import Json, Objects, Store

MANIFEST = Path("/etc/kubernetes/manifests/kube-apiserver.yaml")
SERVICE = "lab-apiserver.service"

MIRROR_LAG_SECONDS = 30.0
"""How long a mirror pod says Ready after its container has ended: 31 s were seen."""


class Kubelet:
    """The kubelet of a node with an ADDRESS, of VERSION, in the cluster of STORE."""

    def __init__(self, store: Store, name: str, address: str, version: str) -> None:
        self.store, self.name, self.address, self.version = store, name, address, version
        self._answered = float("-inf")

    def register(self) -> None:
        """Make the Node, or say how it is now; all else of one that is known stays."""
        key, now = f"nodes/{self.name}", made.node(self.name, self.address, self.version)
        with self.store.transaction() as objects:
            if key in objects:
                now = {**objects[key], "status": now["status"]}
            objects.put(key, now)
        self.store.beat(self.name)

    def beat(self, moment: float, *, controller: bool, answers: bool) -> None:
        """Tell the cluster how the node is at a MOMENT of a clock.

        + controller: whether the node has a kube-apiserver
        + answers: whether that is ready
        """
        if answers:
            self._answered = moment
        ready = moment - self._answered <= MIRROR_LAG_SECONDS
        with self.store.transaction() as objects:
            # A real one of a node that was deleted does not register it again until it restarts
            if f"nodes/{self.name}" not in objects:
                return
            self._mirror(objects, controller=controller, ready=ready)
        self.store.beat(self.name)

    def _mirror(self, objects: Objects, *, controller: bool, ready: bool) -> None:
        key = f"pods/kube-system/kube-apiserver-{self.name}"
        if not controller:
            if key in objects:
                objects.remove(key)
            return
        pod: Json = objects.get(key) or made.mirror_pod(
            "kube-apiserver", objects[f"nodes/{self.name}"]
        )
        condition = {"type": "Ready", "status": "True" if ready else "False"}
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


def keep_static_pod(present: bool) -> None:
    """Start and stop the kube-apiserver, whose container needs Docker."""
    active, docker = systemctl("is-active", SERVICE, "docker.service").split()
    if present and active == "inactive" and docker == "active":
        systemctl("start", "--no-block", SERVICE)
    if not present and active != "inactive":
        systemctl("stop", SERVICE)


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
    version = subprocess.check_output(["/usr/bin/kubelet", "--version"], text=True).split()[1]
    kubelet = Kubelet(
        Store(Path(folder)),
        given.get("hostname-override") or socket.gethostname(),
        given.get("node-ip") or own_address(),
        version,
    )
    kubelet.register()
    while True:
        controller = MANIFEST.exists()
        keep_static_pod(controller)
        kubelet.beat(time.monotonic(), controller=controller, answers=controller and is_ready())
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
