"""Create a cluster, and have nodes join it and leave it.

`init` runs ``kubeadm init`` on the first controller. `join` runs ``kubeadm join`` on a node.
`forget` removes a node from its cluster, and `known_hosts` removes the node's host key from this
computer's file. `credentials` fetches from a controller what a node needs to join. `elsewhere` runs
commands on a host that may not be in the run. `kubeadm` runs kubeadm and tells why it failed. The
deploys `init`, `join` and `forget` call these modules. They import facts, the engine and
`chaos_engine.operations.rolling`.
"""
