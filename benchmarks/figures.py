"""The figures of a run as tables and one image.  No number in them is typed by hand.

.venv/bin/python benchmarks/figures.py                  # print and draw the figures in runs/bench
.venv/bin/python benchmarks/figures.py --publish        # keep them in results/ under the machine's name, update README and figures.svg
"""

import argparse
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import vl_convert

HERE = Path(__file__).parent
RUNS, RESULTS, README, IMAGE = Path("runs/bench"), HERE / "results", HERE / "README.md", HERE / "figures.svg"
BEGIN, END = "<!-- written by figures.py: begin -->", "<!-- end -->"

SUBSETS = {"A": "audio", "V": "visual", "AV": "joint"}
INPUTS = {"quick": "64 × 64, 12,288 samples", "paper": "224 × 224, 65,535 samples"}
Run = dict[str, Any]  # one script's file; see `measure.write`
Row = dict[str, Any]


# Tables


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def short(value: float | None, unit: str = "") -> str:
    """Three significant digits.

    >>> short(1234.5), short(0.04567, " s"), short(None)
    ('1,234', '0.0457 s', '–')
    """
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}{unit}"
    return f"{value:#.3g}{unit}".replace(".e", "e")


def beside(value: float | None, ratio: float | None) -> str:
    """A figure, with its ratio to the best peer in brackets."""
    return short(value) if ratio is None else f"{short(value)} ({ratio:.2f})"


def attacks(run: Run) -> str:
    """Speed, memory and strength of every method."""
    size, batch, attack, repeats = (run["asked"][k] for k in ("size", "batch", "attack", "repeats"))
    subsets = list(dict.fromkeys(r["on"] for r in run["rows"]))

    def line(method: str) -> list[str]:
        own = {r["on"]: r for r in run["rows"] if r["method"] == method}

        def cells(say: Callable[[Row], str]) -> list[str]:
            return [own[s].get("failed") or say(own[s]) for s in subsets]

        return [
            method,
            *cells(lambda r: beside(r["clips_per_s"], r["faster"])),
            *cells(lambda r: beside(r["memory_mb"], r["memory"])),
            *cells(lambda r: f"{r['loss']:.3f}, {r['correct']} of {batch}"),
        ]

    heads = [f"{what}: {SUBSETS[s]}" for what in ("clips/s", "MB", "loss, correct") for s in subsets]
    title = f"{attack}, {INPUTS[size]}, batch {batch}, {f'median of {repeats}' if repeats > 1 else 'one run'}"
    return f"**{title}**; {origin(run)}.\n\n" + table(
        ["", *heads], map(line, dict.fromkeys(r["method"] for r in run["rows"]))
    )


CORRECT = ("clean", "FGSM: audio · visual · joint", "PGD-10", "MIM-10")


def correct_counts(row: Row) -> list[str]:
    """The correctly classified clips of Table 1, in the columns `CORRECT`."""
    clean, *under = row["correct"]
    return [str(clean), *(" · ".join(map(str, under[i : i + 3])) for i in (0, 3, 6))]


def table1(run: Run) -> str:
    """Time, memory, and the correctly classified clips under each of the nine attacks."""
    size, clips, batch = (run["asked"][k] for k in ("size", "clips", "batch"))

    def line(r: Row) -> list[str]:
        if "failed" in r:
            return [r["method"], r["failed"], *[""] * 5]
        return [r["method"], beside(r["seconds"], r["faster"]), beside(r["memory_mb"], r["memory"]), *correct_counts(r)]

    head = ["", "seconds", "MB", *CORRECT]
    title = f"Table 1 of {clips} clips, {INPUTS[size]}, batch {batch}, one run; correctly classified clips"
    return f"**{title}**; {origin(run)}.\n\n{table(head, map(line, run['rows']))}"


def precision(run: Run) -> str:
    """Robust accuracy under attacks whose gradients were taken in each precision."""
    a, rows = run["asked"], run["rows"]
    names, seconds = list(dict.fromkeys(r["precision"] for r in rows)), {}
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        few = "" if r["clips"] == a["clips"] else f", {r['clips']} clips"
        lines.setdefault((r["budgets"], r["attack"] + few), {})[r["precision"]] = " · ".join(map(str, r["correct"]))
        seconds[r["precision"]] = seconds.get(r["precision"], 0.0) + (r["seconds"] or math.nan)
    title = f"Gradients in each precision, predictions in float32: {a['model']} of {a['run']}; correctly classified of {a['clips']} clips, audio · visual · joint"
    if "float32_layers" in a:
        title += f"; layers of the encoders that stay in float32: {a['float32_layers']}"
    body = [[*key, *(told.get(name, "–") for name in names)] for key, told in lines.items()]
    whole = all(len(told) == len(names) for told in lines.values())
    if whole and not any(map(math.isnan, seconds.values())):
        body.append(["all", "seconds", *(short(seconds[name]) for name in names)])
    return f"**{title}**; {origin(run)}.\n\n{table(['budgets', 'attack', *names], body)}"


