"""Run the scenarios, print the tables, save the raw data.

Usage: python -m benchmarks [cold] [warm] [latency] [memory] [control] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import cold, control, latency, load, memory, warm
from benchmarks.report import Report

SCENARIOS = ("cold", "warm", "latency", "memory", "control")
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    """Entry of ``make bench``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "scenario", nargs="*", help="cold, warm, latency, memory, control; all without a name"
    )
    parser.add_argument("--quick", action="store_true", help="few samples, to see that it works")
    arguments = parser.parse_args()
    chosen = arguments.scenario or list(SCENARIOS)
    if unknown := set(chosen) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    report = Report()
    if "cold" in chosen:
        cold.measure(report, count=5 if arguments.quick else 30)
    if "warm" in chosen:
        if not load.wrk_is_there():
            raise SystemExit("the warm scenario needs wrk: make setup-dev as root, or install wrk")
        warm.measure(
            report, seconds=1 if arguments.quick else 2, rounds=1 if arguments.quick else 5
        )
    if "latency" in chosen:
        hot, frozen = (1000, 10) if arguments.quick else (5000, 60)
        latency.measure(report, hot=hot, frozen=frozen)
    if "memory" in chosen:
        memory.measure(report, count=10 if arguments.quick else 100)
    if "control" in chosen:
        stored, samples = (300, 20) if arguments.quick else (10_000, 200)
        control.measure(report, stored=stored, samples=samples)
    print(f"\nraw data: {report.save(RESULTS)}")


if __name__ == "__main__":
    main()
