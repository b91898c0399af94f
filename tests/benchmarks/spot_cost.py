"""What README's `t4` and `full` cost on the machine of helpers/course/spot_vm.sh: computed from the hours of README's own table.

    python tests/benchmarks/spot_cost.py

Dollars an hour in us-central1, as SkyPilot's public copy of Google's price list has them (skypilot-org/skypilot-catalog,
catalogs/v8/gcp/vms.csv, commit 006059e, looked up on 29 November 2026; n1-standard-4 is half of its n1-standard-8). A spot price
changes up to once a day. A balanced disk is listed at 0.10 a gigabyte and month, and also costs while the VM is stopped.
"""

import math
import re

from helpers import runtime

T4, MACHINE = {"spot": 0.175, "regular": 0.35}, {"spot": 0.10446 / 2, "regular": 0.19}
DISK = 0.10 / 730  # a gigabyte and hour
SYSTEM, LEAST = 40, 100  # gigabytes: system, packages and packing; the smallest disk that is asked for
SETUP = 0.25  # hours until the course is installed, assumed


def cost(minutes: float, disk: float, kind: str) -> tuple[float, int, float]:
    """Hours, gigabytes of the disk, dollars."""
    hours, size = minutes / 60 + SETUP, max(LEAST, 50 * math.ceil((disk + SYSTEM) / 50))
    return hours, size, hours * (T4[kind] + MACHINE[kind] + size * DISK)


def main() -> None:
    row = r"\| (\w+) \| `(\w+)` \| [\d.]+ \| ([\d.]+) \| [\d.]+ \| [\d.]+ \| (\d+) \|"
    table = re.findall(row, (runtime.repo_root() / "README.md").read_text(encoding="utf-8"))
    print("| project | config | hours | disk GB | USD, spot | USD, regular |\n|---|---|---|---|---|---|")
    for project, config, disk, minutes in table:
        hours, size, spot = cost(float(minutes), float(disk), "spot")
        regular = cost(float(minutes), float(disk), "regular")[2]
        print(f"| {project} | `{config}` | {hours:.1f} | {size} | {spot:.2f} | {regular:.2f} |")


if __name__ == "__main__":
    main()
