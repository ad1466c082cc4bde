"""The command line: one module per verb, imported when that verb is called, so that help answers at once.

The answer of a verb goes to stdout; progress, notes and errors go to stderr.
"""

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from avrobust.extras import MissingExtraError
from avrobust.names import unknown, visible

# by group: the verb, its module, what it does
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "measure": {
        "evaluate": ("avrobust.cli.evaluate", "attack a model: clean and robust accuracy"),
        "certify": ("avrobust.cli.certify", "which perturbations change no answer, for certain"),
        "grid": ("avrobust.cli.grid", "attack a model at every pair of audio and visual budgets"),
        "attack": ("avrobust.cli.attack", "make one video adversarial"),
        "study": ("avrobust.cli.study", "run an experiment, from videos to report"),
    },
    "make": {
        "train": ("avrobust.cli.train", "train a model on your clips"),
        "data": ("avrobust.cli.data", "generate the orchestra, prepare clips, audit a dataset"),
    },
    "look": {
        "demo": ("avrobust.demo.command", "attack one clip on a page in the browser, see and hear it"),
        "show": ("avrobust.cli.show", "print what a run, checkpoint, folder of prepared clips or media file holds"),
        "compare": ("avrobust.cli.compare", "two models on the same clips, paired"),
        "report": ("avrobust.cli.report", "write a run's report again from its files"),
    },
    "check": {
        "selftest": ("avrobust.cli.selftest", "check that broken defenses are rated as broken here"),
    },
}
VERBS = {verb: entry for group in GROUPS.values() for verb, entry in group.items()}

# Verbs that keep their finished parts: the same command continues from there.
RESUMABLE = ("study", "train", "data", "selftest", "evaluate", "certify")

HELP = """usage: avrobust VERB [options]      avrobust VERB --help

Does audio-visual integration strengthen or weaken robustness when audio, video, or both are attacked?
{verbs}

examples:
  avrobust study quick                            # ten minutes on two cores; ends with runs/quick/report.html
  avrobust evaluate my_package:model --data my_clips/ --audio 0.006 --visual 2/255

exit status: 0 done, 1 failed (or alarms with --strict), 2 a verb or option that there is not, 130 interrupted
"""


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit status.

    0: done.  1: failed, or --strict found an alarm.  2: unknown verb or option.  130: interrupted by Ctrl-C.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs=_listed()))
        return 0
    if words[0] == "--version":
        print(import_module("avrobust").__version__)
        return 0
    verb, *rest = words
    if verb not in VERBS:
        print(visible(f"avrobust: {unknown('a verb', verb, VERBS, 'See avrobust --help.')}"), file=sys.stderr)
        return 2
    try:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)  # module:name may lie in the working directory, as with `python -m avrobust`
        answer = import_module(VERBS[verb][0]).main(rest)
        answer.print()
        sys.stdout.flush()  # here, where a closed pipe is met
    except KeyboardInterrupt:
        resume = "Finished parts are kept; the same command continues from there."
        anew = "Unwritten results are lost; the same command starts again."
        print(f"\nInterrupted. {resume if verb in RESUMABLE else anew}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads stdout, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # Faults that a user can cause are raised as these, with a message for the user.
        message = (
            explained(error) if isinstance(error, ValueError | OSError | MissingExtraError) else out_of_memory(error)
        )
        if message is None:
            raise
        if os.environ.get("AVROBUST_TRACEBACK"):
            traceback.print_exc()
        print(visible(f"avrobust {verb}: {message}"), file=sys.stderr)
        return 1
    return int(answer.status)


def _listed() -> str:
    """All verbs, by group."""
    return "\n".join(
        f"\n{group}:\n" + "\n".join(f"  {verb:<10}{about}" for verb, (_, about) in verbs.items())
        for group, verbs in GROUPS.items()
    )


def out_of_memory(error: Exception) -> str | None:
    """What to do where memory ran out; None for other errors."""
    advice: str | None = import_module("avrobust.devices").out_of_memory(error)  # PyTorch is imported by now
    return advice


def explained(error: Exception) -> str:
    """The message of an error; one that comes from the operating system is completed to expected, got, what to do.

    >>> explained(PermissionError(13, "Permission denied", "/data/clips"))
    "/data/clips: expected permission to read or write this path, got 'Permission denied'. Change its permissions, or give another path."
    """
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return str(error)
    if isinstance(error, PermissionError):
        expected, advice = "permission to read or write this path", "Change its permissions, or give another path"
    elif isinstance(error, FileNotFoundError):
        expected, advice = "an existing file or folder", "Check the path"
    else:
        expected, advice = "to be able to use this path", "Check the path and the disk"
    return f"{error.filename}: expected {expected}, got {error.strerror!r}. {advice}."
