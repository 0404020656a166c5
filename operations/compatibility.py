"""Which versions of Docker, cri-dockerd and Kubernetes fit each other."""

from __future__ import annotations

import re

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
            "set chaos_cri_dockerd_version to 0.4.2 or newer"
        )
    if re.match(r"(\d+:)?29\.[0-2]\.", docker) and not speaks_api_1_44(version):
        return (
            f"cri-dockerd {version} cannot talk to Docker 29.0 to 29.2, the node has {docker}; set "
            "chaos_cri_dockerd_version to 0.3.16 or newer, or bring Docker 29.3"
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
                f"chaos_kubernetes_version is {kubernetes}, chaos_cri_dockerd_version {version}; "
                "raise the latter"
            )
    return ""


def outdated(version: str) -> str:
    """That there is a newer one of the same line, in words, or ""."""
    *line, patch = _parse(version)
    newest = NEWEST.get((line[0], line[1]))
    if newest is None or patch >= newest:
        return ""
    return (
        f"cri-dockerd {version} is old; consider chaos_cri_dockerd_version = "
        f"{line[0]}.{line[1]}.{newest}"
    )


def _parse(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
