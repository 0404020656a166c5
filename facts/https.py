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
"""A shell function ``https_get``. It waits as many seconds as the variable ``seconds`` says; if the
variable is empty, it waits without a limit. It calls openssl, because a node may lack curl. A node
has openssl because the concern docker installs ca-certificates, which depends on openssl. The
server's certificate is verified only if an option of s_client says so."""
