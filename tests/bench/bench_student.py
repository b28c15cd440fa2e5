"""All work of a student in one benchmark: generation, judging, DPO and SFT, against ``generate`` and TRL.

    python tests/bench/bench_student.py                       # the embedded student's size, on this machine
    python tests/bench/bench_student.py --size phi-2 --prompts 1000 --pairs 500     # on a GPU, about 15 minutes

``bench_generation`` and ``bench_training`` describe what is measured and have more options.
"""

from __future__ import annotations

import argparse

import bench_generation
import bench_training


def main() -> None:
    """Measure every arm of both benchmarks on one device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(bench_training.LENGTHS), default="embedded")
    parser.add_argument("--prompts", default="256", help="prompts that are completed four times each")
    parser.add_argument("--pairs", default="128", help="number of pairs, and of examples")
    options = parser.parse_args()
    generation = ["--size", options.size, "--prompts", options.prompts, "--alone", "4", "--static-batches", "2"]
    bench_generation.main([*generation, "--arms", ",".join(bench_generation.ARMS)])
    bench_training.main(["--size", options.size, "--pairs", options.pairs])


if __name__ == "__main__":
    main()
