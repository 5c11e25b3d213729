"""What a question costs: pretraining that is not there yet, and fine-tuning, alike at all rungs.

In tokens, which are the same on every machine, with s the fidelity and from nothing:

    tokens = p s + f [fine-tuned],  p, f >= 0

fitted from the answers. An objective that says nothing of tokens costs its fidelity. So a low rung
saves pretraining only; where fine-tuning is expensive, a trial is better asked for its base alone
until it is known to be worth more. As long as all answers are of one fidelity and alike in
fine-tuning, p and f cannot be distinguished: all then counts as pretraining, and no base is asked
for alone.

A step to a rung is taken to show whether the trial improves the front, so with the probability c
that it does it is expected to cost now + c rest, where rest leads from there to the end. A base
alone shows a share r of that: now + (1 - r (1 - c)) rest. Of a rung's results each goal takes away
some standard deviation at full fidelity, in shares of what is between the goal's best and the
reference point; r is the early goals' part of the sum. Fine-tuning at a rung pays if

    f <= (1 - r) (1 - c) rest
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hpo.core.objective import Objective, Request
from hpo.core.trial import Ask, Trial

LEAST_TOKENS = 1e-100
"""Below this a count of tokens is none: a worth divided by it would not fit a float."""


@dataclass(frozen=True)
class CostModel:
    """Of a whole trial, in any unit."""

    pretraining: float = 1.0
    finetuning: float = 0.0
    separate: bool = True
    """Whether the answers tell the two apart; else all is pretraining."""

    @property
    def whole(self) -> float:
        """Of a trial in full, from nothing."""
        return self.pretraining + self.finetuning

    def asked(self, asks: Sequence[Ask]) -> float:
        """Of all that was asked of a trial, each rung going on from the one before."""
        if not asks:
            return 0.0
        tuned = sum(not ask.base_only for ask in asks)
        return self.pretraining * asks[-1].fidelity + self.finetuning * tuned

    def begun(self, fidelity: float, *, reused: float = 0.0) -> float:
        """Pretraining up to a fidelity where a share of it is there."""
        return self.pretraining * fidelity * (1 - reused)


def learnt(trials: Iterable[Trial]) -> CostModel:
    """Prices by the results so far; what failed may have ended before its fine-tuning."""
    rows = [
        (answer.fidelity, 0.0 if answer.base_only else 1.0, tokens)
        for trial in trials
        for answer in trial.results
        if (tokens := _tokens(answer.cost)) > LEAST_TOKENS
    ]
    if not rows:
        return CostModel()
    X_N2, y_N = np.array(rows)[:, :2], np.array(rows)[:, 2]
    if np.linalg.matrix_rank(X_N2) < 2:
        return CostModel(float(np.mean(y_N / X_N2[:, 0])), 0.0, separate=False)
    scale = float(y_N.max())
    found, _ = nnls(X_N2, y_N / scale)
    pretraining, finetuning = (scale * float(each) for each in found)
    return CostModel(pretraining, finetuning) if pretraining > 0 else CostModel(scale, 0.0)


def _tokens(cost: Mapping[str, float]) -> float:
    """All that a result takes from nothing, whatever was there."""
    return float(cost.get("tokens", 0.0) + cost.get("tokens_reused", 0.0))


@dataclass(frozen=True)
class StepCost:
    """A way to go on with a point."""

    request: Request
    now: float
    """What its pretraining costs."""
    finetuning: float
    rest: float
    """From there to the end."""

    def whole(self, chance: float) -> float:
        """Expected cost to the end of the step with fine-tuning."""
        return self.now + self.finetuning + chance * self.rest

    def base_only(self, chance: float, shown: float) -> float:
        """Without it, where the base shows this share of what the rung does."""
        return self.now + (1 - shown * (1 - chance)) * self.rest


def step_cost(
    objective: Objective, prices: CostModel, asked: Request, before: Request | None
) -> StepCost:
    """To measure `asked`, all of it, where `before` is the one that it can go on from."""
    whole = Request(params=asked["params"], fidelity=1.0, seed=asked["seed"])
    have = 0.0 if before is None else objective.reused(asked, before)
    kept = objective.reused(whole, asked)
    if before is not None:
        kept = max(kept, objective.reused(whole, before))
    at_end = asked["fidelity"] == 1
    return StepCost(
        asked,
        prices.begun(asked["fidelity"], reused=have),
        prices.finetuning,
        0.0 if at_end else prices.begun(1.0, reused=kept) + prices.finetuning,
    )
