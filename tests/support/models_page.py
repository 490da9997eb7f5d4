"""The tables of docs/models.md, which are written by: make models-page."""

from __future__ import annotations

import re
from pathlib import Path

from nimbed.cli.models import pages

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
PLACE = re.compile(r"<!-- (?P<name>\w+): make models-page -->\n.*?<!-- end -->", re.DOTALL)


def with_tables(text: str) -> str:
    """The page with its tables as the package has them."""
    tables = pages()
    return PLACE.sub(lambda m: f"<!-- {m['name']}: make models-page -->\n\n{tables[m['name']]}\n\n<!-- end -->", text)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
