"""Each flag rises on what it is for, and stays silent beside it."""

import re
from pathlib import Path

import numpy as np
import pytest

from avrobust.evaluation.conditions import curves, shared, tabulate
from avrobust.evaluation.flags import RULES, Evidence, flags
from avrobust.evaluation.schema import Rows
from avrobust.report.load import read
from avrobust.report.transfers import transfers
from facts_of import budget_of, facts_of

N, CLASSES = 200, 10
TIERS = np.linspace(0, 1, N, endpoint=False)  # clip i is right where its tier lies below the wanted accuracy


def cell(
    accuracy,
    attack="PGD-10",
    audio=0.0,
    visual=0.0,
    *,
    n=N,
    seed=0,
    model="AV",
    mode="corrected",
    noise=None,
    **columns,
):
    """Rows of one condition with this accuracy; `noise` reshuffles which clips are right."""
    right = TIERS[:n] * N / n < accuracy - 1e-9
    if noise is not None:
        right = np.random.default_rng(noise).permutation(right)
    subset = ("A" if audio else "") + ("V" if visual else "") or "clean"
    full = {
        "model": model, "seed": seed, "attack": "none" if subset == "clean" else attack, "mode": mode, "subset": subset,
        **budget_of(audio, visual).columns(), "clip": [f"clip{i:03d}" for i in range(n)], "label": [i % CLASSES for i in range(n)], "status": ["ok"] * n,
        "pred_clean": 0, "pred": 0, "margin_clean": 0.0, "margin": 0.0, "correct_clean": True, "correct": right.tolist(), "finite": True,
        "linf_audio": audio, "linf_visual": visual, "l2_audio": 1.0, "l2_visual": 1.0,
        "used_audio": 1.0 if audio else np.nan, "used_visual": 1.0 if visual else np.nan, "snr_db": 20.0, "psnr_db": 40.0,
    }  # fmt: skip
    return Rows.of(full | facts_of(full["attack"]) | columns)


def raised(*cells, controls=(), smoothed=(), **probes):
    table, other, votes = (tabulate(Rows.concat(rows).data) for rows in (cells, controls, smoothed))
    return {f.name: f for f in flags(Evidence(table, CLASSES, other, probes, smoothed=votes))}


SOUND = [cell(0.9), cell(0.7, audio=0.01), cell(0.4, audio=0.02), cell(0.1, audio=0.04)]


def test_a_sound_study_raises_nothing_but_its_one_seed():
    assert set(raised(*SOUND)) == {"one seed"}
    assert set(raised(*SOUND, *[cell(c, seed=1) for c in (0.9,)])) == set()


def test_no_rows_no_flags_but_few_clips():
    assert set(raised(Rows.concat([]))) == {"few clips"}


@pytest.mark.parametrize("n, level", [(20, "alarm"), (60, "warning"), (100, None)])
def test_few_clips(n, level):
    flag = raised(cell(0.9, n=n)).get("few clips")
    assert (flag and flag.level) == level
    if flag:
        assert str(n) in flag.text


@pytest.mark.parametrize("missing, level", [(0, None), (1, "note"), (10, "warning"), (40, "alarm")])
def test_clips_unreadable(missing, level):
    status = ["no audio"] * missing + ["ok"] * (N - missing)
    correct = [None] * missing + [True] * (N - missing)
    flag = raised(cell(0.9, status=status, correct=correct, correct_clean=correct)).get("clips unreadable")
    assert (flag and flag.level) == level
    if flag:
        assert f"{missing} of {N}" in flag.text and f"counted {N - missing}" in flag.text


@pytest.mark.parametrize("accuracy, rises", [(0.12, True), (0.3, False)])
def test_clean_near_chance(accuracy, rises):
    assert ("clean accuracy near chance" in raised(cell(accuracy))) == rises


def test_only_single_step():
    assert "only single-step attacks" in raised(cell(0.9), cell(0.4, "FGSM", audio=0.01))
    assert "only single-step attacks" not in raised(cell(0.9), cell(0.4, "FGSM", audio=0.01), cell(0.4, audio=0.01))


@pytest.mark.parametrize("pgd, rises", [(0.5, True), (0.32, False), (0.2, False)])
def test_single_step_beats_iterative(pgd, rises):
    found = raised(cell(0.9), cell(0.3, "FGSM", audio=0.01, noise=1), cell(pgd, audio=0.01, noise=2))
    assert ("single-step beats iterative" in found) == rises


@pytest.mark.parametrize("other", ["Square-40", "PGD-10 from AV", "PGD-10 (attention moved)", "noise"])
def test_what_does_not_climb_this_model_may_do_worse_than_one_step(other):
    weak = cell(0.8, other, audio=0.01, noise=2)
    assert set(raised(cell(0.9), cell(0.3, "FGSM", audio=0.01, noise=1), weak)) == {"one seed"}
    found = raised(cell(0.9), weak, cell(0.3, "AVAutoAttack", audio=0.01, noise=1))
    assert "overrated by a plain attack" not in found


