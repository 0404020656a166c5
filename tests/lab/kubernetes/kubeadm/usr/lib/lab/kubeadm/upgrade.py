"""``kubeadm upgrade``: of the first controller, of the other nodes, and the plan of it.

From cmd/kubeadm/app/cmd/upgrade, cmd/phases/upgrade and phases/upgrade, and from what 1.35.0 and
1.36.5 printed. There are no images to pull and no addons. As the real one, it does not ask for the
version of an external etcd, it does not restart kubelet, and it does not wait for an API server to
be ready: only until kubelet has noticed the new manifest.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from . import api, certs, config, files, init, node, preflight, release
from .api import Client, Unanswered
from .cluster import SYSTEM, Etcd
from .files import ETC, KUBELET, MANIFESTS
from .node import Fatal

_ADMIN = f"{ETC}/admin.conf"
_HASH = "kubernetes.io/config.hash"
_JOB_SECONDS = 15.0
_MANIFEST_TIMEOUT = "5m0s"
_CONTROLLER = "node-role.kubernetes.io/control-plane"

_DONE = """
[upgrade] SUCCESS! A control plane node of your cluster was upgraded to "{}".

[upgrade] Now please proceed with upgrading the rest of the nodes by following the right order."""
_STATE = """

The table below shows the current state of component configs as understood by this version of \
kubeadm.
Configs that have a "yes" mark in the "MANUAL UPGRADE REQUIRED" column require manual config \
upgrade or
resetting to kubeadm defaults before a successful upgrade can be performed. The version to manually
upgrade to is denoted in the "PREFERRED VERSION" column.
"""
_LINE = "_" * 69


@dataclass(frozen=True)
class Settings:
    """What flags and UpgradeConfiguration say."""

    version: str | None
    yes: bool
    force: bool
    dry_run: bool
    renew: bool
    ignored: list[str]
    timeout: str


def _settings(options: Namespace, part: str) -> Settings:
    """Return the settings of a PART of UpgradeConfiguration (``apply``), which flags go before."""
    given: dict[str, Any] = {}
    if options.config:
        documents = config.load(options.config, strict=False)
        if "UpgradeConfiguration" not in documents:
            raise Fatal(f"no UpgradeConfiguration found in config file {options.config!r}")
        given = documents["UpgradeConfiguration"]
    own, timeouts = given.get(part) or {}, given.get("timeouts") or {}
    renew = options.certificate_renewal
    return Settings(
        version=options.version or own.get("kubernetesVersion"),
        yes=options.yes,
        force=options.force or bool(own.get("forceUpgrade")),
        dry_run=options.dry_run or bool(own.get("dryRun")),
        renew=bool(own.get("certificateRenewal", True)) if renew is None else renew != "false",
        ignored=options.ignore_preflight_errors + (own.get("ignorePreflightErrors") or []),
        timeout=str(timeouts.get("upgradeManifests") or _MANIFEST_TIMEOUT),
    )


def apply(options: Namespace) -> None:
    """Upgrade this controller, the first one, and what the cluster knows of its version."""
    settings = _settings(options, "apply")
    if settings.version is None:
        raise Fatal("missing one or more required arguments. Required arguments: [version]")
    client = Client(_ADMIN)
    etcd = Etcd.linked()
    configuration = _configuration(client, etcd, "[upgrade/init config] FATAL: ")
    version = config.normal_version(settings.version)
    node.say("[upgrade/preflight] Running preflight checks")
    preflight.root(settings.ignored)
    nodes = _healthy(client, settings.ignored, dry_run=settings.dry_run)
    node.say(f'[upgrade/preflight] You have chosen to upgrade the cluster version to "{version}"')
    _check_versions(client, version, nodes, force=settings.force)
    if not (settings.yes or settings.force or settings.dry_run):
        _confirm()
    if settings.dry_run:
        node.say("[upgrade/preflight] Would pull the required images (like 'kubeadm config images "
                 "pull')")  # fmt: skip
        node.say(
            f'[dryrun] Would upgrade your static Pod-hosted control plane to version "{version}"'
        )
        return
    _pull()
    configuration["kubernetesVersion"] = version
    node.say(
        "[upgrade/control-plane] Upgrading your static Pod-hosted control plane to version "
        f'"{version}" (timeout: {settings.timeout})...'
    )
    _controller(client, configuration, settings)
    node.say('[upload-config] Storing the configuration used in ConfigMap "kubeadm-config" in the '
             f'"{SYSTEM}" Namespace')  # fmt: skip
    etcd.put(f"configmaps/{SYSTEM}/kubeadm-config", configuration)
    kubelet = etcd.get(f"configmaps/{SYSTEM}/kubelet-config")
    node.say(f'[kubelet] Creating a ConfigMap "kubelet-config" in namespace {SYSTEM} with the '
             "configuration for the kubelets in the cluster")  # fmt: skip
    etcd.put(f"configmaps/{SYSTEM}/kubelet-config", kubelet)
    node.say("[upgrade/kubeconfig] The kubeconfig files for this node were successfully upgraded!")
    _kubelet(kubelet)
    _remove_flags()
    node.say(_DONE.format(version))


def upgrade_node(options: Namespace) -> None:
    """Upgrade another controller to what the cluster has, or a worker's kubelet's configuration."""
    settings = _settings(options, "node")
    controls = node.at(f"{MANIFESTS}/kube-apiserver.yaml").exists()
    client = Client(_ADMIN if controls else f"{ETC}/kubelet.conf")
    etcd = Etcd.linked()
    configuration = _configuration(client, etcd, "unable to fetch the kubeadm-config ConfigMap: ")
    node.say("[upgrade/preflight] Running pre-flight checks")
    preflight.root(settings.ignored)
    if controls:
        if not settings.dry_run:
            _pull()
            node.say(
                "[upgrade/control-plane] Upgrading your Static Pod-hosted control plane instance "
                f'to version "{configuration["kubernetesVersion"]}"...'
            )
            _controller(client, configuration, settings)
            node.say("[upgrade/kubeconfig] The kubeconfig files for this node were successfully "
                     "upgraded!")  # fmt: skip
    else:
        node.say("[upgrade/preflight] Skipping prepull. Not a control plane node.")
        node.say("[upgrade/control-plane] Skipping phase. Not a control plane node.")
        node.say("[upgrade/kubeconfig] Skipping phase. Not a control plane node.")
    if settings.dry_run:
        return
    _kubelet(etcd.get(f"configmaps/{SYSTEM}/kubelet-config"))
    if not controls:
        for name in ("coredns", "kube-proxy"):
            node.say(f"[upgrade/addon] Skipping the addon/{name} phase. Not a control plane node.")
    _remove_flags()


def kubelet_config() -> None:
    """Write kubelet's configuration anew, from what the cluster has (phases/upgrade/node)."""
    controls = node.at(f"{MANIFESTS}/kube-apiserver.yaml").exists()
    etcd = Etcd.linked()
    _configuration(Client(_ADMIN if controls else f"{ETC}/kubelet.conf"), etcd, "")
    _kubelet(etcd.get(f"configmaps/{SYSTEM}/kubelet-config"))


