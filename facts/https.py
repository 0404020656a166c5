"""Ask servers by HTTPS on a node that may have nothing but openssl for it."""

from __future__ import annotations

GET = """\
https_get() { # SECONDS PATH ADDRESS:PORT [OPTION OF s_client...]: print the answer, if there is one
  seconds=$1 path=$2 at=$3; shift 3
  printf 'GET %s HTTP/1.0\\r\\n\\r\\n' "$path" |
    timeout -k 1 "$seconds" openssl s_client -quiet -connect "$at" "$@" 2>/dev/null
}
"""
"""Shell function ``https_get``. openssl is there with ca-certificates, which Docker's concern
installs; curl need not be. Whose certificate the server has is not looked at, unless an option says
so."""
