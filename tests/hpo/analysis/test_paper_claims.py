"""A paper's claims against hand-made numbers whose means, errors and verdicts are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hpo.analysis import claim_verdicts, paper_claims, power
from hpo.analysis.claim_verdicts import Spread
from hpo.analysis.paper_claims import Values
from hpo.core.paper import (
    Contrast,
    Correlation,
    Match,
    Paper,
    Quantity,
    Shift,
    Table,
    difference,
    means,
    trend,
)
from hpo.core.trial import Run, Trial
from tests.hpo import toy

# Points a, b, c at three seeds: point + seed + rest, every rest adds up to 0 over points and seeds.
POINT = {"a": 1.0, "b": 1.5, "c": 3.0}


SEED = {0: 0.0, 1: 10.0, 2: -4.0}


REST = {"a": (0.1, -0.1, 0.0), "b": (-0.1, 0.0, 0.1), "c": (0.0, 0.1, -0.1)}


BLOCKS: Values = {
    point: {seed: value + SEED[seed] + REST[point][seed] for seed in SEED}
    for point, value in POINT.items()
}


DEVIATION = math.sqrt(6 * 0.1**2 / 4)


def trial(number: int, point: str, seed: int, **metrics: Any) -> Trial:
    return Trial.measured(
        number=number, state="complete", params={}, point=point, seed=seed, metrics=metrics
    )


def run_of(**metrics: Values) -> Run:
    """Trials with these metrics, point by point and seed by seed."""
    cells = sorted(
        {(p, s) for found in metrics.values() for p, each in found.items() for s in each}
    )
    return toy.run(
        [
            trial(
                number,
                point,
                seed,
                **{
                    name: found[point][seed]
                    for name, found in metrics.items()
                    if seed in found.get(point, {})
                },
            )
            for number, (point, seed) in enumerate(cells)
        ]
    )


def claim(weights: dict[str, float], sign: Any = 1, **fields: Any) -> Contrast:
    return Contrast(text="t", metric="loss", weights=weights, sign=sign, **fields)


def test_what_a_seed_does_to_all_points_is_no_spread() -> None:
    found = claim_verdicts.spread(BLOCKS)
    assert found.freedom == 4
    assert found.deviation == pytest.approx(DEVIATION)
    shifted = {p: {s: y + 100 * s for s, y in each.items()} for p, each in BLOCKS.items()}
    assert claim_verdicts.spread(shifted).deviation == pytest.approx(DEVIATION)


def test_the_spread_of_two_points_is_that_of_the_paired_difference() -> None:
    draws = np.random.default_rng(0).normal(size=(2, 6))
    found = claim_verdicts.spread({"a": dict(enumerate(draws[0])), "b": dict(enumerate(draws[1]))})
    error = found.error([1, -1], 6)
    assert error == pytest.approx(stats.sem(draws[0] - draws[1]))
    t = (draws[0] - draws[1]).mean() / error
    p = 2 * stats.t.sf(abs(t), found.freedom)
    assert p == pytest.approx(stats.ttest_rel(draws[0], draws[1]).pvalue)


@pytest.mark.parametrize(
    "found", [{}, {"a": {0: 1.0}}, {"a": {0: 1.0}, "b": {0: 2.0}}, {"a": {0: 1.0, 1: 2.0}}]
)
def test_one_seed_or_one_point_has_no_spread(found: Values) -> None:
    known = claim_verdicts.spread(found)
    assert math.isnan(known.deviation)
    assert known.enough() == math.inf


def test_a_point_that_lacks_a_seed_does_not_tell_the_spread() -> None:
    found = BLOCKS | {"d": {0: 50.0}}
    assert claim_verdicts.spread(found) == claim_verdicts.spread(BLOCKS)


def test_student_asks_for_more_with_few_seeds() -> None:
    enough = [Spread(deviation=1.0, freedom=freedom).enough() for freedom in (1, 4, 1000)]
    assert enough == pytest.approx([12.706, 2.776, 1.962], abs=1e-3)


@pytest.mark.parametrize(
    ("weights", "sign", "value", "norm", "verdict"),
    [
        (difference("c", "a"), 1, 2.0, 2, "agree"),
        (difference("c", "a"), -1, 2.0, 2, "disagree"),
        (difference("a", "b"), -1, -0.5, 2, "agree"),
        (means(["c"], ["a", "b"]), 1, 1.75, 1.5, "agree"),
        (trend(["a", "b", "c"]), -1, 2.0, 2, "disagree"),
    ],
)
def test_a_contrast_has_its_value_error_and_verdict(
    weights: dict[str, float], sign: int, value: float, norm: float, verdict: str
) -> None:
    found = claim_verdicts.contrast(claim(weights, sign), BLOCKS)
    assert found.value == pytest.approx(value)
    assert found.error == pytest.approx(DEVIATION * math.sqrt(norm / 3))
    assert found.verdict == verdict


def test_the_p_of_a_contrast_of_two_points_is_that_of_the_paired_t_test() -> None:
    two = {point: BLOCKS[point] for point in "ab"}
    found = claim_verdicts.contrast(claim(difference("b", "a")), two)
    expected = stats.ttest_rel([*two["b"].values()], [*two["a"].values()])
    assert found.p == pytest.approx(expected.pvalue)
    assert found.detectable == pytest.approx(power.detectable(found.error, 2, 0.05))
    three = claim_verdicts.contrast(claim(difference("b", "a")), BLOCKS)
    assert (three.p < 0.05) == (three.verdict == "agree")
    one_seed = {point: {0: each[0]} for point, each in two.items()}
    assert math.isnan(claim_verdicts.contrast(claim(difference("b", "a")), one_seed).p)


def test_a_contrast_within_the_spread_is_not_significant() -> None:
    near = {p: {s: y - 0.9 * POINT[p] for s, y in each.items()} for p, each in BLOCKS.items()}
    found = claim_verdicts.contrast(claim(difference("b", "a")), near)
    assert found.value == pytest.approx(0.05)
    assert found.verdict == "not significant"


def test_values_that_rounding_alone_spreads_tell_no_verdict() -> None:
    a, b = (0.1 + 0.2, 0.4, 0.5), (0.0, 0.1, 0.2)  # 0.3 apart at each seed, but for rounding
    found = {"a": dict(enumerate(a)), "b": dict(enumerate(b))}
    claim = Contrast(text="a is above b", metric="loss", sign=1, weights=difference("a", "b"))
    judged = claim_verdicts.contrast(claim, found)
    assert (judged.verdict, judged.error) == ("not significant", 0.0)
    assert math.isnan(judged.p)


def test_points_that_never_move_do_not_make_one_that_does_certain() -> None:
    found: Values = {name: {0: 1.0, 1: 1.0} for name in "bcdefg"} | {"a": {0: 1.0, 1: 1.5}}
    weights = means(["a"], list("bcdefg"))
    pooled = claim_verdicts.spread(found).error(list(weights.values()), 2)
    assert pooled * claim_verdicts.spread(found).enough() < 0.25
    finding = claim_verdicts.contrast(claim(weights), found)
    assert (finding.value, finding.error) == pytest.approx((0.25, 0.25))
    assert finding.verdict == "not significant"


@pytest.mark.parametrize(("points", "seeds"), [(3, 2), (6, 2), (6, 3), (10, 2), (10, 3), (6, 5)])
@pytest.mark.parametrize("noisier", [1.0, 4.0, 10.0])
def test_no_true_difference_is_called_a_direction_in_more_than_one_of_twenty(
    points: int, seeds: int, noisier: float
) -> None:
    """Also where one point spreads more than the others; the bound is two errors above 5 %."""
    draws = np.random.default_rng(points * seeds).normal(size=(400, points, seeds))
    draws[:, 0] *= noisier
    said = 0
    for y_PS in draws + 3 * draws[:, 1:2].mean(axis=1, keepdims=True):
        found = {f"p{p}": dict(enumerate(map(float, each))) for p, each in enumerate(y_PS)}
        said += claim_verdicts.contrast(claim(difference("p0", "p1")), found).verdict in (
            "agree", "disagree"
        )  # fmt: skip
    assert said / 400 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_clear_difference_is_still_significant(seeds: int) -> None:
    draws = np.random.default_rng(seeds).normal(size=(100, 6, seeds))
    draws[:, 0] += 12
    told = sum(
        claim_verdicts.contrast(
            claim(difference("p0", "p1")),
            {f"p{p}": dict(enumerate(map(float, each))) for p, each in enumerate(y_PS)},
        ).verdict == "agree"
        for y_PS in draws
    )  # fmt: skip
    assert told >= 95


@pytest.mark.parametrize(
    ("at", "verdict"),
    [
        (0.0, "agree"),  # like b, which is 1.5 below c
        (0.3, "agree"),
        (-0.1, "agree"),
        (0.75, "not significant"),  # half of the effect
        (1.5, "disagree"),
        (-1.5, "disagree"),  # beyond b
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_match_holds_where_little_of_the_effect_is_left(
    at: float, verdict: str, sign: int
) -> None:
    moved = {s: POINT["b"] + at + SEED[s] + r for s, r in zip(SEED, REST["a"], strict=True)}
    found = {p: {s: sign * y for s, y in each.items()}
             for p, each in (BLOCKS | {"a": moved}).items()}  # fmt: skip
    about = Match(text="t", metric="loss", point="a", like="b", unlike="c")
    finding = claim_verdicts.match(about, found)
    assert finding.value == pytest.approx(sign * at, abs=1e-9)
    assert finding.error == pytest.approx(claim_verdicts.spread(found).error([1, -1], 3), rel=0.3)
    assert finding.verdict == verdict


def test_noise_is_no_match_and_an_effect_within_it_proves_none() -> None:
    about = Match(text="t", metric="loss", point="a", like="b", unlike="c")
    flat = {p: {s: y - POINT[p] for s, y in each.items()} for p, each in BLOCKS.items()}
    assert claim_verdicts.match(about, flat).verdict == "not significant"
    assert claim_verdicts.match(about, {p: {0: y[0]} for p, y in BLOCKS.items()}).verdict == (
        "not significant"
    )
    assert claim_verdicts.match(about, {"a": {0: 1.0}}).verdict == "not measured"
    said = claim_verdicts.sentence(claim_verdicts.match(about, BLOCKS))
    assert said == (
        "t: paper no difference; here -0.5 ± 0.1 loss from 'b', where 'c' has +1.5 ± 0.1, over 3 "
        "seeds: not significant."
    )
    moved = BLOCKS | {"a": {s: y + 0.5 for s, y in BLOCKS["a"].items()}}
    assert claim_verdicts.sentence(claim_verdicts.match(about, moved)).endswith(
        "less than half of that."
    )


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"a": {0: 1.0}, "b": {0: 9.0}}, "not significant"),
        ({"a": {0: 1.0, 1: 1.0}, "b": {0: 9.0, 1: 9.0}}, "not significant"),
        ({"a": {0: 1.0}, "b": {1: 9.0}}, "not measured"),
        ({"a": {0: 1.0}}, "not measured"),
    ],
)
def test_without_a_spread_no_verdict_is_given(found: Values, verdict: str) -> None:
    assert claim_verdicts.contrast(claim(difference("b", "a")), found).verdict == verdict


@pytest.mark.parametrize(
    ("points", "verdict"),
    [(("a", "b", "c"), "agree"), (("c", "b", "a"), "disagree")],
)
def test_a_shift_needs_two_different_best_points_both_significant(
    points: tuple[str, ...], verdict: str
) -> None:
    shift = Shift(text="t", points=points, paper_before="1", paper_after="2")
    found = claim_verdicts.shift(shift, BLOCKS, BLOCKS)  # least before: a; most after: c
    assert found.verdict == verdict
    assert found.paper == "1 before, 2 after"
    assert found.ours == (
        "best base_loss at a (significantly different from all others); "
        "best finetuned at c (significantly different from all others)"
    )


def test_a_shift_names_what_the_best_is_not_significantly_better_than() -> None:
    shift = Shift(text="t", points=("a", "b", "c"))
    flat = {p: {s: y - POINT[p] for s, y in each.items()} for p, each in BLOCKS.items()}
    assert claim_verdicts.shift(shift, flat, BLOCKS).verdict == "not significant"
    assert "any other" in claim_verdicts.shift(shift, flat, BLOCKS).ours
    negated = {p: {s: -y for s, y in each.items()} for p, each in BLOCKS.items()}
    assert (
        claim_verdicts.shift(shift, BLOCKS, negated).verdict == "not significant"
    )  # the same point
    assert claim_verdicts.shift(shift, BLOCKS, {}).verdict == "not measured"


def test_a_shift_to_a_loss_is_best_where_that_is_least() -> None:
    shift = Shift(text="t", points=("a", "c"), after="loss", after_better="down")
    falling = {p: {s: -y for s, y in each.items()} for p, each in BLOCKS.items()}
    found = claim_verdicts.shift(shift, BLOCKS, falling)
    assert found.verdict == "agree"
    assert "best loss at c (significantly" in found.ours


def test_a_correlation_is_pearsons_over_the_points_means() -> None:
    names = tuple("abcdefg")
    x = {name: {0: float(place), 1: float(place)} for place, name in enumerate(names)}
    y = {name: {0: each[0] ** 2, 1: each[0] ** 2 + 2} for name, each in x.items()}
    about = Correlation(text="t", points=names, x="x", y="y", sign=-1, paper=-0.709)
    found = claim_verdicts.correlation(about, x, y)
    expected = stats.pearsonr(range(7), [n**2 + 1 for n in range(7)]).statistic
    assert found.value == pytest.approx(expected)
    assert (found.verdict, found.paper) == ("disagree", "r = -0.709")
    weak = {name: {0: value} for name, value in zip(names, (1, -1, 2, 0, 1, -2, 1), strict=True)}
    assert claim_verdicts.correlation(about, x, weak).verdict == "not significant"
    assert claim_verdicts.correlation(about, x, {}).verdict == "not measured"


def test_a_table_holds_the_papers_numbers_and_ours_with_seeds_and_errors() -> None:
    run = run_of(loss=BLOCKS, score={"a": {0: 0.5}})
    run.trials.append(Trial.measured(number=9, state="failed", params={}, point="c", seed=3))
    run.trials.append(trial(10, "a", 4, loss=math.nan))
    table = Table(
        title="T",
        points=("a", "b", "c"),
        quantities=(
            Quantity(metric="loss", paper_name="loss", paper={"a": 7.0, "b": 8.0}),
            Quantity(metric="score"),
            Quantity(metric="loss", best_of=("b", "c")),
        ),
        claims=(claim(difference("b", "a")), claim(difference("c", "a"))),
    )
    (side,) = paper_claims.sides(run, Paper(arxiv="1", scale="s", tables=(table,)))
    rows = {row.point: row for row in side.rows}
    first = rows["a"].cells[0]
    ys = list(BLOCKS["a"].values())
    assert (first.paper, first.seeds) == (7.0, 3)
    assert (first.mean, first.sem) == pytest.approx((np.mean(ys), stats.sem(ys)))
    assert (rows["a"].cells[1].mean, rows["a"].cells[1].seeds) == (0.5, 1)
    assert math.isnan(rows["a"].cells[1].sem)
    assert [rows[p].cells[1].seeds for p in "bc"] == [0, 0]
    apart = [rows[p].cells[2] for p in "abc"]
    assert [cell.mean for cell in apart] == pytest.approx([-0.5, 0.0, 1.5])
    assert apart[0].sem == pytest.approx(stats.sem(np.subtract(REST["a"], REST["b"])))
    assert [rows[p].failed for p in "abc"] == [0, 0, 1]
    assert [finding.paper for finding in side.findings] == ["+1", ""]


def test_a_finding_reads_as_one_sentence() -> None:
    found = claim_verdicts.contrast(claim(difference("c", "a"), -1, paper=-0.5), BLOCKS)
    assert claim_verdicts.sentence(found) == (
        "t: paper -0.5; here +2 ± 0.1 loss over 3 seeds: opposite direction."
    )
