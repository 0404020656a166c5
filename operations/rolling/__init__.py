"""Drain nodes of a live cluster before work that stops their pods, and uncordon them afterwards.

A turn is the time in which a node may be down. `turns` runs an operation's commands in the node's
turn. `gate` decides which nodes of a run may have their turn at the same time. `cluster_turn`
decides that between runs, by Leases in the cluster, and `lease` takes and renews a Lease. `cordon`
drains and uncordons a node. `kubectl` calls the program kubectl on this computer. Operations that
stop pods call `turns`. This folder imports facts and the engine (`chaos_engine.operations.engine`).
"""
