"""The command line: one module per verb, imported when that verb is called, so that help answers at once."""

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

# verb: (module, what it does)
VERBS = {
    "study": ("avrobust.cli.study", "run an experiment from videos to report"),
    "report": ("avrobust.cli.report", "rebuild a run's page from its files"),
    "show": ("avrobust.cli.show", "say what a run, a checkpoint, a store or a media file holds"),
    "data": ("avrobust.cli.data", "write the orchestra, prepare clips, audit a dataset"),
    "train": ("avrobust.cli.train", "train a network on your clips"),
    "evaluate": ("avrobust.cli.evaluate", "attack a model and say how often it is still right"),
    "plane": ("avrobust.cli.plane", "attack a model at every pair of budgets, and find each clip's smallest"),
    "selftest": ("avrobust.cli.selftest", "show that broken defenses do not deceive this installation"),
    "attack": ("avrobust.cli.attack", "make one video adversarial: picture, sound, predictions"),
}

# Those that keep what is finished, and take it up again.
GO_ON = ("study", "train", "data", "selftest")

HELP = """usage: avrobust VERB [options]      avrobust VERB --help

Does hearing help a model see, and seeing help it hear, when someone attacks what it hears, what it sees, or both?

{verbs}

example:
  avrobust study quick            # a few minutes on a laptop; ends with runs/quick/report.html
"""


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit status: 0 done, 1 it could not be done or --strict found an alarm, 2 wrong words, 130 stopped."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<10}{about}" for verb, (_, about) in VERBS.items())))
        return 0
    if words[0] == "--version":
        print(import_module("avrobust").__version__)
        return 0
    verb, *rest = words
    if verb not in VERBS:
        print(f"avrobust: there is no verb {verb!r}; there are {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    try:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)  # module:name is found where it is called, as under `python -m avrobust`
        status: int | None = import_module(VERBS[verb][0]).main(rest)
    except KeyboardInterrupt:
        kept = "What was finished is kept; the same command goes on from there."
        lost = "What was not written is lost; the same command begins anew."
        print(f"\nStopped. {kept if verb in GO_ON else lost}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        # What a user can cause is raised as these two, in words meant for them.
        if os.environ.get("AVROBUST_TRACEBACK"):
            traceback.print_exc()
        print(f"avrobust {verb}: {error}", file=sys.stderr)
        return 1
    return status or 0
