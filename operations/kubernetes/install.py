"""Install one version of Kubernetes' packages from the Kubernetes repository."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator

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
from chaos_engine.facts.systemd import Units, UnitState
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.apt import APT, INSTALL, incomplete
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
    """Return the minor version of a release: ``minor_of("1.36.2") == "1.36"``."""
    return version.rpartition(".")[0]


def source_file(version: str) -> File:
    """Return the apt source file for the repository of a Kubernetes version."""
    return File(SOURCE, f"deb [signed-by={KEYRING}] {repository(minor_of(version))} /\n")


@converge(
    reads=lambda version, packages, key=None, rolling=None, tools=(): [
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
)
def install_kubernetes(
    version: Version,
    packages: Iterable[PackageName],
    key: bytes | None = None,
    rolling: Rolling | None = None,
    tools: Iterable[PackageName] = (),
) -> Commands:
    """Install one version of Kubernetes' packages from the signed repository, and hold them.

    + version: a release such as ``1.36.2``. Its Debian revision does not matter
    + packages: package names, such as kubelet and kubeadm
    + key: the repository's public key in binary form. With ``None``, the node fetches the key from
      the repository by https
    + rolling: how a node that has joined a cluster is drained before kubelet gets another version
    + tools: packages of the same repository whose version does not matter

    kubelet is enabled. It is restarted if its program was replaced while it was running. On a node
    that has joined a cluster, a stopped kubelet is started.

    A new key is used only if apt accepts the repository's index with that key. A damaged or
    expired key is replaced. If no new key can be fetched, the present key stays as long as apt
    accepts it. Other files with an apt source for Kubernetes are removed; undo restores them.

    Raises `NodeError` if one of these files also has sources for other repositories. On a node that
    has joined a cluster, a downgrade of kubelet raises `NodeError`, and so does skipping a minor
    version.

    **Example:** ``install_kubernetes("1.36.2", ["kubelet", "kubeadm", "kubectl"])``
    """
    packages, tools, rolling = tuple(packages), tuple(tools), rolling or Rolling()
    found = observe(Packages, names=(*packages, *tools))
    sources = observe(KubernetesSources)
    old_sources = sources_to_remove(sources)
    joined = node_standing(rolling).joined
    skew = "kubelet" in found and check_skew(upstream(found["kubelet"].version), version, joined)
    if skew:
        warn(skew)
    signers = observe(RepositorySigners, minor=minor_of(version))
    fault = key_fault(observe(Content, path=KEYRING), signers, time.time())
    present = observe(Files, paths=(SOURCE, KEYRING))
    wanted = _files(version, key)
    # a symbolic link is not changed: it may lead to a key that somebody else maintains
    key_file = present.get(KEYRING)
    unreadable = key_file is not None and key_file.kind == "file" and key_file.mode != "644"
    missing = [name for name in packages if not is_at_version(found.get(name), version)]
    missing_tools = incomplete(found, tools)
    unheld = [name for name in packages if name in missing or not found[name].held]
    verify = bool(fault or missing or missing_tools or unreadable) or any(
        not file.matches(present.get(file.path)) for file in wanted
    )
    unit, replaced = observe(Units, units=_KUBELET)["kubelet.service"], observe(KubeletReplaced)
    steps = []
    if "kubelet" in packages:
        steps = [*kubelet_steps(unit, joined, replaced, [*missing, *missing_tools])]
    versions = [f"{n} is {upstream(found[n].version)}" for n in missing if n in found]
    was = f"({', '.join(versions)})" if versions else ""
    because(*listed(f"install {version} of", missing, was))
    because(*listed("install", missing_tools), *listed("hold", unheld))
    if fault:
        verb = "fetch the repository's" if key is None else "replace its"
        because(f"{verb} key: {fault}")
    if unreadable:
        because(f"let apt read {KEYRING}")
    because(*(why for why, _ in steps if why))
    repairs = [of_hold(name) for name in unheld if name not in missing]
    if steps and unit.enabled != "enabled" and "kubelet" not in missing:
        repairs.append(of_unit("kubelet.service", "enabled"))
    commands = files.transaction(
        files.decide(wanted, old_sources, besides=[KEYRING] if fault or unreadable else []),
        apply=compose(version, missing, missing_tools, unheld, verify, key is None, steps),
        noop=f"Kubernetes {version}: as wanted",
        force=bool(verify or unheld or steps),
        repairs=repairs,
    )
    yield from in_turn(commands, rolling, stops_pods=replaced or "kubelet" in missing)


def _files(version: str, key: bytes | None) -> list[File]:
    keyring = [] if key is None else [File(KEYRING, key)]
    return [source_file(version), *keyring]


def sources_to_remove(sources: Iterable[Source]) -> list[str]:
    """Return the paths of files with an apt source for Kubernetes, without this package's own file.

    + sources: all files with an apt source for Kubernetes

    Raises `NodeError` if such a file also has sources of other repositories.
    """
    others = [source for source in sources if source.path != SOURCE]
    for source in others:
        if not source.only:
            raise NodeError(
                f"{source.path} has apt sources for Kubernetes and for other repositories; remove "
                f"the sources for Kubernetes from this file, because they belong in {SOURCE}"
            )
    return [source.path for source in others]


def is_at_version(package: PackageState | None, version: str) -> bool:
    """Tell whether a package is completely installed at a version, with any Debian revision."""
    return package is not None and package.complete and upstream(package.version) == version


def upstream(version: str) -> str:
    """Return the upstream part of a Debian version: ``upstream("1.36.2-1.1") == "1.36.2"``."""
    return version.rpartition(":")[2].partition("-")[0]


def check_skew(installed: str, wanted: str, joined: bool) -> str:
    """Return a warning if kubelet's minor version will change, "" if it will not.

    + installed, wanted: versions, such as ``1.36.2``
    + joined: whether the node has joined a cluster. If not, any change is fine, without a warning

    Raises `NodeError` if the kubelet of a joined node must not change to the wanted version
    (kubernetes.io/releases/version-skew-policy).
    """
    if not joined:
        return ""
    now, then = ([int(part) for part in re.findall(r"\d+", v)[:3]] for v in (installed, wanted))
    if then < now:
        raise NodeError(
            f"the node has joined a cluster, so kubelet {installed} cannot be downgraded to "
            f"{wanted}; set {setting('kubernetes_version')} to {installed} or later"
        )
    if then[1] > now[1] + 1:
        raise NodeError(
            f"the node has joined a cluster, so kubelet {installed} cannot skip a minor version; "
            f"set {setting('kubernetes_version')} to a release of 1.{now[1] + 1} first, and to "
            f"{wanted} later"
        )
    if then[1] == now[1]:
        return ""
    return (
        f"kubelet {installed} will be upgraded to {wanted}, but must not be newer than the API "
        "server: upgrade the cluster with kubeadm first"
    )


def kubelet_steps(
    unit: UnitState, joined: bool, replaced: bool, installs: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield the steps that kubelet's unit needs. A step is a pair: its reason, its shell commands.

    + unit: state of kubelet's unit
    + joined: whether the node has joined a cluster
    + replaced: whether kubelet's program was replaced after kubelet started
    + installs: the packages that the script installs before these steps

    If a step is not worth a message, its reason is "". This is a pure function.
    """
    if unit.enabled != "enabled":
        unmask = "systemctl --no-reload unmask kubelet.service"
        # `systemctl enable` also reloads systemd
        yield "enable kubelet.service", f"{unmask}\nsystemctl enable kubelet.service"
    elif installs:
        # kubeadm's package brings a drop-in for kubelet, but does not reload systemd
        yield "", "systemctl daemon-reload"
    if replaced or "kubelet" in installs:
        why = "restart kubelet.service: its program was replaced after it started"
        restart = "systemctl daemon-reload && systemctl restart kubelet.service"
        yield why if replaced else "", f"if {REPLACED}; then {restart}; fi"
    # "activating" means that systemd keeps restarting kubelet: one more start would not help
    if joined and unit.active in {"inactive", "failed"}:
        yield "start kubelet.service, which does not run", "systemctl start kubelet.service"


def compose(
    version: str,
    missing: Iterable[str],
    tools: Iterable[str],
    hold: Iterable[str],
    verify: bool,
    fetch: bool,
    steps: Iterable[tuple[str, str]] = (),
) -> str:
    """Return the shell script that checks the key and installs the packages.

    This is a pure function.

    + version: version of the packages in `missing`
    + missing: packages to install at this version
    + tools: packages to install at any version
    + hold: packages to hold
    + verify: whether to check the key against the repository
    + fetch: whether to fetch the key from the repository before the check
    + steps: steps for kubelet at the end of the script, as `kubelet_steps` yields them
    """
    lines = [APT, "unit_was kubelet.service; settle"]
    if verify:
        lines.append(check_key(minor_of(version), fetch))
    if wanted := [*(f"{name}={version}-*" for name in missing), *tools]:
        lines += ["refresh", f"{INSTALL} {quote(*wanted)}"]
    if held := [*hold]:
        lines.append(f"hold {quote(*held)}")
    return "\n".join([*lines, *(commands for _, commands in steps)])


UNDO = Undo(needed_when_joined=True)
