"""The classes of "Kinetics-Sounds", a subset of Kinetics: different papers use different lists by that name.

Names are spelled as in Kinetics-400; folders have underscores for spaces, and no quotes or brackets.
"""

import re

# The folders of the lists of Tian & Xu 2021, and the 27 names of `ks34` that Kinetics-400 still has.
KS27 = (
    "blowing nose", "bowling", "chopping wood", "laughing", "playing accordion", "playing bagpipes",
    "playing bass guitar", "playing clarinet", "playing drums", "playing guitar", "playing harmonica",
    "playing keyboard", "playing organ", "playing piano", "playing saxophone", "playing trombone", "playing trumpet",
    "playing violin", "playing xylophone", "ripping paper", "shoveling snow", "shuffling cards", "singing",
    "tap dancing", "tapping guitar", "tapping pen", "tickling",
)  # fmt: skip
KS31 = (*KS27, "blowing out candles", "dribbling basketball", "mowing lawn", "stomping grapes")

CLASSES: dict[str, tuple[str, ...]] = {
    # Tian & Xu 2021; checked against their lists.
    "ks27": KS27,
    # AdaMML (Panda et al. 2021); as given by its authors, github.com/IBM/AdaMML issue 3.
    "ks31": KS31,
    # CrissCross (Sarkar & Etemad 2023); as given by its authors, github.com/pritamqu/CrissCross issue 4.
    "ks32": (*KS31, "strumming guitar"),
    # The original: "Look, Listen and Learn" (Arandjelovic & Zisserman 2017), appendix A.1.  Not verified: copied
    # from programs that quote it.  The last seven are names of a Kinetics before its release; no Kinetics-400 has them.
    "ks34": (
        *KS27, "typing", "blowing out", "dribbling ball", "mowing the lawn by pushing lawnmower", "stomping",
        "fingerpicking", "patting",
    ),
}  # fmt: skip


def listed_classes(text: str) -> tuple[str, ...]:
    """The classes of a list by its name, or class names separated by commas.

    >>> len(listed_classes("ks31")), listed_classes("singing, tap dancing")
    (31, ('singing', 'tap dancing'))
    """
    return CLASSES.get(text) or tuple(name for part in text.split(",") if (name := part.strip()))


def folder_name(label: str) -> str:
    """A class name as the folders of Kinetics spell it, in lower case, to compare names of tables and folders.

    >>> folder_name("Massaging person's head"), folder_name("shooting goal (soccer)")
    ('massaging_persons_head', 'shooting_goal_soccer')
    """
    return re.sub(r"[\s_]+", "_", re.sub(r"['\"()]", "", label).strip()).casefold()
