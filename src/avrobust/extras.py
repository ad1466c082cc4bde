"""Packages that only some uses need: each extra of `pip install "avrobust[...]"` is imported where it is used."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtraError(ImportError):
    """A package of an extra is not installed: it names the package and what to install."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import packages of an extra in this block: where one is missing, `MissingExtraError` says what to install.

    >>> with needs("demo"):
    ...     import no_such_package
    Traceback (most recent call last):
    avrobust.extras.MissingExtraError: expected the package no_such_package, got an environment without it. Install it: pip install "avrobust[demo]".
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"expected the package {error.name or error}, got an environment without it. "
            f'Install it: pip install "avrobust[{extra}]".',
            name=error.name,
        ) from error
