"""Probes that take further steps from the base, through the one training loop.

Both go on along the base's own corpus stream, from the step where its run ended, with AdamW's
memory started again: whether the base's own memory was kept is no part of its key.

- tiny_rate: at a constant tiny rate without decay, the loss settles to what the weights have really
  reached, without the noise floor of the last rate (arXiv 2310.04415: 1e-5 for 10,000 of 50,000
  steps; scaled here). A base that ended at a low rate gains little, one at a high rate much.
- lost_updates: with weights in bf16, which updates would round away (the paper finds runs in bf16
  unstable without decay; the measure is our choice). AdamW's moments are gathered over some batches
  at fixed weights, u is their update; the share of elements with bf16(w - lr u) = w, w the weight
  in bf16, among those with u != 0, at the run's last and at its peak rate. Decay is left out of u.

K lanes, P parameters of a lane, S steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from objectives.pretraining.batches import batches
from objectives.probes.types import NotApplicableError, ProbeBatch, ProbeResult
from objectives.training import evaluation, lanes, loop, optimizers
from objectives.training.setup import step_event


def rounded_away(weights_P: Tensor, updates_P: Tensor, lr: float) -> float:
    """Share of the updates other than 0 that leave a bf16 weight as it was."""
    kept = weights_P.bfloat16()
    moved = (kept.to(updates_P) - lr * updates_P).bfloat16()
    counted = updates_P != 0
    return float(((moved == kept) & counted).sum() / counted.sum().clamp(min=1))


def tiny_steps(frac: float, steps: int) -> int:
    """Further steps of a run of `steps`; at least one."""
    return max(1, round(frac * steps))


def measure_tiny_rate(group: ProbeBatch) -> list[ProbeResult]:
    """Validation loss after, and how far it fell; nats a token. Without them where it diverged."""
    probes, jobs = group.recipe.probes, [subject.job for subject in group.subjects]
    most = max(tiny_steps(probes.tiny_frac, job.steps) for job in jobs)
    rates = torch.zeros(most, len(jobs))
    for lane, job in enumerate(jobs):
        rates[: tiny_steps(probes.tiny_frac, job.steps), lane] = probes.tiny_rate
    program, state = _resume(group, "tiny_rate", rates)
    pre = group.recipe.pretrain
    sample = group.stream.sample("validation", pre.eval_tokens, pre.seq_len)
    loss_K = evaluation.mean_loss(evaluation.Lanes(program, state.rows.views), sample)
    found = []
    for lane, subject in enumerate(group.subjects):
        steps = tiny_steps(probes.tiny_frac, subject.job.steps)
        tokens = float(steps * pre.batch_size * pre.seq_len)
        loss, diverged_at = float(loss_K[lane]), state.diverged_step(lane)
        if diverged_at is not None:
            note = f"diverged at step {diverged_at + 1} of the tiny rate"
            found.append(ProbeResult(notes=[note], tokens=tokens))
            continue
        metrics = {"loss_nats": loss, "drop_nats": subject.loss - loss}
        found.append(ProbeResult(metrics=metrics, tokens=tokens))
    return found


def measure_lost_updates(group: ProbeBatch) -> list[ProbeResult]:
    """Share of updates that bf16 weights would lose, at the last rate and at the peak rate."""
    count = group.recipe.probes.lost_batches
    _, state = _resume(group, "lost_updates", torch.zeros(count, len(group.subjects)))
    found = []
    for lane, subject in enumerate(group.subjects):
        diverged_at = state.diverged_step(lane)
        if diverged_at is not None:
            note = f"the gradient of batch {diverged_at + 1} is not finite"
            found.append(ProbeResult(notes=[note]))
            continue
        pre, lr = subject.job.recipe.pretrain, subject.base.rates_of(subject.job)
        first = state.moments.first[lane] / (1 - pre.beta1**count)
        second = state.moments.second[lane] / (1 - pre.beta2**count)
        updates = first / (second.sqrt() + pre.eps)
        weights = state.rows.values[lane]
        metrics = {
            "end_frac": rounded_away(weights, updates, float(lr[-1])),
            "peak_frac": rounded_away(weights, updates, float(lr.max())),
        }
        found.append(
            ProbeResult(metrics=metrics, tokens=float(count * pre.batch_size * pre.seq_len))
        )
    return found


def _resume(group: ProbeBatch, name: str, lr_SK: Tensor) -> tuple[lanes.LaneModel, loop.State]:
    """Train on from the bases without decay, at these rates.

    Raises:
        NotApplicableError: the bases were not trained by AdamW, or not on a corpus that is there.
    """
    pres, corpus = [subject.job.recipe.pretrain for subject in group.subjects], group.stream
    if pres[0].optimizer != "adamw":
        raise NotApplicableError("it takes AdamW's steps, and the base was trained by another rule")
    program = lanes.LaneModel(group.module, bf16=pres[0].precision == "bf16")
    state = loop.State.fresh(group.shapes, group.rows())
    plan = loop.Plan(
        lr_SK=lr_SK,
        decay_SK=torch.zeros_like(lr_SK),
        constants=optimizers.constants(
            len(pres),
            group.device,
            beta1=[pre.beta1 for pre in pres],
            beta2=[pre.beta2 for pre in pres],
            eps=[pre.eps for pre in pres],
            clip=[np.inf if pre.clip_norm is None else pre.clip_norm for pre in pres],
        ),
        accumulation=pres[0].accumulation,
    )
    steps = len(lr_SK)

    def after_step(step: int, loss_K: Tensor) -> None:
        tokens = len(pres) * pres[0].batch_size * pres[0].seq_len
        group.report(step_event(f"probe {name}", step, steps, loss_K, tokens))

    jobs = [subject.job for subject in group.subjects]
    batch_at = batches(jobs, corpus, group.device, [job.steps for job in jobs])
    loop.train(program, state, plan, batch_at, until=steps, after_step=after_step)
    return program, state
