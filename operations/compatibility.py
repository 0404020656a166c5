"""Tell which versions of Docker, cri-dockerd, Kubernetes and etcd work together, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chaos_engine.facts.text import setting

CRI_DOCKERD = setting("cri_dockerd_version")
NEWEST = {(0, 3): 25, (0, 4): 3}
"""The newest known patch release of each line (https://github.com/Mirantis/cri-dockerd/tags)."""


def oldest_docker(version: str) -> int:
    """Return the oldest major release of Docker that a version of cri-dockerd can talk to.

    0.4.0 and 0.4.1 need API 1.42 at least, which came with Docker 23 (``MinimumDockerAPIVersion``
    in ``libdocker/client.go``).
    """
    return 23 if (0, 4, 0) <= _parse(version) < (0, 4, 2) else 20


def speaks_api_1_44(version: str) -> bool:
    """Tell whether a version of cri-dockerd speaks API 1.44, which Docker 29.0 to 29.2 demand.

    Docker 29.3 went back to 1.40 (``defaultMinAPIVersion`` in ``daemon/config/config.go`` of moby's
    tags docker-v29.0.0 to docker-v29.7.2; docker/for-win#14997). cri-dockerd speaks 1.41 or newer
    since 0.3.0, and 1.44 or newer in 0.3.12 and since 0.3.16 (``DefaultVersion`` in
    ``vendor/github.com/docker/docker/api/common.go`` of each tag).
    """
    parsed = _parse(version)
    return parsed >= (0, 3, 16) or parsed == (0, 3, 12)


def major(docker: str) -> int | None:
    """Return Docker's major release, ``None`` if the text is no version.

    + docker: Docker's version, or its package's version, which may have an epoch
    """
    match = re.match(r"(?:\d+:)?(\d+)\.", docker)
    return int(match.group(1)) if match else None


def misfit(version: str, docker: str) -> str:
    """Say why this cri-dockerd cannot talk to this Docker, "" if it can.

    + version: version of cri-dockerd
    + docker: version of Docker or of its package
    """
    found, oldest = major(docker), oldest_docker(version)
    if found is not None and found < oldest:
        return (
            f"cri-dockerd {version} needs Docker {oldest} or newer, the node has {docker}; "
            f"set {CRI_DOCKERD} to 0.4.2 or newer"
        )
    if re.match(r"(\d+:)?29\.[0-2]\.", docker) and not speaks_api_1_44(version):
        return (
            f"cri-dockerd {version} cannot talk to Docker 29.0 to 29.2, the node has {docker}; set "
            f"{CRI_DOCKERD} to 0.3.16 or newer, or install Docker 29.3"
        )
    return ""


def kubernetes_misfit(version: str, kubernetes: str) -> str:
    """Say why this cri-dockerd cannot serve this kubelet, "" if it can.

    + version: version of cri-dockerd
    + kubernetes: version of kubelet

    Since 1.26 kubelet needs version 1 of the CRI, which cri-dockerd has since 0.3.0
    (Mirantis/cri-dockerd#136). From 1.38 on kubelet needs a runtime that tells it the cgroup driver
    (KEP-4033). cri-dockerd does so since 0.3.17 at the latest.
    """
    minor = int(kubernetes.split(".")[1])
    for since, needed in ((38, (0, 3, 17)), (26, (0, 3, 0))):
        if minor >= since and _parse(version) < needed:
            least = ".".join(map(str, needed))
            return (
                f"Kubernetes 1.{since} and newer need cri-dockerd {least} or newer, and "
                f"{setting('kubernetes_version')} is {kubernetes}, {CRI_DOCKERD} {version}; "
                "raise the latter"
            )
    return ""


def feature_gates(version: str, kubernetes: str) -> dict[str, bool]:
    """Return the feature gates that kubelet needs beside this cri-dockerd: on or off, by name.

    + version: version of cri-dockerd
    + kubernetes: version of kubelet

    From 1.36 on kubelet itself opens cri-dockerd's URL for ``kubectl exec`` and ``attach``. Up to
    0.4.4 cri-dockerd gives a URL without a scheme, which kubelet reads as https (``BaseURL`` in
    ``cmd/server.go``; Mirantis/cri-dockerd#560, #569). In 1.36 and 1.37 a feature gate, which is
    Beta, turns this off. In 1.38 the feature is to be stable (kubernetes/enhancements#6364). Its
    gate may then be locked, and kubelet does not start if a locked gate is turned off. So none is
    returned from 1.38 on.
    """
    minor = int(kubernetes.split(".")[1])
    if minor in (36, 37) and _parse(version) <= (0, 4, 4):
        return {"ExtendWebSocketsToKubelet": False}
    return {}


def exec_fault(version: str, kubernetes: str) -> str:
    """Say that ``kubectl exec`` may fail with these versions, "" if it works.

    + version: version of cri-dockerd
    + kubernetes: version of kubelet

    Where `feature_gates` returns a gate, the gate makes exec work.
    """
    if int(kubernetes.split(".")[1]) < 38 or _parse(version) > (0, 4, 4):
        return ""
    return (
        f"kubectl exec and attach may fail with Kubernetes {kubernetes} and cri-dockerd {version} "
        f"(Mirantis/cri-dockerd#569); set {CRI_DOCKERD} to a release newer than 0.4.4 "
        "that fixes it, or stay at 1.37"
    )


def pause_image(kubernetes: str) -> str:
    """Return the name of the pause container's image that kubeadm of this version pulls.

    If cri-dockerd uses another image, ``kubeadm init`` and ``join`` warn, and the card has one
    image more. The tags are ``PauseVersion`` in kubeadm's ``app/constants/constants.go``.
    """
    minor = int(kubernetes.split(".")[1])
    tags = ((36, "3.10.2"), (34, "3.10.1"), (31, "3.10"), (26, "3.9"), (25, "3.8"), (0, "3.7"))
    return f"registry.k8s.io/pause:{next(tag for since, tag in tags if minor >= since)}"


def least_etcd(kubernetes: str) -> tuple[int, int, int] | None:
    """Return the oldest external etcd that kubeadm of this version accepts, ``None`` if unknown.

    The source is ``MinExternalEtcdVersion`` in kubeadm's ``app/constants/constants.go``; tried with
    kubeadm 1.36.2.
    """
    return (3, 5, 24) if int(kubernetes.split(".")[1]) >= 36 else None


def etcd_misfit(kubernetes: str, found: Mapping[str, str]) -> str:
    """Say which etcd servers kubeadm of this version refuses as too old, "" if none.

    + found: version of each server by its address, "" for a server that did not answer
    """
    least = least_etcd(kubernetes)
    old = [
        f"{version} on {server}"
        for server, version in sorted(found.items())
        if least and version and _parse(version.partition("-")[0]) < least
    ]
    if not old or not least:
        return ""
    return (
        f"etcd {', '.join(old)}: kubeadm {kubernetes} refuses an etcd older than "
        f"{'.'.join(map(str, least))}; upgrade etcd before kubeadm init or upgrade"
    )


def outdated(version: str) -> str:
    """Say that a newer cri-dockerd of the same minor version is known, "" if none is."""
    *line, patch = _parse(version)
    newest = NEWEST.get((line[0], line[1]))
    if newest is None or patch >= newest:
        return ""
    return f"cri-dockerd {version} is old; consider {CRI_DOCKERD} = {line[0]}.{line[1]}.{newest}"


def _parse(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: (0, 4, 3) for "0.4.3"."""
    return tuple(int(number) for number in version.split("."))