def plan(options: Namespace) -> None:
    """Say what the cluster can be upgraded to; without the internet, to kubeadm's own version."""
    settings = _settings(options, "plan")
    client = Client(_ADMIN)
    node.say("[preflight] Running pre-flight checks.")
    preflight.root(settings.ignored)
    _configuration(client, Etcd.linked(), "[upgrade/init config] FATAL: ", "upgrade/config")
    nodes = _healthy(client, settings.ignored, dry_run=False)
    node.say("[upgrade] Fetching available versions to upgrade to")
    cluster = _asked(client.version)
    node.say(f"[upgrade/versions] Cluster version: {cluster.lstrip('v')}")
    node.say(f"[upgrade/versions] kubeadm version: v{release.VERSION}")
    target = f"v{release.VERSION}"
    if settings.version is not None:
        target = config.normal_version(settings.version)
    else:
        node.warn(
            "could not fetch a Kubernetes version from the internet: unable to get URL "
            '"https://dl.k8s.io/release/stable.txt"'
        )
        node.warn(f"falling back to the local client version: {target}")
    node.say(f"[upgrade/versions] Target version: {target}")
    node.say(f"[upgrade/versions] Latest version in the v{_minor(cluster)} series: {cluster}\n")
    if _numbers(cluster) < _numbers(target):
        _show_plan(nodes, cluster, target)
    node.say(_STATE)
    node.table([
        ("API GROUP", "CURRENT VERSION", "PREFERRED VERSION", "MANUAL UPGRADE REQUIRED"),
        ("kubeproxy.config.k8s.io", "-", "v1alpha1", "no"),
        ("kubelet.config.k8s.io", "v1beta1", "v1beta1", "no"),
    ])  # fmt: skip
    node.say(f"{_LINE}\n")


