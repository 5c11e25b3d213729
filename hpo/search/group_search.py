"""The search among the trials of one group: those that were measured under the same conditions."""

from __future__ import annotations

from collections.abc import Callable

from hpo.core.conditions import GroupView, group_spec
from hpo.core.history import Decision, History
from hpo.core.spec import StudySpec
from hpo.core.trial import Run
from hpo.search.strategy import Searcher


class GroupSearch:
    """Decides for one group as if it were a study of its own; other trials only use up trials."""

    def __init__(
        self,
        spec: StudySpec,
        history: History,
        group: int,
        next_replicate: Callable[[Run], int | None],
    ) -> None:
        """`history`: of all groups, as it is when the search begins.

        Raises:
            ValueError: the sampler needs a package that is not installed.
        """
        self.group = group
        self.has_others = any(trial.group != group for trial in history.trials)
        left = group_spec(spec, history.trials, group)
        self.searcher = None if left is None else Searcher(left, next_replicate)

    def decide(self, history: History) -> Decision | None:
        """The next question, numbered as in the study; None while there is none, or for good."""
        if self.searcher is None:
            return None
        if not self.has_others:
            return self.searcher.decide(history)
        view = GroupView.of(history, self.group)
        decision = self.searcher.decide(view.history)
        return None if decision is None else view.in_study(decision, len(history.trials))
