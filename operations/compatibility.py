"""Which versions of Docker, cri-dockerd, Kubernetes and etcd fit each other, and what it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chaos_engine.facts.text import setting

NEWEST = {(0, 3): 25, (0, 4): 3}
"""The newest known patch release of each line (https://github.com/Mirantis/cri-dockerd/tags)."""


def oldest_docker(version: str) -> int:
    """The oldest major release of Docker that a version of cri-dockerd talks to.

    0.4.0 and 0.4.1 want a server of API 1.42 at least, which Docker 23 is the first to have
    (``MinimumDockerAPIVersion`` in ``libdocker/client.go``).
    """
    return 23 if (0, 4, 0) <= _parse(version) < (0, 4, 2) else 20


def speaks_api_1_44(version: str) -> bool:
    """Whether a version of cri-dockerd speaks API 1.44, the least that Docker 29.0 to 29.2 take.

    Docker 29.3 went back to 1.40 (``defaultMinAPIVersion`` in ``daemon/config/config.go`` of moby's
    tags docker-v29.0.0 to docker-v29.7.2; docker/for-win#14997), and every release of cri-dockerd
    since 0.3.0 speaks 1.41 at least. They speak 1.44 or more since 0.3.16, and 0.3.12 did
    (``DefaultVersion`` in ``vendor/github.com/docker/docker/api/common.go`` of each tag).
    """
    parsed = _parse(version)
    return parsed >= (0, 3, 16) or parsed == (0, 3, 12)


def major(docker: str) -> int | None:
    """Docker's major release, from its version or its package's, which may have an epoch."""
    match = re.match(r"(?:\d+:)?(\d+)\.", docker)
    return int(match.group(1)) if match else None


def misfit(version: str, docker: str) -> str:
    """Why this cri-dockerd cannot talk to this Docker, or ""."""
    found, oldest = major(docker), oldest_docker(version)
    if found is not None and found < oldest:
        return (
            f"cri-dockerd {version} needs Docker {oldest} or newer, the node has {docker}; "
            f"set {setting('cri_dockerd_version')} to 0.4.2 or newer"
        )
    if re.match(r"(\d+:)?29\.[0-2]\.", docker) and not speaks_api_1_44(version):
        return (
            f"cri-dockerd {version} cannot talk to Docker 29.0 to 29.2, the node has {docker}; set "
            f"{setting('cri_dockerd_version')} to 0.3.16 or newer, or bring Docker 29.3"
        )
    return ""


def kubernetes_misfit(version: str, kubernetes: str) -> str:
    """Why this cri-dockerd does not serve this kubelet, or "".

    Since 1.26 the kubelet wants version 1 of the CRI, which cri-dockerd has since 0.3.0
    (Mirantis/cri-dockerd#136). From 1.38 on it wants to be told the cgroup driver (KEP-4033),
    which cri-dockerd does since 0.3.17 at the latest.
    """
    minor = int(kubernetes.split(".")[1])
    for since, needed in ((38, (0, 3, 17)), (26, (0, 3, 0))):
        if minor >= since and _parse(version) < needed:
            least = ".".join(map(str, needed))
            return (
                f"Kubernetes 1.{since} and newer need cri-dockerd {least} or newer, and "
                f"{setting('kubernetes_version')} is {kubernetes}, "
                f"{setting('cri_dockerd_version')} {version}; "
                "raise the latter"
            )
    return ""


def feature_gates(version: str, kubernetes: str) -> dict[str, bool]:
    """The gates that kubelet needs set beside this cri-dockerd, by name.

    + version: of cri-dockerd; kubernetes: of kubelet

    From 1.36 on kubelet itself calls the address at which cri-dockerd streams, for ``kubectl exec``
    and ``attach``, and takes one without a scheme for https. cri-dockerd's has none, in every
    release up to 0.4.4 (``BaseURL`` in ``cmd/server.go``; Mirantis/cri-dockerd#560, #569). The gate
    is Beta in 1.36 and 1.37. In 1.38 it is to be stable (kubernetes/enhancements#6364): the
    gate may be locked then, and kubelet does not start with a locked gate turned off.
    """
    minor = int(kubernetes.split(".")[1])
    if minor in (36, 37) and _parse(version) <= (0, 4, 4):
        return {"ExtendWebSocketsToKubelet": False}
    return {}


def exec_fault(version: str, kubernetes: str) -> str:
    """Why ``kubectl exec`` does not work with this pair, where no gate helps, or ""."""
    if int(kubernetes.split(".")[1]) < 38 or _parse(version) > (0, 4, 4):
        return ""
    return (
        f"kubectl exec and attach may fail with Kubernetes {kubernetes} and cri-dockerd {version} "
        f"(Mirantis/cri-dockerd#569); set {setting('cri_dockerd_version')} to a release newer "
        "than 0.4.4 "
        "that fixes it, or stay at 1.37"
    )


def pause_image(kubernetes: str) -> str:
    """The image of the pause container that kubeadm of this version pulls.

    Another one is a warning at ``kubeadm init`` and ``join``, and one more image on the card
    (``PauseVersion`` in kubeadm's ``app/constants/constants.go`` of each release).
    """
    minor = int(kubernetes.split(".")[1])
    tags = ((36, "3.10.2"), (34, "3.10.1"), (31, "3.10"), (26, "3.9"), (25, "3.8"), (0, "3.7"))
    return f"registry.k8s.io/pause:{next(tag for since, tag in tags if minor >= since)}"


def least_etcd(kubernetes: str) -> tuple[int, int, int] | None:
    """The oldest external etcd that kubeadm of this version accepts, ``None`` where nobody looked.

    ``MinExternalEtcdVersion`` in kubeadm's ``app/constants/constants.go``; seen with 1.36.2.
    """
    return (3, 5, 24) if int(kubernetes.split(".")[1]) >= 36 else None


def etcd_misfit(kubernetes: str, found: Mapping[str, str]) -> str:
    """Which of these etcd servers kubeadm of this version refuses, or "".

    + found: version by server; one that did not say it has ""
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
    """That there is a newer one of the same line, in words, or ""."""
    *line, patch = _parse(version)
    newest = NEWEST.get((line[0], line[1]))
    if newest is None or patch >= newest:
        return ""
    return (
        f"cri-dockerd {version} is old; consider {setting('cri_dockerd_version')} = "
        f"{line[0]}.{line[1]}.{newest}"
    )


def _parse(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