def check_expiration(output: str | None) -> None:
    """Do what ``kubeadm certs check-expiration`` does, with the cluster's configuration."""
    certs.check(_known("check-expiration", quiet=output == "json"), output)


def renew_all() -> None:
    """Do what ``kubeadm certs renew all`` does, with the cluster's configuration."""
    certs.renew_all(_known("renew"))


def _known(prefix: str, *, quiet: bool = False) -> dict[str, Any]:
    """Return the cluster's configuration, or the defaults where it cannot be had."""
    try:
        return _configuration(Client(_ADMIN), Etcd.linked(), "", prefix, quiet=quiet)
    except Fatal:
        if not quiet:
            node.say(f"[{prefix}] Error reading configuration from the Cluster. Falling back to "
                     "default configuration")  # fmt: skip
        return {"certificatesDir": f"{ETC}/pki"}


def _configuration(
    client: Client, etcd: Etcd, failed: str, prefix: str = "upgrade", *, quiet: bool = False
) -> dict[str, Any]:
    """Return ClusterConfiguration as the cluster has it; the API has to answer before."""
    if not quiet:
        node.say(f'[{prefix}] Reading configuration from the "kubeadm-config" ConfigMap in '
                 f'namespace "{SYSTEM}"...')  # fmt: skip
        node.say(f"[{prefix}] Use 'kubeadm init phase upload-config kubeadm --config "
                 "your-config-file' to re-upload it.")  # fmt: skip
    try:
        client.ask(api.CONFIG)
    except Unanswered as error:
        raise Fatal(f"{failed}failed to get config map: {error}") from None
    configuration: dict[str, Any] | None = etcd.get(f"configmaps/{SYSTEM}/kubeadm-config")
    if configuration is None:
        raise Fatal(f'{failed}the ConfigMap "kubeadm-config" in the "{SYSTEM}" namespace was not '
                    "found")  # fmt: skip
    try:
        config.check_version(str(configuration["kubernetesVersion"]))
    except Fatal as error:
        raise Fatal(f"{failed}{error}") from None
    return configuration


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Unanswered as error:
        raise Fatal(f"[upgrade/versions] FATAL: {error}") from None


def _healthy(client: Client, ignored: list[str], *, dry_run: bool) -> list[dict[str, Any]]:
    """Check the cluster (``CheckClusterHealth`` in health.go); return its nodes."""
    node.say("[upgrade] Running cluster health checks")
    checks = preflight.Checks(ignored)
    if not dry_run:
        checks.add("CreateJob", lambda: ([], _job(client)))
    nodes: list[dict[str, Any]] = _asked(lambda: client.items("/api/v1/nodes"))
    away = [each["metadata"]["name"] for each in nodes if _controls(each) and not _ready(each)]
    said = [f"there are NotReady control-planes in the cluster: [{' '.join(away)}]"] if away else []
    checks.add("ControlPlaneNodesReady", lambda: ([], said))
    paths = [f"{MANIFESTS}/{name}.yaml" for name in certs.COMPONENTS]
    absent = [path for path in paths if not node.at(path).exists()]
    lacks = (
        "The control plane seems to be Static Pod-hosted, but some of the manifests don't seem to "
        "exist on disk. This probably means you're running 'kubeadm upgrade' on a remote machine, "
        "which is not supported for a Static Pod-hosted cluster. Manifest files not found: "
        f"[{' '.join(absent)}]"
    )
    checks.add("StaticPodManifest", lambda: ([], [lacks] if absent else []))
    checks.settle()
    return nodes