def pair(run: Run) -> str:
    """The worst case on a pair of encoders, beside a library's."""
    a = run["asked"]

    def line(r: Row) -> list[str]:
        return [SUBSETS[r["on"]], r["method"], beside(r["seconds"], r["faster"]), beside(r["memory_mb"], r["memory"]), str(r["correct"])]  # fmt: skip

    title = f"AVAutoAttack on AST + ViT ({a['size']}), {a['clips']} clips, {a['steps']} steps, {a['queries']} queries"
    return f"**{title}**; {origin(run)}.\n\n" + table(
        ["attacked", "", "seconds", "MB", "correct"], map(line, run["rows"])
    )


def streaming(run: Run) -> str:
    """Time and memory of attacks on more clips than fit in memory."""
    a = run["asked"]

    def line(r: Row) -> list[str]:
        on = SUBSETS.get(r["on"], r["on"])
        return [r["attack"], on, *(short(r[k]) for k in ("seconds", "cpu_s", "resident_mb", "own_mb"))]

    title = f"Attacks on {a['clips']:,} clips of 10 s, {short(a['disk_gb'])} GB on disk, {a['network']} network; the process held at most {short(run['peak_mb'])} MB"
    head = ["attack", "attacked", "seconds", "seconds of a core", "MB resident", "MB own"]
    return f"**{title}**; {origin(run)}.\n\n{table(head, map(line, run['rows']))}"


def roofline(run: Run) -> str:
    """Speed, and shares of time."""
    size, batch = run["asked"]["size"], run["asked"]["batch"]
    tops = ", ".join(f"{short(top)} GFLOP/s in {name}" for name, top in run["products"].items())
    rows = run["rows"]
    reach = table(
        ["step", *(SUBSETS[r["on"]] for r in rows)],
        [
            ["milliseconds", *(short(r["ms"]) for r in rows)],
            ["GFLOP per clip", *(short(r["gflop_per_clip"]) for r in rows)],
            ["GFLOP/s", *(short(r["gflop_per_s"]) for r in rows)],
            [f"share of the product in {run['precision']}", *(f"{r['reached']:.0%}" for r in rows)],
            *(
                [f"{kind}: share of time, GFLOP/s", *(kind_cell(r, kind) for r in rows)]
                for kind in dict.fromkeys(k["kind"] for r in rows for k in r["kinds"])
            ),
        ],
    )
    title = f"Roofline, {INPUTS[size]}, batch {batch}: matrix product {tops}; {short(run['copy_gb_per_s'])} GB/s copied"
    return f"**{title}**; {origin(run)}.\n\n{reach}"


def kind_cell(row: Row, kind: str) -> str:
    """The share of one kind of operation in one step."""
    k = next((k for k in row["kinds"] if k["kind"] == kind), None)
    if k is None:
        return "–"
    return f"{k['share']:.0%}" + ("" if k["gflop_per_s"] is None else f", {short(k['gflop_per_s'])}")


def engine_options(run: Run) -> str:
    """Clips per second, memory and first step, by option and batch size."""
    batches = run["asked"]["batch"]

    def line(option: str) -> list[str]:
        own = {r["batch"]: r for r in run["rows"] if r["option"] == option}
        cells = [
            own[b].get("failed") or f"{short(own[b]['clips_per_s'])}, {short(own[b]['memory_mb'])}" for b in batches
        ]
        longest = [short(max((r[k] for r in own.values() if k in r), default=None)) for k in ("build_s", "first_s")]
        return [option, *cells, *longest]

    head = ["clips/s, MB", *(f"batch {b}" for b in batches), "to build, s", "longest first step, s"]
    title = f"Joint gradient steps, {INPUTS[run['asked']['size']]}, median of {run['asked']['repeats']}"
    return f"**{title}**; {origin(run)}.\n\n" + table(head, map(line, dict.fromkeys(r["option"] for r in run["rows"])))


