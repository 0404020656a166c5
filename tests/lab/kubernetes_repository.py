"""The document root of https://pkgs.k8s.io, with stand-in packages.

Laid out and signed as the real one: a flat repository a minor version. The contents of the
packages are in the folder `kubernetes`, one tree a package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab import apt_repository
from tests.lab.apt_repository import ARCHITECTURES, SigningKey
from tests.lab.programs import compile_program, labelled

TREES = Path(__file__).parent / "kubernetes"

CORE = ("kubelet", "kubeadm", "kubectl")
RELEASES: dict[str, dict[str, tuple[str, ...]]] = {
    "1.28": {
        **dict.fromkeys(CORE, ("1.28.14-2.1", "1.28.15-1.1")),
        "cri-tools": ("1.27.1-1.1", "1.28.0-1.1"),
        "kubernetes-cni": ("1.1.1-2.1", "1.2.0-2.1"),
    },
    "1.34": {
        **dict.fromkeys(CORE, ("1.34.1-1.1", "1.34.2-1.1")),
        "cri-tools": ("1.33.0-1.1", "1.34.0-1.1"),
        "kubernetes-cni": ("1.6.2-1.1", "1.7.1-1.1"),
    },
    "1.35": {
        **dict.fromkeys(CORE, ("1.35.0-1.1", "1.35.1-1.1")),
        "cri-tools": ("1.34.0-1.1", "1.35.0-1.1"),
        "kubernetes-cni": ("1.7.1-1.1", "1.8.0-1.1"),
    },
    "1.36": {
        **dict.fromkeys(CORE, ("1.36.1-1.1", "1.36.2-1.1")),
        "cri-tools": ("1.35.0-1.1", "1.36.0-1.1"),
        "kubernetes-cni": ("1.7.1-1.1", "1.8.0-1.1"),
    },
    "1.37": {
        **dict.fromkeys(CORE, ("1.37.0-1.1", "1.37.1-1.1")),
        "cri-tools": ("1.36.0-1.1", "1.37.0-1.1"),
        "kubernetes-cni": ("1.8.0-1.1", "1.9.0-1.1"),
    },
}
"""Minor version to the versions of each package in its repository, older first."""

_SUMMARIES = {
    "kubelet": "Node agent for Kubernetes clusters",
    "kubeadm": "Command-line utility for administering a Kubernetes cluster",
    "kubectl": "Command-line utility for interacting with a Kubernetes cluster",
    "cri-tools": "Command-line utility for interacting with a container runtime",
    "kubernetes-cni": "Binaries required to provision kubernetes container networking",
}

# Packages are the same bytes whenever they are built.
_EPOCH = 1735689600


def build(directory: Path, key: SigningKey) -> None:
    """Write the repositories `core:/stable:/vMINOR/deb/` under DIRECTORY, signed by KEY."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Consumed for the exceptions.
        list(pool.map(lambda minor: _repository(directory, key, minor), RELEASES))
    for minor in RELEASES:
        root = _root(directory, minor)
        origin = f"obs://build.opensuse.org/isv:kubernetes:core:stable:v{minor}/deb"
        apt_repository.index(root, key, origin=origin, suite="deb", codename="deb", components=None)


def depends(package: str, version: str) -> str:
    """Return what the real PACKAGE of this VERSION depends on.

    From the packages' templates in github.com/kubernetes/release: #3722 and #4106 dropped some of
    kubelet's (the last between 1.34.1 and 1.34.2), #3481 and #3626 all of kubeadm's (the last,
    cri-tools, with 1.32).
    """
    old = version.startswith("1.28.")
    if package == "kubelet":
        more = ", iproute2, conntrack, ethtool" if old or version.startswith("1.34.1-") else ""
        more += ", ebtables, socat" if old else ""
        return f"iptables (>= 1.4.21), kubernetes-cni (>= 1.2.0), mount, util-linux{more}"
    if package == "kubeadm" and old:
        return (
            "kubelet (>= 1.19.0), kubectl (>= 1.19.0), kubernetes-cni (>= 1.2.0), "
            "cri-tools (>= 1.28.0)"
        )
    return ""


def _root(directory: Path, minor: str) -> Path:
    return directory / "core:" / "stable:" / f"v{minor}" / "deb"


def _repository(directory: Path, key: SigningKey, minor: str) -> None:
    """Write the packages of a minor version and the key; what an earlier build left goes."""
    root = _root(directory, minor)
    shutil.rmtree(root, ignore_errors=True)
    for architecture in ARCHITECTURES:
        (root / architecture).mkdir(parents=True)
    shutil.copyfile(key.armored, root / "Release.key")
    for package, versions in RELEASES[minor].items():
        for version in versions:
            _package(root, package, version)


def _package(root: Path, package: str, version: str) -> None:
    """Write the package for both architectures, from one tree."""
    with TemporaryDirectory() as scratch:
        tree = Path(scratch, package)
        compiled = fill(tree, package, version)
        for architecture in ARCHITECTURES:
            for target, program in compiled.items():
                target.write_bytes(labelled(program, architecture))
            (tree / "DEBIAN" / "control").write_text(_control(package, version, architecture))
            output = root / architecture / f"{package}_{version}_{architecture}.deb"
            subprocess.run(
                ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(output)],
                env={**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)},
                stdout=subprocess.DEVNULL,
                check=True,
            )


def fill(tree: Path, package: str, version: str) -> dict[Path, bytes]:
    """Copy the contents of PACKAGE to TREE, with this version in them; return its programs.

    What ends with .c is compiled, in its place.
    """
    compiled = {}
    upstream = version.partition("-")[0]
    (tree / "DEBIAN").mkdir(parents=True)
    for source in sorted(path for path in (TREES / package).rglob("*") if path.is_file()):
        if "__pycache__" in source.parts:
            continue
        target = tree / source.relative_to(TREES / package)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".c":
            target = target.with_suffix("")
            compiled[target] = compile_program(source, upstream)
            target.touch()
            target.chmod(0o755)
            continue
        target.write_text(source.read_text().replace("@VERSION@", upstream))
        # Not the checkout's own permissions: those depend on the user's umask.
        target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    for folder in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    return compiled


def _control(package: str, version: str, architecture: str) -> str:
    fields = {
        "Package": package,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "lab <lab@lab.invalid>",
        "Depends": depends(package, version),
        "Section": "net" if package in ("kubelet", "kubernetes-cni") else "admin",
        "Priority": "optional",
        "Homepage": "https://kubernetes.io",
        "Description": f"{_SUMMARIES[package]} (stand-in)\n"
        " A stand-in of the lab: it has the real package's layout and none of its function.",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
