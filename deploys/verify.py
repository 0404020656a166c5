"""Verify nodes without changing them, and print one line for each concern of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyinfra.api.deploy import deploy

from chaos_engine.deploys.concern import DECLARED, Concern, collect
from chaos_engine.deploys.proxy import CONCERNS as PROXY_CONCERNS
from chaos_engine.deploys.proxy import ProxySettings
from chaos_engine.deploys.settings import Settings
from chaos_engine.deploys.summary import summarized
from chaos_engine.deploys.worker import CONCERNS as WORKER_CONCERNS
from chaos_engine.deploys.worker import WorkerSettings
from chaos_engine.facts.health import Check, Health
from chaos_engine.facts.observe import NodeError, Read, current, gather, observe, phase, want
from chaos_engine.operations.engine.summary import fall_short
from chaos_engine.operations.verify import fail_node, report


@deploy("Verify")
@summarized
def verify() -> None:
    """Print a line for each concern of a node: "ok", or what is wrong.

    A concern is ok if its operations find nothing to change and its health checks succeed:

    - Docker, cri-dockerd, kubelet and the API server of a controller answer
    - swap is off, and no service or script turns it on at boot
    - journald writes to no file in ``/var/log/journal``
    - rsyslog runs
    - a file can be written to ``/var/log``
    - the kernel's memory controller is on
    - a proxy reaches the Kubernetes API's address
    - exactly one of several proxies has this address, and every other proxy can take it over

    If a concern is not ok, pyinfra ends with an exit code other than 0, even with ``--dry``.

    The check of rsyslog logs a message with the tag ``chaos-engine``. You can look for this message
    on the log server.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.verify -y``
    """
    concerns = concerns_of_host()
    found = findings(concerns)
    if why := report(found, remarks(concerns, found)):
        fall_short(why)
    fail_node(name="Verify node", why=why)


def concerns_of_host() -> dict[Concern, Settings]:
    """Return the concerns that the current host should have, each with its settings.

    Raises `SettingsError` for wrong settings.
    """
    concerns: dict[Concern, Settings] = dict.fromkeys(WORKER_CONCERNS, WorkerSettings.resolve())
    if "proxy" in current()[1].groups:
        concerns |= dict.fromkeys(PROXY_CONCERNS, ProxySettings.resolve())
    return concerns


def findings(concerns: Mapping[Concern, Settings]) -> dict[str, list[str]]:
    """Return the problems of each concern on the current host, by the concern's name.

    + concerns: the settings of each concern
    """
    checks = _checks(concerns)
    try:
        read_node(concerns)
    except NodeError as error:
        return {concern.__name__: [str(error)] for concern in concerns}
    try:
        health = observe(Health, checks=checks)
    except NodeError as error:
        health = {check.name: str(error) for check in checks}
    found = {}
    for concern, settings in concerns.items():
        name = concern.__name__
        with phase("check") as (problems, pending):
            concern(settings)
        found[name] = [
            *problems,
            *(f"to be done: {operation}" for operation in pending),
            *(health[one.name] for one in DECLARED[name].health if one.name in health),
            *DECLARED[name].problems(settings),
        ]
    return found


def remarks(
    concerns: Mapping[Concern, Settings], found: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return the texts to print after "ok". The key of a text is the name of its concern.

    + concerns: the settings of each concern
    + found: the problems of each concern, as `findings` returns them

    Each concern has a function `says`, which returns the concern's text (see `Declaration`).
    Concerns with problems and concerns without a text are left out.
    """
    names = {concern.__name__: settings for concern, settings in concerns.items()}
    return {
        name: text
        for name, settings in names.items()
        if not found[name] and (text := DECLARED[name].says(settings))
    }


def read_node(concerns: Mapping[Concern, Settings]) -> None:
    """Use one remote command to read all facts that `findings` needs.

    + concerns: the settings of each concern

    The command also reads all other facts that `want` has announced.

    Raises `NodeError` if the node cannot be read.
    """

    def call_all() -> None:
        for concern, settings in concerns.items():
            concern(settings)

    collect(call_all)
    for concern, settings in concerns.items():
        want(DECLARED[concern.__name__].reads(settings))
    want([Read.of(Health, checks=_checks(concerns))])
    gather()


def _checks(concerns: Mapping[Concern, Settings]) -> tuple[Check, ...]:
    """Return the health checks of the given concerns."""
    return tuple(one for name in concerns for one in DECLARED[name.__name__].health)
