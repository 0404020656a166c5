"""Tell which versions of Docker, cri-dockerd, Kubernetes and etcd work together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chaos_engine.facts.text import setting

CRI_DOCKERD = setting("cri_dockerd_version")
NEWEST = {(0, 3): 25, (0, 4): 3}
"""The newest known patch release of each minor version of cri-dockerd
(https://github.com/Mirantis/cri-dockerd/tags). ``(0, 4): 3`` means 0.4.3."""


def oldest_docker(version: str) -> int:
    """Return the oldest major release of Docker that a version of cri-dockerd can talk to.

    cri-dockerd 0.4.0 and 0.4.1 need API 1.42 or newer (``MinimumDockerAPIVersion`` in
    ``libdocker/client.go``). Docker has this API since Docker 23.
    """
    return 23 if (0, 4, 0) <= _parse(version) < (0, 4, 2) else 20


def speaks_api_1_44(version: str) -> bool:
    """Tell whether a version of cri-dockerd speaks API 1.44, which Docker 29.0 to 29.2 demand.

    Docker 29.3 accepts API 1.40 again (``defaultMinAPIVersion`` in ``daemon/config/config.go`` of
    moby's tags docker-v29.0.0 to docker-v29.7.2; docker/for-win#14997). All versions of cri-dockerd
    since 0.3.0 speak API 1.41 or newer. Version 0.3.12, and all versions since 0.3.16, speak API
    1.44 or newer (``DefaultVersion`` in ``vendor/github.com/docker/docker/api/common.go`` of each
    tag).
    """
    parsed = _parse(version)
    return parsed >= (0, 3, 16) or parsed == (0, 3, 12)


def major(docker: str) -> int | None:
    """Return Docker's major release, ``None`` if `docker` is no version.

    + docker: version of Docker or of its package. A package's version may begin with an epoch
    """
    match = re.match(r"(?:\d+:)?(\d+)\.", docker)
    return int(match.group(1)) if match else None


def misfit(version: str, docker: str) -> str:
    """Return why a version of cri-dockerd cannot talk to a version of Docker, "" if it can.

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
    """Return why a version of cri-dockerd cannot serve a version of kubelet, "" if it can.

    + version: version of cri-dockerd
    + kubernetes: version of kubelet

    kubelet 1.26 and newer need version 1 of the CRI. cri-dockerd has it since 0.3.0
    (Mirantis/cri-dockerd#136). kubelet 1.38 and newer need a runtime that reports the cgroup driver
    (KEP-4033). cri-dockerd 0.3.17 and newer report the cgroup driver.
    """
    minor = int(kubernetes.split(".")[1])
    for since, needed in ((38, (0, 3, 17)), (26, (0, 3, 0))):
        if minor >= since and _parse(version) < needed:
            least = ".".join(map(str, needed))
            return (
                f"Kubernetes 1.{since} and newer need cri-dockerd {least} or newer; "
                f"{setting('kubernetes_version')} is {kubernetes} and {CRI_DOCKERD} is {version}; "
                f"set {CRI_DOCKERD} to {least} or newer"
            )
    return ""


WEB_SOCKETS = "ExtendWebSocketsToKubelet"
"""The feature gate of kubelet that `feature_gates` is about."""


def feature_gates(kubernetes: str) -> dict[str, bool]:
    """Return the feature gates that kubelet has to set to work with cri-dockerd.

    The keys are the gates' names. A value is ``True`` (on) or ``False`` (off).

    + kubernetes: version of kubelet

    For ``kubectl exec`` and ``attach``, kubelet opens a URL of cri-dockerd. In cri-dockerd up to
    0.4.4, this URL has no scheme (``BaseURL`` in ``cmd/server.go``; Mirantis/cri-dockerd#560,
    #569). For a URL without a scheme, kubelet up to 1.35 uses http, and kubelet 1.36 and newer use
    https. In kubelet 1.36 and 1.37, https is part of a Beta feature, and the returned gate turns
    the feature off. kubelet without the feature also works with a cri-dockerd whose URL has a
    scheme. In kubelet 1.38 the feature is to be stable (kubernetes/enhancements#6364), and its gate
    may be locked. kubelet does not start if a locked gate is turned off. So the function returns no
    gate for kubelet 1.38 and newer.
    """
    minor = int(kubernetes.split(".")[1])
    return {WEB_SOCKETS: False} if minor in (36, 37) else {}


def without_old_gates(kubernetes: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to change in kubelet's configuration before kubelet is upgraded, {} for nothing.

    A kubelet may not start with a feature gate that an older one needed (`feature_gates`).

    + kubernetes: version of the new kubelet
    + config: kubelet's configuration

    This is a pure function.
    """
    found = config.get("featureGates") or {}
    if WEB_SOCKETS not in found or feature_gates(kubernetes):
        return {}
    return {"featureGates": {gate: on for gate, on in found.items() if gate != WEB_SOCKETS}}


def exec_fault(version: str, kubernetes: str) -> str:
    """Return a warning if ``kubectl exec`` may fail with these versions, "" if exec works.

    + version: version of cri-dockerd
    + kubernetes: version of kubelet

    If `feature_gates` returns a gate for this kubelet, exec works, because kubelet sets the gate.
    """
    if int(kubernetes.split(".")[1]) < 38 or _parse(version) > (0, 4, 4):
        return ""
    return (
        f"kubectl exec and attach may fail with Kubernetes {kubernetes} and cri-dockerd {version} "
        f"(Mirantis/cri-dockerd#569); set {CRI_DOCKERD} to a release newer than 0.4.4 "
        "that fixes this, or stay at Kubernetes 1.37"
    )


def pause_image(kubernetes: str) -> str:
    """Return the name of the pause image that a version of kubeadm pulls.

    If cri-dockerd uses another image, ``kubeadm init`` and ``join`` warn, and the node's SD card
    has to hold both images. The tags come from ``PauseVersion`` in kubeadm's
    ``app/constants/constants.go``.
    """
    minor = int(kubernetes.split(".")[1])
    tags = ((36, "3.10.2"), (34, "3.10.1"), (31, "3.10"), (26, "3.9"), (25, "3.8"), (0, "3.7"))
    return f"registry.k8s.io/pause:{next(tag for since, tag in tags if minor >= since)}"


LEAST_ETCD = ((35, (3, 5, 24)), (31, (3, 5, 11)))
"""The oldest external etcd that kubeadm accepts, from the minor version on that stands before it.

The versions are ``MinExternalEtcdVersion`` in kubeadm's ``app/constants/constants.go``: 3.5.11 in
1.31.0 (flatcar/scripts#2311 quotes its message), and 3.5.24 since 1.35.0
(kubernetes/kubernetes#134779). A run with kubeadm 1.36.2 has confirmed 3.5.24. Late patch releases
of 1.31 to 1.34 want 3.5.24 too (kubernetes/kubernetes#134861). There, kubeadm itself refuses an
older etcd."""


def least_etcd(kubernetes: str) -> tuple[int, int, int] | None:
    """Return the oldest external etcd that a version of kubeadm accepts, ``None`` if unknown."""
    minor = int(kubernetes.split(".")[1])
    return next((least for since, least in LEAST_ETCD if minor >= since), None)


def etcd_misfit(kubernetes: str, found: Mapping[str, str]) -> str:
    """Return a message that names the etcd servers too old for kubeadm, "" if there are none.

    + kubernetes: version of kubeadm
    + found: version of each server by the server's address, "" for a server that did not answer
    """
    least = least_etcd(kubernetes)
    old = [
        f"{version} on {server}"
        for server, version in sorted(found.items())
        # After its numbers, a version may have "-rc.0" or "+git"
        if least and (begin := re.match(r"\d+(?:\.\d+)+", version)) and _parse(begin[0]) < least
    ]
    if not old or not least:
        return ""
    return (
        f"etcd {', '.join(old)}: kubeadm {kubernetes} refuses an etcd older than "
        f"{'.'.join(map(str, least))}; upgrade etcd before you run kubeadm"
    )


def outdated(version: str) -> str:
    """Return a message if `NEWEST` has a newer patch release of cri-dockerd, "" otherwise."""
    *line, patch = _parse(version)
    newest = NEWEST.get((line[0], line[1]))
    if newest is None or patch >= newest:
        return ""
    return f"cri-dockerd {version} is old; consider {CRI_DOCKERD} = {line[0]}.{line[1]}.{newest}"


def _parse(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: (0, 4, 3) for "0.4.3"."""
    return tuple(int(number) for number in version.split("."))
