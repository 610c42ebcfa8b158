"""Robust aggregation: Krum and the trimmed mean against the papers' words in plain loops."""

from __future__ import annotations

from fractions import Fraction

import pytest
import scipy.stats
import torch
from jacobians import IDENTICAL, random_jacobian, rows

from mtofront.methods import METHODS, Signals, aggregate, make, values_for


def weights_by_the_paper(
    jacobian: list[list[int]], byzantine: int, selected: int
) -> list[Fraction]:
    """Krum's weights in exact arithmetic: the mean over every way to break ties."""
    tasks = len(jacobian)
    scores = []
    for row in jacobian:
        squares = sorted(
            sum((a - b) ** 2 for a, b in zip(row, other, strict=True)) for other in jacobian
        )
        # the first is the row's own
        scores.append(sum(squares[1:][: max(1, tasks - byzantine - 2)]))
    places = min(selected, tasks)
    last = sorted(scores)[places - 1]
    inside = sum(score < last for score in scores)
    share = Fraction(places - inside, sum(score == last for score in scores))
    return [(Fraction(int(score < last)) + share * (score == last)) / places for score in scores]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 9])
@pytest.mark.parametrize(("byzantine", "selected"), [(0, 1), (1, 1), (2, 3), (4, 20)])
def test_krum_is_the_papers_rule_in_exact_arithmetic(
    seed: int, tasks: int, byzantine: int, selected: int
) -> None:
    # small whole numbers, so that many scores are equal
    jacobian = (2 * random_jacobian(seed, tasks, 3)).round()
    values = values_for(make("krum", byzantine=byzantine, selected=selected), tasks)
    signals = Signals(jacobian[:, 0], jacobian[0, :0], jacobian @ jacobian.T)
    weights, _ = METHODS["krum"].step(signals, {}, values)
    whole = [[int(entry) for entry in row] for row in jacobian.tolist()]
    expected = [float(w) for w in weights_by_the_paper(whole, byzantine, selected)]
    assert weights.tolist() == pytest.approx(expected, abs=1e-15)


def test_krum_shares_between_duplicates_whatever_rounding_says() -> None:
    jacobian = random_jacobian(2, 3, 40)
    spread = torch.cat([jacobian[:1], 50 + 10 * jacobian[1:], jacobian[:1], jacobian[:1] / 3 * 3])
    gramian = spread @ spread.T
    signals = Signals(spread[:, 0], spread[0, :0], gramian)
    weights, _ = METHODS["krum"].step(signals, {}, values_for(make("krum"), 5))
    assert weights.tolist() == pytest.approx([1 / 3, 0, 0, 1 / 3, 1 / 3])


@pytest.mark.parametrize("size", [10.0, 1e6])
def test_krum_and_the_trimmed_mean_ignore_one_wild_gradient(size: float) -> None:
    honest = rows((1, 2), (1.1, 1.9), (0.9, 2.1), (1.05, 2.05), (0.95, 1.95))
    wild = torch.cat([honest, size * rows((-3, 1))])
    for name in ("krum", "trimmed_mean"):
        direction = aggregate(name, wild)
        torch.testing.assert_close(direction, rows((1, 2))[0], rtol=0, atol=0.11)


def test_every_run_has_its_own_number_of_outliers_and_of_places() -> None:
    jacobian = rows((0,), (1,), (3,), (7,), (20,))
    values = dict(values_for(make("krum"), 5, (4,)))
    values["byzantine"] = torch.tensor([1.0, 1.0, 0.0, 9.0], dtype=torch.float64)
    values["selected"] = torch.tensor([1.0, 2.0, 5.0, 1.0], dtype=torch.float64)
    gramian = (jacobian @ jacobian.T).expand(4, 5, 5)
    signals = Signals(jacobian[:, 0].expand(4, 5), jacobian.expand(4, 5, 1)[:, :0, 0], gramian)
    weights, _ = METHODS["krum"].step(signals, {}, values)
    # two neighbours score 10, 5, 13, 52, 458; one scores 1, 1, 4, 16, 169
    expected = rows((0, 1, 0, 0, 0), (0.5, 0.5, 0, 0, 0), (0.2,) * 5, (0.5, 0.5, 0, 0, 0))
    torch.testing.assert_close(weights, expected)


def test_one_number_of_places_spreads_over_a_batch() -> None:
    jacobians = random_jacobian(8, 2, 4, 6, 3)
    gramian = jacobians @ jacobians.mT
    signals = Signals(jacobians[..., 0], jacobians[..., 0, :0], gramian)
    step, number = METHODS["krum"].step, torch.ones(2, 1, dtype=torch.float64)
    spread, _ = step(signals, {}, {"byzantine": number, "selected": 2 * number})
    whole, _ = step(signals, {}, values_for(make("krum", selected=2), 6, (2, 4)))
    assert torch.equal(spread, whole)


@pytest.mark.parametrize(
    ("tasks", "trim"), [(1, 3), (2, 1), (3, 1), (5, 2), (8, 1), (9, 4), (9, 40)]
)
def test_the_trimmed_mean_is_scipys(tasks: int, trim: int) -> None:
    jacobian = random_jacobian(tasks, tasks, 30)
    share = (min(trim, (tasks - 1) // 2) + 0.5) / tasks
    expected = scipy.stats.trim_mean(jacobian.numpy(), share if tasks > 1 else 0, axis=0)
    found = aggregate("trimmed_mean", jacobian, trim=trim)
    torch.testing.assert_close(found, torch.from_numpy(expected))


def test_the_trimmed_mean_of_an_odd_number_becomes_the_median() -> None:
    jacobian = random_jacobian(4, 7, 11)
    found = aggregate("trimmed_mean", jacobian, trim=3)
    torch.testing.assert_close(found, jacobian.median(dim=0).values)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_trimmed_mean_trims_no_divergence_away(bad: float) -> None:
    jacobian = IDENTICAL.repeat(2, 1)
    jacobian[2, 1] = bad
    batch = torch.stack([jacobian, IDENTICAL.repeat(2, 1)])
    directions = aggregate("trimmed_mean", batch)
    assert directions[0].isnan().all()
    assert directions[1].tolist() == [3, 4]
