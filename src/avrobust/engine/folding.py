"""The same network with fewer operations and less memory, checked on an example: BatchNorm folded, ReLU in its place.

What would change the answer stays as it was, layer by layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avrobust.models.network import AVNet
from avrobust.types import AV, RANGE, Signals

# What autograd calls the operations whose gradient does not ask for their output.
FORGETFUL = frozenset({"ConvolutionBackward0", "AddBackward0", "AddmmBackward0"})
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def alike(net: AVNet, other: AVNet, example: Signals) -> bool:
    """Whether both give their classifiers the same features of the example, and of noise: a silent clip hides much."""
    clips = _with_noise(example)
    return _holds(lambda: _features(net, clips), _features(other, clips))


def fold_batchnorm(net: AVNet, example: Signals) -> int:
    """Fold every BatchNorm that directly follows a convolution into it; returns how many were folded.

    Which one follows which is read off one forward pass, so it does not matter how the network is written.  Where the
    convolution's output goes elsewhere too, or its weights are not used as they are, the layer stays as it is.
    """
    produced: dict[int, tuple[nn.Module, int]] = {}
    outputs: list[Tensor] = []  # kept alive, so that an id stays unique
    pairs: dict[nn.Module, nn.Module] = {}
    calls: dict[nn.Module, int] = {}

    def after_conv(module: nn.Module, _: object, out: Tensor) -> None:
        outputs.append(out)
        produced[id(out)] = module, out._version  # which grows where somebody writes into it
        calls[module] = calls.get(module, 0) + 1

    def before_norm(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        conv, version = produced.get(id(args[0]), (None, 0))
        if conv is not None and args[0]._version == version:
            pairs[module] = conv

    convs = [m for m in net.modules() if isinstance(m, CONVOLUTIONS) and _as_written(m, "weight")]
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and _as_written(m) and m.running_mean is not None]
    hooks = [m.register_forward_hook(after_conv) for m in convs]
    hooks += [m.register_forward_pre_hook(before_norm) for m in norms]
    clips = _with_noise(example)
    before = _features(net, clips)
    for hook in hooks:
        hook.remove()
    folds = [_Fold(net, conv, norm) for norm, conv in pairs.items() if calls[conv] == 1]
    return _apply(folds, lambda: _holds(lambda: _features(net, clips), before))


def rectify_in_place(net: AVNet, example: Signals) -> int:
    """Let ReLUs write over what they are given, where nothing else reads that; returns how many do.

    Those that follow a convolution, a sum or a linear layer: these do not need their output to take a gradient.
    """
    after: dict[nn.ReLU, None] = {}
    elsewhere: set[nn.ReLU] = set()

    def before_relu(module: nn.ReLU, args: tuple[Tensor, ...]) -> None:
        made_by = args[0].grad_fn
        if made_by is not None and made_by.name() in FORGETFUL:
            after[module] = None
        else:
            elsewhere.add(module)

    hooks = [m.register_forward_pre_hook(before_relu) for m in net.modules() if isinstance(m, nn.ReLU)]
    before = _slopes(net, example)
    for hook in hooks:
        hook.remove()
    relus = [_InPlace(relu) for relu in after if relu not in elsewhere and not relu.inplace]
    return _apply(relus, lambda: _holds(lambda: _slopes(net, example), before))


@dataclass
class _Fold:
    """A BatchNorm in the convolution before it."""

    net: AVNet
    conv: Any
    norm: Any
    kept: dict[str, Any] = field(default_factory=dict)
    gap: nn.Module = field(default_factory=nn.Identity)

    def apply(self) -> None:
        conv, norm = self.conv, self.norm
        self.kept = {"weight": conv.weight.detach().clone(), "bias": conv.bias}
        weight, bias = nn.utils.fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )  # fmt: skip
        with torch.no_grad():
            conv.weight.copy_(weight)  # in its place and layout
        conv.bias = bias.requires_grad_(False)
        _replace(self.net, norm, self.gap)

    def undo(self) -> None:
        with torch.no_grad():
            self.conv.weight.copy_(self.kept["weight"])
        self.conv.bias = self.kept["bias"]
        _replace(self.net, self.gap, self.norm)


@dataclass
class _InPlace:
    """A ReLU that writes over what it is given."""

    relu: nn.ReLU

    def apply(self) -> None:
        self.relu.inplace = True

    def undo(self) -> None:
        self.relu.inplace = False


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


@torch.no_grad()
def _features(net: AVNet, clips: Signals) -> list[Tensor]:
    """What the classifier gets of the clips, the feature defense left out: that has nothing to fold, and may be random."""
    return [net.fuse(net.embed(clips))]


def _slopes(net: AVNet, clips: Signals) -> list[Tensor]:
    """The features of both encoders, and their gradient."""
    x = clips.map(lambda s: s.detach().clone().requires_grad_())
    with torch.enable_grad():
        # Not the signals themselves: an encoder may write into what it is given.
        features = list(net.embed(x.map(torch.clone)))
        total = torch.stack([f.sum() for f in features]).sum()
        grads = torch.autograd.grad(total, list(x), allow_unused=True) if total.requires_grad else ()
    return [f.detach() for f in features] + [g for g in grads if g is not None]


def _holds(now: Callable[[], list[Tensor]], before: list[Tensor]) -> bool:
    """Whether what is computed now is what was before; an error is something else."""
    try:
        found = now()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # somebody's code may not take a changed layer, in whichever way
        return False
    return len(found) == len(before) and all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()) if a.numel() else 0.0, equal_nan=True)
        for a, b in zip(before, found, strict=True)
    )


def _with_noise(example: Signals) -> Signals:
    draw = torch.Generator().manual_seed(0)
    noise = AV(*(low + (high - low) * torch.rand(s[:1].shape, generator=draw).to(s) for s, (low, high) in zip(example, RANGE, strict=True)))  # fmt: skip
    return example.map(lambda s, n: torch.cat([s, n]), noise)


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in net.modules():
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
