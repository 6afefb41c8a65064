"""Tensors come back as they were written, with their notes, or not at all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from embeddings.cache.tensor_files import DamagedError, checksum, read_tensors, write_tensors

NOTES = {"step": 3, "seconds": 1.5}


@pytest.mark.parametrize("notes", [None, NOTES])
def test_round_trip(tmp_path, notes):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).bfloat16(), "b": np.arange(3, dtype=np.int8)}
    write_tensors(tmp_path / "x", tensors, notes)
    found, said = read_tensors(tmp_path / "x")
    assert said == notes
    assert torch.equal(found["a"], tensors["a"])
    assert torch.equal(found["b"], torch.arange(3, dtype=torch.int8))
    first = (tmp_path / "x").read_bytes()
    write_tensors(tmp_path / "x", dict(reversed(tensors.items())), notes)
    assert (tmp_path / "x").read_bytes() == first


def test_a_file_without_metadata_is_damaged_unless_it_may_be_older(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "x")
    with pytest.raises(DamagedError, match="checksum"):
        read_tensors(tmp_path / "x")
    found, said = read_tensors(tmp_path / "x", unsigned=True)
    assert torch.equal(found["a"], torch.ones(2))
    assert said is None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("tensors") / "x"
    write_tensors(path, {"a": torch.arange(6.0)}, NOTES)
    return path


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_noticed_or_changes_nothing(written, data):
    content = bytearray(written.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = written.with_name("changed")
    path.write_bytes(content)
    try:
        tensors, notes = read_tensors(path)
    except DamagedError:
        return
    # White space that fills up the header may become other white space.
    assert bytes(content).split() == written.read_bytes().split()
    assert tensors["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert notes == NOTES


def test_the_checksum_is_of_names_dtypes_and_shapes_too():
    states = torch.arange(24, dtype=torch.float16)
    tables = [
        {"states": states},
        {"states": states.view(torch.int16)},
        {"states": states.reshape(4, 6)},
        {"other": states},
    ]
    assert len({checksum(t) for t in tables}) == 4
