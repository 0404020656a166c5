"""``kubeadm token``: bootstrap tokens, which are Secrets in the namespace kube-system."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

from . import api, cluster, node
from .cluster import SYSTEM, Etcd
from .node import Fatal

SECONDS = 24 * 3600.0
"""How long a token is valid by default."""

_PREFIX = f"secrets/{SYSTEM}/bootstrap-token-"
_FORM = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
_ID = re.compile(r"[a-z0-9]{6}")
_GROUPS = "system:bootstrappers:kubeadm:default-node-token"


def new() -> str:
    """Return a bootstrap token."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    text = "".join(secrets.choice(letters) for _ in range(22))
    return f"{text[:6]}.{text[6:]}"


def keep(etcd: Etcd, token: str, seconds: float = SECONDS, description: str = "") -> None:
    """Make a bootstrap token valid for so long, for ever with 0."""
    name, _, secret = token.partition(".")
    value = {"token-secret": secret, "expiration": time.time() + seconds if seconds else None,
             "description": description}  # fmt: skip
    etcd.put(f"{_PREFIX}{name}", value)


def _valid(etcd: Etcd) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, known in etcd.below(_PREFIX).items():
        if cluster.is_valid(known):
            yield key.removeprefix(_PREFIX), known


def create(
    given: str | None, ttl: str | None, key: str | None, description: str, *, join_command: bool
) -> None:
    """Do what ``kubeadm token create`` does."""
    api.administrator()
    token = given or new()
    if not _FORM.fullmatch(token):
        raise Fatal(f'the bootstrap token "{token}" was not of the form "{_pattern()}"')
    etcd = Etcd.linked()
    seconds = SECONDS if ttl is None else node.seconds(ttl)
    if given and token.partition(".")[0] in dict(_valid(etcd)):
        name = f"bootstrap-token-{token.partition('.')[0]}"
        raise Fatal(f'a token with id "{token.partition(".")[0]}" already exists ({name})')
    keep(etcd, token, seconds, description)
    if not join_command:
        node.say(token)
        return
    info = etcd.get("configmaps/kube-public/cluster-info")
    server = info["server"].removeprefix("https://")
    command = f"kubeadm join {server} --token {token} --discovery-token-ca-cert-hash "
    command += f"{cluster.fingerprint(info['ca'])} "
    node.say(command + (f"--control-plane --certificate-key {key}" if key else ""))


def show() -> None:
    """Do what ``kubeadm token list`` does."""
    api.administrator()
    rows = [("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")]
    for name, known in _valid(Etcd.linked()):
        ends = known["expiration"]
        rows.append(
            (
                f"{name}.{known['token-secret']}",
                "<forever>" if ends is None else _left(ends - time.time()),
                "<never>"
                if ends is None
                else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends)),
                "authentication,signing",
                known.get("description") or "<none>",
                _GROUPS,
            )
        )
    if len(rows) > 1:
        node.table(rows)


def delete(names: list[str]) -> None:
    """Do what ``kubeadm token delete`` does, for tokens or their IDs."""
    api.administrator()
    if not names:
        raise Fatal("missing argument; 'token delete' is missing token ids")
    etcd = Etcd.linked()
    for given in names:
        name = given.partition(".")[0] if _FORM.fullmatch(given) else given
        if not _ID.fullmatch(name):
            raise Fatal(f'given token or token id "{given}" didn\'t match pattern '
                        f'"\\\\A([a-z0-9]{{6}})\\\\z" or "{_pattern()}"')  # fmt: skip
        if not etcd.delete(f"{_PREFIX}{name}"):
            raise Fatal(
                f'failed to delete bootstrap token "{name}": secrets "bootstrap-token-{name}" '
                "not found"
            )
        node.say(f'bootstrap token "{name}" deleted')


def _pattern() -> str:
    return r"\\A([a-z0-9]{6})\\.([a-z0-9]{16})\\z"


def _left(seconds: float) -> str:
    """Return a duration as ``duration.ShortHumanDuration`` has it: its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
