"""Everything a run has to say → one self-contained HTML page, and a few lines for the terminal."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

from avrobust.evaluation.flags import Flag
from avrobust.evaluation.stats import Estimate, p_value, percent
from avrobust.progress import duration
from avrobust.report import (
    attribution,
    channels,
    features,
    figures,
    first,
    formatting,
    gallery,
    localisation,
    robustness,
    tables,
    worlds,
)
from avrobust.report.claims import claims, families
from avrobust.report.comparisons import Claim
from avrobust.report.comparisons import at as budget_words
from avrobust.report.load import Run, RunError, read
from avrobust.report.paper import Paper, same_budgets

SOUND_BYTES = 4_000_000  # of WAV on a page; base64 adds a third, pictures and curves well under a megabyte
PAGE = "report.html"
SHORT = {"A": "sound", "V": "picture", "AV": "both"}
# By claim, when it asks, and whether it says that integration helps (1) or hurts (-1).
WHAT = {
    "clean": ("on clean clips", 1),
    "A": ("when the sound is attacked", -1),
    "V": ("when the picture is attacked", -1),
    "company": ("when both are attacked", 1),
}


def write(run_dir: Path, papers: Mapping[str, Paper] = MappingProxyType({})) -> Path:
    """Write `report.html` into a run directory from the files that lie there, and return its path.

    Cells that are missing show as a dash.  `papers` are those whose numbers may stand beside.  Raises `RunError` when the folder is not a run.
    """
    page = run_dir / PAGE
    half = page.with_suffix(".tmp")
    half.write_text(html(read(run_dir, papers)), encoding="utf-8")
    half.replace(page)  # whoever has the old page open never meets half a new one
    return page


def html(run: Run) -> str:
    """The page as text.  Raises `RunError` where what it shows lies outside the run's folder, or is damaged."""
    check_inside(run.path)
    room = gallery.Room(SOUND_BYTES)
    attack_tables = tables.attack_tables(run)
    claimed = claims(run)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            run=run,
            answer=headline(run, claimed, stand := robustness.tables(run)),
            glance=tables.glance(run),
            flags=alike(run.flags()),
            counts=[*counts(run), *filter(None, [worlds.apart(*run.worlds)])],
            facts=facts(run),
            tables=[(t, tables.reaches(run, t)) for t in attack_tables],
            fusions=tables.fusion_tables(run),
            defenses=tables.defense_tables(run),
            carried=attribution.tables(run),
            standing=stand,
            sent=channels.tables(run),
            held=channels.budgets(run),
            places=localisation.tables(run),
            baselines=localisation.baselines(run),
            strips={t.model: localisation.strips(run, t.model) for t in localisation.tables(run)},
            clouds=features.clouds(run),
            colours=features.colours(run.classes),
            benchmark=run.benchmark,
            seeds=max((len(a.seeds) for a in run.table.values()), default=0),
            panels={attack: figures.curves(run, attack) for attack in figures.attacks_with_curves(run)},
            claims=claimed,
            extent=extent(claimed),
            families={name: size for name, size in families(claimed).items() if size},
            clips_differ=tables.clips_differ(run),
            training=figures.training(run),
            first=first.first(run, room),
            examples=gallery.examples(run.path, room),
            samples=gallery.samples(run.path, room),
            paper=run.beside,
            heading=partial(heading, run.beside),
            place=place(run.path),
        )
    )


def check_inside(folder: Path) -> None:
    """Refuse media that are links to elsewhere: a page is passed on, and would carry somebody's other files along."""
    for part in ("gallery", "samples", "strips", "features"):
        for file in (folder / part, *(folder / part).rglob("*")):
            if not file.resolve().is_relative_to(folder.resolve()):
                raise RunError(
                    f"{file}: expected a file of this run, got a link to {file.resolve()}. Put the file itself there."
                )


def templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("avrobust.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "decibel": formatting.decibel,
        "duration": duration,
        "listing": formatting.listing,
        "anchor": formatting.anchor,
        "p_value": p_value,
        "json": lambda value: json.dumps(value, indent=1, ensure_ascii=False, default=str),
        "two": lambda value: "—" if math.isnan(value) else f"{value:.2f}",
        "quoted": lambda path: shlex.quote(str(path)),
        "signed": lambda value: f"{100 * value:+.1f}".replace("-", "−"),
        "interval": interval,
        "spaced": lambda name: str(name).replace("_", " "),
        "share": lambda value: f"{value:.2f}".rstrip("0").rstrip("."),
    }
    environment.globals |= {"at": budget_words}
    return environment


def interval(e: Estimate) -> str:
    """What stands below a number: its count and where it may lie."""
    if not e.n:
        return ""
    seeds = "" if e.seeds == 1 else f" × {e.seeds}"
    return f"of {e.n}{seeds} [{percent(e.low)}, {percent(e.high)}]"


