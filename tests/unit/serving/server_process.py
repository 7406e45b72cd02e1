"""A server process that reads every row of a bundle's table, and says what memory that took.

    python tests/unit/serving/server_process.py SMALL_BUNDLE BUNDLE ROWS

The small bundle has the libraries loaded before memory is counted. It prints one JSON object when
all rows have been read, and one more for each line of its input, in bytes: `growth` of the
process's resident memory, and of the table's mapping `resident`, `share` (of pages that others map,
too, its part) and `own` (what it has written to).
"""

import json
import sys
from pathlib import Path

import pyarrow as pa

from recsys_mtl.serving import Scorer

_AT_ONCE = 50_000


def mapped(name: str) -> dict[str, int]:
    """The memory of the mappings of files of this name."""
    found, inside = {"Rss": 0, "Pss": 0, "Private_Dirty": 0}, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field, *rest = line.split()
        if not field.endswith(":"):
            inside = line.endswith(f"/{name}")
        elif inside and field[:-1] in found:
            found[field[:-1]] += 1024 * int(rest[0])
    return found


def resident() -> int:
    """Bytes of this process's memory that are in use."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def report(before: int) -> None:
    """Print the numbers."""
    table = mapped("item.npy")
    numbers = {
        "growth": resident() - before,
        "resident": table["Rss"],
        "share": table["Pss"],
        "own": table["Private_Dirty"],
    }
    print(json.dumps(numbers), flush=True)


def main() -> None:
    """Score an id of every row."""
    small, bundle, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    warm = Scorer.load(small)
    warm.score(pa.table({"item": pa.array(range(_AT_ONCE))}))
    before = resident()
    scorer = Scorer.load(bundle)
    for start in range(0, rows, _AT_ONCE):
        ids = pa.array(range(start, min(rows, start + _AT_ONCE)))
        scorer.score(pa.table({"item": ids}))
    report(before)
    for _ in sys.stdin:
        report(before)


if __name__ == "__main__":
    main()
