"""Stand-ins for kube-apiserver and for what kubelet and the controllers do beside it.

They run on the workers, with Debian's Python and nothing else: `tests.lab.apiserver` puts this
folder on each worker's disk as `/usr/lib/lab/control_plane`, so it imports only itself.
"""
