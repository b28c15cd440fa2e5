"""``make prove``: run all measurements, or the named ones, and write the results to docs/proof.json.

The generated parts of the documentation show these results.

python -m tests.prove            # all measurements
python -m tests.prove kills      # one measurement
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

from tests.prove import (
    alpaca_eval,
    changes,
    coverage,
    embedded,
    families,
    full_disk,
    gguf,
    kills,
    mutants,
    pages,
    ray_cluster,
    services,
    startup,
    stops,
    study,
    sweep,
    terminal,
    write_a_plugin,
)

MEASUREMENTS = {
    "startup": startup.prove,
    "coverage": coverage.prove,
    "embedded": embedded.prove_one_seed,
    "embedded-seeds": embedded.prove_seeds,
    "study": study.prove,
    "pages": pages.prove,
    "write-a-plugin": write_a_plugin.prove,
    "kills": kills.prove,
    "stops": stops.prove,
    "full-disk": full_disk.prove,
    "changes": changes.prove,
    "sweep": sweep.prove,
    "terminal": terminal.prove,
    "mutants": mutants.prove,
    "families": families.prove,
    "alpaca-eval": alpaca_eval.prove,
    "service-faults": services.prove_faults,
    "service-hostile": services.prove_hostile,
    "service-kills": services.prove_kills,
    "service-stops": services.prove_stops,
    "service-throughput": services.prove_throughput,
    "gguf": gguf.prove,  # it ends the program if llama-cpp-python is not installed
    "ray": ray_cluster.prove,  # last: it ends the program if ray is not installed
}
PROOF = Path("docs/proof.json")


def main(names: list[str]) -> None:
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        sys.exit(f"unknown measurement: {', '.join(sorted(unknown))}; choose from: {', '.join(MEASUREMENTS)}")
    for name in names or MEASUREMENTS:
        print(f"-- {name}", flush=True)
        started = time.monotonic()
        figures = MEASUREMENTS[name]()
        proof = json.loads(PROOF.read_text()) if PROOF.exists() else {}  # read now: others may have written meanwhile
        proof[name] = {
            "measured": time.strftime("%Y-%m-%d"),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
            "seconds": round(time.monotonic() - started, 1),
            **figures,
        }
        PROOF.write_text(json.dumps(proof, indent=2) + "\n")
        print(json.dumps(proof[name], indent=2), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