@pytest.mark.parametrize("slow", [{}, {"attack": "MIM-10 (CE + cos)"}])
def test_single_step_is_compared_at_the_same_budget_and_objective_only(slow):
    found = raised(cell(0.9), cell(0.3, "FGSM", audio=0.02 if not slow else 0.01), cell(0.6, **slow, audio=0.01))
    assert "single-step beats iterative" not in found


@pytest.mark.parametrize("last, rises", [(0.6, True), (0.43, False), (0.1, False)])
def test_not_monotone(last, rises):
    found = raised(
        cell(0.9),
        *[cell(a, audio=e, noise=int(1000 * e)) for a, e in [(0.7, 0.01), (0.4, 0.02), (last, 0.04)]],
    )
    assert ("accuracy not monotone in budget" in found) == rises


def test_not_monotone_does_not_compare_budgets_that_do_not_contain_each_other():
    found = raised(cell(0.9), cell(0.2, audio=0.01, visual=0.04), cell(0.6, audio=0.02, visual=0.01))
    assert "accuracy not monotone in budget" not in found


@pytest.mark.parametrize("last, rises", [(0.4, True), (0.1, False), (0.0, False)])
def test_largest_budget_does_not_reach_chance(last, rises):
    found = raised(cell(0.9), *[cell(a, audio=e) for a, e in [(0.7, 0.01), (0.5, 0.02), (last, 0.04)]])
    assert ("largest budget does not reach chance" in found) == rises


def test_an_attack_on_where_a_model_looks_need_not_reach_chance():
    map_only = [cell(a, "PGD-10 (attention moved)", audio=e) for a, e in [(0.8, 0.01), (0.7, 0.02), (0.6, 0.04)]]
    assert "largest budget does not reach chance" not in raised(cell(0.9), *map_only)


def test_a_model_that_still_sees_need_not_reach_chance():
    both = [cell(a, audio=e, visual=e) for a, e in [(0.5, 0.01), (0.2, 0.02), (0.0, 0.04)]]
    sound = [cell(a, audio=e) for a, e in [(0.7, 0.01), (0.65, 0.02), (0.6, 0.04)]]
    assert "largest budget does not reach chance" not in raised(cell(0.9), *both, *sound)


@pytest.mark.parametrize("mode, level", [("published", "warning"), ("corrected", "alarm")])
def test_left_its_budget(mode, level):
    flag = raised(cell(0.9), cell(0.1, "MIM-10", visual=0.01, mode=mode, used_visual=11.25))[
        "an attack left its budget"
    ]
    assert flag.level == level
    assert "11.25 times its visual budget" in flag.text


def test_rounding_is_not_leaving_the_budget():
    assert "an attack left its budget" not in raised(cell(0.9), cell(0.1, audio=0.01, used_audio=1.00005))


@pytest.mark.parametrize("joint, rises", [(0.6, True), (0.42, False), (0.2, False)])
def test_joint_weaker_than_part(joint, rises):
    found = raised(
        cell(0.9),
        cell(0.4, audio=0.01, noise=1),
        cell(0.8, visual=0.02, noise=2),
        cell(joint, audio=0.01, visual=0.02, noise=3),
    )
    assert ("joint attack weaker than its parts" in found) == rises


def test_joint_is_compared_with_parts_of_the_same_budget_only():
    found = raised(cell(0.9), cell(0.4, audio=0.02), cell(0.6, audio=0.01, visual=0.01))
    assert "joint attack weaker than its parts" not in found


@pytest.mark.parametrize("still, rises", [(0, False), (5, False), (30, True)])
def test_attack_did_not_move(still, rises):
    moved = [0.0] * still + [0.01] * (N - still)
    assert ("attack did not move" in raised(cell(0.9), cell(0.4, audio=0.01, linf_audio=moved))) == rises


@pytest.mark.parametrize(
    "told, flag, says",
    [
        ({"linf_audio": 0.0}, "attack did not move", "on up to 90.0 % of the clips"),
        ({"linf_audio": 0.0, "correct": False}, None, ""),  # the vote was lost already on the clean clip
        ({"finite": [True] * (N - 1) + [False]}, "logits not finite", "on 1 of 200 clips"),
        ({}, None, ""),
    ],
)
def test_a_smoothed_model_is_another_one(told, flag, says):
    found = raised(*SOUND, smoothed=[cell(0.9, "PGD-10 on Gaussian", audio=0.01, mode="smoothed", **told)])
    assert set(found) - {"one seed"} == ({flag} if flag else set())
    if flag:
        assert found[flag].model == "AV, PGD-10 on Gaussian" and says in found[flag].text