def _job(client: Client) -> list[str]:
    """Have a Job run, which needs a node that is ready and takes pods."""

    def completed() -> bool:
        nodes = client.items("/api/v1/nodes")
        return any(_ready(each) and not each["spec"].get("unschedulable") for each in nodes)

    done = api.patiently(completed, _JOB_SECONDS)
    if isinstance(done, Unanswered):
        return [
            f'Job "upgrade-health-check" in the namespace "{SYSTEM}" did not complete in 15s: no '
            "condition of type Complete"
        ]
    return []


def _controls(item: dict[str, Any]) -> bool:
    return _CONTROLLER in (item["metadata"].get("labels") or {})


def _ready(item: dict[str, Any]) -> bool:
    conditions = item["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _check_versions(
    client: Client, version: str, nodes: list[dict[str, Any]], *, force: bool
) -> None:
    """Refuse a version that does not go with the cluster's (policy.go)."""
    cluster = _asked(client.version)
    node.say(f"[upgrade/versions] Cluster version: {cluster}")
    node.say(f"[upgrade/versions] kubeadm version: v{release.VERSION}")
    kubelets = sorted({each["status"]["nodeInfo"]["kubeletVersion"] for each in nodes})
    fatal, skippable = misfits(version, cluster, kubelets)
    failed = "error execution phase preflight: the version argument is invalid due to these "
    if fatal:
        raise Fatal(
            f"{failed}fatal errors:\n\n{_list(fatal)}\nPlease fix the misalignments highlighted "
            "above and try upgrading again"
        )
    if skippable and not force:
        raise Fatal(f"{failed}errors:\n\n{_list(skippable)}\nCan be bypassed if you pass the "
                    "--force flag")  # fmt: skip
    if skippable:
        node.say(
            f"[upgrade/version] Found {len(skippable)} potential version compatibility errors but "
            f"skipping since the --force flag is set: \n\n{_list(skippable)}"
        )


def misfits(version: str, cluster: str, kubelets: list[str]) -> tuple[list[str], list[str]]:
    """Return what forbids an upgrade to VERSION, and what only ``--force`` allows.

    + cluster: the version of the API server that answers
    + kubelets: the versions of all kubelets
    """
    fatal, skippable = [], []
    wanted, own = _numbers(version)[1], release.MINOR
    chosen = f'Specified version to upgrade to "{version}" is'
    if wanted > _numbers(cluster)[1] + 1:
        fatal.append(f"{chosen} too high; kubeadm can upgrade only 1 minor version at a time")
    if wanted < _numbers(cluster)[1] - 1:
        fatal.append(f'Specified version to downgrade to "{version}" is too low; kubeadm can '
                     "downgrade only 1 minor version at a time")  # fmt: skip
    if wanted > own:
        fatal.append(
            f"{chosen} at least one minor release higher than the kubeadm minor release ({wanted} "
            f"> {own}). Such an upgrade is not supported"
        )
    elif _numbers(version) > _numbers(release.VERSION):
        skippable.append(
            f'{chosen} higher than the kubeadm version "v{release.VERSION}". Upgrade kubeadm first '
            "using the tool you used to install kubeadm"
        )
    if wanted < own:
        skippable.append(
            f"Kubeadm version v{release.VERSION} can only be used to upgrade to Kubernetes version "
            f"{release.MAJOR}.{own}"
        )
    old = [each for each in kubelets if wanted > _numbers(each)[1] + release.KUBELET_SKEW]
    if old:
        skippable.append(
            "There are kubelets in this cluster that are too old that have these versions "
            f"[{' '.join(old)}]"
        )
    return fatal, skippable


def _list(texts: list[str]) -> str:
    return "".join(f"\t- {text}\n" for text in texts)


def _confirm() -> None:
    print("[upgrade] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Fatal("error execution phase preflight: won't proceed; the user didn't answer (Y|y) "
                    "in order to continue")  # fmt: skip


def _pull() -> None:
    node.say("[upgrade/preflight] Pulling images required for setting up a Kubernetes cluster")
    node.say("[upgrade/preflight] This might take a minute or two, depending on the speed of your "
             "internet connection")  # fmt: skip
    node.say("[upgrade/preflight] You can also perform this action beforehand using 'kubeadm "
             "config images pull'")  # fmt: skip
    init.compare_sandbox_image(files.runtime())


