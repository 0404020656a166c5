"""Find the values of pyinfra's global arguments for an operation, such as ``_sudo``."""

from __future__ import annotations

from typing import Any, cast

from pyinfra.api.arguments import AllArguments, pop_global_arguments
from pyinfra.api.host import Host

from chaos_engine.facts.observe.host import current, part
from chaos_engine.facts.observe.phase import Preparation

_IDENTITY = (
    "_sudo",
    "_sudo_user",
    "_use_sudo_login",
    "_su_user",
    "_use_su_login",
    "_doas",
    "_doas_user",
    "_dzdo",
    "_dzdo_user",
    "_shell_executable",
    "_chdir",
    "_env",
)


def usual_arguments() -> AllArguments:
    """Return pyinfra's global arguments for an operation that is called without any of its own."""
    state, host = current()
    at = part(Preparation)
    if not at.phase:
        return pop_global_arguments(state, host, {})[0]
    # pyinfra evaluates the types of all arguments on each call, which takes long. During a phase
    # the result differs only between deploys
    if at.arguments is None or at.arguments[0] is not host.current_deploy_kwargs:
        arguments, _ = pop_global_arguments(state, host, {})
        at.arguments = host.current_deploy_kwargs, arguments
    return at.arguments[1]


def resolved(host: Host, global_arguments: AllArguments | None = None) -> dict[str, Any]:
    """Return the given global arguments of pyinfra, or those of the current operation.

    + global_arguments: the given arguments, ``None`` for those of the current operation
    """
    found = global_arguments or host.current_op_global_arguments or usual_arguments()
    return cast("dict[str, Any]", found)


def identity(host: Host, global_arguments: AllArguments | None = None) -> tuple[str, ...]:
    """Return those global arguments that decide how a host is read, such as the user.

    These arguments are the identity of a read. Arguments that are not set are left out. Answers of
    different identities are stored separately.

    **Example:** ``("_sudo=True",)``
    """
    found = resolved(host, global_arguments)
    return tuple(f"{key}={found[key]!r}" for key in _IDENTITY if found.get(key))
