"""What a question costs: pretraining that is not there yet, and fine-tuning, alike at all rungs.

With s the fidelity and from nothing:

    cost = p s + f [fine-tuned],  p, f >= 0

where f is all that comes after pretraining. In seconds where the study is priced so, in tokens
otherwise, which are the same in every run:

1. Objectives say how many tokens each stage trains on, whoever did it, and how many seconds their
   own part took. A stage costs its tokens times the seconds a token. What was found in the store
   is in neither seconds nor the tokens that these are divided by, so it does not look cheap.
2. As long as no stage was timed, in tokens.
3. Where only the tokens of all stages together are known, p and f are fitted to them. As long as
   all answers are of one fidelity and alike in fine-tuning they cannot be distinguished: all then
   counts as pretraining, and no base is asked for alone.
4. An objective that says nothing of tokens costs its fidelity.

A low rung saves pretraining only; where fine-tuning is expensive, a trial is better asked for its
base alone until it is known to be worth more.

A question at a rung takes away a share of what is unknown of the trial in full: of each goal some
standard deviation at full fidelity, added up in shares of what is between the goal's best and the
reference point. With the probability c that the trial improves the front, and `rest` from the rung
to the end, it is expected to cost

    now + (1 - share (1 - c)) rest

so a rung that says nothing saves nothing, and one that says all saves the rest of every trial that
is not worth it. A base alone has its share from the early goals only, and costs f less. The way to
the end at once has no rest.

A whole question at a rung r is half a trial or more where r p + f > (p + f) / 2: then none has to
be asked there, and start-up points are measured in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import nnls

from hpo.core.objective import Objective, Request
from hpo.core.trial import Answer, Ask, Trial

Currency: TypeAlias = Literal["seconds", "tokens"]


LEAST_TOKENS = 1e-100
"""Below this a count of tokens is none: a worth divided by it would not fit a float."""


@dataclass(frozen=True)
class CostModel:
    """Of a whole trial, in any unit."""

    pretraining: float = 1.0
    finetuning: float = 0.0
    separate: bool = True
    """Whether the answers tell the two apart; else all is pretraining."""
    by_stage: bool = False
    """Whether they were counted apart, not fitted."""

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

    def pays(self, fidelity: float) -> bool:
        """Whether a whole question there costs no more than half a trial."""
        return self.pretraining * fidelity + self.finetuning <= self.whole / 2

    def begun(self, fidelity: float, *, reused: float = 0.0) -> float:
        """Pretraining up to a fidelity where a share of it is there."""
        return self.pretraining * fidelity * (1 - reused)


def learnt(trials: Iterable[Trial], currency: Currency = "tokens") -> CostModel:
    """Prices by the results so far; what failed may have ended before its fine-tuning."""
    answers = [answer for trial in trials for answer in trial.results]
    by_stage = _by_stage(answers, currency)
    if by_stage is not None:
        return by_stage
    rows = [
        (answer.fidelity, 0.0 if answer.base_only else 1.0, tokens)
        for answer in answers
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


def _by_stage(answers: Sequence[Answer], currency: Currency) -> CostModel | None:
    """Prices where stages are counted apart; None as long as no fine-tuning is among them."""
    stages = [
        _Stages.of(answer)
        for answer in answers
        if not answer.cost.keys().isdisjoint(("pretrain_tokens", "pretrain_tokens_reused"))
    ]
    pretraining = [each.pretrain for each in stages if each.pretrain > LEAST_TOKENS]
    finetuning = [each.finetune for each in stages if each.tuned]
    if not pretraining or not finetuning:
        return None
    prices = CostModel(float(np.mean(pretraining)), float(np.mean(finetuning)), by_stage=True)
    if currency == "tokens":
        return prices
    pretrain_s = _per_token([(each.pretrain_s, each.pretrain_now) for each in stages])
    finetune_s = _per_token([(each.finetune_s, each.finetune_now) for each in stages if each.tuned])
    if pretrain_s is None or finetune_s is None:
        return prices
    return CostModel(prices.pretraining * pretrain_s, prices.finetuning * finetune_s, by_stage=True)


@dataclass(frozen=True)
class _Stages:
    """An answer's cost by stage."""

    tuned: bool
    pretrain: float
    """Tokens of a trial in full, whoever trained on them."""
    finetune: float
    pretrain_now: float
    """Tokens that were trained on for this answer."""
    finetune_now: float
    pretrain_s: float
    finetune_s: float

    @staticmethod
    def of(answer: Answer) -> _Stages:
        cost = answer.cost
        now = float(cost.get("pretrain_tokens", 0.0))
        pretrain = now + cost.get("pretrain_tokens_reused", 0.0)
        return _Stages(
            not answer.base_only,
            pretrain / answer.fidelity,
            max(_tokens(cost) - pretrain, 0.0),
            now,
            max(cost.get("tokens", 0.0) - now, 0.0),
            float(cost.get("pretrain_s", 0.0)),
            float(cost.get("finetune_s", 0.0)),
        )


def _per_token(measured: Iterable[tuple[float, float]]) -> float | None:
    """Seconds a token over all (seconds, tokens) that took any; None where nothing did."""
    known = [(seconds, tokens) for seconds, tokens in measured if min(seconds, tokens) > 0]
    if not known:
        return None
    return sum(seconds for seconds, _ in known) / sum(tokens for _, tokens in known)


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

    def expected(self, chance: float, shown: float, *, base_only: bool) -> float:
        """Expected cost to the end of a question that shows this share of what is unknown."""
        asked = self.now + (0.0 if base_only else self.finetuning)
        return asked + (1 - shown * (1 - chance)) * self.rest


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
