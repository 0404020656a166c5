"""Install Kubernetes' packages at one version, from its own repository."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.files import Content, Files
from chaos_engine.facts.kubernetes import (
    REPLACED,
    KubeletReplaced,
    KubernetesSources,
    RepositorySigners,
    Source,
)
from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.facts.systemd import Units
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.apt import APT
from chaos_engine.operations.engine.arguments import PackageName, Version
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.repairs import of_hold, of_unit
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File
from chaos_engine.operations.kubernetes.signing_key import KEYRING, check_key, key_fault, repository
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.turns import READ, in_turn, node_standing
from chaos_engine.operations.undo import Undo

SOURCE = "/etc/apt/sources.list.d/kubernetes.list"
_KUBELET = (("kubelet.service", ()),)


def minor_of(version: str) -> str:
    """Return the minor version of a version: ``minor_of("1.36.2") == "1.36"``."""
    return version.rpartition(".")[0]


def source_file(version: str) -> File:
    """Return the file with the apt source of a version's repository."""
    return File(SOURCE, f"deb [signed-by={KEYRING}] {repository(minor_of(version))} /\n")


def reads(
    version: str,
    packages: Iterable[str],
    key: bytes | None = None,
    rolling: Rolling | None = None,
    tools: Iterable[str] = (),
) -> list[Read]:
    """Return what `install_kubernetes` will observe for the same arguments."""
    return [
        READ,
        Read.of(Packages, names=(*packages, *tools)),
        Read.of(KubeletReplaced),
        Read.of(KubernetesSources),
        Read.of(RepositorySigners, minor=minor_of(version)),
        Read.of(Content, path=KEYRING),
        Read.of(Files, paths=(SOURCE, KEYRING)),
        Read.of(Units, units=_KUBELET),
        *files.reads(_files(version, key)),
    ]


@converge(reads=reads)
def install_kubernetes(
    version: Version,
    packages: Iterable[PackageName],
    key: bytes | None = None,
    rolling: Rolling | None = None,
    tools: Iterable[PackageName] = (),
) -> Commands:
    """Have Kubernetes' packages installed at one version, and held, from their signed repository.

    + version: ``1.36.2``, in any Debian revision
    + packages: names, such as kubelet and kubeadm
    + key: the repository's public key in binary form; ``None`` lets the node fetch it from the
      repository by https
    + rolling: how a node that has joined a cluster leaves it for another version of kubelet
    + tools: packages of the repository that have versions of their own; any version counts as
      wanted

    kubelet is enabled. It is restarted if it runs a program that was replaced, and started if it
    does not run on a node that has joined a cluster. A key is put in place only when apt accepts
    the repository's index with it. A damaged or expired key is replaced; a good one stays if no
    better one can be fetched. Other apt sources for Kubernetes are put aside. Raises `NodeError`
    for a file that has other sources too. On a node that has joined a cluster it also raises it for
    a version that is older, or newer by more than one minor version.

    **Example:** ``install_kubernetes("1.36.2", ["kubelet", "kubeadm", "kubectl"])``
    """
    packages = tuple(packages)
    tools = tuple(tools)
    found = observe(Packages, names=(*packages, *tools))
    sources = observe(KubernetesSources)
    old_sources = sources_to_remove(sources)
    rolling = rolling or Rolling()
    joined = node_standing(rolling).joined
    skew = "kubelet" in found and check_skew(upstream(found["kubelet"].version), version, joined)
    if skew:
        warn(skew)
    keyring = observe(Content, path=KEYRING)
    signers = observe(RepositorySigners, minor=minor_of(version))
    fault = key_fault(keyring, signers, time.time())
    present = observe(Files, paths=(SOURCE, KEYRING))
    wanted = _files(version, key)
    # a link is left as it is: it may lead to a key that somebody else keeps
    key_file = present.get(KEYRING)
    unreadable = key_file is not None and key_file.kind == "file" and key_file.mode != "644"
    missing = [name for name in packages if not is_at_version(found.get(name), version)]
    missing_tools = [name for name in tools if name not in found or not found[name].complete]
    unheld = [name for name in packages if name in missing or not found[name].held]
    kubelet = observe(Units, units=_KUBELET)["kubelet.service"]
    enable = "kubelet" in packages and kubelet.enabled != "enabled"
    verify = bool(fault or missing or missing_tools or unreadable) or any(
        not f.matches(present.get(f.path)) for f in wanted
    )
    restart = observe(KubeletReplaced) or "kubelet" in missing
    # "activating" means that systemd starts it again and again: one more start would not help
    start = joined and "kubelet" in packages and kubelet.active in {"inactive", "failed"}
    apply = compose(
        version, missing, unheld, enable, verify, key is None, restart, missing_tools, start
    )
    versions = [f"{n} is {upstream(found[n].version)}" for n in missing if n in found]
    was = f"({', '.join(versions)})" if versions else ""
    because(*listed(f"install {version} of", missing, was))
    because(*listed("install", missing_tools), *listed("hold", unheld))
    if fault:
        because(
            f"fetch the repository's key: {fault}" if key is None else f"replace its key: {fault}"
        )
    if unreadable:
        because(f"let apt read {KEYRING}")
    if enable:
        because("enable kubelet.service")
    if observe(KubeletReplaced):
        because("restart kubelet.service: its program was replaced since it started")
    if start:
        because("start kubelet.service, which does not run")
    repairs = [of_hold(name) for name in unheld if name not in missing]
    if enable and "kubelet" not in missing:
        repairs.append(of_unit("kubelet.service", "enabled"))
    todo = files.decide(wanted, old_sources, besides=[KEYRING] if fault or unreadable else [])
    commands = files.transaction(
        todo,
        apply=apply,
        noop=f"Kubernetes {version}: as wanted",
        force=verify or bool(unheld) or enable or restart or start,
        repairs=repairs,
    )
    yield from in_turn(commands, rolling, stops_pods=restart)


