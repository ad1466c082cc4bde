"""Rows: their columns, their file, and the numbers they give."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from avrobust import PGD, Batch, Rows, Threat, evaluate
from avrobust.evaluation.schema import SCHEMA_VERSION
from avrobust.types import InputError
from nets import clips, linear, network

LINF = Threat.linf(audio=0.02, visual="4/255")


@pytest.fixture(scope="module")
def rows():
    batch = clips(8)
    with torch.no_grad():
        y = linear(batch.x).argmax(1)
    y[:2] = (y[:2] + 1) % 4  # misclassified when clean
    return evaluate(linear, [Batch(batch.x, y, batch.ids)], [PGD()], LINF)


@pytest.mark.parametrize("ask", [lambda r: r.column("foo"), lambda r: r.where(foo=1)])
def test_an_unknown_column_is_refused_with_those_there_are(rows, ask):
    with pytest.raises(ValueError, match=r"rows have the columns model, seed, .*, got 'foo'"):
        ask(rows)


@pytest.mark.parametrize(
    ("equal", "holds"),
    [({"attack": 3}, "text"), ({"seed": "0"}, "whole numbers"), ({"correct": "yes"}, "True or False")],
)
def test_a_value_of_another_type_is_refused(rows, equal, holds):
    (name,) = equal
    with pytest.raises(ValueError, match=rf"'{name}' holds {holds}, got"):
        rows.where(**equal)


def test_attack_success_counts_the_clips_that_the_attack_turns_wrong(rows):
    for cell in rows.cells():
        clean, attacked = cell.column("correct_clean").astype(bool), cell.column("correct").astype(bool)
        found = cell.attack_success()
        assert (found.value, found.n) == ((clean & ~attacked).sum() / clean.sum(), int(clean.sum()))
        assert cell.accuracy().value == attacked.mean() and cell.accuracy().n == 8
    assert rows.where(attack="none").attack_success().value == 0
    assert rows.where(subset="AV").attack_success().value > 0


def test_a_share_is_of_one_condition_and_of_each_clip_once(rows):
    for ask in (Rows.accuracy, Rows.attack_success):
        for those, says in (
            (rows, r"attack: PGD-10 \| none; subset: A \| AV \| V \| clean; budget: .*rows\.cells"),
            (rows.where(attack="PGD-10"), r"\(subset: A \| AV \| V; budget"),
            (Rows.concat([rows.where(subset="A")] * 2), "two for 'clip/0'"),
        ):
            with pytest.raises(ValueError, match=says):
                ask(those)
        assert str(ask(rows.where(attack="FGSM"))) == "—"


def test_seeds_are_named_and_averaged(rows):
    again = rows.data.set_column(
        rows.data.schema.get_field_index("seed"), "seed", pa.array([1] * len(rows), pa.int64())
    )
    both = Rows.concat([rows, Rows(again)])
    assert [line.split()[1] for line in both.table().splitlines()[:9]] == ["seed", *"0000", *"1111"]
    assert "seed" not in rows.table()
    cell, one = both.where(subset="A"), rows.where(subset="A")
    assert str(cell.accuracy()) == str(one.accuracy()).replace("of 8", "of 8 × 2 seeds")
    assert (cell.attack_success().low, cell.attack_success().high) == (
        one.attack_success().low,
        one.attack_success().high,
    )


def test_a_file_of_another_version_is_refused(rows, tmp_path):
    rows.save(file := tmp_path / "rows.parquet")
    again = Rows.load(file)
    assert str(again.data.to_pylist()) == str(rows.data.to_pylist()) and again.about == rows.about  # nan is nan here
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {SCHEMA_VERSION: b"99"}), file)
    with pytest.raises(ValueError, match=r"rows\.parquet: expected rows of schema version 2, got 99"):
        Rows.load(file)


def test_a_file_from_before_budgets_were_columns_is_refused(rows, tmp_path):
    rows.save(file := tmp_path / "rows.parquet")
    pq.write_table(pq.read_table(file).drop_columns(["norm_audio", "unit_audio"]), file)
    with pytest.raises(ValueError, match=r"a column 'norm_audio' of string, got none. Another version"):
        Rows.load(file)


def test_each_model_has_its_own_number_of_classes():
    def two(x):
        return linear(x)[:, :2]

    batch = clips(40)
    parts = []
    for model, name in ((linear, "four"), (two, "two")):
        with torch.no_grad():
            y = model(batch.x).argmax(1)
        y = torch.where(torch.arange(40) % 5 < 2, y, (y + 1) % 2)  # 40 % correct: above a quarter, below one half
        parts.append(
            evaluate(model, [Batch(batch.x, y % 2 if name == "two" else y, batch.ids)], [PGD()], LINF, name=name)
        )
    both = Rows.concat(parts)
    assert both.about["classes"] == {"four": 4, "two": 2}
    chance = {f.model: f.text for f in both.flags() if f.name == "clean accuracy near chance"}
    assert "guessing gives 50.0 %" in chance["two"]
    assert "guessing gives 25.0 %" in chance.get("four", "guessing gives 25.0 %")


def test_an_l2_budget_beyond_the_range_of_the_signals_is_refused():
    batch = clips(4)
    widest = 2 * batch.x.audio.shape[1] ** 0.5
    with pytest.raises(
        InputError, match=r"an L2 budget should lie inside the range .* for audio of .* Give a smaller one"
    ):
        evaluate(network(), [batch], [PGD(steps=2)], Threat.l2(audio=1e9))
    assert len(evaluate(network(), [batch], [PGD(steps=2)], Threat.l2(audio=0.99 * widest))) == 8
