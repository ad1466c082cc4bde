"""The same network with fewer operations and less memory, verified on an example.

BatchNorm is folded, ReLU writes in place, and the first convolutions compute the gradient of signals as convolutions forwards.  A
layer whose change would change the answer stays as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avrobust.engine.firstlayer import quick_gradient, sees_signals
from avrobust.engine.recognise import agree, with_noise
from avrobust.types import Signals

# Runs a network on some clips; returns everything that has to stay the same.
Answer = Callable[[Signals], list[Tensor]]
# Autograd's names of operations whose gradient does not need their output.
FORGETFUL = frozenset({"ConvolutionBackward0", "AddBackward0", "AddmmBackward0"})
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def fold_batchnorm(net: nn.Module, answer: Answer, example: Signals) -> int:
    """Fold every BatchNorm that directly follows a convolution into it; returns how many were folded.

    `answer` runs the network: what it gives for the `example`, and for noise, stays the same but for rounding.  Which
    BatchNorm follows which convolution is read off one forward pass, so it does not matter how the network is written.  Where the
    convolution's output goes elsewhere too, or its weights are not used as they are, the layer stays as it is.
    """
    produced: dict[int, tuple[nn.Module, int]] = {}
    outputs: list[Tensor] = []  # kept alive, so that an id stays unique
    pairs: dict[nn.Module, nn.Module] = {}
    calls: dict[nn.Module, int] = {}

    def after_conv(module: nn.Module, _: object, out: Tensor) -> None:
        outputs.append(out)
        produced[id(out)] = module, out._version  # which grows with every in-place operation
        calls[module] = calls.get(module, 0) + 1

    def before_norm(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        conv, version = produced.get(id(args[0]), (None, 0))
        if conv is not None and args[0]._version == version:
            pairs[module] = conv

    convs = [m for m in net.modules() if isinstance(m, CONVOLUTIONS) and _as_written(m, "weight")]
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and _as_written(m) and m.running_mean is not None]
    if not (convs and norms):
        return 0  # spares a run
    hooks = [m.register_forward_hook(after_conv) for m in convs]
    hooks += [m.register_forward_pre_hook(before_norm) for m in norms]
    clips = with_noise(example)
    before = answer(clips)
    for hook in hooks:
        hook.remove()
    places = _places(net)
    folds = [_Fold(conv, norm, places[norm]) for norm, conv in pairs.items() if calls[conv] == 1]
    return _apply(folds, lambda: _holds(lambda: answer(clips), before))


def cheapen_gradients(net: nn.Module, slopes: Answer, example: Signals) -> int:
    """Change how layers take part in gradients; returns how many were changed.

    ReLUs write over what they are given, where nothing else reads that: those that follow a convolution, a sum or a linear layer,
    which do not need their output to take a gradient.  On a CPU, convolutions over signals get a `quick_gradient`.
    `slopes` runs the network: what it gives for the `example`, gradients included, stays the same but for rounding.
    """
    after: dict[nn.ReLU, None] = {}
    elsewhere: set[nn.ReLU] = set()

    def before_relu(module: nn.ReLU, args: tuple[Tensor, ...]) -> None:
        made_by = args[0].grad_fn
        if made_by is not None and made_by.name() in FORGETFUL:
            after[module] = None
        else:
            elsewhere.add(module)

    relus = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    first = [m for m in net.modules() if sees_signals(m) and _as_written(m)] if _on_cpu(example) else []
    if not (relus or first):
        return 0  # spares a gradient
    hooks = [m.register_forward_pre_hook(before_relu) for m in relus]
    before = slopes(example)
    for hook in hooks:
        hook.remove()
    in_place = [_InPlace(relu) for relu in after if relu not in elsewhere and not relu.inplace]
    return _apply([*in_place, *map(_Quick, first)], lambda: _holds(lambda: slopes(example), before))


def _on_cpu(x: Signals) -> bool:
    return x.audio.device.type == "cpu"


@dataclass
class _Fold:
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
class _InPlace:
    """A ReLU that writes over what it is given."""

    relu: nn.ReLU

    def apply(self) -> None:
        self.relu.inplace = True

    def undo(self) -> None:
        self.relu.inplace = False


@dataclass
class _Quick:
    """A convolution over signals with a gradient computed as a convolution forwards."""

    conv: Any

    def apply(self) -> None:
        self.conv.forward = quick_gradient(self.conv)

    def undo(self) -> None:
        del self.conv.forward


def _apply(changes: Sequence[Any], holds: Callable[[], bool]) -> int:
    """Make all changes after which all `holds`; returns how many.  One check where nothing stands in the way."""
    for change in changes:
        change.apply()
    if not changes or holds():
        return len(changes)
    for change in reversed(changes):
        change.undo()
    half = len(changes) // 2
    return _apply(changes[:half], holds) + _apply(changes[half:], holds) if half else 0


def _as_written(module: nn.Module, *parameters: str) -> bool:
    """Whether a layer computes what torch's layer of that name does, of parameters of its own."""
    theirs = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules."))
    same = all(getattr(type(module), f, None) is getattr(theirs, f, None) for f in ("forward", "_conv_forward"))
    return same and "forward" not in vars(module) and all(p in module._parameters for p in parameters)


def _holds(now: Callable[[], list[Tensor]], before: list[Tensor]) -> bool:
    """Whether what is computed now is what was before; an error is something else."""
    try:
        return agree(before, now())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a user's code may not take a changed layer, in whichever way
        return False


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
