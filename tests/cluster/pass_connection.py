"""Connect to HOST PORT and hand the connection to ssh, for its ProxyUseFdpass.

So no relay process stays alive with ssh's output open.
"""

import socket
import sys

with (
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as connection,
    socket.socket(fileno=1) as ssh,
):
    connection.settimeout(None)
    socket.send_fds(ssh, [b"\0"], [connection.fileno()])
