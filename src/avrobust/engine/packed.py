"""Convolutions whose weights are laid out once, as a CPU's library computes with them.

oneDNN computes with weights in blocks, and puts them in order in every call, forwards and backwards.  Of deep layers with small
maps that takes longer than the convolution itself, and an attack asks for the same weights hundreds of times.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import fuse_conv_bn_weights

from avrobust.allocator import apart
from avrobust.engine.firstlayer import input_gradient, sees_signals

onednn: Any = torch.ops.mkldnn  # what `torch.compile` computes with on CPUs


def packable(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that oneDNN computes as a whole.

    >>> packable(nn.Conv2d(64, 8, 3)), packable(nn.Conv2d(64, 8, 3, padding_mode="reflect")), packable(nn.Linear(8, 8))
    (True, False, False)
    """
    plain = isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.padding_mode == "zeros"
    return plain and not isinstance(layer.padding, str) and bool(torch._C._has_mkldnn)


class Packed:
    """The `forward` of a convolution with frozen weights: what it computes, and the gradient of what it is given.

    `norm` is a BatchNorm after it, computed with it.  Maps are in the memory `layout`.  What is laid out is kept once a gradient may
    be asked for, until another precision is: what only runs forwards needs no memory for it.  A layer over signals
    computes their gradient as in `firstlayer`.  What oneDNN has no kernel for is computed as before.

    >>> layer = nn.Conv2d(8, 8, 3, stride=2).requires_grad_(False)
    >>> x = torch.rand(1, 8, 9, 9, requires_grad=True)
    >>> slow, quick = (torch.autograd.grad(run(x).sum(), x)[0] for run in (layer, Packed(layer)))
    >>> torch.allclose(slow, quick, atol=1e-5)
    True
    """

    def __init__(self, layer: Any, layout: torch.memory_format = torch.channels_last) -> None:
        # Not the layer, which holds this: a circle would keep the weights in memory.
        self.weight, self.bias, self.groups, self.layout = layer.weight, layer.bias, layer.groups, layout
        self.padding, self.stride, self.dilation = (
            [few] * (2 - len(given)) + list(given)  # one pixel high
            for few, given in ((0, layer.padding), (1, layer.stride), (1, layer.dilation))
        )
        self.sees_signals = sees_signals(layer)
        self.fold(None)

    def fold(self, norm: Any) -> None:
        """Compute this BatchNorm with the convolution from now on; None: no more."""
        self.norm = norm
        # What is laid out to compute forwards and backwards, and in which precision.
        self._laid_out: dict[str, tuple[torch.dtype, Tensor, Tensor | None]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Packed":
        twin = copy.copy(self)
        twin.weight, twin.bias = copy.deepcopy((self.weight, self.bias), memo)
        twin.fold(copy.deepcopy(self.norm, memo))
        return twin

    def __call__(self, x: Tensor) -> Tensor:
        """As `nn.Conv1d` and `nn.Conv2d`: (b c l) or (b c h w)."""
        out: Tensor
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if x.ndim == self.weight.ndim and x.numel() and _has_kernels(precision):
            out = _Convolution.apply(self, x, precision, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
            return out
        convolution: Any = torch.conv1d if self.weight.ndim == 3 else torch.conv2d
        sizes = (both[4 - self.weight.ndim :] for both in (self.stride, self.padding, self.dilation))
        out = convolution(x, *self._numbers(x.dtype), *sizes, self.groups)
        return out

    def forwards(self, x: Tensor, *, lasting: bool) -> Tensor:
        """The convolution of maps (b c h w)."""
        sizes = self.padding, self.stride, self.dilation, self.groups
        x = x.contiguous(memory_format=self.layout) if self.weight.ndim == 4 else x
        weight, bias = self._weights(
            "forwards", x.dtype, lambda w: onednn._reorder_convolution_weight(w, *sizes, list(x.shape)), lasting=lasting
        )
        out: Tensor = onednn._convolution_pointwise(x, weight, bias, *sizes, "none", [], "")
        return out

    def backwards(self, g: Tensor, size: Sequence[int]) -> Tensor:
        """The gradient of maps of this `size`, of that of the outputs."""
        if self.sees_signals:
            weight, _ = self._weights("backwards", g.dtype, lambda w: w)
            return input_gradient(g, weight, self.stride, self.padding, size)
        kernel = (1, *self.weight.shape[2:])[-2:]
        axes = zip(size, g.shape[2:], kernel, self.padding, self.stride, self.dilation, strict=True)
        left = [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, p, s, d in axes]
        sizes = self.padding, left, self.stride, self.dilation, self.groups
        weight, _ = self._weights(
            "backwards", g.dtype, lambda w: onednn._reorder_convolution_transpose_weight(w, *sizes, list(g.shape))
        )
        found: Tensor = onednn._convolution_transpose_pointwise(g, weight, None, *sizes, "none", [], "")
        return found

    def _weights(
        self, way: str, precision: torch.dtype, lay_out: Callable[[Tensor], Tensor], *, lasting: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        if way in self._laid_out and self._laid_out[way][0] == precision:
            return self._laid_out[way][1:]
        with apart():
            weight, bias = self._numbers(precision)
            weight = lay_out(weight if weight.ndim == 4 else weight.unsqueeze(2))
        if lasting:
            self._laid_out[way] = precision, weight, bias
        return weight, bias

    def _numbers(self, precision: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """The weights and the bias, with the BatchNorm's."""
        weight, bias, norm = self.weight, self.bias, self.norm
        if norm is not None:
            weight, bias = with_norm(weight, bias, norm)
        return weight.detach().to(precision), None if bias is None else bias.detach().to(precision)


def with_norm(weight: Tensor, bias: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    """The weights and the bias of a convolution and the BatchNorm after it, as those of one convolution."""
    moments = norm.running_mean, norm.running_var
    return fuse_conv_bn_weights(weight, bias, *moments, norm.eps, norm.weight, norm.bias)


def _has_kernels(precision: torch.dtype) -> bool:
    return precision == torch.float32 or (precision == torch.bfloat16 and onednn._is_mkldnn_bf16_supported())


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: Packed, x: Tensor, precision: torch.dtype, lasting: bool) -> Tensor:
        ctx.packed, ctx.shape, ctx.precision = packed, x.shape, x.dtype
        x = x.to(precision)
        if x.ndim == 4:
            return packed.forwards(x, lasting=lasting)
        return packed.forwards(x.unsqueeze(2), lasting=lasting).squeeze(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        packed, (g,), size = ctx.packed, grads, ctx.shape[2:]
        found = packed.backwards(g, size) if g.ndim == 4 else packed.backwards(g.unsqueeze(2), (1, *size)).squeeze(2)
        return None, found.to(ctx.precision), None, None
