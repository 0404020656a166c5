"""Install Kubernetes' packages from their signed repository, and keep kubelet in order.

`install` is the operation for packages, `signing_key` checks the repository's key, `kubelet` has
the operations for a node that has not joined, or has joined with another configuration. The deploy
`chaos_engine.deploys.kubernetes` calls them.
"""
