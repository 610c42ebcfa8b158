"""The report's page in a real browser: clicks, selections, no error, nothing fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import run, write_folder

from mtofront.analysis import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
NAMES = ("chromium", "chromium-browser", "google-chrome")
DRAWN = "#explore[data-drawn='{}']"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, the machine's own or playwright's; without either the tests are skipped."""
    own = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        # A container has no sandbox of its own, and no graphics card for WebGL.
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        try:
            found = playwright.chromium.launch(executable_path=own, args=flags)
        except sync_api.Error as error:
            pytest.skip(
                f"needs Chromium: apt-get install chromium, or playwright install ({error})"
            )
        yield found
        found.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Reports of two, three and five tasks."""
    return {tasks: report_of(tasks, tmp_path_factory.mktemp("page")) for tasks in (2, 3, 5)}


def report_of(tasks: int, folder: Path) -> Path:
    random = np.random.default_rng(tasks)
    runs = []
    for seed in range(2):
        for k in range(8):
            weights = random.dirichlet(np.ones(tasks))
            losses = 0.2 + np.sqrt(1 - weights)
            runs.append(run(f"s{seed}-{k}", "scalarization", seed, losses, weights=weights))
        for arm in ("x<y>", "other"):
            losses = 0.8 + 0.1 * random.random(tasks)
            own = recorded(random, "abcde"[:tasks]) if tasks < 5 else ()
            runs.append(run(f"{arm}{seed}", arm, seed, losses, hyper={"c": 0.4}, recorded=own))
    return write_report(write_folder(folder / "out", runs, tuple("abcde"[:tasks])))


def recorded(random: np.random.Generator, tasks: str) -> tuple[tuple[int, str, str, float], ...]:
    """Gradients and weights at two evaluations."""
    names = ("conflict_rate", "gradient_cosine", "magnitude_similarity")
    each = ("gradient_norm", "task_weight")
    found = [(step, "", name) for step in (10, 20) for name in names]
    found += [(step, task, name) for step in (10, 20) for task in tasks for name in each]
    return tuple((*row, float(random.random())) for row in found)


@pytest.fixture
def visit(browser: Any, folders: dict[int, Path]) -> Iterator[Any]:
    """Open the page for so many tasks; at the end nothing may have gone wrong or been fetched."""
    wrong: list[str] = []
    fetched: list[str] = []
    pages = []

    def open_page(tasks: int, width: int = 1280) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(folders[tasks].as_uri())
        page.wait_for_selector(DRAWN.format(1))
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []
    assert all(url.startswith(("file://", "blob:", "data:")) for url in fetched)
    assert len([url for url in fetched if url.startswith("file://")]) == len(pages)


def names(page: Any, side: str = "right") -> set[str]:
    """The arms that are drawn on one side."""
    drawn = page.evaluate(f"document.querySelector('[data-side={side}]').data.map(t => t.name)")
    return {name.replace("&lt;", "<").replace("&gt;", ">") for name in drawn}


def test_a_click_in_the_legend_isolates_an_arm_and_another_brings_all_back(visit: Any) -> None:
    page = visit(2)
    assert names(page) == {"scalarization", "x<y>", "other"}
    key = page.get_by_role("button", name="x<y>")
    key.click()
    page.wait_for_selector(DRAWN.format(2))
    assert names(page) == names(page, "left") == {"scalarization", "x<y>"}
    assert key.get_attribute("aria-pressed") == "true"
    key.click()
    page.wait_for_selector(DRAWN.format(3))
    assert names(page) == {"scalarization", "x<y>", "other"}


def test_another_task_and_another_split_change_what_is_drawn(visit: Any) -> None:
    page = visit(3)
    page.select_option("[name=view]", "2d")
    page.wait_for_selector(DRAWN.format(2))
    title = "document.querySelector('[data-side=right]').layout.{}.title.text"
    assert page.evaluate(title.format("xaxis")) == "a loss"
    page.select_option("[name=x]", "2")
    page.wait_for_selector(DRAWN.format(3))
    assert page.evaluate(title.format("xaxis")) == "c loss"
    page.select_option("[name=right]", "val")
    page.wait_for_selector(DRAWN.format(4))
    label = page.evaluate("document.querySelector('[data-side=right]').layout.title.text")
    assert label.startswith("val, checkpoint")


@pytest.mark.parametrize(("tasks", "kind"), [(2, "scatter"), (3, "scatter3d"), (5, "scatter")])
def test_each_number_of_tasks_has_its_view(visit: Any, tasks: int, kind: str) -> None:
    page = visit(tasks)
    types = page.evaluate(
        "document.querySelector('[data-side=left]').data.map(t => t.type || 'scatter')"
    )
    assert set(types) == {kind}
    assert page.locator("[name=z]").is_visible() == (tasks == 3)
    assert page.locator("[name=x]").is_visible() == (tasks < 5)


def test_a_run_says_what_it_was_when_pointed_at(visit: Any) -> None:
    page = visit(2)
    texts = page.evaluate(
        "document.querySelector('[data-side=right]').data.flatMap(t => t.text || [])"
    )
    own = next(text for text in texts if "run x&lt;y&gt;1" in text)
    assert own.startswith("<b>x&lt;y&gt;</b>, seed 1, selected<br>")
    assert "learning rate 0.01" in own and "c=0.4" in own and "a loss 0.8" in own
    base = next(text for text in texts if "run s0-0" in text)
    assert "weights 0." in base
    # And the library shows it: its label appears under the mouse.
    page.evaluate(
        "side => Plotly.Fx.hover(side, [{curveNumber: side.data.length - 1, pointNumber: 0}])",
        page.query_selector("[data-side=right]"),
    )
    assert "seed" in page.locator("[data-side=right] .hoverlayer").text_content()


def test_the_page_fits_a_telephone_and_its_print_shows_the_static_figures(visit: Any) -> None:
    page = visit(2, width=420)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    static, live = page.locator("figure.static"), page.locator("#explore")
    assert live.is_visible() and not static.is_visible()
    page.emulate_media(media="print")
    assert static.is_visible() and not live.is_visible()


def test_why_is_told_with_figures_where_runs_recorded_it(visit: Any) -> None:
    titles = ["Where results vary", "Gradients of the tasks", "Weights of the tasks"]
    for tasks, shown in ((2, titles), (5, titles[:1])):
        page = visit(tasks, width=1200)
        for title in titles:
            assert page.get_by_role("heading", name=title).count() == (title in shown)
        assert page.get_by_text("diagnostics: true").count() == (tasks == 5)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    for part in ("Standard deviation of results", "Conflict rate", "Shares of the tasks"):
        drawing = visit(2).locator(f"[aria-label^='{part}'] svg")
        assert drawing.is_visible()
        assert drawing.bounding_box()["width"] > 400


def test_without_scripts_the_static_figures_are_shown(
    browser: Any, folders: dict[int, Path]
) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(folders[2].as_uri())
    assert page.locator("figure.static").is_visible() and not page.locator("#explore").is_visible()
    page.close()
