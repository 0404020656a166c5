# Check the signing key of the Kubernetes repository with apt, before the key is trusted.
#
# Needs the functions of prelude.sh, originals.sh and apt.sh. $url is the repository's address and
# $keyring the path of the key. apt fetches the index as a user of its own, so the folder lets that
# user write. apt takes the key only in binary form, and the node may have no gpg to convert it.

# a killed script leaves its folder
rm -rf /run/chaos-engine-key.*
work=$(mktemp -d /run/chaos-engine-key.XXXXXX)
trap 'rm -rf -- "$work"' EXIT
chmod 755 "$work"
mkdir "$work/key"; chown _apt "$work/key"
folders "$keyring"; settle
(umask 022; mkdir -p "${keyring%/*}"; chmod 755 "${keyring%/*}")
[ ! -f "$keyring" ] || [ -L "$keyring" ] || { chown root:root "$keyring"; chmod 644 "$keyring"; }

# accepts KEYRING: succeed if apt accepts the repository's index with a key.
accepts() {
  rm -rf "$work/lists"
  (umask 022; mkdir -p "$work/lists/partial"
   cp "$1" "$work/keyring.gpg"; chmod 644 "$work/keyring.gpg"
   echo "deb [signed-by=$work/keyring.gpg] $url /" > "$work/kubernetes.list")
  apart apt-get -q update -o Dir::Etc::SourceList="$work/kubernetes.list" \
    -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" \
    -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache= -o APT::Update::Error-Mode=any \
    >"$work/log" 2>&1
}

# refused WHICH: print that apt does not accept a key, WHICH in words, and what apt says.
refused() {
  echo "apt does not accept $url with $1:"; grep -E '^[WE]:' "$work/log" | tail -n 3
}

# fetch: download the repository's key, convert it into binary form, and check it.
fetch() {
  /usr/lib/apt/apt-helper download-file "${url}Release.key" "$work/key/Release.key" \
    </dev/null >"$work/log" 2>&1 || {
    echo "the key could not be fetched from ${url}Release.key:"; tail -n 3 "$work/log"
    echo "fix the node's way to it and run again"; return 1
  }
  tr -d '\r' < "$work/key/Release.key" > "$work/Release.key"
  # a key without its last line was cut short
  grep -qxF -e '-----END PGP PUBLIC KEY BLOCK-----' "$work/Release.key" &&
    sed -n '/^-----BEGIN PGP PUBLIC KEY BLOCK-----$/,/^-----END PGP PUBLIC KEY BLOCK-----$/p' \
      "$work/Release.key" | sed -e '1,/^[[:space:]]*$/d' -e '/^-----END/,$d' -e '/^=/d' |
    base64 -d > "$work/new.gpg" 2>/dev/null && [ -s "$work/new.gpg" ] || {
    echo "what came from ${url}Release.key is no OpenPGP key, it begins with:"
    head -c 80 "$work/key/Release.key" | tr -cd ' -~'; echo; return 1
  }
  accepts "$work/new.gpg" || { refused "its own key"; return 1; }
}

# verified: succeed if the key in place is good.
verified() {
  accepts "$keyring" || { refused "the key in $keyring" >&2; return 1; }
}

# fetched: put the repository's key in place. If that key cannot be fetched or is not accepted,
# succeed if the key in place is good.
fetched() {
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
}
