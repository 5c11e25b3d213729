"""What a request asks to be pretrained, and what another request's pretraining has done of it.

Read off the recipes alone: no text, no store and no hub is needed, so that a search can weigh what
a question would cost before anything is there.
"""

from __future__ import annotations

from objectives.pretraining.job import PretrainJob
from objectives.store.store import key_of


def reused(asked: PretrainJob, done: PretrainJob) -> float:
    """Share of the steps that `asked` need not train once `done` is trained and nothing dropped.

    Two equal bases share all; else training goes on from the last step at which the one left
    AdamW's memory and up to which both are equal. A base that is merged of what the other keeps
    needs no step. Runs that follow another's effective rate are taken to share nothing: what rates
    they take is known only in training.

    Raises:
        ValueError: a schedule that does not fit its horizon.
    """
    if (
        asked.reference is not None
        or done.reference is not None
        or _fingerprint(asked) != _fingerprint(done)
    ):
        return 0.0
    equal = _equal_steps(asked, done)
    merged = () if asked.merge is None else asked.merge.steps
    if equal == asked.steps == done.steps and set(merged) <= done.checkpoint_steps() | {
        0,
        done.steps,
    }:
        return 1.0
    begin = min((step for step in merged if step), default=asked.steps)
    return max(
        (step for step in done.resumable_steps() if step <= min(equal, begin)), default=0
    ) / (asked.steps)


def _fingerprint(job: PretrainJob) -> str:
    data = job.recipe.to_dict()
    return key_of(data["model"], data["corpus"], job.training_fingerprint, job.placement)


def _equal_steps(one: PretrainJob, other: PretrainJob) -> int:
    """Steps that two jobs of one trunk train alike."""
    shared = min(one.steps, other.steps)
    mid, its = one.recipe.pretrain.mid, other.recipe.pretrain.mid
    if (mid and mid.sources, one.first_steps) != (its and its.sources, other.first_steps):
        shared = min(shared, one.first_steps, other.first_steps)
    return one.equal_steps(other, shared)
