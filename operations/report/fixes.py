"""Find the page of the documents that tells how to fix a problem."""

from __future__ import annotations

import os
import re
from pathlib import Path

FIXES = (
    ("is not set; set it in the inventory or in group_data/", "start.md#real-pis"),
    ("is no setting;", "settings.md"),
    ("sudo asks for a password", "start.md#real-pis"),
    ("the node's sudo is sudo-rs before 0.2.11", "start.md#real-pis"),
    ("pyinfra does not run as root on the node", "only-some.md#in-a-project-of-your-own"),
    ("the login shell did not run the command", "lost.md#in-the-middle-of-a-deploy"),
    ("cloud-init is still setting the node up", "start.md#real-pis"),
    ("or set chaos_cri_dockerd_tarball to its path", "start.md#real-pis"),
    ("is not known; check that you trust the tarball", "start.md#real-pis"),
    ("put the file at this path, or set … to the file's path", "only-some.md#a-node-alone"),
    ("has no Gluster volume for this node", "log-server.md#gluster-volumes-chaos_storage_servers"),
    ("/etc/machine-id is the same as on", "symptoms.md#before-anything-is-changed"),
    ("its root file system is read-only", "runbooks.md#a-node-is-gone-for-good"),
    ("MiB free, … are needed", "lost.md#in-the-middle-of-a-deploy"),
    ("cannot be changed, not even by root", "lost.md#in-the-middle-of-a-deploy"),
    ("belongs to the machine with the MAC address", "proxy.md#move-it-to-another-node"),
    ("uses the number … already", "two-proxies.md#settings"),
    ("give each proxy its own", "two-proxies.md#settings"),
    ("all nodes of a run share their turns", "live-cluster.md#a-turn"),
    ("but all proxies need the same value", "two-proxies.md#settings"),
    ("still runs as a proxy", "two-proxies.md#remove-a-proxy"),
    ("is wireless: access points drop the frames", "proxy.md#what-it-needs"),
    ("docker-ce is installed. docker.io would replace it", "changes.md"),
    ("cri-dockerd … needs Docker … or newer", "settings.md"),
    ("a command of an interrupted run is still running", "runbooks.md#a-run-was-killed"),
    ("has no entry for /", "container-logs.md#the-settings"),
    ("has no type, so mount(8) skips the line", "container-logs.md#the-settings"),
    ("several entries for", "container-logs.md#the-settings"),
    ("has no journal", "container-logs.md#the-settings"),
    ("lacks the program ping", "watchdog.md#the-network-link"),
    ("the time servers cannot be set", "clock.md#time-servers"),
    ("the time servers in … are overridden", "clock.md#time-servers"),
    ("which the time servers are written to", "clock.md#time-servers"),
    ("chrony may refuse the time servers", "clock.md#time-servers"),
    ("the node has joined a cluster and needs", "runbooks.md#take-a-node-out-of-the-cluster"),
    ("keeps retrying the mount by itself", "runbooks.md#varlog-is-in-ram"),
    ("volfile of … type …, which a log share may not have", "log-server.md#what-a-volume-may-be"),
    ("root cannot write there", "log-server.md#nfs-exports-chaos_log_store"),
    ("was mounted by an older version", "log-server.md#what-a-volume-may-be"),
    ("settings … are overridden", "changes.md#when-something-changes-it-back"),
    ("its mount options are not changed", "container-logs.md#the-settings"),
    ("systemd-timesyncd does not run on this node", "quiet.md#what-each-brings"),
    ("its clock is", "lost.md#in-the-middle-of-a-deploy"),
    ("no time service runs on this node", "clock.md#time-servers"),
    ("something keeps changing", "changes.md#when-something-changes-it-back"),
    ("swap stays in use until the next boot", "live-cluster.md#changes"),
    ("this node has no hardware watchdog", "watchdog.md#the-hardware"),
    ("uses the hardware watchdog, which only one program can use", "watchdog.md#the-hardware"),
    ("is owned by another proxy, which still runs", "two-proxies.md#remove-a-proxy"),
    ("the kernel has no memory controller", "symptoms.md#during-a-run"),
    ("the firmware reads another file", "symptoms.md#during-a-run"),
    ("cannot be drained, so the work on it was not started", "live-cluster.md#a-turn"),
    (
        "is a controller and must stay up, because the controller … is not Ready",
        "runbooks.md#a-node-is-gone-for-good",
    ),
    ("too few API servers are ready", "live-cluster.md#a-turn"),
    (
        "must not become … before all API servers have that minor version",
        "upgrade.md",
    ),
    (
        "kubeadm upgrades … by one minor version at a time",
        "upgrade.md#what-it-asks-and-refuses",
    ),
    ("a cluster cannot be downgraded to", "upgrade.md#what-it-asks-and-refuses"),
    (
        "all controllers have to be upgraded before the kubelets",
        "upgrade.md#what-it-asks-and-refuses",
    ),
    ("works with a kubelet … or newer", "upgrade.md#what-it-asks-and-refuses"),
    ("kubeadm upgrade … failed", "upgrade.md#when-it-stops"),
    ("not upgraded, because of a problem on", "upgrade.md#when-it-stops"),
    (
        "kubelet is not upgraded, because it must not be newer than any API server",
        "upgrade.md#when-it-stops",
    ),
    ("waiting for its turn", "live-cluster.md#a-turn"),
    ("a reboot is pending", "live-cluster.md"),
    ("but this computer cannot resolve that name", "live-cluster.md"),
    ("etcd …: kubeadm … refuses an etcd older than", "start.md#real-pis"),
    ("kubectl exec and attach fail on this node", "upgrade.md#what-it-does"),
    ("nothing accepts a connection at", "replace-a-node.md#the-first-cluster"),
    (
        "the cluster already has a node … that is Ready",
        "replace-a-node.md#what-forget-and-join-refuse",
    ),
    ("cannot join a cluster of version", "replace-a-node.md#what-forget-and-join-refuse"),
    ("has the last API server that is ready", "replace-a-node.md#what-forget-and-join-refuse"),
    ("may still be a member of kubeadm's etcd", "replace-a-node.md#a-dead-card"),
    ("etcd has the data of a cluster", "replace-a-node.md#the-first-cluster"),
    ("the clock is not synchronised", "clock.md#is-it-right"),
    ("expires on …, in … day", "runbooks.md#renew-kubeadms-certificates"),
    ("expired on …;", "runbooks.md#renew-kubeadms-certificates"),
    ("is not valid before … so the clock of this node", "clock.md"),
    ("has no certificate that can be read", "report.md#certificates"),
    ("no machine on the LAN answers ARP requests for", "two-proxies.md#see-who-has-the-address"),
    ("are also answered by", "two-proxies.md#when-the-proxies-do-not-see-each-other"),
    (
        "machines on the LAN answer ARP requests for",
        "two-proxies.md#when-the-proxies-do-not-see-each-other",
    ),
    ("does not take part in choosing the owner", "two-proxies.md#see-who-has-the-address"),
    ("or sends this node no adverts, has", "two-proxies.md#add-a-second-proxy"),
    ("iptables cannot forward packets", "two-proxies.md#settings"),
    ("this proxy cannot have the Kubernetes API's address", "runbooks.md#the-api-does-not-answer"),
    (
        "this node cannot connect to the Kubernetes API's address",
        "runbooks.md#the-api-does-not-answer",
    ),
    ("HAProxy sees the controller … as", "runbooks.md#the-api-does-not-answer"),
    ("is not mounted with the options of /etc/fstab", "container-logs.md#the-settings"),
    ("systemd has not opened", "watchdog.md#the-hardware"),
    ("the check of the network link does not run", "watchdog.md#the-network-link"),
    ("the metrics were not written in the last 15 minutes", "report.md#metrics-for-prometheus"),
    ("a reboot is due", "live-cluster.md#changes"),
    ("power or cooling", "report.md#temperature-and-voltage"),
    ("the card says that it is worn", "lost.md#a-card-or-a-whole-node"),
    ("the card reaches its rating in", "lost.md#what-still-writes-to-the-card"),
    (
        "the output of containers is not sent to the log server",
        "log-server.md#container-output",
    ),
    ("which is for another rsyslogd", "log-server.md#container-output"),
    ("has not arrived at the log server", "log-server.md#whether-messages-arrive"),
    ("the log server cannot be asked", "log-server.md#whether-messages-arrive"),
    ("is in RAM and was … % full", "log-server.md#ram-that-fills-up"),
    ("security updates are not known", "updates.md"),
    ("are on hold, so they are not updated", "updates.md#what-is-installed"),
)
"""Each row has a part of a message, and the place in ``docs/`` that says more. In the message,
``…`` stands for text that varies. The tables in ``docs/symptoms.md`` quote the same messages."""

