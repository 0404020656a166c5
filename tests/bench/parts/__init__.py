"""The parts of the benchmarks: each measures, and tells what was measured."""
