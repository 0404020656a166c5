"""The health of real nodes, read-only: one line a concern and node."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api.deploy import deploy

from chaos_engine.deploys.concern import Concern, collect
from chaos_engine.deploys.etcd_certificates import (
    EtcdCertificatesSettings,
    asked,
    etcd_certificates,
)
from chaos_engine.deploys.proxy import CONCERNS as PROXY_CONCERNS
from chaos_engine.deploys.proxy import ProxySettings
from chaos_engine.deploys.settings import Settings
from chaos_engine.deploys.summary import summarized
from chaos_engine.deploys.worker import CONCERNS as WORKER_CONCERNS
from chaos_engine.deploys.worker import WorkerSettings
from chaos_engine.facts.etcd import EtcdVersions
from chaos_engine.facts.health import CHECKS, PART_OF, Health
from chaos_engine.facts.observe import NodeError, Read, current, gather, observe, phase, want
from chaos_engine.operations.compatibility import etcd_misfit
from chaos_engine.operations.engine.summary import fall_short
from chaos_engine.operations.verify import judge, report, verdict


@deploy("Verify")
@summarized
def verify() -> None:
    """Say of each concern of a work node, or of the proxy, whether it is as wanted, and why not.

    A concern is as wanted when its operations find nothing to change and its service does its
    work: Docker and the shim answer, no swap is in use, journald has no file on disk open, rsyslog
    runs, a file can be written to ``/var/log``, the memory controller is there, and the proxy's
    address answers its own node. Where one is not, the exit code is non-zero, also under ``--dry``.

    A message tagged ``chaos-engine`` is logged too. That it arrives is seen at the log server only.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.verify -y``
    """
    host = current()[1]
    concerns: dict[Concern, Settings] = dict.fromkeys(WORKER_CONCERNS, WorkerSettings.resolve())
    if "proxy" in host.groups:
        concerns |= dict.fromkeys(PROXY_CONCERNS, ProxySettings.resolve())
    found = findings(concerns)
    failed = [concern for concern, problems in found.items() if problems]
    if not report(found):
        fall_short(verdict(failed))
    judge(name="Verify node", failed=failed)


def findings(concerns: Mapping[Concern, Settings]) -> dict[str, list[str]]:
    """What is wrong with each of the concerns, given with their settings, on the current host."""

    def call_all() -> None:
        for concern, settings in concerns.items():
            concern(settings)

    try:
        collect(call_all)
        etcd = concerns.get(etcd_certificates)
        if isinstance(etcd, EtcdCertificatesSettings) and etcd.asks_etcd:
            want([Read.of(EtcdVersions, joined_too=True, **asked(etcd))])
        want([Read.of(Health)])
        gather()
    except NodeError as error:
        return {concern.__name__: [str(error)] for concern in concerns}
    try:
        health = observe(Health)
    except NodeError as error:
        health = dict.fromkeys(CHECKS, str(error))
    found = {}
    for concern, settings in concerns.items():
        name = concern.__name__
        with phase("check") as (problems, pending):
            concern(settings)
        found[name] = [
            *problems,
            *(f"to be done: {operation}" for operation in pending),
            *(health[check] for check in health if PART_OF.get(check, check) == name),
        ]
    etcd = concerns.get(etcd_certificates)
    if isinstance(etcd, EtcdCertificatesSettings) and etcd.asks_etcd:
        versions = observe(EtcdVersions, joined_too=True, **asked(etcd))
        if misfit := etcd_misfit(etcd.kubernetes_version, versions):
            found[etcd_certificates.__name__].append(misfit)
    return found
