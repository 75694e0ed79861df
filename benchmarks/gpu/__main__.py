"""Make one part of a run on a GPU, and write it into a JSON file beside the parts that are there: `benchmarks/gpu.sh`.

A part that fails leaves its error in its place, so that the other parts, each in a process of its own, are kept.
"""

import argparse
import json
import traceback
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import machine

# Module and function of each part; those of the kernel need a GPU.
PARTS = {
    "synchronisations": ("loops", "synchronisations"),
    "loops": ("loops", "policy"),
    "pair": ("loops", "pair"),
    "correctness": ("kernel", "correctness"),
    "bandwidth": ("kernel", "bandwidth"),
}


def measured(part: str, device: str) -> list[dict[str, Any]]:
    """The records of a part, or one with the error that it ended in."""
    module, function = PARTS[part]
    if module == "kernel" and device == "cpu":
        return []
    try:
        made = getattr(import_module(f"benchmarks.gpu.{module}"), function)
        records: list[dict[str, Any]] = [each._asdict() for each in made()] if module == "kernel" else made(device)
    except Exception as error:  # whatever it is, it is the result
        traceback.print_exc()
        return [{"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}]
    return records


def main() -> int:
    """Measure, write, print; 1 if the part failed, or found a wrong result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--output", type=Path, required=True, help="the JSON file")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    given = parser.parse_args()
    records = measured(given.part, given.device)
    held = json.loads(given.output.read_text(encoding="utf-8")) if given.output.exists() else {"parts": {}}
    described = {
        "date": date.today().isoformat(),
        "machine": machine.described(),
        "versions": machine.versions(),
        "parts": held["parts"] | {given.part: records},
    }
    given.output.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    for record in records:
        print(f"{given.part}: {json.dumps(record)}", flush=True)
    if not records:
        print(f"{given.part}: left out")
    return int(any("error" in record or record.get("share_of_allowed", 0) > 1 for record in records))


if __name__ == "__main__":
    raise SystemExit(main())
