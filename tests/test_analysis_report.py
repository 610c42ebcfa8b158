"""The report end to end on made-up folders: what is written, what it says, what it must not do."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from tables import Run, run, write_failure, write_folder

from mtofront.analysis import ComparisonError, RecordsError, compare, load, write_report
from mtofront.analysis.atomic import replace_file
from mtofront.analysis.report import inline, number

VOID = {"meta", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Every tag closed in order, all ids, the first paragraph and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.ids: list[str] = []
        self.paragraphs: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)
        assert self.open == []

    @property
    def markup(self) -> str:
        """The page without what its scripts hold."""
        markup = self.source
        for script in self.scripts:
            markup = markup.replace(script, "")
        return markup

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "p":
            self.paragraphs.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] not in ("style", "title"):
            self.text += data
        if self.open and self.open[-1] == "p":
            self.paragraphs[-1] += data


def sweep(arms: tuple[str, ...] = ("x<y>",)) -> list[Run]:
    runs = []
    for seed in range(3):
        for k in range(9):
            t = k / 8
            losses, weights = (0.2 + t, 1.2 - t), (1 - t, t)
            runs.append(run(f"s{seed}-{k}", "scalarization", seed, losses, weights=weights))
        for arm in arms:
            losses = (0.4 + seed / 500, 0.4)
            runs.append(run(f"{arm}{seed}", arm, seed, losses, passes=250.0, hyper={"c": 0.4}))
    return runs


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("sweep") / "out", sweep())
    assert write_report(folder) == folder / "report" / "index.html"
    return folder


def test_every_promised_file_is_there_and_nothing_else(complete: Path) -> None:
    report = complete / "report"
    figures = ["arms", "attainment", "budget", "front", "margins", "utility", "variance"]
    tables = [
        "attainment", "best", "budget", "coverage", "delta_m", "deviations", "effort",
        "indicator_means", "indicators", "learning_rate_grids", "margins", "normalisation", "runs",
        "solvers", "statistics", "tastes", "utility", "variance",
    ]  # fmt: skip
    expected = {"index.html", "notes.json", "verdicts.json"}
    expected |= {f"{name}.{form}" for name in figures for form in ("png", "svg", "pdf")}
    stems = ["verdicts", *(f"tables/{name}" for name in tables)]
    expected |= {f"{stem}.{form}" for stem in stems for form in ("csv", "md", "tex")}
    assert {str(p.relative_to(report)) for p in report.rglob("*") if p.is_file()} == expected


def test_the_verdict_files_hold_the_rows_of_compare(complete: Path) -> None:
    expected = compare(load(complete))
    assert expected["verdict"].tolist() == ["beats"]
    table = pd.read_csv(complete / "report" / "verdicts.csv")
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    rows = json.loads((complete / "report" / "verdicts.json").read_text())
    assert rows[0]["margin"] == expected["margin"][0]
    assert rows[0]["equivalent_runs"] is None
    with open(complete / "report" / "verdicts.csv", newline="") as file:
        assert next(csv.DictReader(file))["equivalent_runs"] == "inf"


def test_the_page_stands_alone(complete: Path) -> None:
    text = (complete / "report" / "index.html").read_text()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert "<img" not in page.markup and "@import" not in page.markup
    assert re.findall(r"<script([^>]*)>", page.markup) == [
        ' type="application/json" id="data"',
        "",
        "",
    ]
    text = page.markup
    # Addresses appear as names of XML vocabularies only, never as something to fetch.
    assert all(link.startswith("#") for link in re.findall(r'(?:href|src)="([^"]*)"', text))
    targets = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert targets and targets <= set(page.ids)


def test_the_page_says_first_whether_it_is_complete_then_the_answer(complete: Path) -> None:
    page = Page((complete / "report" / "index.html").read_text())
    assert page.paragraphs[0] == "Complete: all 30 planned runs finished."
    assert page.paragraphs[2] == "x<y> beats tuned scalarization."
    assert "A run costs 2.5 times the backward passes." in page.text
    assert "1.1 in every task" in page.text
    assert "mtofront run config.yaml" in page.text
    assert "# <not> a real one" in page.text
    assert "c=0.4" in page.text and "2.13.0" in page.text


def test_missed_tolerances_of_solvers_are_shown_with_their_arm(tmp_path: Path) -> None:
    def page(misses: float) -> str:
        own = [run(f"n{seed}", "nash", seed, (0.5, 0.5), unsolved=misses) for seed in range(3)]
        return write_report(write_folder(tmp_path / f"{misses}", sweep() + own)).read_text()

    missed = Page(page(4.0)).text
    assert "Solvers that missed their tolerance" in missed
    table = pd.read_csv(tmp_path / "4.0/report/tables/solvers.csv")
    assert table.to_dict("records") == [
        {"arm": "nash", "runs": 3, "runs_with_misses": 3, "missed_steps": 12.0}
    ]
    assert "Every solver of every step reached its tolerance (nash)" in Page(page(0.0)).text


def test_writing_again_gives_the_same_page(complete: Path) -> None:
    path = complete / "report" / "index.html"
    before = path.read_bytes()
    write_report(complete)
    assert path.read_bytes() == before


def test_partial_results_say_so_in_the_first_line(tmp_path: Path) -> None:
    runs = [*sweep(), run("d", "x<y>", 0, (9, 9), diverged=4)]
    planned = [run(name, "x<y>", 1, (0, 0)) for name in ("m1", "m2")]
    folder = write_folder(tmp_path / "out", runs, planned=planned)
    write_failure(folder, "pack", ["m1"], "no <memory> left")
    page = Page(write_report(folder).read_text())
    assert page.paragraphs[0] == (
        "Partial results: 31 of 33 planned runs are finished; 1 failed; 1 missing; 1 finished run "
        "diverged, counted as cost and never as part of a front."
    )
    assert "Failed, 1 runs: no <memory> left" in page.text
    assert "mtofront resume" in page.text


def test_a_sweep_of_the_baseline_alone_still_has_a_report(tmp_path: Path) -> None:
    page = Page(write_report(write_folder(tmp_path / "out", sweep(()))).read_text())
    assert "There is no arm to compare with scalarization." in page.text


def test_nothing_is_written_where_there_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(RecordsError):
        write_report(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
    folder = write_folder(tmp_path / "out", [run("x0", "x", 0, (1, 1))])
    with pytest.raises(ComparisonError, match="baseline"):
        write_report(folder)
    assert not (folder / "report").exists()


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def torn(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, torn)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_ids_of_two_figures_never_meet() -> None:
    svg = '<?xml?><svg><path id="a"/><use xlink:href="#a"/><g clip-path="url(#a)"/></svg>'
    assert inline(svg, "front") == (
        '<svg><path id="front-a"/><use xlink:href="#front-a"/><g clip-path="url(#front-a)"/></svg>'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "–"), (float("inf"), "∞"), (12345.0, "12,345"), (0.123456, "0.1235"),
        ("word", "word"), (True, "yes"), (3, "3"), (float("-inf"), "−∞"),
    ],
)  # fmt: skip
def test_a_cell_is_short_and_never_a_bare_nan(value: str | float, text: str) -> None:
    assert number(value) == text
