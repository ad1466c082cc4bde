"""The grid of budgets: against frontiers known in closed form, against cells run alone, and as a file and a page."""

import itertools
import math
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from avrobust import APGD, AV, FGSM, PGD, Batch, Published, Rows, Square, Threat, engine, margin
from avrobust.attacks import Quantized
from avrobust.attacks.search import random_perturbation
from avrobust.cli import main
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.frontier import COMPUTED, FOOLED, KNOWN, STANDS
from avrobust.evaluation.prepared import PreparedBatch
from avrobust.media import write_mp4
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.report import budget_grid, budget_grid_figures, budget_grid_page
from avrobust.report.budget_grid import GridResult, median
from avrobust.report.figures import library
from nets import clips, linear, network

BOTH = Threat.linf(audio=0.015, visual="4/255")


def evaluator(model, n=18, size=6):
    """Clips of which the model gets most right, in batches of `size`."""
    batch = clips(n)
    x = batch.x.map(lambda s: s * 0.5 + 0.25)  # away from the ends of their range
    with torch.no_grad():
        y = model(x).argmax(1)
    y = torch.where(torch.arange(n) % 6 == 0, (y + 1) % 4, y)
    parts = [slice(i, i + size) for i in range(0, n, size)]
    return Evaluator(model, [Batch(x.map(lambda s, p=p: s[p]), y[p], batch.ids[p]) for p in parts], precision="float32")


def table(found, column="correct"):
    """A column by (threat, clip), and the budgets of each threat."""
    keys = list(
        dict.fromkeys(zip(found.rows["eps_audio"].to_pylist(), found.rows["eps_visual"].to_pylist(), strict=True))
    )
    return np.array(found.rows[column].to_pylist(), object).reshape(len(keys), -1), np.array(keys)


def test_a_linear_model_s_plane_is_the_one_in_closed_form():
    clean = evaluator(linear).clean()
    found = evaluate_budgets(evaluator(linear), PGD(objective=margin), BudgetGrid(BOTH, levels=3).cells)
    correct, eps = table(found)
    # 20 times means over samples and pixels of one class against another: a budget raises the margin by 40 times itself
    reached = clean.column("margin") + 40 * eps.sum(1, keepdims=True)
    clear = abs(reached) > 1e-2
    assert clear.mean() > 0.9
    assert (correct == (reached <= 0))[clear].all()
    assert 0.2 < correct.mean() < 0.8
    assert (found.checked, found.missed) == (
        int((correct[-1] | (correct[0] & correct[1])).sum()),
        0,
    ) or found.missed == 0


def test_the_smallest_joint_budget_is_the_one_in_closed_form(tmp_path):
    clean = evaluator(linear).clean()
    grid = BudgetGrid(BOTH, levels=1, floor_db=20, step_db=0.5)
    found = evaluate_budgets(evaluator(linear), PGD(objective=margin), [*grid.cells, *grid.ladder])
    found.save(tmp_path / "grid.parquet", ABOUT | {"levels": 1, "floor_db": 20, "step_db": 0.5})
    smallest = GridResult.read(tmp_path / "grid.parquet").smallest
    exact = dict(
        zip(clean.column("clip"), -clean.column("margin") / (40 * (BOTH.audio.eps + BOTH.visual.eps)), strict=True)
    )
    for got, (_, true) in zip(smallest, sorted(exact.items()), strict=True):
        if true < 0:
            assert got == 0
        elif true > 1:
            assert got == math.inf
        elif true > 0.1:
            assert true * (1 - 1e-3) <= got <= true * 10 ** (0.5 / 20) * (1 + 1e-3)
        else:
            assert got == pytest.approx(0.1)