def heading(paper: Paper | None, table: tables.AttackTable | tables.ModelTable | robustness.Table) -> str:
    """What is said above a table of one set of budgets."""
    if paper is None:
        return "At these budgets"
    theirs = paper.eps_attack if isinstance(table, tables.AttackTable) else paper.eps_defense
    return "At the paper's budgets" if same_budgets(table.level, theirs) else "At other budgets"


def extent(found: tuple[Claim, ...]) -> float:
    """The largest difference that the claims' little axes must hold, in tenths."""
    ends = [abs(end) for c in found for k in c.comparisons for end in (k.gap.low, k.gap.high)]
    return math.ceil(10 * max(ends, default=1.0)) / 10 or 1.0


def place(path: Path) -> str:
    """A path as one would type it here."""
    absolute, here = path.resolve(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def headline(run: Run, found: Sequence[Claim], stand: Sequence[robustness.Table] = ()) -> str:
    """The page's one sentence, or which alarms forbid one: those about the study, or a network that it speaks of."""
    spoken_of = {"", *(run.model(kind) for kind in ("AV", "A", "V"))}
    void = list(dict.fromkeys(f.name for f in run.flags() if f.level == "alarm" and f.model in spoken_of))
    if void and run.table:
        return f"No answer: what was measured does not carry one ({formatting.listing(void)})."
    return answer(found, stand)


def answer(found: Sequence[Claim], stand: Sequence[robustness.Table] = ()) -> str:
    """The page's one sentence: where integration helps, where it hurts, where these clips cannot tell.

    Where a run did not ask that, which defenses stand.
    """
    by_name = {c.name: c for c in found}
    groups: dict[str, list[str]] = {}
    for name, (when, helps) in WHAT.items():
        groups.setdefault(outcome([helps * k.sign for k in by_name[name].comparisons]), []).append(when)
    if list(groups) == [NOT_TRIED]:
        return stand[0].words if stand else "This run has not yet measured what the question needs."
    parts = [f"{verb} {formatting.listing(places)}" for verb, places in groups.items()]
    return f"Here, hearing and seeing together {formatting.listing(parts)}."


NOT_TRIED = "was not tried"


def outcome(signs: Sequence[int]) -> str:
    """What integration does, from its comparisons with either modality alone: better 1, worse -1, unknown 0.

    >>> outcome([1, 1]), outcome([0]), outcome([1, 0]), outcome([1, -1])
    ('helps', 'makes no clear difference', 'beats only the weaker modality alone', 'falls behind the better modality alone')
    """
    agreed = {1: "helps", -1: "hurts", 0: "makes no clear difference"}
    if not signs:
        return NOT_TRIED
    if len(set(signs)) == 1:
        return agreed[signs[0]]
    return "falls behind the better modality alone" if -1 in signs else "beats only the weaker modality alone"


def counts(run: Run) -> list[str]:
    """One sentence per split with clips that could not be read, and per model or attack that failed."""
    found = []
    for split, (readable, listed) in (run.data.get("counts") or {}).items():
        if readable < listed:
            found.append(f"{listed - readable} of {listed} {split} clips could not be read: counted {readable}.")
    for told in run.missing:
        found.append(f"Missing: {told['model']} (seed {told['seed']}), {told['doing']}, which failed: {told['error']}")
    if aside := run.about.get("set_aside"):
        versions = sorted(
            {str((cell.get("code") or {}).get("avrobust", "of another version")) for cell in aside.values()}
        )
        found.append(
            f"{len(aside)} finished cells of other code, weights or clips ({', '.join(versions)}) are kept in "
            "cells_of_other_versions and not counted here."
        )
    return found


def facts(run: Run) -> list[tuple[str, str]]:
    """What was asked and of what, as (name, text)."""
    about, data = run.about, run.data
    spec, code, world = (m.get(k) or {} for m, k in ((data, "spec"), (about, "code"), (about, "world")))
    split = [f"{n[0]} {name}" for name, n in (data.get("counts") or {}).items()]
    attacks = [a if run.modes[a] in ("corrected", a.split(" ")[-1]) else f"{a} ({run.modes[a]})" for a in run.modes]
    seconds = about.get("seconds") or {}
    seeds = sorted({s for a in run.table.values() for s in a.seeds})
    found = [
        ("Data", joined(data.get("name"), f"{run.classes} classes", f"{formatting.listing(split)} clips" if split else "")),
        ("Clip", _clip(spec)),
        ("Models", formatting.listing([f"{m} ({_model(run, m)})" for kind in ("AV", "A", "V") for m in run.models(kind)])),
        ("Attacks", formatting.listing(attacks)),
        ("Budgets", _budgets(run)),
        ("Seeds", formatting.listing([str(s) for s in seeds])),
        ("Machine", joined(world.get("cpu"), world.get("device"), threads(world), named("Python", world.get("python")), named("torch", world.get("torch")))),
        ("Code", joined(named("avrobust", code.get("version")), named("commit", str(code.get("commit") or "")[:10]), "with uncommitted changes" if code.get("dirty") else "")),
        ("Started", str(about.get("started") or "").replace("T", " ")[:16]),
        ("Time", joined(*(f"{stage} {duration(s)}" for stage, s in seconds.items()))),
        ("Data sha256", str(data.get("sha256") or "")[:16]),
    ]  # fmt: skip
    return [(name, text) for name, text in found if text]


def _clip(spec: Mapping[str, Any]) -> str:
    if not spec:
        return ""
    return (
        f"{spec.get('seconds', '?')} s of sound at {spec.get('rate', '?')} Hz and of picture at {spec.get('fps', '?')} "
        f"frames per second, {spec.get('size', '?')} × {spec.get('size', '?')} pixels"
    )


def _model(run: Run, name: str) -> str:
    about = (run.about.get("models") or {}).get(name, {})
    what = {"AV": "sound and picture", "A": "sound only", "V": "picture only"}[run.kind(name)]
    loss = about.get("loss", "cross_entropy")
    return joined(
        what,
        about.get("fusion") if run.kind(name) == "AV" or about.get("fusion") != "concat" else "",
        named("loss", "" if loss == "cross_entropy" else loss),
        named("feature_defense", about.get("feature_defense")),
        named("from", about.get("start")),
        named("recipe", about.get("recipe")),
    )


def _budgets(run: Run) -> str:
    """The budgets that were tried, per subset, from the smallest to the largest."""
    parts = []
    for subset, name in (("A", "sound"), ("V", "picture"), ("AV", "both")):
        tried = sorted({c.budget for c in run.table if c.subset == subset})
        if tried:
            ends = budget_words(subset, tried[0]), budget_words(subset, tried[-1])
            parts.append(
                f"{name}: {len(tried)}, from {ends[0]} to {ends[1]}" if len(tried) > 1 else f"{name}: {ends[0]}"
            )
    return "; ".join(parts)


def threads(world: Mapping[str, Any]) -> str:
    """How many a run had, in words; nothing where that is not known."""
    count = world.get("threads")
    return f"{count} thread{'s' if count > 1 else ''} a process" if count else ""


def named(name: str, value: object) -> str:
    """A value after its name; nothing without a value."""
    return f"{name} {value}" if value else ""


def joined(*parts: object) -> str:
    """What there is of these, with commas between."""
    return ", ".join(str(p) for p in parts if p)


def alike(raised: Sequence[Flag]) -> list[tuple[Flag, list[Flag]]]:
    """Flags of one name, the first of them to speak for the others: nine networks may be blind in the same way."""
    groups = [list(g) for _, g in groupby(raised, key=lambda flag: (flag.level, flag.name))]
    return [(first, more) for first, *more in groups]


def summary(run_dir: Path) -> str:
    """A run in a few lines: the answer, Table 1 at each of its budgets, and how many flags there are.

    Accuracy in per cent; a dash is a cell that was not computed.
    """
    run = read(run_dir)
    lines = [headline(run, claims(run), robustness.tables(run)), ""]
    for table in tables.attack_tables(run):
        level = table.level
        lines.append("; ".join(f"{SHORT[s]} ({s}) at {budget_words(s, b)}" for s, b in level.items()))
        clean = {k: c.ours for k, c in table.clean.items()}
        rows: list[tuple[str, ...]] = [("attack", "clean", "A", "V", "AV", "Avg")]
        for row in table.rows:
            rows.append((row.attack, percent(clean["AV"].value), *(percent(c.ours.value) for c in row.cells.values())))
        widths = [max(len(r[i]) for r in rows) for i in range(6)]
        lines += [
            "  ".join(v.ljust(w) if i == 0 else v.rjust(w) for i, (v, w) in enumerate(zip(r, widths, strict=True)))
            for r in rows
        ]
        lines += [f"clean: together {clean['AV']}; sound alone {clean['A']}; picture alone {clean['V']}", ""]
    raised = run.flags()
    for flag, more in alike(raised):
        if flag.level != "note":
            lines.append(f"{flag.level}: {flag.text}{f' And {len(more)} more like it.' if more else ''}")
    lines += filter(None, [tables.clips_differ(run), worlds.apart(*run.worlds)])
    notes = sum(flag.level == "note" for flag in raised)
    if notes:
        lines.append(f"{notes} note{'s' if notes > 1 else ''} in the report.")
    return "\n".join(lines).rstrip()