def chunks(run: Run) -> str:
    """Clips per second by the number of clips that the network takes at a time."""
    a, sizes = run["asked"], run["asked"]["chunks"]
    cells = {(r["precision"], r["on"], r["chunk"]): short(r["clips_per_s"]) for r in run["rows"]}
    lines = [
        [f"{precision}, {SUBSETS[on]}", *(cells[precision, on, size] for size in sizes)]
        for precision, on in dict.fromkeys((r["precision"], r["on"]) for r in run["rows"])
    ]
    title = (
        f"Gradient steps, {INPUTS[a['size']]}, {a['batch']} clips, by the clips in a chunk; the best of {a['repeats']}"
    )
    return f"**{title}**; {origin(run)}.\n\n{table(['clips/s', *map(str, sizes)], lines)}"


def loop(run: Run) -> str:
    """Milliseconds of a step beside the network, by method."""
    a, rows = run["asked"], run["rows"]
    cells = {(r["method"], r["attack"], r["on"]): beside(r["ms"], r["faster"]) for r in rows}
    columns = list(dict.fromkeys((r["attack"], r["on"]) for r in rows))
    lines = [[name, *(cells[name, *c] for c in columns)] for name in dict.fromkeys(r["method"] for r in rows)]
    title = (
        f"A step of a search beside its network, {INPUTS[a['size']]}, batch {a['batch']}; the best of {a['repeats']}"
    )
    heads = ["milliseconds", *(f"{attack}: {SUBSETS[on]}" for attack, on in columns)]
    return f"**{title}**; {origin(run)}.\n\n{table(heads, lines)}"


def sparse(run: Run) -> str:
    """Seconds and gaps of sparse codes."""
    a = run["asked"]
    lines = [
        [r["method"], r["failed"], "", "", ""]
        if "failed" in r
        else [r["method"], short(r["seconds"]), short(r["times"]), f"{r['gap_max']:.0e}", f"{r['gap_mean']:.0e}"]
        for r in run["rows"]
    ]
    title = f"Sparse codes, {a['clips']} features of {a['width']} numbers over {a['columns']:,} {a['kind']}"
    return f"**{title}**; {origin(run)}.\n\n" + table(
        ["", "seconds", "relative to ours", "largest gap", "mean gap"], lines
    )


def strength(run: Run) -> str:
    """Correctly classified clips under each attack, its cost, and which searches of the worst cases fooled a clip."""
    a, rows = run["asked"], run["rows"]
    methods = list(dict.fromkeys(r["method"] for r in rows))

    def cell(r: Row) -> str:
        near = f"; {short(r['near'])}" if "near" in r else ""
        return f"{r['right']} ({short(r['passes'])}{near})"

    cells = {(r["model"], r["on"], r["method"]): cell(r) for r in rows}
    lines = [
        [model, SUBSETS[on], *(cells.get((model, on, method), "–") for method in methods)]
        for model, on in dict.fromkeys((r["model"], r["on"]) for r in rows)
    ]
    title = f"Strength on the models of {a['run']}: correctly classified of {a['clips']} clips after attacks of {a['steps']} steps, passes per clip, and those after which at most one clip more stands"
    fooled = [[r["model"], SUBSETS[r["on"]], r["method"], said] for r in rows if (said := adding(r))]
    tables = [table(["", "attacked", *methods], lines)]
    if fooled:
        tables.append(
            "Searches that fooled a clip which the ones before left:\n\n"
            + table(["", "attacked", "", "search: clips"], fooled)
        )
    return f"**{title}**; {origin(run)}.\n\n" + "\n\n".join(tables)


def adding(row: Row) -> str:
    """The searches of a worst case after which fewer clips stood than before, but for the first."""
    trace = row.get("trace", [])
    drops = [(name, before[2] - left) for before, (name, _, left) in pairwise(trace)]
    return ", ".join(f"{name}: {fewer}" for name, fewer in drops if fewer) or ("none after the first" if drops else "")


def clean_gradients(run: Run) -> str:
    """Seconds of attacks with and without keeping the gradient at the clean clips."""
    a = run["asked"]
    lines = [
        [
            r["attacks"],
            str(r["threats"]),
            short(r["computed anew"]),
            f"{short(r['kept'])} ({r['computed anew'] / r['kept']:.2f})",
        ]
        for r in run["rows"]
    ]
    title = f"Curves, {a['clips']} clips, {INPUTS[a['size']]}: seconds with the gradient at the clean clips computed for each attack, and kept"
    return f"**{title}**; {origin(run)}.\n\n{table(['', 'budgets', 'computed', 'kept'], lines)}"


