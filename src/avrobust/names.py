"""Names that people type, and text of strangers: what to say of a name that there is not, and how to show any of them."""

from collections.abc import Iterable
from difflib import get_close_matches
from unicodedata import category


def unknown(what: str, got: str, known: Iterable[str], advice: str = "Give one of them.") -> str:
    """The error about a name that is none of the `known`, with the nearest of them; `advice` where none is near.

    >>> print(unknown("an attack", "PDG-40", ["FGSM", "PGD", "MIM"]))
    expected an attack (FGSM, PGD, MIM), got 'PDG-40'. Give one of them.
    >>> print(unknown("a class", "acoustic guitar", ["accordion", "acoustic_guitar"]))
    expected a class (accordion, acoustic_guitar), got 'acoustic guitar'. Did you mean acoustic_guitar?
    """
    names = [*known]
    lower = {name.lower(): name for name in reversed(names)}
    near = [lower[match] for match in get_close_matches(got.lower(), lower, n=3)]
    listed = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    hint = f"Did you mean {' or '.join(near)}?" if near else advice
    return f"expected {what} ({listed}), got {got!r}. {hint}"


def visible(text: str) -> str:
    """Text that may be a stranger's, for a terminal: control characters, which could move its cursor, as escapes.

    >>> print(visible("a\\x1b[2Jb\\n\\u202ec"))
    a\\x1b[2Jb
    \\u202ec
    """
    return "".join(
        c if c in "\n\t" or category(c)[0] != "C" else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )
