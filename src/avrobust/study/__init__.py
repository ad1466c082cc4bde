"""Studies: experiments as values.  `STUDIES` has the named ones."""

from importlib import import_module

from avrobust.study.plan import Cell, Contestant, Study, Trial

# name: module with a `study`
STUDIES = {
    "quick": "avrobust.study.quick",
    "standard": "avrobust.study.standard",
    "worst_case": "avrobust.study.worst_case",
    "selftest": "avrobust.study.selftest",
    "tian2021_music": "avrobust.study.tian2021_music",
    "tian2021_kinetics_sounds": "avrobust.study.tian2021_kinetics_sounds",
    "tian2021_ave": "avrobust.study.tian2021_ave",
}

__all__ = ["STUDIES", "Cell", "Contestant", "Study", "Trial", "named"]


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
