"""Random numbers from generators of their own, whatever else the process draws.

transformers and PEFT draw initial weights from torch's global generator, and so does dropout. The
global generator belongs to all threads: seeding it and then drawing gives another thread's numbers
if that thread draws in between. `drawing_from` redirects the random operations of the calling
thread alone, below autograd and vmap, and gives the numbers that the global generator would give
after `torch.manual_seed` with the same seed. The global generator is neither read nor changed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Operation = Callable[..., Any]


_MOST = 2**63 - 1
"""Seeds drawn from a generator are below this, the largest that fits into an int64."""


def generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator on the device that starts at the seed."""
    return torch.Generator(device).manual_seed(seed)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random operations of this thread on the CPU draw as after `torch.manual_seed(seed)`."""
    with drawing_from(generator(seed)):
        yield


def drawing_from(draw: torch.Generator | None) -> contextlib.AbstractContextManager[Any]:
    """Random operations of this thread draw from this generator; None leaves them as they are."""
    return contextlib.nullcontext() if draw is None else _Redirected(draw)


def repeated() -> tuple[
    contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]
]:
    """Contexts of a pass and of its repetition, for `torch.utils.checkpoint`'s `context_fn`.

    The repetition draws what the pass drew. It must be made where the pass runs.
    """
    mode = _innermost()
    if mode is None:
        return contextlib.nullcontext(), contextlib.nullcontext()
    again = torch.Generator(mode.draw.device)
    again.set_state(mode.draw.get_state())
    return contextlib.nullcontext(), _Redirected(again)


class _Redirected(TorchDispatchMode):
    """Hands a generator to every random operation; active in the thread that entered it."""

    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draw = draw

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **given)
        own = _with_generator(func)
        if own is not None:
            return own(*args, **{**given, "generator": self.draw})
        if func is torch.ops.aten.native_dropout.default:
            return _dropout(self.draw, *args, **given)
        if _drops_nothing(func, args, given):
            return func(*args, **given)
        return self._seeding(func, args, given)

    def _seeding(self, func: Operation, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """An operation that takes no generator, such as fused attention with dropout."""
        device = self.draw.device
        drawn = torch.randint(_MOST, (), generator=self.draw, device=device)
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            torch.manual_seed(int(drawn))
            return func(*args, **given)


@functools.cache
def _with_generator(func: Any) -> Operation | None:
    """The operation as one that takes a generator, None if there is none."""
    names = [each.name for each in func._schema.arguments]
    if "generator" in names:
        own: Operation = func
        return own
    packet = func.overloadpacket
    for overload in packet.overloads():
        other = getattr(packet, overload)
        if sorted(each.name for each in other._schema.arguments) == sorted([*names, "generator"]):
            found: Operation = other
            return found
    return None


def _dropout(
    draw: torch.Generator, x: Tensor, p: float, train: bool | None
) -> tuple[Tensor, Tensor]:
    """Like aten::native_dropout: the scaled input, and the mask of what is kept."""
    if train is False or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    mask = torch.empty_like(x).bernoulli_(1 - p, generator=draw)
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return x * mask * scale, mask.bool()


def _drops_nothing(func: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Whether it is an operation with dropout of which nothing is dropped."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == "dropout_p":
            value = args[place] if place < len(args) else given.get("dropout_p", 0.0)
            return bool(value == 0)
    return False


def _innermost() -> _Redirected | None:
    modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    return next((mode for mode in reversed(modes) if isinstance(mode, _Redirected)), None)
