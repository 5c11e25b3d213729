"""The training tree read from losses, by equality."""

from __future__ import annotations

from hpo.analysis.training_tree import Stretch, tree
from hpo.core.trial import Run
from hpo.report.plots.draw_parameters import draw_tree
from tests.hpo import toy


def run_of(*losses: str, seeds: str = "") -> Run:
    """A trial a word, a recorded loss a letter, every ten steps."""
    trials = [
        toy.trial(
            number,
            3.5,
            0.2,
            seed=int(seeds[number]) if seeds else 0,
            curves={"train_loss": [[10 * (at + 1), ord(each)] for at, each in enumerate(word)]},
        )
        for number, word in enumerate(losses)
    ]
    return toy.run(trials)


def test_trials_share_a_line_until_their_losses_differ() -> None:
    found = tree(run_of("aabb", "aacc", "aacd", "zzzz"))
    assert found.stretches == (
        Stretch(start=0, end=20, trials=(0, 1, 2), row=0.75, parent=None),
        Stretch(start=20, end=40, trials=(0,), row=0, parent=0.75),
        Stretch(start=20, end=30, trials=(1, 2), row=1.5, parent=0.75),
        Stretch(start=30, end=40, trials=(1,), row=1, parent=1.5),
        Stretch(start=30, end=40, trials=(2,), row=2, parent=1.5),
    )
    assert (found.rows, found.alone) == ((0, 1, 2), 1)


def test_a_trial_that_ends_earlier_ends_on_the_line_of_the_longer_one() -> None:
    found = tree(run_of("aa", "aab"))
    assert [(each.start, each.end, each.trials) for each in found.stretches] == [
        (0, 20, (0, 1)),
        (20, 20, (0,)),
        (20, 30, (1,)),
    ]


def test_whole_runs_may_be_shared_and_seeds_share_nothing() -> None:
    same = tree(run_of("ab", "ab"))
    assert [each.trials for each in same.stretches] == [(0, 1)]
    assert (same.stretches[0].row, same.rows) == (0.5, (0, 1))
    apart = tree(run_of("ab", "ab", seeds="01"))
    assert (apart.stretches, apart.alone) == ((), 2)
    assert tree(toy.run([])).rows == ()


def test_a_drawn_line_bends_from_its_trunk_and_tips_carry_trials() -> None:
    drawn = draw_tree(tree(run_of("aab", "aac")))
    assert [list(trace.y) for trace in drawn.data] == [[0.5, 0.5], [0.5, 0, 0], [0.5, 1, 1], [0, 1]]
    assert list(drawn.data[1].x) == [20, 20, 30]
    assert drawn.data[0].line.width > drawn.data[1].line.width
    assert list(drawn.data[-1].customdata) == [0, 1]


def test_branches_may_be_nested_as_deep_as_a_curve_has_points() -> None:
    """Each trial leaves the common line one step after the one before."""
    depth = 600
    trials = [
        toy.trial(n, 3.5, 0.2, curves={"train_loss": [*([at, 1.0] for at in range(n)), [n, 2.0]]})
        for n in range(1, depth + 1)
    ]
    found = tree(toy.run(trials))
    assert found.rows == tuple(trial.number for trial in trials)
    shared = [each for each in found.stretches if len(each.trials) > 1]
    assert [len(each.trials) for each in shared] == list(range(depth, 1, -1))
    heights = {each.row for each in found.stretches}
    assert all(each.parent in heights for each in found.stretches[1:])
    assert len(draw_tree(found).data) == len(found.stretches) + 1
