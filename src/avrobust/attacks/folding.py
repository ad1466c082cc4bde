"""The same network with fewer operations and less memory, checked on an example: BatchNorm folded, ReLU in its place."""

import torch
from torch import Tensor, nn

from avrobust.models.network import AVNet
from avrobust.types import Signals

# What autograd calls the operations whose gradient does not ask for their output.
FORGETFUL = frozenset({"ConvolutionBackward0", "AddBackward0", "AddmmBackward0"})


def fold_batchnorm(net: AVNet, example: Signals) -> int:
    """Fold every BatchNorm that directly follows a convolution into it; returns how many were folded.

    Which one follows which is read off one forward pass, so it does not matter how the network is written.
    Raises `RuntimeError` if the folded network does not give its classifier the same features.
    """
    produced: dict[int, nn.Conv1d | nn.Conv2d] = {}
    outputs: list[Tensor] = []  # kept alive, so that an id stays unique
    pairs: dict[nn.modules.batchnorm._BatchNorm, nn.Conv1d | nn.Conv2d] = {}
    calls: dict[nn.Module, int] = {}

    def after_conv(module: nn.Conv1d | nn.Conv2d, _: object, out: Tensor) -> None:
        outputs.append(out)
        produced[id(out)] = module
        calls[module] = calls.get(module, 0) + 1

    def before_norm(module: nn.modules.batchnorm._BatchNorm, args: tuple[Tensor, ...]) -> None:
        if id(args[0]) in produced:
            pairs[module] = produced[id(args[0])]

    hooks = [m.register_forward_hook(after_conv) for m in net.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)]
    hooks += [
        m.register_forward_pre_hook(before_norm)
        for m in net.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    before = _features(net, example)
    for hook in hooks:
        hook.remove()

    folded = 0
    for norm, conv in pairs.items():
        if calls[conv] != 1 or norm.running_mean is None or norm.running_var is None:
            continue  # shared weights, or no statistics to fold
        weight, bias = nn.utils.fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        with torch.no_grad():
            conv.weight.copy_(weight)  # in its place and layout
        conv.bias = bias
        _replace(net, norm, nn.Identity())
        folded += 1
    net.requires_grad_(False)
    after = _features(net, example)
    if not _same(before, after):
        raise RuntimeError(
            f"folding BatchNorm changed the features by {float((before - after).abs().max()):.2g}. Does a convolution's output go elsewhere than into its BatchNorm?"
        )
    return folded


def rectify_in_place(net: AVNet, example: Signals) -> int:
    """Let ReLUs write over what they are given, where nothing else reads that; returns how many do.

    Those that follow a convolution, a sum or a linear layer: these do not need their output to take a gradient.
    """
    after: set[nn.ReLU] = set()
    elsewhere: set[nn.ReLU] = set()

    def before_relu(module: nn.ReLU, args: tuple[Tensor, ...]) -> None:
        made_by = args[0].grad_fn
        (after if made_by is not None and made_by.name() in FORGETFUL else elsewhere).add(module)

    hooks = [m.register_forward_pre_hook(before_relu) for m in net.modules() if isinstance(m, nn.ReLU)]
    with torch.enable_grad():
        net.embed(example.map(lambda s: s.detach().requires_grad_()))
    for hook in hooks:
        hook.remove()

    before = _features(net, example)
    changed = [relu for relu in after - elsewhere if not relu.inplace]
    for relu in changed:
        relu.inplace = True
    if not _same(before, _features(net, example)):  # something else does read it
        for relu in changed:
            relu.inplace = False
        return 0
    return len(changed)


@torch.no_grad()
def _features(net: AVNet, example: Signals) -> Tensor:
    """What the classifier gets of the example, its guard left out: that has nothing to fold, and may be random."""
    return net.fuse(net.embed(example))


def _same(before: Tensor, after: Tensor) -> bool:
    return torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in net.modules():
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
