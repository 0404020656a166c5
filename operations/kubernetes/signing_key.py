"""Check the signing key of the Kubernetes repository: the node's copy, and each new key."""

from __future__ import annotations

from collections.abc import Iterable

from chaos_engine.facts.openpgp import parse_keys
from chaos_engine.operations.engine.shell import quote
from chaos_engine.templates import shell_script

KEYRING = "/etc/apt/keyrings/kubernetes-apt-keyring.gpg"


def repository(minor: str) -> str:
    """Return the URL of a minor version's repository, as kubernetes.io documents it."""
    return f"https://pkgs.k8s.io/core:/stable:/v{minor}/deb/"


def key_fault(keyring: bytes | None, signers: Iterable[str], now: float) -> str:
    """Return what is wrong with the present signing key, "" if nothing is. This is a pure function.

    + keyring: content of the keyring file, ``None`` if there is no file
    + signers: the IDs of the keys that signed apt's copy of the repository's index. Empty if apt
      has no copy
    + now: the present time in seconds since 1970
    """
    if keyring is None:
        return "missing"
    try:
        keys = parse_keys(keyring)
    except ValueError as error:
        return str(error)
    valid = [key for key in keys if not key.expired(now)]
    if not valid:
        return f"expired on {keys[0].expiry_date}"
    signers = set(signers)
    if signers and not signers & {one for key in valid for one in key.ids}:
        return "it is not the repository's"
    return ""


def check_key(minor: str, fetch: bool) -> str:
    """Return shell commands that succeed only if apt accepts the repository's index with the key.

    Pass the commands to `files.transaction` as `apply`. They call shell functions of `APT`, so
    put `APT` before them.

    + minor: minor version, such as ``1.36``
    + fetch: whether to fetch the repository's key and put it in place. If this fails, but apt
      accepts the present key, the present key stays and the commands succeed. With False, only the
      present key is checked
    """
    action = "fetched" if fetch else "verified"
    return f"url={quote(repository(minor))}\nkeyring={KEYRING}\n{_KEY}{action}\n{_DONE}"


_KEY = shell_script("signing_key")

# The folder is removed before the commands that follow, because these take long. If they were
# interrupted, the next run would find a good key. So it would neither check the key nor remove the
# folder
_DONE = 'rm -rf -- "$work"'
