"""Undo what deploys have changed on a node. The node's manifest lists these changes."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from chaos_engine.deploys.concern import DECLARED, concern
from chaos_engine.deploys.preflight import preflight
from chaos_engine.deploys.proxy import CONCERNS as PROXY_CONCERNS
from chaos_engine.deploys.settings import Settings
from chaos_engine.deploys.uncordon import uncordon
from chaos_engine.deploys.values import ConcernNames, check_concern_names
from chaos_engine.deploys.worker import CONCERNS as WORKER_CONCERNS
from chaos_engine.facts.observe import current
from chaos_engine.operations.undo import forget_changes, undo_concern, undo_other_concerns

ORDER = tuple(
    one.__name__
    for one in reversed((*WORKER_CONCERNS, *PROXY_CONCERNS))
    if one not in (preflight, uncordon)
)
"""The names of the concerns that undo works through, in this order. The roles `worker` and `proxy`
call them in the reverse order."""

_NOTHING_TO_UNDO = {
    "preflight",
    "uncordon",
    "reboot",
    "worker",
    "proxy",
    "undo",
    "init",
    "join",
    "join_if_wanted",
    "forget",
    "updates",
    "upgrade",
}
"""The names of this package's deploys that leave nothing to undo. Updates and upgrades stay."""


class UndoSettings(Settings):
    """Settings of the deploy `undo`."""

    undo: ConcernNames | None = Field(
        None,
        description="names of the concerns to undo, such as docker or docker,swap; if not set, "
        "all concerns are undone",
    )

    @field_validator("undo")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Refuse an empty list, and a name that no concern has."""
        if names is not None:
            check_concern_names(names, ORDER, "undo", {*DECLARED} - _NOTHING_TO_UNDO)
        return names


@concern("Undo", UndoSettings)
def undo(settings: UndoSettings) -> None:
    """Restore the state that a node had before its first deploy.

    The deploy restores files, packages, units, Docker's networks and containers, kernel parameters
    and swap. It changes only what the node's manifest in ``/var/lib/chaos-engine`` lists. It undoes
    the concerns in reverse order: first the concern that a role calls last. If the deploy is
    interrupted, the next call continues it.

    A node in a cluster cannot work without certain concerns, such as `docker`. If one of these
    concerns would be undone on such a node, the deploy refuses the node.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.undo --data chaos_undo=rsyslog``
    """
    asked = settings.undo or ()
    host: Any = current()[1]
    hows = {name: declared.undo for name, declared in DECLARED.items()}
    needed = tuple(name for name in reversed(ORDER) if hows[name].needed_when_joined)
    undo_other_concerns(name="Undo what other deploys did", known=ORDER, asked=asked, hows=hows)
    for name in host.loop(ORDER):
        if not asked or name in asked:
            title = f"Undo {DECLARED[name].title}"
            undo_concern(name=title, concern=name, how=hows[name], needed=needed)
    forget_changes(name="Remove what was kept", asked=asked)