@pytest.mark.parametrize("square, rises", [(0.2, True), (0.48, False), (0.7, False)])
def test_gradient_free_beats_gradient_based(square, rises):
    found = raised(cell(0.9), cell(0.5, audio=0.01, noise=1), cell(square, "Square-500", audio=0.01, noise=2))
    assert ("gradient-free beats gradient-based" in found) == rises


def test_the_strongest_attack_may_well_do_worse_than_square_within_it():
    found = raised(
        cell(0.9), cell(0.5, "AVAutoAttack", audio=0.01, noise=1), cell(0.2, "Square-500", audio=0.01, noise=2)
    )
    assert "gradient-free beats gradient-based" not in found


@pytest.mark.parametrize("foreign, rises", [(0.2, True), (0.7, False)])
def test_transfer_beats_white_box(foreign, rises):
    found = raised(cell(0.9), cell(0.5, audio=0.01, noise=1), cell(foreign, "PGD-10 from AV", audio=0.01, noise=2))
    assert ("transfer beats white-box" in found) == rises


def test_a_transferred_attack_is_not_compared_with_a_published_one():
    """Their facts are the same, and what they do is not."""
    foreign, own = cell(0.5, "PGD-10 from V", audio=0.01), cell(0.3, audio=0.01, noise=1)
    weak = cell(0.8, "PGD-10 published", audio=0.01, mode="published", noise=2)
    assert "transfer beats white-box" not in raised(cell(0.9), foreign, own, weak)
    elsewhere = cell(0.5, "PGD-10 from AV", audio=0.01, model="V")
    (found,) = transfers(read(Rows.concat([cell(0.9), own, weak, elsewhere])))
    assert found.attack == "PGD-10" and found.white_box.value == 0.7


@pytest.mark.parametrize("longer, rises", [("PGD-100", True), ("MIM-100", False), ("PGD-100 (margin)", False)])
def test_steps_ran_out(longer, rises):
    found = raised(cell(0.9), cell(0.5, audio=0.01, noise=1), cell(0.3, longer, audio=0.01, noise=2))
    assert ("steps ran out" in found) == rises
    assert "steps ran out" not in raised(cell(0.9), cell(0.5, audio=0.01), cell(0.49, "PGD-100", audio=0.01))


@pytest.mark.parametrize("strongest, rises", [(0.1, True), (0.45, False)])
def test_overrated(strongest, rises):
    found = raised(cell(0.9), cell(0.5, audio=0.01), cell(strongest, "AVAutoAttack", audio=0.01))
    assert ("overrated by a plain attack" in found) == rises


@pytest.mark.parametrize("changed, rises", [(0, True), (10, True), (60, False)])
def test_a_modality_is_ignored(changed, rises):
    attacked = cell(0.5, audio=0.01, visual=0.01)
    pred = [1] * changed + [0] * (N - changed)
    found = raised(cell(0.9), attacked, controls=[cell(0.9, "swapped", audio=2.0, mode="control", pred=pred)])
    assert ("a modality is ignored" in found) == rises
    if rises:
        assert "audio" in found["a modality is ignored"].text


@pytest.mark.parametrize("budgets", [{"audio": 0.01}, {"audio": 0.01, "visual": 0.01}])
@pytest.mark.parametrize("clips", [8, 64])
def test_a_deaf_model_is_found_by_any_attack_on_audio(budgets, clips):
    deaf = probed(flat=1.0) | {
        "clips": clips,
        "ignores": {"audio": True, "visual": False},
        "moved": {"audio": 0, "visual": clips},
    }
    found = raised(cell(0.9), cell(0.9, **budgets), AV=deaf)
    assert "hardly uses its audio" in found["a modality is ignored"].text
    assert "a modality is ignored" not in raised(cell(0.9), cell(0.9, visual=0.01), AV=deaf)


def test_one_clip_says_little_about_a_model():
    one = probed() | {"clips": 1, "moved": {"audio": 0, "visual": 0}}
    found = raised(cell(0.9), cell(0.1, audio=0.01, visual=0.01), AV=one)
    assert found["probed on one clip"].level == "note" and "a modality is ignored" not in found


def probed(random=0.0, sociable=0.0, faint=0.0, flat=0.0, explained=1.0):
    return {"clips": 64, "random": random, "sociable": sociable,
            "faint": {"audio": faint, "visual": 0.0}, "flat": {"audio": flat, "visual": 0.0}, "explained": {"audio": explained, "visual": 1.0}}  # fmt: skip


@pytest.mark.parametrize(
    "told, flag",
    [
        (probed(random=0.5), "random outputs"),
        (probed(sociable=0.25), "output depends on batch mates"),
        (probed(explained=0.5), "gradients mislead"),
        (probed(explained=None), None),
        (probed(faint=0.5), "gradients vanish"),
        (probed(flat=0.5), "gradients vanish"),
        (probed(faint=0.03, flat=0.03), None),
    ],
)
def test_what_a_probe_found(told, flag):
    found = set(raised(*SOUND, AV=told)) - {"one seed"}
    assert found == ({flag} if flag else set())


