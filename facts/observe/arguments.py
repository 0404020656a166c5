"""Find the values of pyinfra's global arguments, such as ``_sudo``, for an operation."""

from __future__ import annotations

from typing import Any, cast

from pyinfra.api.arguments import AllArguments, pop_global_arguments
from pyinfra.api.host import Host

from chaos_engine.facts.observe.host import current, of_host
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
    """Return the values of pyinfra's global arguments for an operation whose call sets none."""
    state, host = current()
    at = of_host(Preparation)
    if not at.phase:
        return pop_global_arguments(state, host, {})[0]
    # `pop_global_arguments` evaluates the types of all arguments on each call, which takes long. So
    # its result is stored. During a phase the result differs only between deploys
    if at.arguments is None or at.arguments[0] is not host.current_deploy_kwargs:
        arguments, _ = pop_global_arguments(state, host, {})
        at.arguments = host.current_deploy_kwargs, arguments
    return at.arguments[1]


def resolved(host: Host, global_arguments: AllArguments | None = None) -> dict[str, Any]:
    """Return pyinfra's global arguments as a dictionary.

    + global_arguments: the arguments to return, ``None`` for those of the current operation
    """
    found = global_arguments or host.current_op_global_arguments or usual_arguments()
    return cast("dict[str, Any]", found)


def identity(host: Host, global_arguments: AllArguments | None = None) -> tuple[str, ...]:
    """Return the global arguments that decide how facts are read, such as ``_sudo_user``.

    Arguments that are not set are left out. The result is called an identity. Facts that were read
    with different identities are stored separately.

    **Example:** ``("_sudo=True",)``
    """
    found = resolved(host, global_arguments)
    return tuple(f"{key}={found[key]!r}" for key in _IDENTITY if found.get(key))
