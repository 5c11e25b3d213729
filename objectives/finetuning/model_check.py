"""Proof, before anything is trained, that a model trains as lanes what transformers would train.

Some model types do not call the attention function they are given and then see future tokens,
others ask it for more than it does. No list of types tells which, so each config is tried once in
a process, on random tokens and random weights:

1. a later token is changed: no earlier logit may move;
2. the logits of lanes equal those of the same weights in transformers' own eager attention, also
   where only some positions are asked for;
3. so do the gradients of the loss, and every parameter has one;
4. LoRA adapters run as PEFT runs them give what they give merged into the weights.

Weights are spread so that attention is uneven: at a fresh model's it is nearly even, and a window
that cuts off a token would hardly show. Long rows of large models would take minutes, so rows are
as long as the run's only within BUDGET_FLOPS; a window or chunk whose size is between the two
lengths is refused from the config alone.

T tokens, V vocabulary.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedConfig

from objectives.config import recipe, training
from objectives.finetuning import lora, lora_targets
from objectives.models import attention, causal_lm, draws, huggingface
from objectives.training import device_memory, lanes, out_of_memory
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel

BUDGET_FLOPS = 1e11
"""Operations of the forward passes of one check; assumed: some seconds on one core."""


SHORTEST, GRADIENT_TOKENS = 16, 12


SEEDS = (0, 1)


TOLERANCE = 1e-3
"""Largest difference of two logits, or gradients, over their spread. Measured over all types that
pass: under 1e-4 in float32; those that are refused differ by 1e-2 and more."""


SIZES = ("window", "chunk")
"""Parts of the names by which configs limit how far back attention sees."""


_FOUND: dict[str, str | list[str]] = {}
"""Config and length -> what is wrong, or notes."""


_LOCK = threading.Lock()


def check_model(changed: recipe.Recipe, vocab_size: int) -> list[str]:
    """Raise ValueError, in one sentence, if the recipe's model cannot be trained right as lanes.

    Returns notes for the result: which layers have no adapters. Takes under a second for a small
    model, once in a process, and no token of any corpus. Pretrained weights are not read.
    """
    config = causal_lm.build_config(changed.model, vocab_size)
    longest = max(changed.pretrain.seq_len, training.longest_row(changed.finetune))
    adapters = changed.finetune.lora if changed.finetune.method == "lora" else None
    key = json.dumps(
        [config.to_dict(), longest, adapters and [adapters.targets, adapters.modules_to_save]],
        default=str,
        sort_keys=True,
    )
    with _LOCK:
        if key not in _FOUND:
            check_size(config, changed.model.config or str(changed.model.preset))
            notes = _adapter_notes(changed, config)
            _FOUND[key] = find_fault(config, longest, adapters) or notes
    found = _FOUND[key]
    if isinstance(found, str):
        name = changed.model.config or changed.model.preset
        raise ValueError(
            f"model {name!r} of type {config.model_type} cannot be trained: {found.rstrip('.')}."
        )
    return found


def check_size(config: PreTrainedConfig, name: str) -> None:
    """Raise ValueError if this machine cannot hold the model's weights; none are made.

    A model that cannot be built without weights passes.
    """
    try:
        with torch.device("meta"):
            count = causal_lm.num_parameters(causal_lm.build_module(config, "meta"))
    except Exception:  # whatever a model's own code raises on what it does not expect
        return
    there = device_memory.total_bytes()
    if 4 * count > there:
        raise ValueError(
            f"model {name!r} has {count:,} parameters, which take {4 * count / 1e9:.3g} GB in "
            f"float32, and this machine has {there / 1e9:.3g} GB of memory; take a smaller model."
        )


def _adapter_notes(changed: recipe.Recipe, config: PreTrainedConfig) -> list[str]:
    """Raise ValueError if targets do not fit; `find_fault` says why a model cannot be built."""
    try:
        return lora_targets.check_targets(changed, config)
    except ValueError as error:
        if str(error).startswith("finetune."):
            raise
        return []


def find_fault(
    config: PreTrainedConfig, longest: int, adapters: training.Lora | None = None
) -> str | None:
    """What keeps this config from being trained on rows of `longest` tokens; None if nothing.

    A mixture of experts may choose otherwise by a rounding error, and then differ by much; so what
    fails once is tried with other numbers.
    """
    fault = None
    for seed in SEEDS:
        fault = _fault(config, longest, adapters, seed)
        if fault is None:
            return None
    return fault


def _fault(
    config: PreTrainedConfig, longest: int, adapters: training.Lora | None, seed: int
) -> str | None:
    try:
        with draws.seeded(seed):
            return _Trial(config, longest, seed).fault(adapters)
    except MemoryError:
        raise
    except _Refused as error:
        return str(error)
    except Exception as error:  # whatever a model's own code raises on what it does not expect
        if out_of_memory.is_out_of_memory(error):
            raise
        if isinstance(error, KeyError) and error.args == (attention.NAME,):
            return "it has attention of its own, which cannot run as lanes"
        text = huggingface.reason(error)
        own = isinstance(error, ValueError)
        return text if own else f"its forward pass fails ({type(error).__name__}: {text})"


class _Refused(Exception):
    """A difference was found; the message says which."""


class _Trial:
    """One config's program and plain module with the same random weights."""

    def __init__(self, config: PreTrainedConfig, longest: int, seed: int) -> None:
        self.config, self.seed = config, seed
        self.module = causal_lm.build_module(config, "cpu").eval()
        self.params = causal_lm.spread(
            causal_lm.initial_parameters(recipe.Model(), config, seed), seed
        )
        self.plain = huggingface.new_module(config).eval()
        causal_lm.make_program(self.plain, "cpu")
        self.program = LaneModel(self.module)
        self.longest = longest
        size = sum(p.numel() for p in self.params.values())
        self.length = min(longest, max(SHORTEST, int(BUDGET_FLOPS / (10 * size))))

    def fault(self, adapters: training.Lora | None) -> str | None:
        """The first fault found."""
        _check_sizes(self.config, self.length, self.longest)
        causal_lm.flops_per_token(self.config, 1, 1)
        ids = self._ids(self.length)
        logits = self._logits(ids)
        self._compare_with_plain(ids, logits)
        self._check_causality(ids, logits)
        short = ids[:, : GRADIENT_TOKENS + 1]
        self._check_positions(short)
        self._compare_gradients(short)
        self._train_pass(short)
        if adapters is not None:
            self._compare_adapters(adapters, short)
        return None

    def _ids(self, length: int) -> Tensor:
        """[1, T + 1]; token 0 may be padding, which transformers' embedding does not train."""
        draw = torch.Generator().manual_seed(self.seed)
        return torch.randint(1, self.config.vocab_size, (1, length + 1), generator=draw)

    @torch.no_grad()
    def _logits(self, ids_B1: Tensor) -> Tensor:
        """Of the lane program, under vmap; [B, T, V]."""
        found = lanes.vmap_lanes(self._lane, _as_lanes(self.params), None, (ids_B1,))
        return found[0][0]

    def _lane(self, own: dict[str, Tensor], frozen: dict[str, Tensor], ids: Tensor) -> Any:
        return (functional_call(self.module, own, (), {"input_ids": ids[:, :-1]}).logits,)

    def _plain_logits(self, ids_B1: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        inputs = {"input_ids": ids_B1[:, :-1]}
        logits: Tensor = functional_call(self.plain, dict(params), (), inputs).logits
        return logits

    def _compare_with_plain(self, ids: Tensor, logits: Tensor) -> None:
        with torch.no_grad():
            expected = self._plain_logits(ids, self.params)
        if logits.shape != (1, ids.shape[1] - 1, self.config.vocab_size):
            raise _Refused("its logits are not one for each token of the vocabulary")
        if not (difference := _difference(logits, expected)) <= TOLERANCE:
            raise _Refused(
                f"its logits as lanes differ from transformers' own by {difference:.1g} of their "
                f"spread on rows of {self.length} tokens"
            )

    def _check_causality(self, ids: Tensor, logits: Tensor) -> None:
        length = ids.shape[1] - 1
        for place in sorted({1, length // 3, length - 1}):
            changed = ids.clone()
            later = changed[:, place:]
            changed[:, place:] = later % (self.config.vocab_size - 1) + 1
            moved = self._logits(changed)
            if not _difference(moved[:, :place], logits[:, :place]) <= TOLERANCE:
                raise _Refused(
                    "a later token changes the prediction of an earlier one, so its attention is "
                    "not causal here"
                )

    def _check_positions(self, ids: Tensor) -> None:
        """Fine-tuning computes logits at some positions only."""
        positions = torch.arange(1, ids.shape[1] - 1, 3)[None]
        weights = torch.ones(positions.shape)
        given = _as_lanes(self.params)
        found, _ = self.program.scores(given, None, TokenBatch(ids, positions, weights))
        self.module.eval()
        nats = nn.functional.cross_entropy(
            self._logits(ids)[0].float(), ids[0, 1:], reduction="none"
        )
        expected = nats[positions[0]].sum()
        if not (found[0] - expected).abs() <= TOLERANCE * expected.abs().clamp(min=1):
            raise _Refused("its logits cannot be computed at some positions alone")

    def _compare_gradients(self, ids: Tensor) -> None:
        leaves = {name: p.detach().requires_grad_() for name, p in self.params.items()}
        stacked = {name: p[None] for name, p in leaves.items()}
        loss = self.program.losses(stacked, None, TokenBatch(ids))[0]
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        unused = [name for name, grad in zip(leaves, found, strict=True) if grad is None]
        if unused:
            raise _Refused(f"parameter {unused[0]} has no part in its loss")
        logits = self._plain_logits(ids, leaves).flatten(0, 1)
        plain_loss = nn.functional.cross_entropy(logits.float(), ids[0, 1:])
        expected = torch.autograd.grad(plain_loss, list(leaves.values()), allow_unused=True)
        spread = max(float(grad.abs().max()) for grad in expected if grad is not None)
        for name, one, other in zip(leaves, found, expected, strict=True):
            if other is None or not (one - other).abs().max() <= TOLERANCE * spread:
                raise _Refused(f"the gradient of {name} as a lane differs from transformers' own")

    def _train_pass(self, ids: Tensor) -> None:
        """What is different in training, such as dropout, must run as well."""
        self.module.train()
        loss = self.program.losses(_as_lanes(self.params), None, TokenBatch(ids))
        self.module.eval()
        if not torch.isfinite(loss).all():
            raise _Refused("its loss is not finite at random weights")

    def _compare_adapters(self, adapters: training.Lora, ids: Tensor) -> None:
        adapted = lora.Adapted(self.config, adapters, "cpu")
        adapted.module.eval()
        draw = torch.Generator().manual_seed(self.seed)
        arm = {
            name: torch.randn(shape, generator=draw) / shape[-1] ** 0.5
            for name, shape in adapted.shapes.items()
        }
        inside = {name: self.params[base] for name, base in adapted.base_names.items()}
        merged = lora.Merged(adapted).weights(arm, self.params)
        with torch.no_grad():
            inputs = {"input_ids": ids[:, :-1]}
            found = functional_call(adapted.module, {**inside, **arm}, (), inputs).logits
            expected = self._plain_logits(ids, merged)
        if not _difference(found, expected) <= TOLERANCE:
            raise _Refused(
                f"adapters on finetune.lora.targets {list(adapters.targets)} give something else "
                "once they are merged into its weights; name other layers"
            )


def _as_lanes(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: p[None] for name, p in params.items()}


def _difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the spread of what is expected; NaN where either is not finite."""
    return float((found - expected).abs().max() / expected.std())


def _check_sizes(config: PreTrainedConfig, tried: int, longest: int) -> None:
    """Refuse a window that the run's rows reach and the check's do not."""
    for name, value in config.to_dict().items():
        limits = any(part in name for part in SIZES) and isinstance(value, int)
        if limits and tried < value < longest:
            raise _Refused(
                f"rows of {longest} tokens exceed its {name} of {value}; shorten the sequences"
            )
