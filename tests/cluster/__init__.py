"""Start virtual clusters, look at them and break them, for tests. The lab itself is in `tests/lab`.

`virtual_cluster` starts one and runs pyinfra on it. `seen`, `node_state`, `manifest`,
`legacy_state` and `turns` look at it. `drift`, `faults`, `killed`, `interruption`, `powercut` and
their helpers break it. The acceptance and torture tests, the demo and the benchmarks call them.
"""
