"""The table of all methods, for the documentation."""

from __future__ import annotations

from mtofront.methods import METHODS
from mtofront.methods.method import Paper
from mtofront.tables import method_rows


def method_page() -> list[dict[str, str]]:
    """One row a method, by name; cells are Markdown."""
    return [
        {
            "method": f"`{row['name']}`",
            "what it does": row["summary"],
            "needs": row["needs"] if row["networks"] == "1" else "T networks",
            "passes": row["backward_passes"],
            "source": _source(METHODS[row["name"]].paper),
            "deviates": row["deviations"] or "–",
        }
        for row in method_rows(METHODS)
    ]


def _source(paper: Paper) -> str:
    """Authors, of more than two the first, year, title and where it can be read."""
    first, *others = paper.authors.split(", ")
    authors = f"{first} et al." if len(others) > 1 else " and ".join([first, *others])
    where = f"[{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else paper.venue
    return f"{authors} {paper.year}, {paper.title}; {where}"
