"""Send HTTPS requests from a node with openssl."""

from __future__ import annotations

HTTPS_GET = """\
https_get() { # PATH ADDRESS:PORT [OPTION OF s_client...]: print the answer, if there is one
  path=$1 at=$2; shift 2
  ${seconds:+timeout -k 1 "$seconds"} \\
    openssl s_client -quiet -crlf -connect "$at" "$@" 2>/dev/null <<END
GET $path HTTP/1.0

END
}
"""
"""A shell function ``https_get``. The variable ``seconds`` is its time limit in seconds; if the
variable is empty, there is no limit. The function calls openssl, because a node may lack curl. Each
node has openssl, because the concern docker installs ca-certificates, which depends on openssl. The
server's certificate is verified only if an option of s_client demands this."""
