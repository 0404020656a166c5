"""Install one version of Kubernetes' packages from the Kubernetes repository."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.files import Content, Files
from chaos_engine.facts.kubernetes import (
    REPLACED,
    KubeletReplaced,
    KubernetesSources,
    RepositorySigners,
    Source,
)
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.facts.systemd import Units, UnitState
from chaos_engine.operations import files
from chaos_engine.operations.apt import APT, INSTALL, incomplete
from chaos_engine.operations.engine.arguments import PackageName, Version
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.repairs import of_hold, of_unit
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File
from chaos_engine.operations.kubernetes.signing_key import KEYRING, check_key, key_fault, repository
from chaos_engine.operations.kubernetes.skew import check_skew
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.turns import READ, in_turn, node_standing
from chaos_engine.operations.undo import Undo

SOURCE = "/etc/apt/sources.list.d/kubernetes.list"
_KUBELET = (("kubelet.service", ()),)

KUBEADM_LINES = 25
"""The number of lines of kubeadm's output that are shown if kubeadm fails."""

_KUBEADM_ERROR = "^error|FATAL|[[]ERROR|^[[:space:]]+- Specified"
"""An extended regular expression for the lines in which kubeadm says why it failed."""


def minor_of(version: str) -> str:
    """Return the minor version of a release: ``minor_of("1.36.2") == "1.36"``."""
    return version.rpartition(".")[0]


def source_file(version: str) -> File:
    """Return the apt source file for the repository of a Kubernetes version."""
    return File(SOURCE, f"deb [signed-by={KEYRING}] {repository(minor_of(version))} /\n")


def reads(
    version: str,
    packages: Iterable[str],
    key: bytes | None = None,
    tools: Iterable[str] = (),
) -> list[Read]:
    """Return the facts that `decide` reads if it gets the same arguments."""
    return [
        Read.of(Packages, names=(*packages, *tools)),
        Read.of(KubeletReplaced),
        Read.of(KubernetesSources),
        Read.of(RepositorySigners, minor=minor_of(version)),
        Read.of(Content, path=KEYRING),
        Read.of(Files, paths=(SOURCE, KEYRING)),
        Read.of(Units, units=_KUBELET),
        *files.reads(_files(version, key)),
    ]


@converge(
    reads=lambda version, packages, key=None, rolling=None, tools=(): [
        READ,
        *reads(version, packages, key, tools),
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
    has joined a cluster, a downgrade of kubelet raises `NodeError`, and so does another minor
    version.

    **Example:** ``install_kubernetes("1.36.2", ["kubelet", "kubeadm", "kubectl"])``
    """
    packages, tools, rolling = tuple(packages), tuple(tools), rolling or Rolling()
    found = observe(Packages, names=(*packages, *tools)).get("kubelet")
    joined = node_standing(rolling).joined
    if found and (problem := check_skew(upstream(found.version), version, joined)):
        raise NodeError(problem)
    commands, stops_pods = decide(version, packages, key, tools, joined)
    yield from in_turn(commands, rolling, stops_pods)


def decide(
    version: str,
    packages: Collection[str],
    key: bytes | None,
    tools: Collection[str],
    joined: bool,
    before: str = "",
    source: bool = True,
) -> tuple[Commands, bool]:
    """Read the node's packages and apt sources, and return what installs one version.

    + version, packages, key, tools: as `install_kubernetes` takes them
    + joined: whether the node has joined a cluster
    + before: kubeadm's command that has to run before kubelet gets another version, "" for none
    + source: whether the commands also bring apt's source and key. If false, an earlier operation
      of the run has brought them

    Returns the commands, and whether they stop kubelet. The caller checks whether kubelet may have
    this version. Raises `NodeError` as `install_kubernetes` does for apt sources.
    """
    found = observe(Packages, names=(*packages, *tools))
    missing = [name for name in packages if not is_at_version(found.get(name), version)]
    missing_tools = incomplete(found, tools)
    unheld = [name for name in packages if name in missing or not found[name].held]
    wanted: list[File] = []
    old_sources: list[str] = []
    fault, unreadable, verify = "", False, False
    if source:
        sources = observe(KubernetesSources)
        wanted, old_sources = _files(version, key), sources_to_remove(sources)
        signers = observe(RepositorySigners, minor=minor_of(version))
        fault = key_fault(observe(Content, path=KEYRING), signers, time.time())
        present = observe(Files, paths=(SOURCE, KEYRING))
        # a symbolic link is not changed: it may lead to a key that somebody else maintains
        key_file = present.get(KEYRING)
        unreadable = key_file is not None and key_file.kind == "file" and key_file.mode != "644"
        verify = bool(fault or missing or missing_tools or unreadable) or any(
            not file.matches(present.get(file.path)) for file in wanted
        )
    unit, replaced = observe(Units, units=_KUBELET)["kubelet.service"], observe(KubeletReplaced)
    replaced = replaced and "kubelet" in packages
    steps = []
    if "kubelet" in packages:
        steps = [*kubelet_steps(unit, joined, replaced, [*missing, *missing_tools])]
    before = before if "kubelet" in missing else ""
    if before:
        because(before)
    because(*package_changes(version, missing, found))
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
        apply=compose(
            version, missing, missing_tools, unheld, verify, key is None, steps,
            run_kubeadm(before) if before else "",
        ),
        noop=f"Kubernetes {version}: as wanted",
        force=bool(verify or missing or missing_tools or unheld or steps),
        repairs=repairs,
    )  # fmt: skip
    return commands, replaced or "kubelet" in missing


def package_changes(
    version: str, missing: Iterable[str], found: Mapping[str, PackageState]
) -> Iterator[str]:
    """Yield the reasons for installing packages at a version. This is a pure function.

    + missing: names of the packages to install
    + found: state of each package that the node has

    **Example:** ``kubelet 1.36.1 -> 1.36.2``
    """
    known = {name: upstream(found[name].version) for name in missing if name in found}
    old = {name: was for name, was in known.items() if was != version}
    yield from (f"{name} {was} -> {version}" for name, was in old.items())
    yield from listed(f"install {version} of", (name for name in missing if name not in old))


def run_kubeadm(command: str) -> str:
    """Return shell commands that run kubeadm, and show the end of its output if it fails.

    + command: kubeadm's words, such as "kubeadm upgrade node"

    The commands need the prelude. kubeadm's output goes to a file, and not to the run, so kubeadm
    works to its end even if the run is killed. Until then it holds the lock of the prelude.
    """
    return f"""\
tell {quote(command)}
(umask 022; exec {command}) </dev/null >"$RUN_DIR/kubeadm.log" 2>&1 || {{
  tail -n {KUBEADM_LINES} "$RUN_DIR/kubeadm.log" >&2
  why=$(grep -E '{_KUBEADM_ERROR}' "$RUN_DIR/kubeadm.log" | tail -n 3 |
    sed 's/^[[:space:]]*//' | paste -sd ' ' -)
  echo "{command} failed${{why:+: $why}}; the end of its output is above" >&2
  exit 1
}}"""


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
    before: str = "",
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
    + before: shell commands that run before packages are installed
    """
    lines = [APT, "unit_was kubelet.service; settle"]
    if verify:
        lines.append(check_key(minor_of(version), fetch))
    if before:
        lines.append(before)
    if wanted := [*(f"{name}={version}-*" for name in missing), *tools]:
        lines += ["refresh", f"{INSTALL} {quote(*wanted)}"]
    if held := [*hold]:
        lines.append(f"hold {quote(*held)}")
    return "\n".join([*lines, *(commands for _, commands in steps)])


UNDO = Undo(needed_when_joined=True)
