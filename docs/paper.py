"""Write the claims of Tian & Xu 2021 as a finished study of the orchestra finds them, into docs/paper.md.

avrobust study quick
python docs/paper.py runs/quick
"""

import re
import sys
from pathlib import Path

from avrobust.papers.tian2021.printed import PAPER
from avrobust.report.load import read
from avrobust.report.sections.claims import claims

PAGE = Path(__file__).parent / "paper.md"


def table(run_at: Path) -> str:
    """One line per claim: what is claimed, what the paper prints, what this run says, with its evidence."""
    run = read(run_at, {PAPER.name: PAPER})
    lines = ["| claim | the paper prints | here | evidence here |", "|---|---|---|---|"]
    for claim in claims(run):
        found = "<br>".join(f"{c.high_name} − {c.low_name}: {c.gap}" for c in claim.comparisons)
        lines.append(f"| {claim.text} | {claim.printed} | **{claim.verdict}** | {found} |")
    return "\n".join(lines)


if __name__ == "__main__":
    begin, end = "<!-- written by docs/paper.py: begin -->", "<!-- written by docs/paper.py: end -->"
    new = f"{begin}\n{table(Path(sys.argv[1]))}\n{end}"
    PAGE.write_text(re.sub(f"{begin}.*{end}", lambda _: new, PAGE.read_text(), flags=re.S))