def _controller(client: Client, configuration: dict[str, Any], settings: Settings) -> None:
    """Give this controller's static pods new manifests, one after the other (staticpods.go)."""
    failed = "error execution phase control-plane: couldn't complete the static pod upgrade: "
    name, patience = _own_name(), node.seconds(settings.timeout)
    before = {}
    for component in certs.COMPONENTS:
        found = api.patiently(partial(_hash, client, component, name), patience)
        if isinstance(found, Unanswered):
            raise Fatal(f"{failed}failed to obtain static Pod hash for component {component} on "
                        f"Node {name}: {found}")  # fmt: skip
        before[component] = found
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S")
    drafts = f"{ETC}/tmp/kubeadm-upgraded-manifests{os.getpid()}"
    backups = f"{ETC}/tmp/kubeadm-backup-manifests-{stamp}"
    node.say(f'[upgrade/staticpods] Writing new Static Pod manifests to "{drafts}"')
    for component, pod in files.pods(configuration, _endpoint()).items():
        node.write(f"{drafts}/{component}.yaml", pod)
    try:
        node.at(backups).mkdir(parents=True)
    except FileExistsError:
        # os.Mkdir of CreateTimestampDirForKubeadm (constants.go): another upgrade in this second
        problem = f"could not create timestamp directory: mkdir {backups}: file exists"
        raise Fatal(f"{failed}{problem}") from None
    for component in certs.COMPONENTS:
        node.say(f'[upgrade/staticpods] Preparing for "{component}" upgrade')
        new = node.at(f"{drafts}/{component}.yaml")
        current, backup = f"{MANIFESTS}/{component}.yaml", f"{backups}/{component}.yaml"
        if node.at(current).read_bytes() == new.read_bytes():
            node.say(f"[upgrade/staticpods] Current and new manifests of {component} are equal, "
                     "skipping upgrade")  # fmt: skip
            continue
        if settings.renew:
            _renew(configuration, certs.COMPONENTS[component])
        node.say(f'[upgrade/staticpods] Moving new manifest to "{current}" and backing up old '
                 f'manifest to "{backup}"')  # fmt: skip
        node.at(current).rename(node.at(backup))
        new.rename(node.at(current))
        problem = _changed(client, component, name, before[component], settings.timeout)
        if problem:
            for path in node.at(backups).iterdir():
                shutil.copyfile(path, node.at(f"{MANIFESTS}/{path.name}"))
            raise Fatal(
                f"{failed}couldn't upgrade control plane. kubeadm has tried to recover everything "
                f"into the earlier state. Errors faced: {problem}"
            )
        node.say(f'[upgrade/staticpods] Component "{component}" upgraded successfully!')
    if settings.renew:
        _renew(configuration, ("admin.conf", "super-admin.conf"), say=False)
    shutil.rmtree(node.at(drafts))
    node.say("[upgrade/control-plane] The control plane instance for this node was successfully "
             "upgraded!")  # fmt: skip


def _changed(client: Client, component: str, name: str, before: str, timeout: str) -> str:
    """Wait until kubelet has noticed the new manifest; return why it has not, or ""."""
    node.say("[upgrade/staticpods] Waiting for the kubelet to restart the component")
    node.say(f"[upgrade/staticpods] This can take up to {timeout}")

    def differs() -> bool:
        found = _hash(client, component, name)
        return found is not None and found != before

    done = api.patiently(differs, node.seconds(timeout))
    if isinstance(done, Unanswered):
        return (
            f"static Pod hash for component {component} on Node {name} did not change after "
            f"{timeout}: {done}"
        )
    selector = f"component={component}"
    pods = f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector={selector.replace('=', '%3D')}"
    count = 0

    def running() -> bool:
        nonlocal count
        found = client.items(pods)
        if len(found) != count:
            count = len(found)
            node.say(f"[apiclient] Found {count} Pods for label selector {selector}")
        return bool(found) and all(each["status"]["phase"] == "Running" for each in found)

    done = api.patiently(running, node.seconds(timeout))
    return str(done) if isinstance(done, Unanswered) else ""


