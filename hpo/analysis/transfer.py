"""From a proxy's weight decay to a large run's: what rules of the literature say.

With N parameters, D tokens, B tokens a step, peak rate lr and decoupled weight decay wd, AdamW's
weights average their updates over tau = B / (lr wd D) of the run (arXiv 2405.13698). The rules:

    carry_over         wd as it is
    tau_share          tau as it is:  wd = B / (lr tau D)                        (arXiv 2405.13698)
    power_lines        tau = 1.084 (D / N)^-0.527, the proxy's tau unread        (arXiv 2505.13738)
    power_lines_slope  tau = tau_proxy (TPP / TPP_proxy)^-0.527 with TPP = D / N; this project's:
                       the law's exponent from the trial's own tau, so that what was chosen for
                       another goal than the base loss is not thrown away

A schedule is carried over by shares of the run; that warmup goes by shares too is assumed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpo.core.trial import Run, Trial

PREFACTOR, EXPONENT = 1.084, -0.527
"""arXiv 2505.13738: tau_opt = 1.084 TPP^-0.527."""


FITTED = (111e6, 3.3e9)
"""Parameters of the models that law was fitted on."""


MOST_STEPS, LEAST_BATCH, MOST_WARMUP = 1e7, 1e4, 0.25
"""Steps, tokens a step and share of the warmup beyond which a large run is unusual; assumed. The
largest runs that are published take about 1e6 steps of 1e5 to 1e8 tokens."""


EXCLUSIVE = {"warmup_steps": "warmup_frac", "warmup_frac": "warmup_steps"}
"""Fields of a recipe of which a value for the first unsets the second."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A run's size."""

    params: float
    tokens: float
    batch: float
    """Tokens a step."""
    lr: float
    """Peak rate."""

    @property
    def steps(self) -> float:
        """Optimizer steps."""
        return self.tokens / self.batch

    @property
    def tokens_per_param(self) -> float:
        """D / N."""
        return self.tokens / self.params

    def decay(self, tau: float) -> float:
        """The decoupled weight decay with this timescale, a share of the run.

        Raises:
            ValueError: no float is as large.
        """
        return 0.0 if math.isinf(tau) else self._per_step(tau)

    def tau(self, decay: float) -> float:
        """The timescale of this weight decay, a share of the run; inf without decay.

        Raises:
            ValueError: no float is as large.
        """
        return math.inf if decay == 0 else self._per_step(decay)

    def _per_step(self, value: float) -> float:
        """B / (lr value D)."""
        product = self.lr * value * self.tokens
        found = self.batch / product if product > 0 else math.inf
        if not math.isfinite(found):
            raise ValueError(
                f"a peak rate of {self.lr:g} over {self.tokens:g} tokens gives no finite weight "
                "decay; check the rate and the tokens."
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A rate's course by shares of the run."""

    warmup_frac: float
    decay_frac: float
    """0 holds the rate to the end."""
    shape: str
    floor_ratio: float


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A trial as it was trained."""

    trial: Trial
    scale: Scale
    tau: float | None
    """Share of the run, inf without decay; None where the decay has no timescale."""
    decay: float | None
    """As torch's AdamW takes it; None where the decay is not decoupled."""
    schedule: Schedule
    notes: tuple[str, ...]
    """What else the large run would have to do as the proxy did."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What one rule says for one trial."""

    rule: str
    decay: float | None
    """As torch's AdamW takes it; None where the rule says nothing."""
    tau: float | None
    """Share of the run."""


@dataclass(frozen=True)
class Rule:
    """A rule and what it rests on."""

    tau: Callable[[Proxy, Scale], float | None]
    rests_on: str


def read_proxy(run: Run, trial: Trial) -> Proxy:
    """A trial's size, timescale and schedule from the record.

    Raises:
        ValueError: the record does not tell them.
    """
    found_recipe = recipe(run, trial)
    try:
        pre = found_recipe["pretrain"]
        schedule, decay = pre["schedule"], pre["weight_decay"]
        horizon = pre["steps"] + (pre["mid"]["steps"] if pre.get("mid") else 0)
        steps = max(1, round(horizon * trial.fidelity))
        batch, lr = float(pre["batch_size"] * pre["seq_len"]), float(pre["lr"])
        tokens = steps * batch
        scale = Scale(
            params=tokens / trial.metrics["tokens_per_param"], tokens=tokens, batch=batch, lr=lr
        )
        found = Schedule(
            warmup_frac=_warmup_frac(schedule, pre["steps"]),
            decay_frac=schedule["decay_frac"],
            shape=schedule["shape"],
            floor_ratio=schedule["floor_ratio"],
        )
        tau = _tau(decay, trial)
    except (KeyError, TypeError):
        raise ValueError(
            f"the record of run {run.name!r} does not tell trial {trial.number}'s tokens, "
            "parameters and decay, so nothing can be transferred from it."
        ) from None
    value = None if tau is None else scale.decay(tau)
    return Proxy(
        trial=trial, scale=scale, tau=tau, decay=value, schedule=found, notes=tuple(_notes(pre))
    )


def advise(proxy: Proxy, target: Scale) -> list[Advice]:
    """What each rule says for the large run."""
    found = []
    for name, rule in RULES.items():
        tau = rule.tau(proxy, target)
        decay = None if tau is None else target.decay(tau)
        found.append(Advice(rule=name, decay=decay, tau=tau))
    return found


def ratios(proxy: Scale, target: Scale) -> dict[str, tuple[float, float, float]]:
    """How far a rule has to reach: quantity -> the proxy's, the large run's, their ratio."""
    names = ("params", "tokens", "batch", "lr", "steps", "tokens_per_param")
    pairs = {name: (getattr(proxy, name), getattr(target, name)) for name in names}
    return {name: (one, other, other / one) for name, (one, other) in pairs.items()}


def warnings(proxy: Proxy, target: Scale) -> list[str]:
    """Where a rule is used outside of what it was found on, and where a size is unusual."""
    found = _unusual(proxy, target)
    low, high = FITTED
    for name, params in (("the large run", target.params), ("the proxy", proxy.scale.params)):
        if not low <= params <= high:
            used = "power_lines" if name == "the large run" else "power_lines_slope"
            found.append(
                f"{name} has {params:.3g} parameters, Power Lines was fitted on 1.11e8 to 3.3e9 "
                f"({used})"
            )
    schedule = proxy.schedule
    if (schedule.shape, schedule.decay_frac, schedule.floor_ratio) != ("linear", 1.0, 0.0):
        found.append("Power Lines was fitted under a linear decay to zero; this rate has another")
    if proxy.tau is None:
        found.append("this trial's decay has no timescale, so only Power Lines says something")
    return found


def _unusual(proxy: Proxy, target: Scale) -> list[str]:
    """Sizes that may have been given in another unit."""
    found = []
    if target.batch < LEAST_BATCH:
        found.append(
            f"{target.batch:.3g} tokens a step are few for a large run; is the batch given in "
            "sequences? Then add --seq-len"
        )
    if target.steps > MOST_STEPS:
        found.append(
            f"{target.steps:.3g} steps are many; check --tokens ({target.tokens:.3g}) and the "
            f"tokens a step ({target.batch:.3g})"
        )
    if proxy.schedule.warmup_frac > MOST_WARMUP:
        found.append(
            f"the proxy warmed up over {proxy.schedule.warmup_frac:.0%} of its short run; a large "
            "run needs a smaller share"
        )
    return found


def _tau_share(proxy: Proxy, target: Scale) -> float | None:
    return proxy.tau


def _carry_over(proxy: Proxy, target: Scale) -> float | None:
    return None if proxy.decay is None else target.tau(proxy.decay)


def _power_lines(proxy: Proxy, target: Scale) -> float | None:
    return float(PREFACTOR * target.tokens_per_param**EXPONENT)


def _power_lines_slope(proxy: Proxy, target: Scale) -> float | None:
    if proxy.tau is None:
        return None
    ratio = target.tokens_per_param / proxy.scale.tokens_per_param
    return float(proxy.tau * ratio**EXPONENT)


def recipe(run: Run, trial: Trial) -> dict[str, Any]:
    """The study's recipe with the trial's params set."""
    data = copy.deepcopy(run.reproduce.get("study", {}).get("objective", {}).get("recipe", {}))
    for path, value in trial.params.items():
        if path == "pretrain.weight_decay" and not isinstance(value, Mapping):
            path = "pretrain.weight_decay.value"
        *parents, last = path.split(".")
        node: Any = data
        for key in parents:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node[last] = value
            if value is not None and last in EXCLUSIVE:
                node[EXCLUSIVE[last]] = None
    return data if isinstance(data, dict) else {}


def _warmup_frac(schedule: Mapping[str, Any], steps: int) -> float:
    """Share of the run; records from before there were shares have steps only."""
    frac, given = schedule.get("warmup_frac"), schedule["warmup_steps"]
    return float(frac) if frac is not None else (given or 0) / steps


def _tau(decay: Mapping[str, Any], trial: Trial) -> float | None:
    if "tau_frac" in trial.metrics:
        return trial.metrics["tau_frac"]
    timed = decay["coupling"] != "l2" and decay["policy"] not in ("awd", "stable")
    return math.inf if timed and decay["value"] == 0 else None


def _notes(pre: Mapping[str, Any]) -> list[str]:
    decay, found = pre["weight_decay"], []
    if decay["coupling"] == "independent":
        found.append("decay independent of the rate: its own value is lr times what is here")
    if decay["coupling"] == "l2":
        found.append("decay in the gradient (Adam with L2): no rule is about it")
    if decay["policy"] != "uniform":
        found.append(f"policy {decay['policy']}: what is here is its base value (assumed)")
    if decay["course"] != "constant":
        found.append(f"course {decay['course']}: what is here is where it is at 1 (assumed)")
    if decay["decayed"] != "all" or set(decay["multipliers"].values()) != {1.0}:
        found.append(f"decayed: {decay['decayed']}, with the recipe's multipliers by role")
    if pre["optimizer"] != "adamw":
        found.append(f"trained by {pre['optimizer']}: the rules are AdamW's")
    if pre.get("mid"):
        found.append("a second phase follows; its share of the run goes over as it is (assumed)")
    if any(each is not None for each in pre.get("effective_lr_of", {}).values()):
        found.append("the rate followed lr / |w| of a run with another decay, not the schedule")
    if pre["schedule"]["decay"] == "merged":
        found.append("the decay was merged of checkpoints, not trained")
    return found


RULES: dict[str, Rule] = {
    "tau_share": Rule(
        _tau_share,
        "arXiv 2405.13698: the best timescale is about the same share of the run at every scale; "
        "with widths it was seen under muP (lr falls as 1 / width)",
    ),
    "power_lines": Rule(
        _power_lines,
        "arXiv 2505.13738: tau = 1.084 TPP^-0.527, fitted for the pretraining loss and not for "
        "plasticity, on SlimPajama under muP; the trial's own decay does not enter",
    ),
    "power_lines_slope": Rule(
        _power_lines_slope,
        "this project's: the exponent of arXiv 2505.13738 from the trial's own timescale; that a "
        "timescale chosen for plasticity moves like the best one for the loss is assumed",
    ),
    "carry_over": Rule(
        _carry_over,
        "no rule: the value as it is, whose timescale then follows rate, batch and tokens",
    ),
}
