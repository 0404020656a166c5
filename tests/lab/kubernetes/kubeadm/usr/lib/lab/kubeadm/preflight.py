"""The checks before anything is changed (cmd/kubeadm/app/preflight/checks.go)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from . import node, release
from .cluster import Etcd
from .node import Fatal

Found = tuple[list[str], list[str]]
"""Warnings and errors of a check."""

_MANIFESTS = "/etc/kubernetes/manifests"
_CPUS, _MEGABYTES = 2, 1700
_RETRIES, _RETRY_SECONDS = 3, 5.0


class Checks:
    """Runs checks by name; those that are to be ignored (names or ``all``) only warn."""

    def __init__(self, ignored: Iterable[str]) -> None:
        self._ignored = {name.lower() for name in ignored}
        self._errors: list[str] = []

    def add(self, name: str, check: Callable[[], Found]) -> None:
        """Run CHECK; print its warnings."""
        warnings, errors = check()
        if self._ignored & {"all", name.lower()}:
            warnings, errors = warnings + errors, []
        for text in warnings:
            print(f"\t[WARNING {name}]: {text}", file=sys.stderr, flush=True)
        self._errors += [f"\t[ERROR {name}]: {text}\n" for text in errors]

    def settle(self) -> None:
        """End kubeadm if there were errors."""
        if not self._errors:
            return
        head = "[preflight] Some fatal errors occurred:\n" + "".join(self._errors)
        hint = (
            "[preflight] If you know what you are doing, you can make a check non-fatal with "
            "`--ignore-preflight-errors=...`"
        )
        if release.MINOR >= 34:
            print(head + hint, file=sys.stderr, flush=True)
            raise Fatal("error execution phase preflight: preflight checks failed")
        raise Fatal(f"error execution phase preflight: {head}{hint}")


def root(ignored: Iterable[str]) -> None:
    """Refuse a user who is not root."""
    checks = Checks(ignored)
    errors = [] if os.geteuid() == 0 else ["user is not running as root"]
    checks.add("IsPrivilegedUser", lambda: ([], errors))
    checks.settle()


def for_init(config: dict[str, Any], cluster: dict[str, Any], ignored: Iterable[str]) -> None:
    """Check a node that becomes the first controller."""
    checks = Checks(ignored)
    _controller(checks, config["localAPIEndpoint"], cluster)
    _common(checks, config["nodeRegistration"], str(cluster["kubernetesVersion"]))
    checks.add("FileContent--proc-sys-net-ipv4-ip_forward", _forwarding)
    external = cluster["etcd"].get("external")
    if external is not None:
        checks.add("ExternalEtcdVersion", lambda: ([], _etcd_versions(Etcd.of(cluster))))
        _etcd_files(checks, external)
    checks.settle()


def for_join(config: dict[str, Any], ignored: Iterable[str]) -> None:
    """Check a node that joins."""
    checks = Checks(ignored)
    for name in ("kubelet.conf", "bootstrap-kubelet.conf"):
        _available(checks, f"/etc/kubernetes/{name}")
    _common(checks, config["nodeRegistration"], "")
    if config.get("controlPlane") is None:
        _available(checks, config["caCertPath"])
    checks.settle()


def for_controller(
    config: dict[str, Any], cluster: dict[str, Any], ignored: Iterable[str], *, downloads: bool
) -> None:
    """Check a node that joins as a controller; certificates that it DOWNLOADS need not be there."""
    checks = Checks(ignored)
    _controller(checks, config["controlPlane"]["localAPIEndpoint"], cluster)
    external = cluster["etcd"].get("external")
    if external is not None and not downloads:
        _etcd_files(checks, external)
    checks.settle()


def _controller(checks: Checks, endpoint: dict[str, Any], cluster: dict[str, Any]) -> None:
    checks.add("NumCPU", _processors)
    checks.add("Mem", _memory)
    version = str(cluster["kubernetesVersion"])
    checks.add("KubernetesVersion", lambda: (_newer_than_kubeadm(version), []))
    for port in (endpoint["bindPort"], 10259, 10257):
        _free(checks, port)
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"):
        _available(checks, f"{_MANIFESTS}/{name}.yaml")


def _common(checks: Checks, registration: dict[str, Any], version: str) -> None:
    checks.add("CRI", lambda: ([], _runtime(registration["criSocket"])))
    checks.add("Swap", lambda: (_swap(), []))
    # kube-proxy needs it no more since 1.32 (kubernetes/kubernetes#126952)
    required = ["conntrack"] if release.MINOR < 32 else []
    for program in (*required, "ip", "iptables", "mount", "nsenter"):
        _program(checks, program, required=True)
    for program in ("ebtables", "ethtool", "socat", "tc", "touch"):
        _program(checks, program, required=False)
    name = registration["name"]
    checks.add("Hostname", lambda: (_unresolved(name), []))
    checks.add("KubeletVersion", lambda: ([], _kubelet(version)))
    checks.add("Service-Kubelet", lambda: (_kubelet_disabled(), []))
    _free(checks, 10250)


def _program(checks: Checks, program: str, *, required: bool) -> None:
    said = [] if node.in_path(program) else [f"{program} not found in system path"]
    checks.add(f"FileExisting-{program}", lambda: ([], said) if required else (said, []))


def _available(checks: Checks, path: str) -> None:
    errors = [f"{path} already exists"] if node.at(path).exists() else []
    checks.add(f"FileAvailable-{path.replace('/', '-')}", lambda: ([], errors))


def _etcd_files(checks: Checks, external: dict[str, Any]) -> None:
    for name in ("caFile", "certFile", "keyFile"):
        path = external.get(name)
        errors = [f"{path} doesn't exist"] if path and not node.at(path).exists() else []
        checks.add("ExternalEtcdClientCertificates", lambda errors=errors: ([], errors))  # type: ignore[misc]


def _free(checks: Checks, port: int) -> None:
    def check() -> Found:
        return [], [] if is_free(port) else [f"Port {port} is in use"]

    checks.add(f"Port-{port}", check)


def is_free(port: int) -> bool:
    """Return whether a program could listen on a port."""
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen()
        except OSError:
            return False
    return True


def _processors() -> Found:
    count = os.cpu_count() or 1
    text = f"the number of available CPUs {count} is less than the required {_CPUS}"
    return [], [text] if count < _CPUS else []


def _memory() -> Found:
    actual = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    text = f"the system RAM ({actual} MB) is less than the minimum {_MEGABYTES} MB"
    return [], [text] if actual < _MEGABYTES else []


def _forwarding() -> Found:
    path = "/proc/sys/net/ipv4/ip_forward"
    content = node.at(path).read_text().strip()
    return [], [f"{path} contents are not set to 1"] if content != "1" else []


def _newer_than_kubeadm(version: str) -> list[str]:
    if _numbers(version)[:2] <= (release.MAJOR, release.MINOR):
        return []
    return [
        "Kubernetes version is greater than kubeadm version. Please consider to upgrade kubeadm. "
        f"Kubernetes version: {version.lstrip('v')}. Kubeadm version: "
        f"{release.MAJOR}.{release.MINOR}.x"
    ]


def _runtime(endpoint: str) -> list[str]:
    problem = node.runtime_problem(endpoint)
    if not problem:
        return []
    return [
        "could not connect to the container runtime: failed to create new CRI runtime service: "
        f'validate service connection: validate CRI v1 runtime API for endpoint "{endpoint}": rpc '
        f'error: code = Unavailable desc = connection error: desc = "transport: Error while '
        f'dialing: {problem}"'
    ]


def _swap() -> list[str]:
    lines = node.at("/proc/swaps").read_text().splitlines()
    if len(lines) < 2:
        return []
    return [
        "swap is supported for cgroup v2 only. The kubelet must be properly configured to use "
        "swap. Please refer to "
        "https://kubernetes.io/docs/concepts/architecture/nodes/#swap-memory, or disable swap on "
        "the node"
    ]


def _unresolved(name: str) -> list[str]:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return [f'hostname "{name}" could not be reached', f'hostname "{name}": lookup {name}: no '
                "such host"]  # fmt: skip
    return []


def _kubelet(version: str) -> list[str]:
    try:
        said = subprocess.run(
            ["kubelet", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return [f"couldn't get kubelet version: {error}"]
    kubelet = said.split()[-1].lstrip("v")
    if _numbers(kubelet)[:2] < (release.MAJOR, release.MINOR - 3):
        text = f'Kubelet version "{kubelet}" is lower than kubeadm can support. '
        return [f"{text}Please upgrade kubelet"]
    if version and _numbers(kubelet)[:2] > _numbers(version)[:2]:
        return [
            "the kubelet version is higher than the control plane version. This is not a supported "
            "version skew and may lead to a malfunctional cluster. Kubelet version: "
            f'"{kubelet}" Control plane version: "{version.lstrip("v")}"'
        ]
    return []


def _kubelet_disabled() -> list[str]:
    if not node.systemctl("cat", "kubelet.service"):
        return ["kubelet service does not exist"]
    if not node.systemctl("is-enabled", "kubelet.service"):
        return ["kubelet service is not enabled, please run 'systemctl enable kubelet.service'"]
    return []


def _etcd_versions(etcd: Etcd) -> list[str]:
    errors = []
    for endpoint in etcd.endpoints:
        try:
            found = str(_patiently(etcd, endpoint)["etcdserver"])
        except FileNotFoundError as error:
            path = error.filename
            return [f"couldn't load external etcd's server certificate {path}: open {path}: no "
                    "such file or directory"]  # fmt: skip
        except (OSError, ValueError, KeyError) as error:
            errors.append(f'Get "{endpoint}/version": {error}')
            continue
        if _numbers(found) < _numbers(release.MIN_EXTERNAL_ETCD):
            errors.append(
                "this version of kubeadm only supports external etcd version >= "
                f"{release.MIN_EXTERNAL_ETCD}. Current version: {found}"
            )
    return errors


def _patiently(etcd: Etcd, endpoint: str) -> dict[str, Any]:
    """Return etcd's answer, after so many retries as kubeadm makes while it does not answer."""
    for _ in range(_RETRIES):
        try:
            return etcd.request(endpoint, "/version")
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(_RETRY_SECONDS)
    return etcd.request(endpoint, "/version")


def _numbers(version: str) -> tuple[int, ...]:
    core = version.lstrip("v").partition("-")[0].partition("+")[0]
    return tuple(int(number) for number in core.split("."))
