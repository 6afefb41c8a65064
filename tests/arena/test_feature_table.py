"""Views: parity, parquet, join."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arena.feature_table import Column, FeatureTable, join, write_feature_tables
from common.errors import UserError
from common.parquet import read_notes

COLUMNS = {
    "difference": Column("anti", "verbosity"),
    "left": Column("paired", "", "right"),
    "gap": Column("sym"),
    "right": Column("paired", "", "left"),
}
VALUES = arrays(np.float32, (3, 4), elements=st.floats(width=32))


def view(values):
    return FeatureTable(["x", "y", "z"], values, COLUMNS)


def test_swap_by_hand():
    swapped = view([[1, 2, 3, 4]] * 3).swap()
    assert swapped.values.tolist() == [[-1, 4, 3, 2]] * 3


@given(VALUES)
def test_swap_is_an_involution(values):
    twice = view(values).swap().swap()
    assert twice.columns == COLUMNS
    np.testing.assert_array_equal(twice.values, values)


def test_parts_are_written_as_one_view(tmp_path):
    whole = view([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, np.nan, 12]])
    parts = [whole.take(np.array(rows, dtype=int)) for rows in ([0], [], [1, 2])]
    write_feature_tables(tmp_path / "x.parquet", iter(parts))
    table = FeatureTable.read(tmp_path / "x.parquet")
    assert (table.ids, table.columns) == (whole.ids, COLUMNS)
    np.testing.assert_array_equal(table.values, whole.values)


def test_parquet_gives_values_ids_and_parity_back(tmp_path):
    before = view([[0.1, np.nan, np.inf, -0.0]] * 3)
    before.write(tmp_path / "one.parquet")
    table = FeatureTable.read(tmp_path / "one.parquet")
    assert table.ids == ["x", "y", "z"]
    assert table.columns == COLUMNS
    assert table.values.tobytes() == before.values.tobytes()
    table.write(tmp_path / "other.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()


def test_a_file_names_the_kind_of_its_view_where_it_was_written_with_one(tmp_path):
    view(np.zeros((3, 4))).write(tmp_path / "one.parquet", kind="handcrafted")
    view(np.zeros((3, 4))).write(tmp_path / "other.parquet")
    assert read_notes(tmp_path / "one.parquet")["kind"] == "handcrafted"
    assert "kind" not in read_notes(tmp_path / "other.parquet")


def test_take_and_frame():
    some = view(np.arange(12).reshape(3, 4)).take(np.array([True, False, True]))
    assert some.ids == ["x", "z"]
    assert some.frame()["gap"].to_dict() == {"x": 2.0, "z": 10.0}


@pytest.mark.parametrize(
    "columns",
    [
        {"one": Column("sym")},
        {"one": Column("paired"), "two": Column("sym")},
        {"one": Column("anti", partner="two"), "two": Column("anti", partner="one")},
        {"one": Column("paired", partner="two"), "two": Column("sym")},
    ],
)
def test_columns_that_do_not_fit_are_refused(columns):
    with pytest.raises(ValueError, match="column"):
        FeatureTable(["x"], np.zeros((1, 2)), columns)


@pytest.mark.parametrize("column", [("]nti", "verbosity"), ("sym", "verb\0sity"), ("anti", "a b")])
def test_a_parity_or_family_that_cannot_be_is_refused(column):
    with pytest.raises(ValueError, match=r"parity|family"):
        Column(*column)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_noticed_or_changes_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    before = view([[0.5, np.nan, -0.0, 3]] * 3)
    before.write(folder / "sound.parquet", "0123", "4567")
    content = bytearray((folder / "sound.parquet").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "changed.parquet").write_bytes(content)
    try:
        table = FeatureTable.read(folder / "changed.parquet")
    except UserError:
        return
    assert (table.ids, table.columns) == (before.ids, before.columns)
    np.testing.assert_array_equal(table.values, before.values)


def test_values_that_parquet_does_not_tell_apart_are_no_damage(tmp_path):
    odd = np.array([0x7FC00000, 0xFFC00000, 0x80000000, 0], np.uint32).view(np.float32)
    view(np.stack([odd, odd[::-1], odd])).write(tmp_path / "x.parquet")
    assert np.isnan(FeatureTable.read(tmp_path / "x.parquet").values[:, :2]).sum() == 4


@given(VALUES, VALUES)
def test_join_and_swap_commute(one, other):
    views = {"style": view(one), "words": view(other)}
    joined = join(views)
    assert joined.names[:2] == ["style.difference", "style.left"]
    assert joined.columns["words.left"] == Column("paired", "words", "words.right")
    assert joined.columns["words.difference"].family == "verbosity"
    swapped = join({name: v.swap() for name, v in views.items()})
    np.testing.assert_array_equal(joined.swapped_values(), swapped.values)


def test_join_refuses_other_battles():
    other = FeatureTable(["x", "z", "y"], np.zeros((3, 4)), COLUMNS)
    with pytest.raises(ValueError, match="view words is not of the same battles"):
        join({"style": view(np.zeros((3, 4))), "words": other})
