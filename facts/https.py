"""Send HTTPS requests from a node by openssl."""

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
"""A shell function ``https_get``. It waits as long as the variable ``seconds`` says, or without a
limit if that is empty. It calls openssl, which a node has: Docker's concern installs
ca-certificates, which depends on openssl. A node may lack curl. The server's certificate is
verified only if an option of s_client says so."""
