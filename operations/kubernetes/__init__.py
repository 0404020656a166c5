"""Install Kubernetes' packages, keep kubelet from failing, and check kubelet's configuration.

The module `install` has the operation for the packages. The module `signing_key` checks the
repository's key. The module `kubelet` has two operations: `quiet_kubelet` keeps kubelet from
starting before the node has joined a cluster, and `report_configuration` warns about problems in
kubelet's configuration. The deploy `chaos_engine.deploys.kubernetes` calls these operations.
"""
