"""The figures of `gpu.sh` as one file: what each part measured, how it ended, and how long it took."""

import json
import sys
from datetime import date
from pathlib import Path

from measure import machine

from avrobust.study.record import code


def main(out: Path, ended: list[str]) -> int:
    """Write gpu.json beside the folder `out`; `ended` are texts "part=exit status,seconds".  Returns 1 if a part failed."""
    parts = {}
    for text in ended:
        name, _, told = text.partition("=")
        status, seconds = map(int, told.split(","))
        parts[name] = {"status": status, "seconds": seconds}
    figures = {file.stem: json.loads(file.read_text()) for file in sorted(out.glob("*.json"))}
    run = out / "gpu-quick/run.json"
    whole = {"date": str(date.today()), "machine": machine(), "code": code(), "parts": parts, "figures": figures}
    whole["study"] = json.loads(run.read_text()) if run.exists() else None
    out.with_name("gpu.json").write_text(json.dumps(whole, indent=1) + "\n")
    failed = [name for name, told in parts.items() if told["status"]]
    print(
        f"{out.with_name('gpu.json')}: {len(parts)} parts, {len(failed)} failed{': ' if failed else ''}{', '.join(failed)}"
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