def _files(version: str, key: bytes | None) -> list[File]:
    keyring = [] if key is None else [File(KEYRING, key)]
    return [source_file(version), *keyring]


def sources_to_remove(sources: Iterable[Source]) -> list[str]:
    """Return the other files that have an apt source for Kubernetes: they have to go.

    Raises `NodeError` for one that has other sources too.
    """
    others = [source for source in sources if source.path != SOURCE]
    for source in others:
        if not source.only:
            raise NodeError(
                f"{source.path} names a repository of Kubernetes, among others; take it out of "
                f"that file, {SOURCE} is the place for it"
            )
    return [source.path for source in others]


def is_at_version(package: PackageState | None, version: str) -> bool:
    """Tell whether a package is completely installed at the version, in any Debian revision."""
    return package is not None and package.complete and upstream(package.version) == version


def upstream(version: str) -> str:
    """Return the upstream part of a Debian version: ``upstream("1.36.2-1.1") == "1.36.2"``."""
    return version.rpartition(":")[2].partition("-")[0]


def check_skew(installed: str, wanted: str, joined: bool) -> str:
    """Return a warning for a step of kubelet from one version to another, "" if none is due.

    + installed, wanted: versions, as ``1.36.2``
    + joined: whether the node has joined a cluster

    Raises `NodeError` where kubelet of a joined node must not take that step
    (kubernetes.io/releases/version-skew-policy).
    """
    if not joined:
        return ""
    now, then = ([int(part) for part in re.findall(r"\d+", v)[:3]] for v in (installed, wanted))
    if then < now:
        raise NodeError(
            f"kubelet {installed} has joined a cluster and cannot go back to {wanted}; set "
            f"{setting('kubernetes_version')} to {installed} or later"
        )
    if then[1] > now[1] + 1:
        raise NodeError(
            f"kubelet {installed} has joined a cluster and goes up by one minor version at a time; "
            f"set {setting('kubernetes_version')} to a release of 1.{now[1] + 1} before {wanted}"
        )
    if then[1] == now[1]:
        return ""
    return (
        f"kubelet goes from {installed} to {wanted}: it must not be newer than the API server, so "
        "upgrade the cluster with kubeadm first"
    )


def compose(
    version: str,
    missing: Iterable[str],
    unheld: Iterable[str],
    enable: bool,
    verify: bool,
    fetch: bool,
    restart: bool,
    tools: Iterable[str] = (),
    start: bool = False,
) -> str:
    """Return the shell script that checks the key, installs, holds, enables and restarts.

    + version: of the packages in `missing`
    + missing: packages to install at this version
    + unheld: packages to hold
    + enable: whether to enable kubelet
    + verify: whether to check the key against the repository
    + fetch: whether to fetch the key from there first
    + restart: whether to restart kubelet if it runs a program that was replaced
    + tools: packages to install at any version
    + start: whether to start kubelet

    A pure function.
    """
    lines = [APT, "unit_was kubelet.service; settle"]
    if verify:
        lines.append(check_key(minor_of(version), fetch))
    if wanted := [*(f"{name}={version}-*" for name in missing), *tools]:
        lines += [
            "refresh",
            "apt install --no-install-recommends --allow-downgrades --allow-change-held-packages "
            f"-- {quote(*wanted)}",
        ]
    if held := list(unheld):
        lines.append(f"hold {quote(*held)}")
    if enable:
        lines.append("systemctl --no-reload unmask kubelet.service")
        lines.append("systemctl enable kubelet.service")  # this also reloads systemd
    elif wanted:
        # kubeadm's package brings a drop-in for kubelet, but does not reload systemd
        lines.append("systemctl daemon-reload")
    if restart:
        restarting = "systemctl daemon-reload && systemctl restart kubelet.service"
        lines.append(f"if {REPLACED}; then {restarting}; fi")
    if start:
        lines.append("systemctl start kubelet.service")
    return "\n".join(lines)


UNDO = Undo(needed_when_joined=True)
