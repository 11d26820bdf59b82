"""Measures seconds and memory of a chain that is estimated from a million transitions over 10,000 states.

    python -m lab.benchmarks.chains [--transitions 1000000] [--states 10000] [--runs 5]
                                [--output lab/benchmarks/results/chains.jsonl]

Sequences of 1,000 steps walk between ten classes of states, and leave their class in a tenth of the steps. Three parts
are timed: counting transitions, ten leading eigenvalues with their functions, and the standard errors. Each run has its
own process with one thread. Its peak is the largest resident set, with imports and sequences.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lab.benchmarks._common import emit, environment, in_process

CLASSES, LEAVES, STEPS, LEADING = 10, 0.1, 1000, 10
TARGET_SECONDS, TARGET_GB = 10, 2


def walks(transitions: int, states: int, seed: int) -> list[Any]:
    """Sequences of 1,001 states. A step draws a state of the class, or of any class."""
    rng = np.random.default_rng(seed)
    count, members = max(1, transitions // STEPS), states // CLASSES
    walking = np.empty((STEPS + 1, count), dtype=np.int64)
    classes = rng.integers(0, CLASSES, count)
    for step in range(STEPS + 1):
        classes = np.where(rng.random(count) < LEAVES, rng.integers(0, CLASSES, count), classes)
        walking[step] = classes * members + rng.integers(0, members, count)
    return list(walking.T.copy())


def estimated(transitions: int, states: int, seed: int) -> dict[str, float]:
    """Seconds of every part, peak GB, and the estimated and true second eigenvalue."""
    from lab.chain import ChainGraph, estimation_errors

    with threadpool_limits(1):
        sequences = walks(transitions, states, seed)
        start = time.perf_counter()
        chain = ChainGraph.from_sequences(sequences, n_states=states)
        counted = time.perf_counter()
        values, _ = chain.eigenfunctions(LEADING)
        solved = time.perf_counter()
        errors, _ = estimation_errors(chain, LEADING)
        done = time.perf_counter()
    return {
        "seconds": done - start, "counting": counted - start, "eigenvalues": solved - counted, "errors": done - solved,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "second": float(values[1]), "second_error": float(errors[1]), "second_true": 1 - LEAVES,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--states", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    runs = [in_process(estimated, options.transitions, options.states, seed) for seed in range(options.runs)]
    medians = {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]}
    met = {"seconds": medians["seconds"] <= TARGET_SECONDS, "peak_gb": medians["peak_gb"] <= TARGET_GB}
    sizes = {"transitions": options.transitions, "states": options.states, "runs": options.runs}
    emit([{"benchmark": "chains"} | sizes | medians | {"targets_met": met} | environment(1)], options.output)


if __name__ == "__main__":
    main()
