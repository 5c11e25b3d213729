"""What a run found: computed once, and handed to everything that shows it.

Terminal, JSON, report, notebook, model card and figures all read one `Results`, so that they agree
and the model of the seed noise is fitted once. Each part is computed when it is first asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hpo.analysis import (
    best_values,
    headline,
    importance,
    interactions,
    paper_claims,
    parallel_coordinates,
    planned_contrasts,
    pretraining_worth,
    probes,
    rank_agreement,
    slices,
)
from hpo.analysis import training_tree as trees
from hpo.analysis import verification as verifying
from hpo.analysis.best_values import BestValues
from hpo.analysis.headline import Line
from hpo.analysis.importance import Importance
from hpo.analysis.interactions import Interaction
from hpo.analysis.paper_claims import Side
from hpo.analysis.parallel_coordinates import Parallel
from hpo.analysis.planned_contrasts import ContrastFinding
from hpo.analysis.pretraining_worth import TaskWorth
from hpo.analysis.probes import Association
from hpo.analysis.rank_agreement import Disagreement
from hpo.analysis.slices import Slice
from hpo.analysis.training_tree import TrainingTree
from hpo.analysis.verification import Verification
from hpo.core import metrics
from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from hpo.core.verification_plan import VerificationPlan
from hpo.front import differences
from hpo.front.differences import Difference
from hpo.front.errors import Estimate
from hpo.front.front import Comparison, Front, compare, counted, counted_points, front, setting
from hpo.front.losses import losses
from hpo.front.replicates import Setting
from hpo.front.significance import Leads

STANDARD = "standard recipe"
"""The role in the headline of the first baseline that counts."""


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """A run's record and everything that follows from it."""

    run: Run
    verified: tuple[tuple[VerificationPlan, Run], ...] = ()
    """What `hpo verify` has measured of it, a size each."""

    def __repr__(self) -> str:
        """One line."""
        return f"Results({self.run!r})"

    @cached_property
    def front(self) -> Front:
        """The best settings, given the noise."""
        return front(self.run)

    @cached_property
    def counted(self) -> tuple[Trial, ...]:
        """The settings that compete for the front, each the mean over its seeds, by number."""
        return tuple(counted(self.run))

    @cached_property
    def settings(self) -> dict[int, Setting]:
        """Number of each of them -> the setting with all its seeds."""
        return {point.trial.number: point for point in counted_points(self.run)}

    def lead(self, one: Trial, other: Trial, metric: str) -> Estimate:
        """By how much one of them is ahead of another, with its error and significance."""
        return self._leads.between(one, other, metric)

    @cached_property
    def _leads(self) -> Leads:
        return Leads([*self.settings.values()], len(self.run.goals))

    @cached_property
    def params(self) -> dict[str, str]:
        """Path -> short name of each parameter that is searched or set."""
        return metrics.param_names(self.run, self.run.trials)

    @cached_property
    def comparisons(self) -> tuple[Comparison | None, ...]:
        """By each goal, the best against the best baseline; None while no baseline counts."""
        return tuple(compare(self.run, goal) for goal in self.run.goals)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Between every two settings of the front, in every goal."""
        return differences.differences(self.front, self._leads)

    @cached_property
    def from_baselines(self) -> tuple[Difference, ...]:
        """The best by each goal against the best baseline by it, as expected."""
        return differences.from_baselines(self.front, self._leads)

    @cached_property
    def headline(self) -> tuple[Line, ...]:
        """The standard recipe, the best by each goal, and the knee."""
        return headline.headline(self.run, self.front)

    @cached_property
    def standard(self) -> Line | None:
        """The standard recipe; None while no baseline counts."""
        return next((line for line in self.headline if STANDARD in line.roles), None)

    @cached_property
    def choice(self) -> Line | None:
        """The recipe to use: of the front, the knee, else the most probable, else by the last goal.

        None while the front is empty.
        """
        if not self.front.trials:
            return None
        share = self.front.membership
        last = self.run.goals[-1]

        def rank(trial: Trial) -> tuple[bool, float, float]:
            known = share.get(trial.number, math.nan)
            value = last.sign * trial.metrics[last.metric]
            return (not self.is_knee(trial), 0.0 if math.isnan(known) else -known, value)

        trial = min(self.front.trials, key=rank)
        named = (line for line in self.headline if line.trial.number == trial.number)
        return next(named, Line(trial=trial, roles=("front",), differences=self._change(trial)))

    @cached_property
    def best_baselines(self) -> tuple[Line, ...]:
        """The best baseline by each goal, the last goal's first; none while no baseline counts."""
        found = (each for each in reversed(self.comparisons) if each is not None)
        return tuple(
            Line(
                trial=each.baseline,
                roles=(f"baseline with the best {each.goal.metric}",),
                differences={} if self._is_standard(each.baseline) else self._change(each.baseline),
            )
            for each in found
        )

    def _is_standard(self, trial: Trial) -> bool:
        return self.standard is not None and self.standard.trial.number == trial.number

    def _change(self, trial: Trial) -> dict[str, Estimate]:
        """Goal -> the trial's difference from the standard recipe."""
        if self.standard is None:
            return {}
        other = self.standard.trial
        return {goal.metric: self.lead(trial, other, goal.metric) for goal in self.run.goals}

    @cached_property
    def paper_sides(self) -> tuple[Side, ...]:
        """Each table of the paper beside what this run measured; none without a paper."""
        return () if self.run.paper is None else paper_claims.sides(self.run, self.run.paper)

    @cached_property
    def planned_contrasts(self) -> tuple[ContrastFinding, ...]:
        """What was measured of each contrast that the study planned; none where it planned none."""
        planned = self.run.contrasts
        return () if planned is None else planned_contrasts.findings(self.run, planned)

    @cached_property
    def verifications(self) -> tuple[Verification, ...]:
        """What larger models say of the run, the smallest first; of recipes that still count."""
        means = {number: point.trial for number, point in self.settings.items()}
        on_front = [trial.number for trial in self.front.trials]
        return tuple(
            verifying.verify(means, on_front, target, plan)
            for plan, target in self.verified
            if set(plan.recipes) <= set(means)
        )

    @cached_property
    def rank_agreement(self) -> Disagreement:
        """How far the orders by gain and by the fine-tuned score agree."""
        return rank_agreement.disagreements(self.run)

    @cached_property
    def pretraining_worth(self) -> tuple[TaskWorth, ...]:
        """What pretraining is worth on each task; none where no control was measured."""
        return pretraining_worth.pretraining_worth([*self.settings.values()])

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """Every varied parameter against every goal."""
        found = (
            slices.slice_data(self.run, path, goal.metric)
            for path in slices.varied(self.run)
            for goal in self.run.goals
        )
        every = itertools.chain(found, slices.timescale_slices(self.run))
        return tuple(each for each in every if each.trials)

    @cached_property
    def best_values(self) -> tuple[BestValues, ...]:
        """Where along each parameter every goal is best; none without a second seed."""
        return best_values.best_values(self.run, [*self.settings.values()])

    @cached_property
    def interactions(self) -> tuple[Interaction, ...]:
        """Each goal over weight decay and learning rate together."""
        return interactions.interactions(self.run)

    @cached_property
    def parallel(self) -> Parallel:
        """Every trial over all parameters and scores."""
        return parallel_coordinates.parallel_data(self.run)

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """How much each parameter decides, by goal."""
        return importance.importances(self.run)

    @cached_property
    def associations(self) -> tuple[tuple[Association, ...], ...]:
        """How probes' measures agree with weight decay and the goals; none without probes."""
        return probes.associations(self.run)

    @cached_property
    def mechanism(self) -> tuple[Slice, ...]:
        """The main measures of probes over weight decay, and the goals over them."""
        return probes.mechanism_slices(self.run)

    @cached_property
    def tree(self) -> TrainingTree:
        """The training that trials share."""
        return trees.tree(self.run)

    def best(self, goal: Goal) -> Trial | None:
        """The best setting by one goal as observed; None while none counts."""
        if not self.counted:
            return None
        return self.counted[int(losses(self.counted, [goal])[:, 0].argmin())]

    def setting(self, trial: Trial) -> Setting:
        """The setting that a trial measures, with all its seeds."""
        return setting(self.run, trial)

    def is_knee(self, trial: Trial) -> bool:
        """Whether the front's knee is at this trial."""
        return self.front.knee is not None and trial.number == self.front.knee.number

    def recorded(self, trials: Sequence[Trial]) -> list[Trial]:
        """The same trials as recorded, where the front shows means over their seeds."""
        by_number = {trial.number: trial for trial in self.run.trials}
        return [by_number[trial.number] for trial in trials]
