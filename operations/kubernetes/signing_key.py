"""Check the key of Kubernetes' repository: the one in place, and a new one before it is used."""

from __future__ import annotations

from collections.abc import Iterable

from chaos_engine.facts.openpgp import parse_keys
from chaos_engine.operations.engine.shell import quote
from chaos_engine.templates import shell_script

KEYRING = "/etc/apt/keyrings/kubernetes-apt-keyring.gpg"


def repository(minor: str) -> str:
    """Return the address of a minor version's repository, as kubernetes.io documents it."""
    return f"https://pkgs.k8s.io/core:/stable:/v{minor}/deb/"


def key_fault(keyring: bytes | None, signers: Iterable[str], now: float) -> str:
    """Say what is wrong with the key in place, "" if nothing is: a pure function.

    + keyring: content of the file, ``None`` if there is none
    + signers: the IDs of the keys that signed the index that apt has, none if it has none
    + now: seconds since 1970
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
    """Return shell commands that fail unless apt accepts the repository's index with the key.

    They are for the `apply` of `files.transaction`, where the functions of `APT` come before them.

    + minor: minor version, ``1.36``
    + fetch: whether to fetch the repository's own key and put it in place. If apt does not accept
      that key, a good key in place stays. If `fetch` is False, only the key in place is checked
    """
    action = "fetched" if fetch else "verified"
    return f"url={quote(repository(minor))}\nkeyring={KEYRING}\n{_KEY}{action}\n{_DONE}"


_KEY = shell_script("signing_key")

# The folder is removed here, not at the end of the script, because the commands that follow take
# long. If the script is interrupted then, the next run finds the key in place, does not check it
# again, and so would not remove the folder
_DONE = 'rm -rf -- "$work"'