def test_a_model_without_sound_need_not_have_its_gradient():
    seeing = [cell(0.9), cell(0.7, visual=0.01), cell(0.1, visual=0.02)]
    assert "gradients vanish" not in raised(*seeing, AV=probed(flat=1.0))
    # A network that says what it perceives need not be attacked for that.
    clean = tabulate(cell(0.9, model="eye").data)
    for kind, rises in (("V", False), ("AV", True)):
        found = flags(Evidence(clean, CLASSES, probes={"eye": probed(flat=1.0)}, kinds={"eye": kind}))
        assert ("gradients vanish" in {f.name for f in found}) == rises


def test_flags_come_gravest_first():
    levels = [
        f.level
        for f in flags(Evidence(tabulate(Rows.concat([cell(0.1, n=60), cell(0.1, audio=0.01, n=60)]).data), CLASSES))
    ]
    assert levels == sorted(levels, key=["alarm", "warning", "note"].index)
    assert len(set(levels)) > 1


@pytest.mark.parametrize(
    ("cells", "rises"), [({}, False), ({"asked": 3, "finished": 3}, False), ({"asked": 3, "finished": 2}, True)]
)
def test_a_run_that_lacks_conditions_is_unfinished(cells, rises):
    found = flags(Evidence(tabulate(cell(0.9).data), CLASSES, cells=cells))
    assert ("unfinished" in {f.name for f in found}) == rises


def test_every_flag_has_its_section():
    text = (Path(__file__).parents[1] / "docs" / "flags.md").read_text()
    sections = set(re.findall(r"^## (.+)$", text, re.MULTILINE))
    files = sorted((Path(__file__).parents[1] / "src/avrobust/evaluation/flags").glob("*.py"))
    source = "".join(file.read_text() for file in files)
    names = set(re.findall(r"Flag\(\s*\"([^\"]+)\"", source))
    assert len(names) == len(RULES)
    assert {s.lower() for s in sections} == names


# The tables that the flags stand on


def test_tabulate_pairs_clips_over_seeds_and_drops_what_any_seed_could_not_read():
    status = ["broken"] + ["ok"] * (N - 1)
    table = tabulate(Rows.concat([cell(0.5), cell(0.5, seed=1, status=status)]).data)
    (answers,) = table.values()
    assert answers["correct"].shape == (2, N - 1)
    assert answers.listed == N and answers.seeds == (0, 1)
    assert answers.clips[0] == "clip001"


def test_tabulate_refuses_two_rows_of_one_clip():
    with pytest.raises(ValueError, match="one row per clip, got two for 'clip000'"):
        tabulate(Rows.concat([cell(0.5), cell(0.6)]).data)


def test_shared_keeps_clips_and_their_answers_together():
    table = tabulate(Rows.concat([cell(0.5), cell(0.25, audio=0.01, n=100)]).data)
    clean, attacked = (
        shared(*table.values()) if len(next(iter(table.values())).clips) == N else shared(*reversed(table.values()))
    )
    assert clean.clips == attacked.clips and len(clean.clips) == 100
    assert clean["correct"].all()  # the first hundred tiers lie below one half
    assert attacked["correct"].sum() == 25


def test_budgets_of_different_kinds_are_different_curves():
    pixel = cell(0.5, visual=0.006)
    normalised = cell(0.5, visual=0.006, **budget_of(0, 0.006, visual_unit="normalised").columns())
    euclidean = cell(0.5, visual=0.006, **budget_of(0, 0.006, "l2").columns())
    table = tabulate(Rows.concat([pixel, normalised, euclidean]).data)
    assert len(table) == 3
    assert len(curves(table)) == 3
    # What words round to the same display are budgets of their own: 0.00600001 is not 0.006.
    near = cell(0.5, visual=0.00600001)
    assert str(budget_of(0, 0.00600001)) == str(budget_of(0, 0.006))
    assert (
        len(curves(tabulate(Rows.concat([pixel, near]).data))) == 1
        and len(tabulate(Rows.concat([pixel, near]).data)) == 2
    )


@pytest.mark.parametrize(("centre", "rises"), [(0.9, True), (0.7, False), (0.3, False)])
def test_a_model_that_points_worse_than_the_centre_does(centre, rises):
    rows = cell(0.9, model="Attention", pointing=(np.arange(N) < 0.68 * N).astype(float))
    told = {"centre": {"clips": N, "pointing": centre}}
    found = [f.name for f in flags(Evidence(tabulate(rows.data), CLASSES, baselines=told))]
    assert ("points worse than the centre" in found) == rises