def searches(run: Run) -> str:
    """Correctly classified clips under our attacks and under a library's."""
    a = run["asked"]
    lines = [
        [
            f"{r['search']}, {r['norm']}, {SUBSETS[r['on']]}",
            *(str(r[k]) for k in ("clips", "ours", "theirs")),
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * r[k] for k in ("difference", "low", "high"))),
            f"{r['p']:.2f}",
        ]
        for r in run["rows"]
    ]
    title = f"Attacks of {a['steps']} steps or {a['queries']} queries on the unimodal models of {a['run']}; correctly classified clips"
    head = ["", "clips", "ours", "torchattacks", "theirs minus ours, points", "p (exact McNemar)"]
    return f"**{title}**; {origin(run)}.\n\n{table(head, lines)}"


def scaling(run: Run) -> str:
    """Seconds by the number of clips, and by the number of processes."""
    a = run["asked"]
    clips = [[f"{r['clips']:,}", short(r["seconds"]), short(r["ms_per_clip"])] for r in run["rows"]]
    shared = [
        [{"here": "this machine", "ray": "Ray on this machine", "machine": "the study twice at once, each on one process"}[r["where"]], str(r["processes"]), f"{beside(r['seconds'], r['faster'])}"]
        for r in run["shared"]
    ]  # fmt: skip
    titles = (
        f"One evaluation (clean, PGD-10 on both, {INPUTS['quick']}) by its clips, batch {a['batch']}",
        f"A study of {a['networks']} networks, one epoch each, PGD-10 on {a['attacked']} clips, by its processes",
    )
    tables = table(["clips", "seconds", "ms a clip"], clips), table(["where", "processes", "seconds (faster)"], shared)
    return "\n\n".join(f"**{title}**; {origin(run)}.\n\n{body}" for title, body in zip(titles, tables, strict=True))


TABLES: dict[str, Callable[[Run], str]] = {
    "attacks": attacks, "table1": table1, "roofline": roofline, "engine_options": engine_options,
    "chunks": chunks, "loop": loop, "sparse": sparse,
    "precision": precision, "pair": pair, "streaming": streaming, "strength": strength, "searches": searches,
    "clean_gradients": clean_gradients, "scaling": scaling,
}  # fmt: skip


def origin(run: Run) -> str:
    """Threads, versions and date of a run."""
    m, code = run["machine"], run["code"]
    commit = "" if code["commit"] is None else f", code {code['commit'][:7]}{' with changes' if code['dirty'] else ''}"
    return f"{m['threads']} thread{'s' * (m['threads'] > 1)}, torch {m['torch']}, {run['date']}{commit}"


def machine(run: Run) -> str:
    """The display name of a machine."""
    m = run["machine"]
    fast = "fast" if m["bfloat16"] else "no fast"
    return f"{'' if m['device'] == 'cpu' else m['device'] + ', '}{m['cpu']}, {m['cores']} cores, {m['instructions']}, {m['memory_gb']} GB, {fast} bfloat16"


def slug(name: str) -> str:
    """A folder name.

    >>> slug("AMD EPYC, 2 cores")
    'amd-epyc-2-cores'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def load(folder: Path) -> list[Run]:
    """A machine's runs, in the order of `TABLES`."""
    runs = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return sorted(runs, key=lambda run: (list(TABLES).index(run["question"]), *headline(run)))


def section(runs: list[Run]) -> str:
    """All tables of one machine."""
    return "\n\n".join([f"## {machine(runs[0])}", *(TABLES[run["question"]](run) for run in runs)])


def readme(text: str, machines: Iterable[list[Run]]) -> str:
    """The README with the tables of all machines between its marks."""
    before, rest = text.split(BEGIN)
    body = "\n\n".join(section(runs) for runs in machines)
    return f"{before}{BEGIN}\n{body}\n{END}{rest.split(END)[1]}"


# The image

GREY, OURS = "#767676", "#3b82c4"  # readable on white and on black


