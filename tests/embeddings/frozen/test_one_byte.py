"""States in one byte a value: by hand, what they are off by, and that all that reads agrees."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import Code
from embeddings.backbone.config import load_config
from embeddings.cache.shards import ShardStore
from embeddings.frozen.answer_reader import evidence_settings
from embeddings.frozen.costs import bytes_per_answer
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.log_likelihood import QUANTITIES
from embeddings.frozen.one_byte import as_float16, to_bytes
from embeddings.frozen.states import HiddenStates
from tests.helpers.errors import raises
from tests.helpers.extracted import FEW, extract_all

STATES = arrays(np.float16, (2, 5), elements=st.floats(-65504, 65504, width=16))


@pytest.fixture(scope="module")
def config(configs):
    return replace(configs["llama"], state_bits=8)


def slots(states):
    """All states of both answers: (slots, 2, n, d)."""
    return np.stack([np.stack(states.slot(i)) for i in range(len(states.slots))])


def stored(config, folder):
    extract_all(FEW, config, folder, "train")
    return slots(HiddenStates.read(folder, "train"))


def test_bytes_by_hand():
    """Of 1.0 x 2**k the fraction is 0; 1.3 is 1 + 2.4 eighths, 1.9 is 1 + 7.2 eighths."""
    states = np.array([[256, -1, 1.3, 1.9, 0], [0.5, 2**-12, 0, 0, 0]], np.float16)
    packed = to_bytes(states)
    assert (packed.shape, packed.dtype) == ((2, 6), np.uint8)
    read = as_float16(packed)
    assert read.dtype == np.float16
    assert read.tolist() == [[256, -1, 1.25, 1.875, 0], [0.5, 2**-12, 0, 0, 0]]


@given(STATES)
def test_a_value_is_off_by_a_sixteenth_at_most(states):
    """Or by a step of the smallest values: 1/28,000 of the largest, or one of float16."""
    read = as_float16(to_bytes(states)).astype(np.float64)
    largest = np.abs(states.astype(np.float64)).max(axis=1, keepdims=True)
    allowed = np.maximum(np.abs(states) / 16, largest / 28_000)
    assert (np.abs(read - states) <= np.maximum(allowed, 2.0**-24)).all()


@given(STATES)
def test_what_was_read_is_stored_to_the_same_values(states):
    read = as_float16(to_bytes(states))
    np.testing.assert_array_equal(as_float16(to_bytes(read)), read)


def test_the_largest_values_stay_finite_and_nan_stays():
    states = np.array([[65504, -65504], [np.nan, 1]], np.float16)
    read = as_float16(to_bytes(states))
    assert read[0].tolist() == [65504, -65504]
    assert np.isnan(read[1, 0])
    assert read[1, 1] == 1


def test_stored_states_are_those_of_16_bits_rounded(configs, config, tmp_path):
    whole, rounded = stored(configs["llama"], tmp_path / "16"), stored(config, tmp_path / "8")
    assert rounded.dtype == np.float16
    np.testing.assert_array_equal(rounded, as_float16(to_bytes(whole)))
    (store,) = (tmp_path / "8" / "hidden").glob("*/")
    places = np.arange(2)
    assert ShardStore(store).rows(places, "states").shape == (2, 12, 65)


def test_memory_and_disk_have_the_same_values(config, tmp_path):
    model = LanguageModel(config)
    np.testing.assert_array_equal(slots(model.read(FEW).states), stored(config, tmp_path))
    # And so has a model that starts from what is stored.
    store = ShardStore(tmp_path / "hidden" / model.source)
    again = LanguageModel(config, store=store).read(FEW).states
    np.testing.assert_array_equal(slots(again), slots(model.read(FEW).states))


def test_the_address_of_16_bits_is_as_before(configs, config):
    assert "state_bits" not in evidence_settings(configs["llama"])
    assert evidence_settings(config)["state_bits"] == 8


def test_bytes_of_an_answer_by_hand(config):
    """4 layers x 3 poolings of 64 values and a power of two, quantities, and a key."""
    assert bytes_per_answer(config) == 12 * 65 + 4 * len(QUANTITIES) + 32


@pytest.mark.parametrize("bits", [4, 0, "8"])
def test_other_bits_are_refused(folders, bits):
    with raises(Code.BACKBONE_CONFIG_INVALID, "state_bits"):
        load_config(str(folders["llama"]), state_bits=bits)
