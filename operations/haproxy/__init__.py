"""Run HAProxy in its container, and put a copy of its configuration on the log share.

`container` has the operations that pull the image and run it, `shared_copy` the one for the copy.
The deploy `chaos_engine.deploys.haproxy` calls them.
"""

from chaos_engine.operations.haproxy.container import Proxy, pull_image, run_haproxy, sealed
from chaos_engine.operations.haproxy.shared_copy import publish_copy

__all__ = ["Proxy", "publish_copy", "pull_image", "run_haproxy", "sealed"]