def image(runs: list[Run]) -> dict[str, Any] | None:
    """Bars of speed and memory for each method, relative to the best peer: the largest inputs and the first attack.

    As Vega-Lite.
    """
    runs = sorted(runs, key=headline)
    tables = [run for run in runs if run["question"] == "table1"]
    run = next((run for run in runs if run["question"] == "attacks"), None)
    if run is None:
        return None
    rows, attack = run["rows"], run["asked"]["attack"]
    subsets = dict.fromkeys(r["on"] for r in rows)
    panels = [
        ([f"{attack}, {SUBSETS[s]}", "relative speed"], [r for r in rows if r["on"] == s], "faster") for s in subsets
    ]
    panels += [(["Table 1", "relative speed"], table["rows"], "faster") for table in tables[:1]]
    panels += [
        ([f"{attack}, {SUBSETS[s]}", "relative memory"], [r for r in rows if r["on"] == s], "memory")
        for s in list(subsets)[-1:]
    ]
    panels = [(title, [r for r in shown if r.get(key) is not None], key) for title, shown, key in panels]
    names = list(dict.fromkeys(r["method"] for _, shown, _ in panels for r in shown))
    about = f"best peer = 1; {INPUTS[run['asked']['size']]}, batch {run['asked']['batch']}; {machine(run)}"
    return {
        "hconcat": [panel(*p, names, first=i == 0) for i, p in enumerate(panels)],
        "title": {"text": about, "orient": "bottom", "anchor": "start", "fontSize": 10, "fontWeight": "normal", "color": GREY},
        "config": {
            "background": "transparent", "view": {"stroke": None}, "font": "Helvetica, Arial, sans-serif", "text": {"color": GREY},
            "axis": {"labelColor": GREY, "labelLimit": 0, "labelFontSize": 12}, "title": {"color": GREY, "fontWeight": "normal"},
        },
    }  # fmt: skip


def panel(title: list[str], rows: Sequence[Row], key: str, names: Sequence[str], *, first: bool) -> dict[str, Any]:
    """One number of each method as bars, beside a line at the best peer's; the first panel names the methods."""
    place = {
        "y": {"field": "method", "type": "nominal", "sort": [*names], "scale": {"domain": [*names]},
              "axis": {"title": None, "labels": first, "ticks": False, "domain": False}},
        "x": {"field": "value", "type": "quantitative", "scale": {"domain": [0, 1.25 * max((r[key] for r in rows), default=1)], "nice": False}, "axis": None},
    }  # fmt: skip
    ours = {"condition": {"test": "datum.method == 'engine'", "value": OURS}, "value": GREY}
    return {
        "title": {"text": title, "anchor": "start", "fontSize": 12},
        "width": 130,
        "height": {"step": 26},
        "data": {"values": [{"method": r["method"], "value": r[key]} for r in rows]},
        "layer": [
            {"mark": {"type": "bar", "opacity": 0.7}, "encoding": place | {"color": ours}},
            {"mark": {"type": "text", "align": "left", "dx": 3, "fontSize": 11}, "encoding": place | {"text": {"field": "value", "format": ".2"}}},
            {"mark": {"type": "rule", "color": GREY, "strokeDash": [2, 2]}, "encoding": {"x": {"datum": 1, "type": "quantitative"}}},
        ],
    }  # fmt: skip


def headline(run: Run) -> tuple[bool, bool, int]:
    """The priority of a run in the image: the paper's inputs, PGD-10 in small batches, a table of many clips."""
    asked = run["asked"]
    return (
        asked.get("size") != "paper",
        asked.get("attack") != "PGD-10",
        asked["batch"] if run["question"] == "attacks" else -asked.get("clips", 0),
    )


def draw(runs: list[Run], file: Path) -> None:
    """Write the image as SVG; the same figures give the same file."""
    if spec := image(runs):
        file.write_text(vl_convert.vegalite_to_svg(spec) + "\n")


def publish(folder: Path) -> None:
    """Keep a folder's figures under its machine's name, and update README and image from all kept figures."""
    runs = load(folder)
    if not runs:
        raise FileNotFoundError(
            f"expected figures in {folder}, got none. Run the scripts first, for example with make bench."
        )
    kept = RESULTS / slug(machine(runs[0]))
    kept.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        shutil.copy(file, kept)
    machines = sorted((load(f) for f in RESULTS.iterdir() if f.is_dir()), key=newest, reverse=True)
    README.write_text(readme(README.read_text(), machines))
    draw(max(machines, key=len), IMAGE)  # of the machine with the most figures


def newest(runs: list[Run]) -> str:
    """The date of a machine's last run."""
    return max(run["date"] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=RUNS)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    if args.publish:
        publish(args.folder)
    else:
        runs = load(args.folder)
        print(section(runs))
        draw(runs, args.folder / "figures.svg")


if __name__ == "__main__":
    main()
