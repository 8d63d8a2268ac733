"""Updates the tables in README.md from the commands that print them.

    python -m benchmarks.readme [demo] [models] [boards] [codes]

Without arguments all tables are updated. ``demo`` reads build/demo/demo.txt, which ``make demo`` writes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import boards, codes, models

README = Path(__file__).parent.parent / "README.md"
PAGE = README.parent / "build" / "demo" / "demo.txt"


def demo() -> str:
    """The table at the end of the demo's output."""
    page = PAGE.read_text(encoding="utf-8")
    return "```\n" + page[page.index("fewbit demo") :].rstrip() + "\n```"


PARTS: dict[str, Callable[[], str]] = {
    "demo": demo,
    "models": lambda: models.markdown(models.HEAD, models.rows()),
    "codes": lambda: "\n".join(codes.table()),
    "boards": lambda: models.markdown(boards.HEAD, [boards.row(case) for case in boards.CASES]),
}


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with the part between the begin and end marks of ``name`` replaced by ``content``."""
    marks = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    return re.sub(
        f"{marks[0]}.*?{marks[1]}", lambda _: f"{marks[0]}\n{content}\n{marks[1]}", text, count=1, flags=re.DOTALL
    )


def main(names: list[str]) -> None:
    for name in names or PARTS:
        content = PARTS[name]()
        README.write_text(replaced(README.read_text(encoding="utf-8"), name, content), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
