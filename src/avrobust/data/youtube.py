"""Names of videos from YouTube: an id of 11 characters, to which datasets append cutting times of six digits each."""

import re

_TIMES = re.compile(r"_\d{6}(_\d{6})?$")
_ID = re.compile(r"([\w-]{11})(_\d{6}){0,2}", re.ASCII)
_START = re.compile(r"([\w-]{11})_(\d+)(?:\.\d+)?(?:_\d+(?:\.\d+)?)?", re.ASCII)
_CUT = re.compile(r"(?!\w{3}20\d{6}_)([\w-]{11})_\d{6}(_\d{6})?", re.ASCII)  # no day and time: VID20240130_142501


def without_times(name: str) -> str:
    """A name from a list of YouTube videos, without cutting times.

    >>> [without_times(name) for name in ("3qesirWAGt4_000020", "abcd_123456", "abcd_123456_000020_000030")]
    ['3qesirWAGt4', 'abcd_123456', 'abcd_123456']
    """
    id = _ID.fullmatch(name)
    return id[1] if id else _TIMES.sub("", name)


def id_of_cut(name: str) -> str | None:
    """The YouTube id in the name of a cut video; None if the name is not an id with cutting times.

    >>> id_of_cut("3qesirWAGt4_000020_000030"), id_of_cut("VID_20240130_142501")
    ('3qesirWAGt4', None)
    """
    cut = _CUT.fullmatch(name)
    return cut[1] if cut else None


def cut_of(name: str) -> tuple[str, int] | None:
    """The YouTube id and the second that a clip starts at, as files are named: `<id>_30`, `<id>_000030_000040`, ...

    >>> cut_of("3qesirWAGt4_30"), cut_of("3qesirWAGt4_000030"), cut_of("3qesirWAGt4")
    (('3qesirWAGt4', 30), ('3qesirWAGt4', 30), None)
    """
    cut = _START.fullmatch(name)
    return (cut[1], int(cut[2])) if cut else None
