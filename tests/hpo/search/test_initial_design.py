"""Where a search starts, what stops it, and what it measures again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.controller import Controller
from hpo.core import domains
from hpo.core.domains import Choice, Float, Int
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP
from hpo.core.history import History
from hpo.core.spec import Prior, WarmStartTrial
from hpo.core.trial import Answer, Ask, Run, Trial
from hpo.front.losses import losses
from hpo.numerics import pareto
from hpo.search import initial_design, stopping, strategy, unit_cube
from hpo.search.stopping import StopReason
from hpo.search.unit_cube import Coordinates
from hpo.storage.provenance import StudyChanged
from hpo.storage.record import url_of
from tests.hpo.search.test_successive_halving import study as with_rungs
from tests.hpo.toy_objective import FULL_SPACE, spec

DECAY, RATE = "pretrain.weight_decay", "pretrain.lr"


def test_every_other_start_point_is_drawn_from_the_prior() -> None:
    study = spec(priors={DECAY: Prior(centre=0.3, width=0.1)}, trials=30)
    drawn = [initial_design.start_point(study, place) for place in range(40)]
    sobol = [unit_cube.sobol_point(study.space, study.seed, place) for place in range(40)]
    assert drawn[1::2] == sobol[1::2]
    assert [point[RATE] for point in drawn] == [point[RATE] for point in sobol]
    logs = [math.log10(float(point[DECAY])) for point in drawn[::2]]  # type: ignore[arg-type]
    assert np.mean(logs) == pytest.approx(math.log10(0.3), abs=0.03)
    assert np.std(logs) == pytest.approx(0.1, rel=0.25)


@pytest.mark.parametrize(
    ("domain", "prior"),
    [
        (Float(low=0.0, high=1.0), Prior(centre=1.0, width=0.2)),
        (Float(low=1e-3, high=1.0, log=True), Prior(centre=1e-3, width=0.5)),
        (Int(low=1, high=9), Prior(centre=4, width=2)),
        (Choice(options=("a", "b", "c")), Prior(centre="b", width=0.3)),
        (Choice(options=("a",)), Prior(centre="a", width=0.3)),
    ],
)
def test_what_a_prior_draws_is_in_the_domain(domain: Any, prior: Prior) -> None:
    units = np.linspace(0, 1, 101)[:-1]
    values = [domain.at(initial_design.drawn(domain, prior, float(unit))) for unit in units]
    assert domains.inside({"x": domain}, {"x": values[0]})
    assert all(domains.inside({"x": domain}, {"x": value}) for value in values)
    if isinstance(domain, Choice) and len(domain.options) > 1:
        assert values.count("b") == 70


def test_the_density_is_one_at_the_centre_and_never_nothing() -> None:
    study = spec(
        space=FULL_SPACE,
        priors={
            RATE: Prior(centre=0.01, width=0.2),
            "pretrain.shape": Prior(centre="linear", width=0.25),
        },
    )
    coordinates = Coordinates(study.space)
    values = {DECAY: 0.1, RATE: 0.01, "model.layers": 2, "pretrain.shape": "linear"}
    points = [values, values | {"pretrain.shape": "cosine"}, values | {RATE: 0.1}]
    found = initial_design.density(study, coordinates)(
        np.stack([coordinates.of(p) for p in points])
    )
    np.testing.assert_allclose(found, [1.0, 1 / 3, initial_design.LEAST_DENSITY])


@pytest.mark.parametrize(
    "bad",
    [
        {"absent": Prior(centre=1, width=1)},
        {RATE: Prior(centre=5.0, width=1.0)},
        {"pretrain.shape": Prior(centre="cosine", width=1.0)},
    ],
)
def test_a_prior_needs_its_parameter(bad: dict[str, Prior]) -> None:
    with pytest.raises(ValueError, match="the prior of"):
        spec(space=FULL_SPACE, priors=bad)


def volume(run: Run) -> float:
    return pareto.hypervolume(losses(run.trials, run.goals), (4.0, 0.0))


def test_a_bad_prior_costs_little_and_a_good_one_does_not_harm() -> None:
    """The best rate is 0.01; a prior at 0.1, far from it, is overruled by the results."""
    plain = volume(Controller(spec(trials=26), "sqlite://").run())
    for rate in (0.1, 0.01):
        prior = {RATE: Prior(centre=rate, width=0.1)}
        assert volume(Controller(spec(trials=26, priors=prior), "sqlite://").run()) > 0.95 * plain


def earlier(shift: float = 0.0) -> tuple[WarmStartTrial, ...]:
    run = Controller(spec(trials=20, seed=5), "sqlite://").run()
    return tuple(
        WarmStartTrial(
            params=trial.params,
            metrics={name: 2 * value + shift for name, value in trial.metrics.items()},
        )
        for trial in run.trials
    )


def test_a_warm_start_begins_with_the_earlier_front_and_learns_from_it() -> None:
    """The earlier study's losses are twice as large and shifted, as another model's would be."""
    warm = earlier(shift=3.0)
    study = spec(trials=30, warm=warm, baselines=())
    first = [initial_design.start_point(study, place) for place in range(4)]
    known = [each.params for each in warm]
    assert sum(point in known for point in first) == initial_design.start_up(study) // 2
    cold = spec(trials=30, baselines=())
    run = Controller(cold, "sqlite://").run()
    assert strategy.propose(study, 6, run.trials[:6]) != strategy.propose(cold, 6, run.trials[:6])


def test_a_warm_start_stays_what_it_was_when_the_study_began(tmp_path: Path) -> None:
    warm = earlier()
    Controller(spec(trials=6, warm=warm), url_of(tmp_path)).run()
    again = Controller(spec(trials=9), url_of(tmp_path))
    assert again.spec.warm == warm
    whole = Controller(spec(trials=9, warm=warm), "sqlite://").run()
    assert again.run().trials == whole.trials


def test_other_rungs_or_priors_are_another_study(tmp_path: Path) -> None:
    Controller(spec(), url_of(tmp_path))
    with pytest.raises(StudyChanged, match="rungs"):
        Controller(spec(rungs=(0.5, 1.0)), url_of(tmp_path))
    with pytest.raises(StudyChanged, match="priors"):
        Controller(spec(priors={RATE: Prior(centre=0.01, width=1.0)}), url_of(tmp_path))


def full(values: Sequence[tuple[float, float]], error: float = 0.0) -> History:
    """Complete trials with these goals, in order."""
    return History(
        [
            Trial(
                number=number,
                params={DECAY: 0.1, RATE: 0.01},
                seed=0,
                asks=(Ask(number, 0, 1.0, number),),
                answers=(
                    Answer(
                        1.0,
                        number,
                        {"base_loss": base, "gain": gain, "gain_sem": error},
                        {"flops": 1.0},
                    ),
                ),
                state="complete",
            )
            for number, (base, gain) in enumerate(values)
        ]
    )


@pytest.mark.parametrize(
    ("late", "error", "over"),
    [
        ([(3.6, 0.1), (3.7, 0.2)], 0.0, True),
        ([(3.6, 0.1), (3.1, 0.5)], 0.0, False),
        ([(3.6, 0.1), (3.2, 0.42)], 0.05, True),
        ([(3.6, 0.1), (3.2, 0.42)], 0.0, False),
    ],
)
def test_a_study_stalls_when_nothing_is_gained_beyond_the_noise(
    late: list[tuple[float, float]], error: float, over: bool
) -> None:
    known = full([(3.5, 0.2), (3.2, 0.4), (3.9, 0.0), *late], error)
    study = spec(goals=(BASE_LOSS_DOWN, GAIN_UP), patience=2)
    assert stopping.stalled(study, known.trials, 2) is over
    assert (stopping.reason(study, known) is not None) is over
    assert not stopping.stalled(study, known.trials, 5)


def test_operations_are_a_limit() -> None:
    known = full([(3.5, 0.2), (3.2, 0.4)])
    assert stopping.reason(spec(max_flops=2.5), known) is None
    found = stopping.reason(spec(max_flops=2.0), known)
    assert found == StopReason("The 2 training FLOPs are used up", "max_flops")


def test_no_wave_starts_when_the_time_is_up() -> None:
    controller = Controller(spec(), "sqlite://", wall_s=1e-9)
    assert controller.run().trials == []
    assert controller.stop_reason == StopReason("The time is up", "wall")


def test_a_share_of_the_trials_repeats_what_is_asked_for(tmp_path: Path) -> None:
    def second(run: Run) -> int | None:
        done = [trial.number for trial in run.trials if trial.state == "complete"]
        return 1 if 1 in done else None

    study = spec(trials=16, replicate_share=0.25)
    run = Controller(study, url_of(tmp_path), next_replicate=second).run()
    repeated = [trial for trial in run.trials if trial.replicate_of is not None]
    assert [trial.replicate_of for trial in repeated] == [1] * 4
    assert [trial.seed for trial in repeated] == [1, 2, 3, 4]
    assert all(trial.params == run.trials[1].params for trial in repeated)
    assert len(run.trials) == 16
    again = Controller(study, "sqlite://", next_replicate=second).run()
    assert again.trials == run.trials


def test_the_front_is_confirmed_at_fresh_seeds_at_the_end() -> None:
    run = Controller(with_rungs(confirm=2, trials=10), "sqlite://").run()
    fresh = [trial for trial in run.trials if trial.confirms]
    assert [trial.number for trial in fresh] == list(range(10, len(run.trials)))
    numbers = {trial.replicate_of for trial in fresh}
    assert numbers == set(strategy.reported(with_rungs(), run.trials[:10]))
    for number in numbers:
        seeds = [trial.seed for trial in fresh if trial.replicate_of == number]
        assert seeds == [1, 2]
    assert {trial.fidelity for trial in fresh} == {1.0}
