"""The model card says of a setting what the front says of it."""

from __future__ import annotations

import dataclasses

import pytest

from hpo.core import metrics
from hpo.front.front import front, setting
from hpo.report import model_card
from hpo.report.results import Results
from tests.hpo import toy
from tests.hpo.toy_objective import ToyExported, ToyResult

SEEDS = (0.0, 0.06, -0.03)


RUN = toy.run(
    [
        toy.trial(
            4 * seed + point, 3.4 + 0.1 * point + shift, 0.2 + 0.05 * point + shift, seed=seed,
            params={"pretrain.weight_decay": 0.1 * (point + 1)},
            baseline="standard" if point == 0 else None,
            replicate_of=point if seed and point else None,
        )
        for seed, shift in enumerate(SEEDS) for point in range(4)
    ]
)  # fmt: skip


EXPORTED = ToyExported({"base/config.json": "the model"}, ToyResult(), {})


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.parametrize("number", [2, 6])
def test_the_card_shows_the_means_and_errors_of_the_front_and_how_many_seeds(number: int) -> None:
    """Also where the weights are those of a further seed."""
    text = model_card.card(Results(RUN), RUN.trials[number], EXPORTED).replace("\\", "")
    points = {point.number: point for point in front(RUN).points}
    for metric in ("gain", "finetuned"):
        expected = [metrics.measured(points[each], metric) for each in (2, 0)]
        assert row(text, metric) == expected
    assert row(text, "pretraining seeds") == ["3", "3"]
    own = metrics.measured(RUN.trials[number], "gain")
    assert f"these weights: pretraining seed {number // 4}," in text
    assert own in text
    assert own != metrics.measured(points[2], "gain")
    assert "(n = 3)" in text
    assert "one pretraining seed: the spread" not in text


def test_a_trial_that_is_no_full_measurement_represents_itself() -> None:
    partly = RUN.trials[3].with_answer(fidelity=0.5)
    run = dataclasses.replace(RUN, trials=[*RUN.trials[:3], partly, *RUN.trials[4:]])
    found = setting(run, partly)
    assert (found.trial, found.seeds) == (partly, (partly,))


@pytest.mark.parametrize("kind", ["adapters", "finetuned"])
def test_the_card_says_how_adapters_are_loaded_where_the_folder_has_moved(kind: str) -> None:
    exported = ToyExported({"base": "the model", f"{kind}/x-0": "fine-tuned"}, ToyResult(), {})
    text = model_card.card(Results(RUN), RUN.trials[2], exported)
    wanted = 'PeftModel.from_pretrained(base, "adapters/x-0")'
    assert (wanted in text) == (kind == "adapters")
