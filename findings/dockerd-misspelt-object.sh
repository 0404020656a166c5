#!/bin/sh
# dockerd accepts a misspelt key of daemon.json if its value is an object with keys that dockerd knows.
#
# Version:   Docker 26.1.5 (docker.io of Debian 13)
# Input:     three files for dockerd --validate: a misspelt "proxies" and a misspelt "log-opts", each
#            with an object as the right one has it, and one with a text
# Expected:  all three are refused, and the misspelt key is named
# Seen:      "proxys" with an object is "configuration OK", and dockerd would use no proxy. Of
#            "log-optz" the key inside is named, "max-size", which is spelt right
# So:        dockerd looks for the keys inside of such an object among its own instead of for the key
#            itself; a comparison with it must not use such values for other keys
#            (tests/programs/test_dockerd.py)
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C
mmdebstrap --quiet --variant=apt --aptopt='APT::Install-Recommends "false"' --include=docker.io \
  trixie "$work/root"
validate() { # JSON
  printf '%s\n' "$1" >"$work/root/daemon.json"
  printf '%s: ' "$1"
  chroot "$work/root" dockerd --validate --config-file /daemon.json 2>&1 | tail -n 1 |
    sed 's/^unable to configure the Docker daemon with file [^:]*: //'
}
{
  validate '{"proxys": {"http-proxy": "http://192.0.2.1:3128"}}'
  validate '{"log-optz": {"max-size": "10m"}}'
  validate '{"proxys": "http://192.0.2.1:3128"}'
} >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
{"proxys": {"http-proxy": "http://192.0.2.1:3128"}}: configuration OK
{"log-optz": {"max-size": "10m"}}: the following directives don't match any configuration option: max-size
{"proxys": "http://192.0.2.1:3128"}: the following directives don't match any configuration option: proxys
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
