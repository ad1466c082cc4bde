"""What of a machine a process uses: a device, and how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


def device(name: str | None = None) -> torch.device:
    """The device called `name`; without a name, a GPU if there is one (cuda, xpu, mps), else the CPU.

    Raises `ValueError` if PyTorch cannot use the device here.

    >>> device("cpu")
    device(type='cpu')
    """
    if name is None:
        there = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.mps}
        return torch.device(next((kind for kind, part in there.items() if part.is_available()), "cpu"))
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # CPU builds assert
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"expected a device that PyTorch can use here, got {name!r} ({reason}). Use cpu, cuda, cuda:1, mps or xpu."
        ) from error
    return found


def out_of_memory(error: BaseException) -> str | None:
    """What to do about an error of memory that ran out, of whichever device; None for other errors.

    >>> out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))[:75]
    'expected a batch of clips to fit into memory, got: CUDA out of memory. Trie'
    >>> out_of_memory(RuntimeError("stack expects each tensor to be equal size"))
    """
    said = next(iter(str(error).strip().splitlines()), "")
    # Apple's GPUs and CPUs raise a plain RuntimeError.
    plain = isinstance(error, RuntimeError) and any(words in said for words in ("out of memory", "allocate memory"))
    if not (plain or isinstance(error, torch.OutOfMemoryError | MemoryError)):
        return None
    return (
        f"expected a batch of clips to fit into memory, got: {said[:160] or type(error).__name__}. Take a smaller batch (--batch; batch of "
        "a Study or a Recipe), shorter or smaller clips (--view), or another --device."
    )


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Use `count` threads in the block: in PyTorch, and in the libraries of NumPy and SciPy, which wait busily."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
