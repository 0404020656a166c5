"""Install Kubernetes' packages from their signed repository, and keep kubelet in order.

`install` has the operation for the packages, `signing_key` checks the repository's key. `kubelet`
has two operations: one keeps kubelet quiet until the node has joined a cluster, the other reports
how kubelet's configuration differs from that in a new cluster. The deploy
`chaos_engine.deploys.kubernetes` calls these operations.
"""
