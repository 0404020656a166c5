"""Run HAProxy in its container, and put a copy of its configuration on the log share.

The log share is the Gluster volume or NFS export on ``/var/log``. `container` has the operations
`pull_image` and `run_haproxy`, and `shared_copy` has `publish_copy`. The deploy
`chaos_engine.deploys.haproxy` calls all three.
"""

from chaos_engine.operations.haproxy.container import Proxy, pull_image, run_haproxy, sealed
from chaos_engine.operations.haproxy.shared_copy import publish_copy

__all__ = ["Proxy", "publish_copy", "pull_image", "run_haproxy", "sealed"]
