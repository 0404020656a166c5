"""Fetch from a controller what a node needs to join the cluster, and fill it into kubeadm's file.

kubeadm on the controller makes the secrets. This process reads them from kubeadm's output and sends
them to the node's standard input. They are in no argument of a command, and pyinfra prints neither
the output nor the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]
from pyinfra.api.host import Host
from pyinfra.api.state import State

from chaos_engine.facts.membership import INIT
from chaos_engine.facts.observe import NodeError, warn
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.membership.elsewhere import ask_silently, connect
from chaos_engine.operations.membership.kubeadm import reason

TOKEN_MINUTES = 15
"""Minutes after which the cluster removes a token, if a run could not delete it."""

# The description that kubeadm gives to the token with which the cluster removes the uploaded
# certificates (createShortLivedBootstrapToken in kubeadm's phases/copycerts/copycerts.go)
_OF_CERTIFICATES = "Proxy for managing TTL for the kubeadm-certs secret"

_HEAD = "set -eu; umask 077; export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

_PLACEHOLDER = " # PLACEHOLDER"


@dataclass(frozen=True)
class Credentials:
    """What a node needs to join the cluster.

    + token: the bootstrap token
    + ca_hash: hash of the public key of the cluster's CA, which is no secret
    + certificate_key: the key of the certificates that a new controller downloads; "" for a node
      that is no controller
    """

    token: str = field(repr=False)
    ca_hash: str
    certificate_key: str = field(default="", repr=False)


def make_script(controller: bool) -> str:
    """Return the script with which a controller of the cluster makes the credentials.

    + controller: whether the new node will be a controller
    """
    # Without --config kubeadm would not upload the certificates of an external etcd
    upload = f"kubeadm init phase upload-certs --upload-certs --config {quote(INIT)}"
    return "\n".join(
        [
            _HEAD,
            f"kubeadm token create --ttl {TOKEN_MINUTES}m --print-join-command",
            *([upload] if controller else []),
        ]
    )


def delete_script(token_id: str, controller: bool) -> str:
    """Return the script with which a controller of the cluster removes the credentials.

    + token_id: the part of the token before the dot, which is no secret
    + controller: whether the new node is a controller. The cluster then removes the uploaded
      certificates too, because their own token is deleted
    """
    lines = [_HEAD, f"kubeadm token delete {quote(token_id)}"]
    if controller:
        lines.append(
            f"kubeadm token list | grep {quote(_OF_CERTIFICATES)} | cut -d. -f1 | "
            'while read -r id; do kubeadm token delete "$id"; done'
        )
    return "\n".join(lines)


def parse_credentials(lines: list[str], controller: bool) -> Credentials:
    """Return the credentials in the output of `make_script`'s script.

    + controller: whether the output has to have a certificate key

    Raises `NodeError` if something is missing. The message does not contain the output.
    """
    text = "\n".join(lines)
    token = re.search(r"--token ([a-z0-9]{6}\.[a-z0-9]{16})\b", text)
    ca_hash = re.search(r"--discovery-token-ca-cert-hash (sha256:[0-9a-f]{64})\b", text)
    keys = [line for line in lines if re.fullmatch("[0-9a-f]{64}", line)]
    if not token or not ca_hash or (controller and not keys):
        raise NodeError("kubeadm's output has no token, no CA hash or no certificate key")
    return Credentials(token[1], ca_hash[1], keys[-1] if controller else "")


def filled(file: str, credentials: Credentials) -> str:
    """Return the text of kubeadm's file for a join with the credentials in place of placeholders.

    + file: the text of the file on the node

    Raises ``ValueError`` if the file does not have exactly the expected placeholders.
    """
    values = {
        "token:": credentials.token,
        "- sha256": credentials.ca_hash.partition(":")[2],
        "certificateKey:": credentials.certificate_key,
    }
    found: set[str] = set()
    lines = []
    for line in file.splitlines():
        name = line.strip().partition(" ")[0]
        if name == "-":
            name = line.strip().partition(":")[0]
        if not line.endswith(_PLACEHOLDER) or name not in values:
            lines.append(line)
            continue
        found.add(name)
        glue = ":" if name == "- sha256" else " "
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(f"{indent}{name}{glue}{values[name]}")
    if found != {name for name, value in values.items() if value}:
        raise ValueError("its placeholders are not the expected ones")
    return "\n".join([*lines, ""])


@contextmanager
def credentials(
    state: State, host: Host, sources: Mapping[str, str], controller: bool
) -> Iterator[Credentials]:
    """Make the credentials for one node, and delete the token when the block ends.

    + host: the node that joins
    + sources: the hosts of the inventory that may make the credentials, by their node's name. They
      need not be in the run. The first one that can be reached makes them
    + controller: whether the new node will be a controller

    Raises `NodeError` if no controller can be reached, or if kubeadm fails there.
    """
    name, source = _source(state, sources)
    # One at a time: sshd accepts only a few commands at once in one connection
    with _locks.setdefault(state, BoundedSemaphore(1)):
        try:
            lines = ask_silently(state, source, make_script(controller))
            found = parse_credentials(lines, controller)
        except NodeError as error:
            said = reason(str(error).splitlines())
            raise NodeError(f"{name} cannot make a bootstrap token: {said}") from None
    try:
        yield found
    finally:
        script = delete_script(found.token.partition(".")[0], controller)
        with _locks[state]:
            try:
                ask_silently(state, source, script)
            except NodeError as error:  # the node may have joined, so this is no failure
                said = reason(str(error).splitlines())
                warn(
                    f"{name} cannot delete the bootstrap token, which expires after "
                    f"{TOKEN_MINUTES} minutes: {said}"
                )


_locks: WeakKeyDictionary[State, BoundedSemaphore] = WeakKeyDictionary()


def _source(state: State, sources: Mapping[str, str]) -> tuple[str, Host]:
    """Return the first controller that can be reached, as name and host.

    Raises `NodeError` with the problems of all if none can be reached.
    """
    problems = []
    for name, at in sources.items():
        source, problem = connect(state, at, "to make a bootstrap token")
        if not problem:
            return name, source
        problems.append(f"{name}: {problem}")
    raise NodeError(
        "a controller of the cluster has to make a bootstrap token, but none can be reached by "
        f"ssh: {'; '.join(problems)}"
    )