def _hash(client: Client, component: str, name: str) -> str | None:
    """Return the hash of a static pod's manifest as kubelet tells it to the API."""
    pod = client.ask(f"/api/v1/namespaces/{SYSTEM}/pods/{component}-{name}")
    if pod is None:
        return None
    found: str | None = (pod["metadata"].get("annotations") or {}).get(_HASH)
    return found


def _renew(configuration: dict[str, Any], names: tuple[str, ...], *, say: bool = True) -> None:
    for name in names:
        if say:
            node.say(f"[upgrade/staticpods] Renewing {name} certificate")
        certs.renew(configuration, name)


def _own_name() -> str:
    """Return this node's name, which is in its kubelet's kubeconfig."""
    return Client(f"{ETC}/kubelet.conf").user.rpartition(":")[2]


def _endpoint() -> dict[str, Any]:
    """Return the address and port of this node's API server."""
    pod = yaml.safe_load(node.at(f"{MANIFESTS}/kube-apiserver.yaml").read_text())
    words = pod["spec"]["containers"][0]["command"]
    flags = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
    return {"advertiseAddress": flags["advertise-address"], "bindPort": int(flags["secure-port"])}


def _kubelet(configuration: dict[str, Any]) -> None:
    """Write kubelet's configuration; kubelet reads it with its next start."""
    backup = f"{ETC}/tmp/kubeadm-kubelet-config-{time.strftime('%Y-%m-%d-%H-%M-%S')}/config.yaml"
    node.say(f"[upgrade] Backing up kubelet config file to {backup}")
    node.write(backup, node.at(f"{KUBELET}/config.yaml").read_bytes())
    if release.LOCAL_CRI_SOCKET:
        node.say('[patches] Applied patch of type "application/strategic-merge-patch+json" to '
                 'target "kubeletconfiguration"')  # fmt: skip
    files.kubelet_configuration(configuration, files.runtime())
    node.say("[upgrade/kubelet-config] The kubelet configuration for this node was successfully "
             "upgraded!")  # fmt: skip


def _remove_flags() -> None:
    """Remove the flags that the new kubelet would not know."""
    path = f"{KUBELET}/kubeadm-flags.env"
    if not release.UNWANTED_FLAGS or not node.at(path).exists():
        return
    text = node.at(path).read_text()
    kept = re.sub(rf" ?--({'|'.join(release.UNWANTED_FLAGS)})=[^\s\"]*", "", text)
    backup = f"{ETC}/tmp/kubeadm-kubelet-env{os.getpid()}/kubeadm-flags.env"
    node.say(f"[upgrade] Backing up kubelet env file to {backup}")
    node.write(backup, text)
    node.say(f'[kubelet-start] Writing kubelet environment file with flags to file "{path}"')
    node.write(path, kept.replace('=" ', '="'), 0o644)


def _show_plan(nodes: list[dict[str, Any]], cluster: str, target: str) -> None:
    node.say("Components that must be upgraded manually after you have upgraded the control plane "
             "with 'kubeadm upgrade apply':")  # fmt: skip
    rows = [("COMPONENT", "NODE", "CURRENT", "TARGET")]
    names = {each["metadata"]["name"]: each for each in nodes}
    rows += [
        ("kubelet", name, str(names[name]["status"]["nodeInfo"]["kubeletVersion"]), target)
        for name in sorted(names)
    ]
    node.table(rows)
    node.say("\nUpgrade to the latest stable version:\n")
    rows = rows[:1]
    for component in certs.COMPONENTS:
        rows += [(component, name, cluster, target) for name in sorted(names)
                 if _controls(names[name])]  # fmt: skip
    node.table(rows)
    node.say("\nYou can now apply the upgrade by executing the following command:\n")
    node.say(f"\tkubeadm upgrade apply {target}\n")
    if _numbers(target) > _numbers(release.VERSION):
        node.say("Note: Before you can perform this upgrade, you have to update kubeadm to "
                 f"{target}.\n")  # fmt: skip
    node.say(_LINE)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.lstrip("v").partition("-")[0].split("."))


def _minor(version: str) -> str:
    return ".".join(version.lstrip("v").split(".")[:2])
