"""The parts of the benchmarks. Each has `run`, which measures, and `report`, which makes a page."""
