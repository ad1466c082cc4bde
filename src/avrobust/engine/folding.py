"""The same network with fewer operations and less memory, verified on an example.

BatchNorm is folded, ReLU writes in place, and the first convolutions compute the gradient of signals as convolutions forwards.  A
layer whose change would change the answer stays as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avrobust.engine.firstlayer import quick_gradient, sees_signals

T = TypeVar("T")
# Autograd's names of operations whose gradient does not need their output.
FORGETFUL = frozenset(
    {"ConvolutionBackward0", "AddBackward0", "AddmmBackward0", "NativeBatchNormBackward0", "CudnnBatchNormBackward0"}
)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


class Change(ABC):
    """Something that may be done to a layer."""

    @abstractmethod
    def apply(self) -> None: ...
    @abstractmethod
    def undo(self) -> None: ...


def candidates(net: nn.Module, run: Callable[[], T], *, on_cpu: bool) -> tuple[list[Change], T]:
    """What may be changed in `net`, and what `run` gives, which runs it once, for a gradient.

    How layers follow each other is read off that run, so it does not matter how the network is written:
    - a BatchNorm that directly follows a convolution is folded into it, where the convolution's weights are used as they are, once;
    - a ReLU that follows a convolution, a BatchNorm, a sum or a linear layer, which do not need their output to take a gradient,
      writes over what it is given;
    - on a CPU, a convolution over signals gets a `quick_gradient`.
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
    places = _places(net)
    changes: list[Change] = [Fold(conv, norm, places[norm]) for norm, conv in pairs.items() if calls[conv] == 1]
    changes += [InPlace(relu) for relu in after if relu not in elsewhere and not relu.inplace]
    changes += [Quick(conv) for conv in convs if on_cpu and sees_signals(conv)]
    return changes, found


def apply(changes: Sequence[Change], holds: Callable[[], bool]) -> int:
    """Make all changes after which all `holds`; returns how many.  One check where nothing stands in the way."""
    for change in changes:
        change.apply()
    if not changes or holds():
        return len(changes)
    for change in reversed(changes):
        change.undo()
    half = len(changes) // 2
    return apply(changes[:half], holds) + apply(changes[half:], holds) if half else 0


@dataclass
class Fold(Change):
    """A BatchNorm in the convolution before it."""

    conv: Any
    norm: Any
    places: list[tuple[nn.Module, str]]  # of the BatchNorm: its parents, and what they call it
    kept: dict[str, Any] = field(default_factory=dict)

    def apply(self) -> None:
        conv, norm = self.conv, self.norm
        self.kept = {"weight": conv.weight.detach().clone(), "bias": conv.bias}
        weight, bias = nn.utils.fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )  # fmt: skip
        with torch.no_grad():
            conv.weight.copy_(weight)  # in its place and layout
        conv.bias = bias.requires_grad_(False)
        _put(nn.Identity(), self.places)

    def undo(self) -> None:
        with torch.no_grad():
            self.conv.weight.copy_(self.kept["weight"])
        self.conv.bias = self.kept["bias"]
        _put(self.norm, self.places)


@dataclass
class InPlace(Change):
    """A ReLU that writes over what it is given."""

    relu: nn.ReLU

    def apply(self) -> None:
        self.relu.inplace = True

    def undo(self) -> None:
        self.relu.inplace = False


@dataclass
class Quick(Change):
    """A convolution over signals with a gradient computed as a convolution forwards."""

    conv: Any

    def apply(self) -> None:
        self.conv.forward = quick_gradient(self.conv)

    def undo(self) -> None:
        del self.conv.forward


def _as_written(module: nn.Module, *parameters: str) -> bool:
    """Whether a layer computes what torch's layer of that name does, of parameters of its own."""
    theirs = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules."))
    same = all(getattr(type(module), f, None) is getattr(theirs, f, None) for f in ("forward", "_conv_forward"))
    return same and "forward" not in vars(module) and all(p in module._parameters for p in parameters)


def _places(net: nn.Module) -> dict[nn.Module, list[tuple[nn.Module, str]]]:
    """Where each module of the network is: its parents, and what they call it."""
    found: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for parent in net.modules():
        for name, child in parent._modules.items():
            if child is not None:
                found.setdefault(child, []).append((parent, name))
    return found


def _put(module: nn.Module, places: Sequence[tuple[nn.Module, str]]) -> None:
    for parent, name in places:
        setattr(parent, name, module)
