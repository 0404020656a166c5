"""Read whether a node has joined a cluster, how kubelet runs, and apt's sources of Kubernetes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts import apt_sources
from chaos_engine.facts.files import Texts
from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value, YesOrNo
from chaos_engine.facts.openpgp import dearmor, parse_signers
from chaos_engine.facts.systemd import UnitProperties

KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
"""A file that kubeadm writes when a node joins a cluster. ``kubeadm reset`` removes it."""

_ADDRESS = (
    r"pkgs[.]k8s[.]io/core:|apt[.]kubernetes[.]io|packages[.]cloud[.]google[.]com/apt.*kubernetes"
)
"""A regular expression for the present and former addresses of Kubernetes' apt repositories
(kubernetes.io/blog/2023/08/31/legacy-package-repository-deprecation). It does not match
pkgs.k8s.io's repositories of other software, such as CRI-O's at ``addons:``."""


_SOURCES = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/*.list",
    "/etc/apt/sources.list.d/*.sources",
)


class Joined(YesOrNo):
    """Whether the node has joined a Kubernetes cluster.

    **Example:** ``host.get_fact(Joined)``
    """

    @override
    def command(self) -> str:
        return f"if [ -e {KUBELET_CONF} ]; then echo yes; else echo no; fi"


KUBELET = "kubelet.service"

CGROUPS = "/sys/fs/cgroup"
"""The folder of the control groups. A unit's folder is within the folder of the unit's slice."""

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
"""A file that kubeadm writes when a node joins a cluster, before it starts kubelet."""


class KubeletConfiguration(ComposedFact[dict[str, Any]]):
    """The configuration that kubeadm wrote for kubelet; {} if the node has not joined a cluster.

    **Example:** ``host.get_fact(KubeletConfiguration)["containerLogMaxSize"]``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        # KUBELET_CONF may contain a private key, so the pattern matches none of its text
        return (Read.of(Texts, patterns=((KUBELET_CONF, "(?!)"), KUBELET_CONFIG)),)

    @override
    def compose(self, texts: dict[str, bytes | None]) -> dict[str, Any]:
        data = texts.get(KUBELET_CONFIG) if KUBELET_CONF in texts else None
        return parse_kubelet_configuration(data or b"")


def parse_kubelet_configuration(data: bytes) -> dict[str, Any]:
    """Parse a KubeletConfiguration.

    Raises ``ValueError`` if it is not YAML, or if it or its ``featureGates`` are not a mapping.
    """
    try:
        found = yaml.safe_load(data) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{KUBELET_CONFIG} is not valid YAML: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{KUBELET_CONFIG} is not a mapping")
    if not isinstance(found.get("featureGates") or {}, dict):
        raise ValueError(f"{KUBELET_CONFIG}: featureGates is not a mapping")
    return found


REPLACED = (
    'case $(readlink "/proc/$(systemctl show -p MainPID --value kubelet.service)/exe") in '
    "*' (deleted)') true ;; *) false ;; esac"
)
"""A shell command that succeeds if kubelet's program file was replaced or removed after kubelet
started (proc(5)). The command fails if kubelet does not run."""


class _Replaced(NodeFact[tuple[int, ...]]):
    """The IDs of kubelet.service's processes whose program file was replaced or removed."""

    @override
    def command(self) -> str:
        # kubelet.service is in system.slice, or in a slice that the user has chosen. The user's
        # slice may be within another slice
        return f"""\
set --
for list in {CGROUPS}/*/{KUBELET}/cgroup.procs {CGROUPS}/*/*/{KUBELET}/cgroup.procs; do
  [ ! -r "$list" ] || while read -r id; do set -- "$@" "/proc/$id"; done <"$list"
done
for process; do
  case $(readlink "$process/exe") in *' (deleted)') echo "${{process##*/}}" ;; esac
done
true"""

    @override
    def parse(self, lines: list[str]) -> tuple[int, ...]:
        return tuple(map(int, lines))


class KubeletReplaced(ComposedFact[bool]):
    """Whether kubelet still runs an old version, whose program file has been replaced.

    The packages of pkgs.k8s.io do not restart kubelet (``%postun`` of kubelet.spec in
    github.com/kubernetes/release, ``%systemd_postun`` of debbuild's macros).

    **Example:** ``host.get_fact(KubeletReplaced)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(UnitProperties, units=(KUBELET,)), Read.of(_Replaced))

    @override
    def compose(self, units: dict[str, dict[str, str]], replaced: tuple[int, ...]) -> bool:
        return int(units[KUBELET].get("MainPID") or 0) in replaced


MANIFESTS = "/etc/kubernetes/manifests"
"""The folder of the static pods. kubeadm writes the control plane's pods there."""

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""The static pods of which kubeadm makes a control plane, besides etcd's."""

