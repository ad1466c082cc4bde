"""The studies that the command line knows by name, of this package and of the papers in it."""

from importlib import import_module

from avrobust.papers.tian2021.studies import STUDIES as TIAN2021
from avrobust.study import Study

# name: module with a `study`
STUDIES = {**TIAN2021, "selftest": "avrobust.study.selftest"}


def named(name: str) -> Study:
    """The study called `name`, or the one at `module:attribute` for a study of your own."""
    if ":" not in name and name not in STUDIES:
        raise ValueError(
            f"there is no study {name!r}; there are {', '.join(STUDIES)}. For your own, write module:attribute."
        )
    module, _, attribute = (name if ":" in name else f"{STUDIES[name]}:study").partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"cannot import the study {name!r}: {error}. Write module:attribute, with the module on Python's path."
        ) from error
    if not isinstance(found, Study):
        raise ValueError(f"{name!r} should be a Study, got {type(found).__name__}.")
    return found