NOT_AS_WANTED = "symptoms.md#afterwards"
"""The place in ``docs/`` for a problem that matches no row of `FIXES`."""

NOT_REACHED = "start.md#real-pis"
CONTROLLERS = "runbooks.md#the-api-does-not-answer"
REBOOT = "live-cluster.md#changes"
POWER = "report.md#temperature-and-voltage"
CARD = "lost.md#a-card-or-a-whole-node"
CERTIFICATES = "report.md#certificates"
WRITES = "lost.md#what-still-writes-to-the-card"


def place_of(problem: str) -> str:
    """Return the place in the documents that tells how to fix a problem.

    + problem: a message about a node

    **Example:** ``place_of("its clock is 40 s ahead") == "lost.md#in-the-middle-of-a-deploy"``
    """
    for part, place in FIXES:
        if re.search(".*".join(map(re.escape, part.split("…"))), problem, re.DOTALL):
            return place
    return NOT_AS_WANTED


def documents(site: Path, folder: Path) -> str:
    """Return a pattern for links from the report's page to the documents.

    + site: the folder in which pyinfra runs, which may be a clone of this package's repository
    + folder: the folder of the report's page

    The pattern is a relative URL, in which ``{page}`` stands for the name of a document. The links
    lead to HTML files if ``make docs`` has built these files, else to Markdown files. If `site` has
    no documents, the pattern is "".
    """
    for pattern in ("site/{page}/index.html", "docs/{page}.md"):
        if (site / pattern.replace("{page}", "symptoms")).is_file():
            return f"{Path(os.path.relpath(site, folder)).as_posix()}/{pattern}"
    return ""


def address(place: str, pattern: str) -> str:
    """Return the relative URL of a place in the documents, "" if the pattern is empty.

    + place: the place, such as "start.md#real-pis"
    + pattern: the pattern for links that `documents` returns

    **Example:** ``address("a.md#b", "../docs/{page}.md") == "../docs/a.md#b"``
    """
    page, _, anchor = place.partition("#")
    if not pattern:
        return ""
    at = pattern.replace("{page}", page.removesuffix(".md"))
    return f"{at}#{anchor}" if anchor else at