UPGRADING = f"{DIRECTORY}/upgrading"
"""The file that is there while ``kubeadm upgrade`` works on the node's control plane, or on
kubelet's configuration. It has the words of the command."""


@dataclass(frozen=True)
class ControlPlaneState(Value):
    """The part of the control plane that a node runs.

    + versions: version of each static pod of Kubernetes by its name in `COMPONENTS`; empty if the
      node is no controller
    + interrupted: kubeadm's command that has not finished its work on the node, such as
      "kubeadm upgrade node"; "" if there is none
    """

    versions: dict[str, str] = field(default_factory=dict)
    interrupted: str = ""


class ControlPlane(ComposedFact[ControlPlaneState]):
    """Which control plane the node's static pods are, and whether its upgrade was interrupted.

    **Example:** ``host.get_fact(ControlPlane)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        images = ((f"{MANIFESTS}/{name}.yaml", "^[ -]*image: .*") for name in COMPONENTS)
        return (Read.of(Texts, patterns=(*images, UPGRADING)),)

    @override
    def compose(self, texts: dict[str, bytes | None]) -> ControlPlaneState:
        decoded = {path: (text or b"").decode(errors="replace") for path, text in texts.items()}
        versions = {}
        for name in COMPONENTS:
            text = decoded.get(f"{MANIFESTS}/{name}.yaml", "")
            if tag := re.search(r"(?m)^[ -]*image: *\S+:v([0-9.]+)", text):
                versions[name] = tag[1]
        return ControlPlaneState(versions, decoded.get(UPGRADING, "").strip())


@dataclass(frozen=True)
class Source(Value):
    """A file of apt's configuration that names a Kubernetes repository.

    + only: whether all repositories in the file are Kubernetes repositories
    """

    path: str
    only: bool


class KubernetesSources(ComposedFact[tuple[Source, ...]]):
    """The files of apt's configuration in which a Kubernetes repository is enabled.

    **Example:** ``host.get_fact(KubernetesSources)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        # The text of a file is sent only if it names a Kubernetes repository
        only = rf"\A(?s:.*)(?:{_ADDRESS})(?s:.*)"
        return (Read.of(Texts, patterns=tuple((path, only) for path in _SOURCES)),)

    @override
    def compose(self, texts: dict[str, bytes | None]) -> tuple[Source, ...]:
        decoded = ((path, (text or b"").decode(errors="replace")) for path, text in texts.items())
        found = (parse_source(path, text) for path, text in sorted(decoded))
        return tuple(source for source in found if source is not None)


def parse_source(path: str, text: str) -> Source | None:
    """Return the `Source` of a file, or ``None`` if no Kubernetes repository is enabled in it.

    + path: path of the file
    + text: content of the file
    """
    entries = list(apt_sources.entries(path, text))
    of_kubernetes = [
        entry
        for entry in entries
        if any(
            re.search(_ADDRESS, f"{uri} {suite}") for uri in entry.uris for suite in entry.suites
        )
    ]
    return Source(path, len(of_kubernetes) == len(entries)) if of_kubernetes else None


class RepositorySigners(ComposedFact[tuple[str, ...]]):
    """The IDs of the keys that signed the index of a Kubernetes repository.

    The index is the one that apt fetched most recently. The value is () if apt has no index of this
    repository.

    + minor: the repository's minor version, such as ``1.36``

    **Example:** ``host.get_fact(RepositorySigners, minor="1.36")``
    """

    @override
    def command(self, minor: str) -> StringCommand:
        return super().command(minor=minor)

    @override
    def reads(self, minor: str) -> tuple[Read, ...]:
        # The name of apt's file begins with the repository's address. The pattern accepts any
        # address, because a mirror's address differs
        index = f"/var/lib/apt/lists/*core:_stable:_v{minor}_deb_InRelease"
        return (Read.of(Texts, patterns=((index, "^-----BEGIN PGP SIGNATURE(?s:.*)"),)),)

    @override
    def compose(self, texts: dict[str, bytes | None], minor: str) -> tuple[str, ...]:
        signatures = b"".join(text or b"" for _, text in sorted(texts.items()))
        return tuple(parse_signers(dearmor(signatures, "SIGNATURE"))) if signatures else ()


KUBELET_ANSWERS = Check(
    "kubernetes",
    # kubelet opens its port once it has found its container runtime. The port may differ from 10250
    # if kubeadm's configuration says so
    f"test ! -e {KUBELET_CONF} || "
    + limited(
        "systemctl is-active --quiet kubelet && port=$(sed -n 's/^port: *//p' "
        '/var/lib/kubelet/config.yaml) && bash -c ": </dev/tcp/127.0.0.1/${port:-10250}"'
    ),
    "kubelet does not answer; look at: journalctl -u kubelet",
)
