"""Run a command, and tell what it took: python benchmarks/peak.py COMMAND...

The last line of the output is JSON: seconds on the wall and of the processors, and the peak of resident memory. Linux
hands a process the peak of the one that starts it, through exec, so what is measured is started by this small one.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence


def measured(command: Sequence[str]) -> tuple[str, dict[str, float]]:
    """The command's output, and {"wall_s", "cpu_s", "peak_mb"}. Raises SystemExit if it fails."""
    done = subprocess.run([sys.executable, __file__, *command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"status {done.returncode}: {' '.join(command)}")
    output, _, usage = done.stdout.rstrip().rpartition("\n")
    return output, json.loads(usage)


def main() -> int:
    started = time.monotonic()
    status = subprocess.run(sys.argv[1:]).returncode
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    took = {
        "wall_s": time.monotonic() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / unit,
    }
    print(json.dumps(took))
    return status


if __name__ == "__main__":
    sys.exit(main())
