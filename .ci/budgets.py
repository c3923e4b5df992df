"""Lines of every room against its budget, and the limits on files and folders; fails where a limit is passed.

Rooms over their budget are printed, and argued with; what fails is the house as a whole growing, a file of more than
`FILE` lines, or more than `SIDE_BY_SIDE` modules in a folder beyond the exceptions listed, which can only shrink.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Print the table; 1 if a limit is passed."""
    limits = tomllib.loads((ROOT / ".ci" / "budgets.toml").read_text())
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in sorted((ROOT / "symroof").rglob("*.py"))}
    faults = []
    print(f"{'room':<36}{'lines':>8}{'budget':>8}")
    for room, budget in limits["rooms"].items():
        inside = sum(count for path, count in lines.items() if path.parts[1] in room.split())
        print(f"{room.replace('.py', ''):<36}{inside:>8}{budget:>8}{'  over' if inside > budget else ''}")
    total = sum(lines.values())
    print(f"{'symroof/':<36}{total:>8}{limits['total']:>8}")
    if total > limits["total"]:
        faults.append(f"symroof/ has {total} lines, more than {limits['total']}")
    faults += [f"{path} has {count} lines, more than {limits['file']}" for path, count in lines.items() if count > limits["file"]]
    for folder in sorted({path.parent for path in lines}):
        modules = sum(path.parent == folder and path.name != "__init__.py" for path in lines)
        allowed = limits["exceptions"].get(str(folder), limits["side_by_side"])
        if modules > allowed:
            faults.append(f"{folder} has {modules} modules side by side, more than {allowed}")
        elif str(folder) in limits["exceptions"] and modules < allowed:
            faults.append(f"{folder} has {modules} modules: lower its exception from {allowed} in .ci/budgets.toml")
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
