"""Send HTTPS requests from a node by openssl."""

from __future__ import annotations

HTTPS_GET = """\
https_get() { # SECONDS PATH ADDRESS:PORT [OPTION OF s_client...]: print the answer, if there is one
  seconds=$1 path=$2 at=$3; shift 3
  printf 'GET %s HTTP/1.0\\r\\n\\r\\n' "$path" |
    timeout -k 1 "$seconds" openssl s_client -quiet -connect "$at" "$@" 2>/dev/null
}
"""
"""A shell function ``https_get``. It calls openssl, which a node has: Docker's concern installs
ca-certificates, which depends on openssl. A node may lack curl. The server's certificate is
verified only if an option of s_client says so."""
