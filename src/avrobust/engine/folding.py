"""The same network with fewer operations and less memory, verified on an example.

BatchNorm is folded, ReLU writes in place, and on a CPU convolutions have their weights laid out once.  A layer whose change
would change the answer stays as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avrobust.engine.packed import Packed, packable, with_norm

T = TypeVar("T")
# Autograd's names of operations whose gradient does not need their output.
FORGETFUL = frozenset(
    {"ConvolutionBackward0", "AddBackward0", "AddmmBackward0", "NativeBatchNormBackward0", "CudnnBatchNormBackward0"}
)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


class Change(ABC):
    """Something that may be done to a layer, which it knows by its name: it may be done to any copy of the network."""

    @abstractmethod
    def apply(self, net: nn.Module) -> Callable[[], None]:
        """Do it; returns what undoes it."""


def candidates(
    net: nn.Module, run: Callable[[], T], layout: torch.memory_format, *, on_cpu: bool
) -> tuple[list[Change], T]:
    """What may be changed in `net`, and what `run` gives, which runs it once, for a gradient.

    How layers follow each other is read off that run, so it does not matter how the network is written:
    - a BatchNorm that directly follows a convolution is folded into it, where the convolution's weights are used as they are, once;
    - a ReLU that follows a convolution, a BatchNorm, a sum or a linear layer, which do not need their output to take a gradient,
      writes over what it is given;
    - on a CPU, a convolution is `Packed`, with its maps in the memory `layout`.
    """
    produced: dict[int, tuple[nn.Module, int]] = {}
    outputs: list[Tensor] = []  # kept alive, so that an id stays unique
    pairs: dict[nn.Module, nn.Module] = {}
    calls: dict[nn.Module, int] = {}
    after: dict[nn.ReLU, None] = {}
    elsewhere: set[nn.ReLU] = set()

    def after_conv(module: nn.Module, _: object, out: Tensor) -> None:
        outputs.append(out)
        produced[id(out)] = module, out._version  # which grows with every in-place operation
        calls[module] = calls.get(module, 0) + 1

    def before_norm(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        conv, version = produced.get(id(args[0]), (None, 0))
        if conv is not None and args[0]._version == version:
            pairs[module] = conv

    def before_relu(module: nn.ReLU, args: tuple[Tensor, ...]) -> None:
        made_by = args[0].grad_fn
        if made_by is not None and made_by.name() in FORGETFUL:
            after[module] = None
        else:
            elsewhere.add(module)

    convs = [m for m in net.modules() if isinstance(m, CONVOLUTIONS) and _as_written(m, "weight")]
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and _as_written(m) and m.running_mean is not None]
    hooks = [m.register_forward_hook(after_conv) for m in convs] if norms else []
    hooks += [m.register_forward_pre_hook(before_norm) for m in norms]
    hooks += [m.register_forward_pre_hook(before_relu) for m in net.modules() if isinstance(m, nn.ReLU)]
    try:
        found = run()
    finally:
        for hook in hooks:
            hook.remove()
    name = {module: name for name, module in net.named_modules()}
    changes: list[Change] = [Pack(name[conv], layout) for conv in convs if on_cpu and packable(conv)]
    changes += [Fold(name[conv], name[norm]) for norm, conv in pairs.items() if calls[conv] == 1]
    changes += [InPlace(name[relu]) for relu in after if relu not in elsewhere and not relu.inplace]
    return changes, found


def apply(net: nn.Module, changes: Sequence[Change], holds: Callable[[], bool]) -> list[Change]:
    """Make all changes after which all `holds`; returns those.  One check where nothing stands in the way."""
    undo = [change.apply(net) for change in changes]
    if not changes or holds():
        return list(changes)
    for back in reversed(undo):
        back()
    half = len(changes) // 2
    return apply(net, changes[:half], holds) + apply(net, changes[half:], holds) if half else []


@dataclass(frozen=True)
class Fold(Change):
    """A BatchNorm in the convolution before it."""

    conv: str
    norm: str

    def apply(self, net: nn.Module) -> Callable[[], None]:
        conv: Any = net.get_submodule(self.conv)
        norm: Any = net.get_submodule(self.norm)
        places = [(parent, name) for parent in net.modules() for name, m in parent._modules.items() if m is norm]
        packed, before, bias = vars(conv).get("forward"), conv.weight, conv.bias

        def put(module: nn.Module) -> None:
            for parent, name in places:
                setattr(parent, name, module)

        def back() -> None:
            put(norm)
            if isinstance(packed, Packed):
                packed.fold(None)
            conv.weight, conv.bias = before, bias

        put(nn.Identity())
        if isinstance(packed, Packed):
            packed.fold(norm)
            return back
        weight, bias_after = with_norm(before, bias, norm)
        conv.weight = nn.Parameter(torch.empty_like(before).copy_(weight), requires_grad=False)  # in its layout
        conv.bias = bias_after.requires_grad_(False)
        return back


@dataclass(frozen=True)
class InPlace(Change):
    """A ReLU that writes over what it is given."""

    relu: str

    def apply(self, net: nn.Module) -> Callable[[], None]:
        relu: Any = net.get_submodule(self.relu)
        relu.inplace = True
        return partial(setattr, relu, "inplace", False)


@dataclass(frozen=True)
class Pack(Change):
    """A convolution with its weights laid out once."""

    conv: str
    layout: torch.memory_format

    def apply(self, net: nn.Module) -> Callable[[], None]:
        conv: Any = net.get_submodule(self.conv)
        conv.forward = Packed(conv, self.layout)
        return partial(delattr, conv, "forward")


def _as_written(module: nn.Module, *parameters: str) -> bool:
    """Whether a layer computes what torch's layer of that name does, of parameters of its own."""
    theirs = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules."))
    same = all(getattr(type(module), f, None) is getattr(theirs, f, None) for f in ("forward", "_conv_forward"))
    return same and "forward" not in vars(module) and all(p in module._parameters for p in parameters)
