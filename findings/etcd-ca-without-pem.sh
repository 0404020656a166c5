#!/bin/sh
# etcd's client takes a file without any certificate for its CA without a word, and trusts nobody.
#
# Version:   etcd 3.5 (Debian 13); the code of kube-apiserver's client too
# Input:     a CA's certificate that an editor has saved with a byte order mark, which OpenSSL reads
# Expected:  that etcdctl --cacert says that there is no certificate in the file, as --cert does
# Seen:      with --cert "failed to find any PEM data"; with --cacert nothing, and then the server's
#            certificate is "signed by unknown authority". Any other PEM block in that file is an
#            error, whatever its type: each is taken for a certificate (client/pkg/tlsutil,
#            NewCertPool), where Go's own AppendCertsFromPEM skips it
# So:        the CA's file is checked before any node is touched (deploys/pem.py)
# Needs:     root, mmdebstrap
set -eu
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C
mmdebstrap --quiet --variant=apt --include=etcd-client,etcd-server,openssl trixie "$work/root"

cat >"$work/root/inside" <<'END'
set -eu
cd "$(mktemp -d)"
exec 2>errors
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out plain \
  -subj /CN=etcd -addext subjectAltName=IP:127.0.0.1 -days 1
{ printf '\357\273\277'; cat plain; } >marked
{ cat plain; printf -- '-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n'; } >with-other
for file in plain marked with-other; do
  openssl x509 -in $file -noout -subject | sed "s/^/openssl, $file: /"
done
url=https://127.0.0.1:23790
etcd --name a --data-dir data --cert-file plain --key-file key --listen-client-urls $url \
  --advertise-client-urls $url --listen-peer-urls http://127.0.0.1:23800 \
  --initial-advertise-peer-urls http://127.0.0.1:23800 --initial-cluster a=http://127.0.0.1:23800 \
  >log 2>&1 &
server=$!
trap 'kill $server' EXIT
try() { # OPTION FILE
  said=$(etcdctl --endpoints $url --command-timeout 5s "$@" endpoint health 2>&1) && said=healthy
  printf '%s\n' "$said" |
    grep -o 'healthy$\|unknown authority\|failed to find any PEM data\|x509: malformed.*' | head -n 1 |
    sed "s/^/etcdctl $*: /"
}
tries=0
until try --cacert plain | grep -q healthy; do
  tries=$((tries + 1)); [ $tries -lt 30 ] || { cat log >&2; exit 1; }
done
try --cacert plain
try --cacert marked
try --cert marked --key key
try --cacert with-other
END
chroot "$work/root" sh /inside >"$work/seen"
cat "$work/seen"
cat >"$work/expected" <<'END'
openssl, plain: subject=CN=etcd
openssl, marked: subject=CN=etcd
openssl, with-other: subject=CN=etcd
etcdctl --cacert plain: healthy
etcdctl --cacert marked: unknown authority
etcdctl --cert marked --key key: failed to find any PEM data
etcdctl --cacert with-other: x509: malformed tbs certificate
END
cmp -s "$work/seen" "$work/expected" || { echo "that has changed" >&2; exit 1; }