@pytest.mark.parametrize(
    "attack", [PGD(steps=4), FGSM(), APGD(steps=5), Square(queries=5), Quantized(PGD(steps=3))], ids=repr
)
def test_any_attack_finds_what_it_finds_in_each_cell_alone(attack):
    grid = BudgetGrid(BOTH, levels=2)
    found = evaluate_budgets(evaluator(network()), attack, grid.cells)
    correct, _ = table(found)
    alone = np.array([evaluator(network()).under(attack, t).column("correct") for t in grid.cells])
    assert (correct == alone).mean() > 0.95
    # and it never says that a clip stands where these very signals, inside a smaller budget, fooled it
    for i, j in itertools.product(range(9), repeat=2):
        if i % 3 <= j % 3 and i // 3 <= j // 3:
            assert (correct[i] >= correct[j]).all()


def test_what_a_clip_gets_does_not_depend_on_which_clips_go_with_it():
    grid = BudgetGrid(BOTH, levels=3)
    threats = [*grid.cells, *grid.ladder]
    whole, halves = (evaluate_budgets(evaluator(network(), size=s), PGD(steps=4), threats) for s in (18, 5))
    for column in ("clip", "correct", "how"):
        assert whole.rows[column].equals(halves.rows[column])
    a, b = (Rows(f.rows).column("margin") for f in (whole, halves))
    assert np.allclose(a, b, atol=1e-3, equal_nan=True)


def test_clips_with_different_budgets_go_together_and_get_what_they_get_apart(monkeypatch):
    def found():
        subject = evaluator(network(), 12, 12)
        seen, own = [], PreparedBatch.attacked
        monkeypatch.setattr(PreparedBatch, "attacked", lambda self, *rest: seen.append(len(self)) or own(self, *rest))
        rows = evaluate_budgets(subject, PGD(steps=4), BudgetGrid(BOTH, levels=4).cells).rows
        monkeypatch.setattr(PreparedBatch, "attacked", own)
        return rows, np.mean(seen)

    together, full = found()
    monkeypatch.setattr("avrobust.evaluation.budget_grid.MIXED", ())
    apart, thin = found()
    for column in ("clip", "correct", "how"):
        assert together[column].equals(apart[column])
    assert np.allclose(Rows(together).column("margin"), Rows(apart).column("margin"), atol=1e-3, equal_nan=True)
    assert full > thin * 1.5


def test_eight_by_eight_costs_no_more_than_twelve_cells(monkeypatch):
    steps = []
    own = engine.Victim._gradient

    def counted(victim, objective, x, y, threat):
        steps.append(len(y))
        return own(victim, objective, x, y, threat)

    monkeypatch.setattr(engine.Victim, "_gradient", counted)
    subject, grid = evaluator(network(), 36, 36), BudgetGrid(BOTH)
    next(subject.joined()).attacked(PGD(), grid.threat, seed=0)
    cell = sum(steps)
    assert cell == 36 * 10
    steps.clear()
    evaluate_budgets(subject, PGD(), grid.cells)
    assert len(grid.cells) == 81
    assert sum(steps) <= 12 * cell


