"""The key of Kubernetes' repository: judged in place, checked with apt before it is trusted."""

from __future__ import annotations

from collections.abc import Iterable

from chaos_engine.facts.openpgp import parse_keys
from chaos_engine.operations.engine.shell import quote

KEYRING = "/etc/apt/keyrings/kubernetes-apt-keyring.gpg"


def repository(minor: str) -> str:
    """The address of the repository of a minor version, as kubernetes.io documents it."""
    return f"https://pkgs.k8s.io/core:/stable:/v{minor}/deb/"


def key_fault(keyring: bytes | None, signers: Iterable[str], now: float) -> str:
    """What is wrong with the key in place, "" if nothing: a pure function.

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
    """Shell commands, for a transaction's `apply` behind `APT`, that fail unless apt accepts the
    repository's index with the key.

    + minor: minor version, ``1.36``
    + fetch: whether the repository's own key is fetched and put in place; if it does not do, a
      good one stays. Else the key in place is checked
    """
    action = "fetched" if fetch else "verified"
    return f"url={quote(repository(minor))}\nkeyring={KEYRING}\n{_KEY}\n{action}\n{_DONE}"


# The index is fetched to where apt's own user can write, since apt drops its privileges for that.
# The key has to be in binary form under its name, and gpg need not be there.
_KEY = """\
rm -rf /run/chaos-engine-key.*  # what a script that was killed has left
work=$(mktemp -d /run/chaos-engine-key.XXXXXX)
trap 'rm -rf -- "$work"' EXIT
chmod 755 "$work"
mkdir "$work/key"; chown _apt "$work/key"
folders "$keyring"; settle
(umask 022; mkdir -p "${keyring%/*}"; chmod 755 "${keyring%/*}")
[ ! -f "$keyring" ] || [ -L "$keyring" ] || { chown root:root "$keyring"; chmod 644 "$keyring"; }
accepts() { # KEYRING: whether apt accepts the repository's index with it
  rm -rf "$work/lists"
  (umask 022; mkdir -p "$work/lists/partial"
   cp "$1" "$work/keyring.gpg"; chmod 644 "$work/keyring.gpg"
   echo "deb [signed-by=$work/keyring.gpg] $url /" > "$work/kubernetes.list")
  apart apt-get -q update -o Dir::Etc::SourceList="$work/kubernetes.list" \\
    -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" \\
    -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache= -o APT::Update::Error-Mode=any \\
    >"$work/log" 2>&1
}
refused() { # WHICH: what apt says of a key
  echo "apt does not accept $url with $1:"; grep -E '^[WE]:' "$work/log" | tail -n 3
}
fetch() { # the repository's key, turned into binary form
  /usr/lib/apt/apt-helper download-file "${url}Release.key" "$work/key/Release.key" \\
    </dev/null >"$work/log" 2>&1 || {
    echo "the key could not be fetched from ${url}Release.key:"; tail -n 3 "$work/log"
    echo "mend the node's way to it and run again"; return 1
  }
  tr -d '\\r' < "$work/key/Release.key" > "$work/Release.key"
  grep -qxF -e '-----END PGP PUBLIC KEY BLOCK-----' "$work/Release.key" && # else it was cut short
    sed -n '/^-----BEGIN PGP PUBLIC KEY BLOCK-----$/,/^-----END PGP PUBLIC KEY BLOCK-----$/p' \\
      "$work/Release.key" | sed -e '1,/^[[:space:]]*$/d' -e '/^-----END/,$d' -e '/^=/d' |
    base64 -d > "$work/new.gpg" 2>/dev/null && [ -s "$work/new.gpg" ] || {
    echo "what came from ${url}Release.key is no OpenPGP key, it begins with:"
    head -c 80 "$work/key/Release.key" | tr -cd ' -~'; echo; return 1
  }
  accepts "$work/new.gpg" || { refused "its own key"; return 1; }
}
verified() { # the key that is in place
  accepts "$keyring" || { refused "the key in $keyring" >&2; return 1; }
}
fetched() { # put the repository's key in place, or else keep a good one that is there
  if fetch >"$work/why"; then
    cmp -s "$work/new.gpg" "$keyring" && return
    keep "$keyring"
    wrote "$(sha256sum <"$work/new.gpg" | cut -c 1-64)" "$keyring"; settle
    new=${keyring%/*}/.${keyring##*/}.chaos
    staging "$new"; install -m 644 "$work/new.gpg" "$new"
    sync "$new"; mv -fT "$new" "$keyring"; sync "${keyring%/*}"
  elif ! { [ -s "$keyring" ] && accepts "$keyring"; }; then
    cat "$work/why" >&2
    return 1
  fi
}"""

# Not left to the shell's end: what follows takes long, and a run that finds the key in place does
# not come by here again
_DONE = 'rm -rf -- "$work"'
