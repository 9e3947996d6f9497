"""The parts of `scripts/bench_inference`: systems, clients, scenarios, report."""