class Steps:
    """A model that is wrong once both changes are large enough: each clip says how large, in its second values."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.needs = torch.randint(0, 7, (n, 2), generator=g) / 8
        wave, frames = torch.zeros(n, 2), torch.zeros(n, 1, 3, 2, 2)
        wave[:, 1], frames[:, 0, 0, 0, 1] = self.needs.T
        self.evaluator = Evaluator(self, [Batch(AV(audio=wave, visual=frames), torch.zeros(n, dtype=torch.long))])

    def __call__(self, x):
        moved = torch.stack([x.audio[:, 0] - x.audio[:, 1], x.visual[:, 0, 0, 0, 0] - x.visual[:, 0, 0, 0, 1]], 1)
        falls = (moved >= -1e-6).all(1).float()
        return torch.stack([1 - falls, falls], 1) * 3 - 1

    def push(self, model, x, y, threat, seeds):
        def whole(ball, s):
            s = s.clone()
            s.flatten(1)[:, 0] += ball.eps
            return s

        return threat.map(whole, x)


@pytest.mark.parametrize("seed", range(2))
def test_every_corner_of_a_frontier_is_found_in_few_tests(seed):
    steps = Steps(20, seed)
    found = evaluate_budgets(
        steps.evaluator, steps.push, BudgetGrid(Threat.linf(audio=1.0, visual=1.0)).cells, recheck=False
    )
    correct, eps = table(found)
    stands = (eps[:, None] < steps.needs.numpy() - 1e-6).any(2)
    assert (correct == stands).all()
    how, _ = table(found, "how")
    assert (how == COMPUTED).sum() - 20 == found.attacks  # nothing is tried twice; the clean cell needs no attack
    assert found.attacks < 20 * 81 / 5


def test_an_attack_that_fails_where_it_has_more_room_is_found_out():
    steps = Steps(60, 0)

    def clumsy(model, x, y, threat, seeds):
        return x if threat.audio.eps > 0.9 else steps.push(model, x, y, threat, seeds)

    threats = BudgetGrid(Threat.linf(audio=1.0, visual=1.0), levels=4).cells
    blind = evaluate_budgets(steps.evaluator, clumsy, threats, recheck=False)
    found = evaluate_budgets(steps.evaluator, clumsy, threats)
    assert found.missed > 0
    assert table(found)[0].sum() < table(blind)[0].sum()
    correct, _ = table(found)
    how, _ = table(found, "how")
    top = ~correct[-1].astype(bool) & correct[0].astype(bool)
    assert top.any()
    assert (how[-1][top] == FOOLED).all()  # by signals from a smaller budget


def test_rows_say_how_each_answer_is_known_and_keep_to_their_budgets(tmp_path):
    grid = BudgetGrid(BOTH, levels=3)
    found = evaluate_budgets(evaluator(network()), PGD(steps=4), grid.cells)
    found.save(tmp_path / "rows.parquet", {})
    rows = Rows.load(tmp_path / "rows.parquet")
    assert len(rows) == 18 * 16
    assert len(rows.cells()) == 16
    how = np.array(pq.read_table(tmp_path / "rows.parquet")["how"].to_pylist())
    assert set(how) == {COMPUTED, FOOLED, STANDS}
    for column in set(rows.data.column_names) - KNOWN:
        assert all(v is None for v, h in zip(rows.data[column].to_pylist(), how, strict=True) if h == STANDS)
    correct, margin_ = rows.column("correct").astype(bool), rows.column("margin")
    assert (correct[how != STANDS] == (margin_[how != STANDS] <= 0)).all()
    for name in ("audio", "visual"):
        size, eps, used = (rows.column(f"{c}_{name}") for c in ("linf", "eps", "used"))
        known = ~np.isnan(size)
        assert (size[known] <= eps[known] * (1 + 1e-5) + 1e-7).all()
        both = known & (eps > 0)
        assert np.allclose(used[both], size[both] / eps[both], atol=1e-4)
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.parquet"]


def test_a_search_goes_on_where_the_last_one_ended():
    steps = Steps(8, 0)
    calls = []

    def watched(model, x, y, threat, seeds, *, start=None):
        calls.append((threat, seeds.ids, start.audio, random_perturbation(threat, x, seeds, 1).audio))
        return steps.push(model, x, y, threat, seeds)

    evaluate_budgets(
        steps.evaluator, watched, BudgetGrid(Threat.linf(audio=1.0, visual=1.0), levels=4).cells, recheck=False
    )
    met = set()
    for threat, ids, begun, other in calls:
        if threat.audio.active:
            for id, first, second in zip(ids, begun, other, strict=True):
                # `push` moves the first sample by all of its budget, and no other: so does what is remembered of it
                moved = torch.tensor([threat.audio.eps, 0.0])
                assert torch.allclose(first, moved) == (id in met)
                assert not torch.allclose(second, moved)
            met |= set(ids)
    assert len(calls) > 5


def test_what_has_no_plane_is_refused():
    with pytest.raises(ValueError, match="stays inside its budget"):
        evaluate_budgets(evaluator(network()), Published("MIM"), [tian2021.threat(0.01, 0.01)])
    with pytest.raises(ValueError, match="by their size only"):
        evaluate_budgets(evaluator(network()), PGD(), [BOTH, Threat.l2(audio=1.0, visual=1.0)])
    with pytest.raises(ValueError, match="an audio and a visual budget"):
        BudgetGrid(Threat.linf(audio=0.1))
    with pytest.raises(ValueError, match="'a' stands twice"):
        Evaluator(linear, [Batch(clips(1).x, clips(1).label, ("a",))] * 2)
    with pytest.raises(ValueError, match="1 level at least"):
        BudgetGrid(BOTH, levels=0)


ABOUT = {
    "model": "models/mine/net.safetensors", "attack": "PGD-10", "threat": str(BOTH), "levels": 3, "step_db": 3.0,
    "floor_db": 12.0, "seed": 0, "data": "clips", "seconds": 1.0, "command": "avrobust grid", "rows": "a.parquet",
    "page": "a.html",
}  # fmt: skip


@pytest.mark.parametrize(
    "threat", [BOTH, Threat.l2(audio="20 dB SNR", visual=0.8), tian2021.threat(0.03, 0.2)], ids=str
)
def test_the_page_shows_what_the_rows_say(threat, tmp_path):
    grid = BudgetGrid(threat, levels=3, step_db=3, floor_db=12)
    found = evaluate_budgets(evaluator(network()), PGD(steps=3), [*grid.cells, *grid.ladder])
    rows, page = tmp_path / "a.parquet", tmp_path / "a.html"
    found.save(rows, ABOUT)
    text = budget_grid_page.write(rows, page).read_text()
    shown = re.findall(r"<td[^>]*><b>([\d.]+)</b><small>of 18 \[([\d.]+), ([\d.]+)\]", text)
    accuracy = [Rows(found.rows).where(eps_audio=t.audio.eps, eps_visual=t.visual.eps).accuracy() for t in grid.cells]
    by_row = [accuracy[a * 4 + v] for v in reversed(range(4)) for a in range(4)]
    assert [f"{100 * p.value:.1f} {100 * p.low:.1f} {100 * p.high:.1f}" for p in by_row] == [" ".join(s) for s in shown]
    result = GridResult.read(rows)
    plane, growth, spread = (
        budget_grid_figures.landscape(result),
        budget_grid_figures.growth(result),
        budget_grid_figures.spread(result),
    )
    drawn = {(r["audio step"], r["visual step"]): r["accuracy, %"] for r in plane.rows}
    assert [drawn[a, v] for v in reversed(range(4)) for a in range(4)] == [round(100 * p.value, 2) for p in by_row]
    assert {r["attacked"] for r in growth.rows} == {"both", "audio only", "video only", "clean"}
    assert sum(r["clips"] for r in spread.rows) == 18
    assert text.count('class="figure"') == 3
    assert "The smallest cell has 18 clips" in text  # its flags stand above the numbers
    own = text.replace(str(library()), "")
    assert len(own) < len(text) and "http" not in re.sub(
        r'(xmlns(:\w+)?|<a href)="[^"]*"', "", own
    )  # nothing is fetched
    assert '/docs/flags.md">' in text
    assert budget_grid.summary(GridResult.read(rows)).count("\n") >= 6


@pytest.mark.parametrize(("right", "words"), [(True, "withstand"), (False, "no clip correctly")])
def test_planes_with_nothing_to_draw(right, words, tmp_path):
    batch = clips(6)
    with torch.no_grad():
        y = linear(batch.x).argmax(1)
    subject = Evaluator(linear, [Batch(batch.x, y if right else (y + 1) % 4, batch.ids)])
    grid = BudgetGrid(Threat.linf(audio=1e-7, visual=1e-7), levels=2, floor_db=6, step_db=3)
    found = evaluate_budgets(subject, PGD(steps=2), [*grid.cells, *grid.ladder])
    assert found.attacks <= 6 * 2
    found.save(tmp_path / "a.parquet", ABOUT | {"levels": 2})
    assert words in budget_grid_page.html(GridResult.read(tmp_path / "a.parquet"))


def test_medians_know_what_was_not_reached():
    assert median(np.array([])).n == 0
    assert median(np.array([0.1, np.inf])).low == 0
    few = median(np.array([0.2] * 5 + [np.inf] * 6))
    assert few.value == math.inf
    # in 95 of 100 samples at least, the interval holds the true median
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        m = median(rng.exponential(size=41))
        held += m.low <= math.log(2) <= m.high
    assert held >= 0.93 * 400


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for name, level in (("low", 0.2), ("high", 0.7)):
        (folder / name).mkdir()
        for i in range(4):
            frames = np.full((4, 48, 48, 3), level) + rng.uniform(-0.1, 0.1, (4, 48, 48, 3))
            wave = level * np.sin(np.arange(12000) / 10) + rng.uniform(-0.1, 0.1, 12000)
            write_mp4(folder / name / f"{i}.mp4", wave.clip(-1, 1), frames.clip(0, 1), 12000, 4)
    (folder / "clips.csv").write_text(
        "id,video,label,split\n" + "".join(f"{n}{i},{n}/{i}.mp4,{n},test\n" for n in ("low", "high") for i in range(4))
    )
    return folder


def words(videos, out):
    return [
        "grid", "loud:model", "--data", str(videos / "clips.csv"), "--audio", "0.2", "--visual", "60/255",
        "--levels", "2", "--attack", "PGD-3", "--prepared", str(videos / "prepared"), "--html", str(out),
        "--clip.seconds", "0.5", "--clip.size", "32", "--view.samples", "4000", "--view.size", "32",
    ]  # fmt: skip


@pytest.fixture
def loud(tmp_path, monkeypatch):
    """Someone's model: a clip is "high" (class 0) or "low" by its loudness and brightness."""
    (tmp_path / "loud.py").write_text(
        "import torch\n"
        "def model(x):\n"
        "    v = x.audio.abs().mean(1) + x.visual.mean((1, 2, 3, 4)) - 0.7\n"
        "    return torch.stack([v, -v], 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "grid.html"


def test_the_verb_writes_rows_and_page_and_writes_the_page_again(videos, loud, capsys):
    assert main(words(videos, loud)) == 0
    assert "Robust accuracy on 8 clips" in capsys.readouterr().out
    before, rows = loud.read_text(), loud.with_suffix(".parquet")
    loud.unlink()
    assert main(words(videos, loud)) == 1  # rows that exist are not measured over
    assert "one that exists" in capsys.readouterr().err
    assert main(["grid", str(rows), "--html", str(loud)]) == 0
    assert loud.read_text() == before
    assert main(["grid", str(rows), "--html", str(loud)]) == 1


def test_clips_that_cannot_be_read_are_said_on_top(videos, loud, capsys, tmp_path):
    folder = tmp_path / "some"
    shutil.copytree(videos, folder)
    shutil.rmtree(folder / "prepared", ignore_errors=True)
    (folder / "low" / "1.mp4").write_bytes(b"no video")
    assert main(words(folder, loud)) == 0
    said = f"1 of 8 clips could not be read and are not counted: avrobust show {folder / 'prepared'}"
    out = capsys.readouterr().out
    assert "Robust accuracy on 7 clips" in out and said in out
    page = loud.read_text()
    assert 0 < page.index(said) < page.index('<section id="grid">')


def test_a_stop_leaves_no_half_a_file(videos, loud, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(PreparedBatch, "attacked", stopped)
    assert main(words(videos, loud)) == 130
    assert not list(loud.parent.glob("*.html")) + list(loud.parent.glob("*.parquet"))


def test_the_verb_explains_itself_with_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["grid", "--help"])
    assert "avrobust grid models/mine" in capsys.readouterr().out
    assert main(["grid", "nowhere.parquet", "--html", "new.html"]) == 1
    assert "nowhere.parquet" in capsys.readouterr().err
