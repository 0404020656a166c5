"""Verify nodes without changing them, and print one line for each concern of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field, field_validator
from pyinfra.api.deploy import deploy

from chaos_engine.deploys.concern import DECLARED, Concern, collect
from chaos_engine.deploys.proxy import CONCERNS as PROXY_CONCERNS
from chaos_engine.deploys.proxy import ProxySettings
from chaos_engine.deploys.settings import Settings, SettingsError, collecting
from chaos_engine.deploys.summary import summarized
from chaos_engine.deploys.values import ConcernNames, check_concern_names
from chaos_engine.deploys.worker import CONCERNS as WORKER_CONCERNS
from chaos_engine.deploys.worker import WorkerSettings
from chaos_engine.facts.health import Check, Health
from chaos_engine.facts.node import NOT_ROOT, AsRoot
from chaos_engine.facts.observe import NodeError, Read, current, gather, observe, phase, want
from chaos_engine.operations.engine.summary import fall_short
from chaos_engine.operations.verify import fail_node, print_findings


class VerifySettings(Settings):
    """Settings of `verify`."""

    verify: ConcernNames | None = Field(
        None,
        description="names of the concerns that verify and report look at, such as docker or "
        "docker,swap; only the settings of these concerns are needed. If not set, they look at all "
        "concerns of the role worker, and of proxy for a proxy",
    )

    @field_validator("verify")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Refuse an empty list, and a name that no concern has."""
        if names is not None:
            listed = [one.__name__ for one in (*WORKER_CONCERNS, *PROXY_CONCERNS)]
            check_concern_names(names, listed, "verify")
        return names


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

    The setting ``chaos_verify`` names the concerns to verify. By default all are verified. If a
    concern is not ok, pyinfra ends with an exit code other than 0, even with ``--dry``.

    The check of rsyslog logs a message with the tag ``chaos-engine``. You can look for this message
    on the log server.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.verify -y``
    """
    concerns = concerns_of_host(VerifySettings.resolve(by="verify").verify)
    found = findings(concerns)
    if why := print_findings(found, remarks(concerns, found)):
        fall_short(why)
    fail_node(name="Verify node", why=why)


def concerns_of_host(names: Sequence[str] | None) -> dict[Concern, Settings]:
    """Return the concerns to verify on the current host, each with its settings.

    + names: the names of the concerns, ``None`` for all concerns that the host should have

    Raises `SettingsError` for wrong settings of these concerns.
    """
    if names is None:
        concerns: dict[Concern, Settings] = dict.fromkeys(WORKER_CONCERNS, WorkerSettings.resolve())
        if "proxy" in current()[1].groups:
            concerns |= dict.fromkeys(PROXY_CONCERNS, ProxySettings.resolve())
        return concerns
    mistakes: list[str] = []
    concerns = {}
    for concern in (*WORKER_CONCERNS, *PROXY_CONCERNS):
        if concern.__name__ in names:
            with collecting(mistakes):
                concerns[concern] = DECLARED[concern.__name__].model.resolve()
    if mistakes:
        raise SettingsError(*mistakes)
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

    Raises `NodeError` if the node cannot be read, or cannot be read as root.
    """

    def call_all() -> None:
        for concern, settings in concerns.items():
            concern(settings)

    collect(call_all)
    for concern, settings in concerns.items():
        want(DECLARED[concern.__name__].reads(settings))
    want([Read.of(Health, checks=_checks(concerns)), Read.of(AsRoot)])
    gather()
    if not observe(AsRoot):  # without root, the facts' answers are incomplete
        raise NodeError(NOT_ROOT)


def _checks(concerns: Mapping[Concern, Settings]) -> tuple[Check, ...]:
    """Return the health checks of the given concerns."""
    return tuple(one for name in concerns for one in DECLARED[name.__name__].health)
