"""A computer on the cluster's LAN, as which `lab run` runs commands.

It is this computer with another network, and with mounts of its own over a few files: names,
trust and keys are the lab's there, and this computer's own are never touched.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.lab import linux, network
from tests.lab.cgroup import Group
from tests.lab.errors import LabError
from tests.lab.image import Images
from tests.lab.paths import CHECKOUT, LabPaths
from tests.lab.plan import Plan

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def prepare(plan: Plan, paths: LabPaths) -> None:
    """Write what the computer has in place of this computer's own files."""
    paths.etc.mkdir(parents=True, exist_ok=True)
    names = [f"{plan.address_of(name)} {name}" for name in plan.known]
    local = ["127.0.0.1 localhost", f"{plan.computer} {os.uname().nodename}"]
    (paths.etc / "hosts").write_text("\n".join([*local, *names]) + "\n")
    (paths.etc / "resolv.conf").write_text(f"nameserver {plan.gateway}\n")
    # Other sources of names, such as systemd-resolved, would ask outside the lab.
    own = Path("/etc/nsswitch.conf").read_text()
    switch = re.sub(r"(?m)^hosts:.*$", "hosts: files dns", own)
    (paths.etc / "nsswitch.conf").write_text(switch)
    trusted = _CERTIFICATES.read_text() + paths.web_authority.read_text()
    (paths.etc / "ca-certificates.crt").write_text(trusted)


def become(plan: Plan, command: Sequence[str]) -> None:
    """Become COMMAND, run on the LAN; standard input, output and exit status are its own."""
    paths = LabPaths(plan.name)
    Group.of(plan.name, network.COMPUTER).adopt()
    linux.enter_network(network.namespace(plan.name, network.COMPUTER))
    linux.enter_private_mounts()
    for name, target in (
        ("hosts", Path("/etc/hosts")),
        ("resolv.conf", Path("/etc/resolv.conf")),
        ("nsswitch.conf", Path("/etc/nsswitch.conf")),
        ("ca-certificates.crt", _CERTIFICATES),
    ):
        if target.exists():
            linux.bind(paths.etc / name, target.resolve())
    # ssh goes by the password database, libraries by $HOME.
    for home in {Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)}:
        folder = home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        linux.bind(paths.ssh, folder)
    files = Path.cwd() / "files"
    if Path("inventory.py").exists():
        # git does not see an empty folder.
        files.mkdir(exist_ok=True)
    if files.is_dir():
        linux.bind(paths.files, files)
        # This process may be in a folder below, which is another one from now on.
    os.chdir(os.getcwd())
    environment = _environment(paths)
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise LabError(f"{command[0]}: no such command")
    os.execve(program, list(command), environment)


def _environment(paths: LabPaths) -> dict[str, str]:
    """Return this computer's environment without what leads out of the lab."""
    environment = {
        key: value
        for key, value in os.environ.items()
        # A proxy is not on the LAN; an agent has other keys, and too many are refused.
        if not key.lower().endswith("_proxy") and key != "SSH_AUTH_SOCK"
    }
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        environment[variable] = str(_CERTIFICATES)
    environment["KUBECONFIG"] = str(paths.files / "kubeconfig")
    environment["KUBECACHEDIR"] = str(paths.kubectl_cache)
    kubectl = Images.from_json(paths.images.read_text()).kubectl
    for programs in (kubectl / "bin", CHECKOUT / ".venv/bin"):
        if programs.is_dir():
            environment["PATH"] = f"{programs}:{environment.get('PATH', os.defpath)}"
    return environment
