"""Figures: the data behind them, and that drawing keeps to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tables import Run, frame_of, run

from mtofront.analysis import front, judge
from mtofront.analysis.attainment import arm_surfaces
from mtofront.analysis.colours import BASELINE_COLOUR, styles
from mtofront.analysis.figure_data import (
    arms_data,
    front_data,
    margin_data,
    median_front,
    pairs,
)
from mtofront.analysis.figures import arms_figure, front_figure, margins_figure, save
from mtofront.analysis.seeds_figures import attainment_figure, utility_figure
from mtofront.analysis.utility import utility_sweep

TASKS = ("a", "b", "c")


def runs_of(tasks: int, arms: tuple[str, ...] = ("x", "y"), scale: float = 1.0) -> list[Run]:
    random = np.random.default_rng(tasks)
    runs = []
    for seed in range(3):
        for k in range(8):
            weights = random.dirichlet(np.ones(tasks))
            losses = scale * (0.2 + np.sqrt(1 - weights) + 0.01 * random.random(tasks))
            runs.append(run(f"s{seed}-{k}", "scalarization", seed, losses, weights=weights))
        runs += [
            run(f"{arm}{seed}", arm, seed, scale * (0.9 + random.random(tasks))) for arm in arms
        ]
    return runs


def test_forty_arms_are_told_apart_and_the_baseline_is_always_dark_and_round() -> None:
    arms = ["base", *(f"arm{i}" for i in range(40))]
    found = styles(arms, "base")
    assert len({(style.colour, style.marker) for style in found.values()}) == 41
    assert (found["base"].colour, found["base"].marker) == (BASELINE_COLOUR, "o")
    assert styles(arms[:5], "base")["arm3"] == found["arm3"]


@pytest.mark.parametrize(("tasks", "number"), [(1, 1), (2, 1), (3, 3), (4, 6), (5, 4), (10, 9)])
def test_all_pairs_are_drawn_for_few_tasks_and_neighbours_for_many(tasks: int, number: int) -> None:
    assert len(pairs(tasks)) == len(set(pairs(tasks))) == number
    assert {task for pair in pairs(tasks) for task in pair} == set(range(tasks))


seed_fronts = st.lists(
    st.integers(1, 5).flatmap(
        lambda n: arrays(np.float64, (n, 2), elements=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]))
    ),
    min_size=1,
    max_size=5,
)


@given(seed_fronts)
def test_the_median_front_is_what_half_of_the_seeds_attain(clouds: list[np.ndarray]) -> None:
    stairs = tuple(front(cloud) for cloud in clouds)
    median = median_front(stairs)
    for place in np.stack(np.meshgrid(*[np.linspace(0, 1, 11)] * 2), axis=-1).reshape(-1, 2):
        seeds = sum(bool((points <= place).all(axis=1).any()) for points in stairs)
        attained = bool((median <= place).all(axis=1).any())
        assert attained == (2 * seeds >= len(stairs))


def test_training_losses_stand_beside_reported_ones() -> None:
    # Best on validation at step 10, last evaluation at step 20.
    two = ((10, (1.0, 1.0), (1.5, 1.5)), (20, (3.0, 3.0), (4.0, 4.0)))
    runs = [*runs_of(2, ()), *(Run(f"x{seed}", "x", seed, two) for seed in range(3))]
    frame = frame_of(runs)
    (train, test), *rest = front_data(judge(frame), frame).panels
    assert rest == []
    assert train.clouds["x"].tolist() == [[3.0, 3.0]] * 3
    assert test.clouds["x"].tolist() == [[1.5, 1.5]] * 3
    assert test.marked["x"].tolist() == [[1.5, 1.5]] * 3
    assert (train.title, test.title) == ("Training: last evaluation", "Test: chosen on val")
    assert (test.x.label, test.y.label) == ("a loss", "b loss")
    assert len(test.stairs) == 3


def test_the_axes_hold_the_marked_runs_and_most_others_and_count_what_lies_beyond() -> None:
    far = [run(f"far{seed}", "x", seed, (50.0, 60.0)) for seed in range(3)]
    near = [run(f"near{seed}-{k}", "x", seed, (1, 1)) for seed in range(3) for k in range(9)]
    frame = frame_of([*runs_of(2, ()), *near, *far])
    panel = front_data(judge(frame), frame).panels[0][1]
    assert panel.outside == 3
    for side, axis in enumerate((panel.x, panel.y)):
        assert axis.low < panel.members[:, side].min()
        assert max(panel.members[:, side].max(), panel.marked["x"][:, side].max()) < axis.high < 50


def test_the_ends_of_the_baselines_sweep_do_not_squeeze_the_arms() -> None:
    ends = [((100.0, 0.0), (1, 0)), ((0.0, 100.0), (0, 1)), ((0.4, 0.6), (0.5, 0.5))]
    runs = [
        run(f"s{seed}-{k}", "scalarization", seed, losses, weights=weights)
        for seed in range(3)
        for k, (losses, weights) in enumerate(ends)
    ]
    frame = frame_of([*runs, *(run(f"x{seed}", "x", seed, (0.5, 0.5)) for seed in range(3))])
    panel = front_data(judge(frame), frame).panels[0][1]
    assert panel.x.high < 2 and panel.y.high < 2
    assert panel.outside == 6


def test_an_axis_is_logarithmic_where_extreme_weights_stretch_the_front() -> None:
    stretched = [
        run(f"s{k}", "scalarization", 0, (0.05 * 2**k, 0.05 * 2 ** (6 - k)), weights=(k, 1 - k))
        for k in range(7)
    ]
    frame = frame_of(stretched)
    panel = front_data(judge(frame), frame).panels[0][1]
    assert panel.x.log and panel.y.log and panel.outside == 0
    shifted = frame.assign(value=frame["value"] - 1.0)
    panel = front_data(judge(shifted), shifted).panels[0][1]
    assert not panel.x.log


def test_each_arm_has_its_own_panel_with_its_verdict_on_common_axes() -> None:
    comparison = judge(frame_of(runs_of(2)))
    data = arms_data(comparison)
    words = comparison.rows["verdict"]
    assert [row[0].title for row in data.panels] == [f"x: {words[0]}", f"y: {words[1]}"]
    assert [set(row[0].clouds) for row in data.panels] == [
        {"scalarization", "x"},
        {"scalarization", "y"},
    ]
    assert data.panels[0][0].x == data.panels[1][0].x


def test_three_tasks_are_drawn_as_pairwise_projections_without_staircases() -> None:
    frame = frame_of(runs_of(3), TASKS)
    comparison = judge(frame)
    data = front_data(comparison, frame)
    assert [(row[1].x.label, row[1].y.label) for row in data.panels] == [
        ("a loss", "b loss"), ("a loss", "c loss"), ("b loss", "c loss"),
    ]  # fmt: skip
    assert all(not panel.stairs and not len(panel.median) for row in data.panels for panel in row)
    assert len(front_figure(data).axes) == 6
    assert len(arms_figure(arms_data(comparison)).axes) == 6


def test_the_drawn_points_are_the_data() -> None:
    frame = frame_of(runs_of(2))
    data = front_data(judge(frame), frame)
    figure = front_figure(data)
    panel, ax = data.panels[0][1], figure.axes[1]
    clouds = [np.asarray(points.get_offsets()) for points in ax.collections]
    for cloud in (*panel.clouds.values(), panel.members, *panel.marked.values()):
        assert any(np.array_equal(cloud, drawn) for drawn in clouds)
    assert (ax.get_xlim(), ax.get_ylim()) == (
        (panel.x.low, panel.x.high),
        (panel.y.low, panel.y.high),
    )
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "scalarization: runs", "scalarization: front", "x", "y",
        "black edge: a seed's selected run",
    ]  # fmt: skip


def test_the_forest_plot_shows_every_arm_from_the_top_with_its_verdict() -> None:
    comparison = judge(frame_of(runs_of(2)))
    data = margin_data(comparison)
    ax = margins_figure(data).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "y"]
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts] == comparison.rows["verdict"].tolist()
    assert data.seeds["x"].mean() == pytest.approx(comparison.rows["margin"][0])


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_lone_baseline_is_drawn_without_arms(tasks: int, tmp_path: Path) -> None:
    frame = frame_of(runs_of(tasks, ()), TASKS[:tasks])
    comparison = judge(frame)
    assert comparison.rows.empty
    for figure in (
        front_figure(front_data(comparison, frame)),
        arms_figure(arms_data(comparison)),
        margins_figure(margin_data(comparison)),
    ):
        assert save(figure, tmp_path / "figure").endswith("</svg>\n")


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    data = margin_data(judge(frame_of(runs_of(2))))
    save(margins_figure(data), tmp_path / "one")
    save(margins_figure(data), tmp_path / "two")
    for ending in (".svg", ".png", ".pdf"):
        one, two = (tmp_path / (stem + ending) for stem in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.pdf", "one.png", "one.svg", "two.pdf", "two.png", "two.svg",
    ]  # fmt: skip


def test_each_arm_has_its_attainment_over_the_baselines() -> None:
    comparison = judge(frame_of(runs_of(2)))
    axes = attainment_figure(comparison).axes
    assert [ax.get_title() for ax in axes] == ["x", "y"]
    median = arm_surfaces(comparison.runs, "y")
    assert median is not None
    drawn = np.asarray(axes[1].lines[1].get_xydata())
    assert np.array_equal(drawn[1:-1], median.median)
    # The band is between the two other surfaces: every corner of both lies on its edge or in it.
    edge = axes[1].collections[1].get_paths()[0].vertices
    for corner in (*median.best, *median.worst):
        assert edge[:, 0].min() <= corner[0] <= edge[:, 0].max()


@pytest.mark.parametrize("tasks", [1, 3])
def test_other_numbers_of_tasks_say_where_surfaces_are(tasks: int) -> None:
    figure = attainment_figure(judge(frame_of(runs_of(tasks), TASKS[:tasks])))
    assert figure.get_suptitle() == "Attainment surfaces are drawn for two tasks"


def test_the_utility_figure_has_a_line_an_arm_or_a_row_an_arm() -> None:
    two = utility_sweep(judge(frame_of(runs_of(2))))
    ax = utility_figure(two).axes[0]
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in ax.lines}
    assert np.array_equal(lines["y"], two.gain[:, 2])
    three = utility_figure(utility_sweep(judge(frame_of(runs_of(3), TASKS)))).axes[0]
    assert [label.get_text() for label in three.get_yticklabels()] == ["scalarization", "x", "y"]
    assert sum(text.get_text().startswith("first for") for text in three.texts) == 3


def test_nearly_zero_losses_leave_an_axis_linear() -> None:
    tiny = [run(f"s{k}", "scalarization", 0, (10.0**-k, 1 - 10.0**-k)) for k in range(0, 17, 4)]
    frame = frame_of(tiny)
    assert not front_data(judge(frame), frame).panels[0][1].x.log
