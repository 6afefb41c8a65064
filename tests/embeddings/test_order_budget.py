"""One order of every battle: which, what stands for the other one, what depends on what."""

import hashlib

import numpy as np
import pytest

from common.errors import Code
from embeddings.both_orders import columns, mean_odds, view_values
from embeddings.order_budget import (
    FITTED,
    SecondOrder,
    fit_second_order,
    read_by_budget,
)
from embeddings.prompts.pairs import PackedPair, Pairs
from tests.helpers.errors import raises

SIDES, TIES = (1.0, 0.5, -0.5), -1.0


def packed(name, number):
    return PackedPair(
        hashlib.sha256(f"{name} {number}".encode()).digest(), np.array([number]), np.zeros(1)
    )


def battles(n, begin=0):
    """A battle's sequences have its number, negative where B stands first; none is 0."""
    numbers = range(begin + 1, begin + n + 1)
    ids, forward = [str(i) for i in numbers], [packed("forward", i) for i in numbers]
    return Pairs(ids, forward, [packed("swapped", -i) for i in numbers], np.zeros(n, np.int64))


def swap(pairs):
    return Pairs(pairs.ids, pairs.swapped, pairs.forward, pairs.cut)


class Model:
    """A model that likes whichever answer stands first, by 2, beside what it thinks of A."""

    def __init__(self, noise=0.0):
        self.noise, self.seen = noise, []

    def thinks(self, number):
        rng = np.random.default_rng(abs(int(number)))
        return rng.normal() * 2

    def logits(self, number):
        thought = np.sign(number) * self.thinks(number)
        side = 2 + thought + self.noise * np.random.default_rng(int(number) % 2**32).normal()
        return np.array([side / 2, -side / 2, TIES], dtype=np.float32)

    def read(self, tables):
        self.seen += [int(s.ids[0]) for table in tables for s in table.sequences]
        return [
            np.array([self.logits(s.ids[0]) for s in t.sequences], np.float32).reshape(-1, 3)
            for t in tables
        ]


def budget(model, table, second):
    (reading,) = read_by_budget(model.read, [table], second)
    return view_values(reading.forward, reading.swapped), reading


def test_a_position_bias_that_is_always_the_same_is_taken_out_by_one_order():
    model, table = Model(), battles(300)
    second = fit_second_order(model.read, table, 0.3)
    values, reading = budget(model, table, second)
    thoughts = [model.thinks(i) for i in range(1, 301)]
    assert values[:, 0] == pytest.approx(np.array(thoughts), abs=1e-4)
    assert values[:, list(columns("x")).index("position")] == pytest.approx(2, abs=1e-4)
    assert 0.29 < reading.both.mean() < 0.31


def test_either_answer_stands_first_in_half_of_the_battles():
    model = Model()
    budget(model, battles(400), SecondOrder(((2.0, 0.0, 0.0), (0.0, 0.0, 1.0)), -1.0))
    assert len(model.seen) == 400
    assert 160 < sum(number > 0 for number in model.seen) < 240


def test_the_second_order_is_read_of_the_closest_calls_only():
    model, table = Model(noise=0.5), battles(400)
    second = fit_second_order(model.read, table, 0.3)
    # One order of all, and both of those that the fit is made of.
    assert len(model.seen) == 400 + FITTED
    model.seen.clear()
    values, reading = budget(model, table, second)
    assert len(model.seen) == 400 + reading.both.sum()
    plain = view_values(
        *(np.array([model.logits(s.ids[0]) for s in o]) for o in (table.forward, table.swapped))
    )
    assert np.array_equal(values[reading.both], plain[reading.both])
    assert not np.array_equal(values[~reading.both], plain[~reading.both])
    margins = second.margins(reading.first)
    assert margins[reading.both].max() <= second.margin < margins[~reading.both].min()


def test_a_swapped_battle_has_the_swapped_numbers_to_the_bit_and_is_read_alike():
    model, table = Model(noise=1.0), battles(200)
    second = fit_second_order(model.read, table, 0.4)
    there, one = budget(model, table, second)
    model.seen.clear()
    back, two = budget(model, swap(table), second)
    first = set(model.seen)
    model.seen.clear()
    budget(model, table, second)
    assert set(model.seen) == first
    assert np.array_equal(one.forward, two.swapped)
    assert np.array_equal(there[:, 0], -back[:, 0])
    assert np.array_equal(there[:, 1:], back[:, 1:])


def test_numbers_do_not_depend_on_other_battles():
    model, table = Model(noise=1.0), battles(100)
    second = fit_second_order(model.read, table, 0.3)
    together, _ = budget(model, table, second)
    alone = [budget(model, table.take(np.array([i])), second)[0] for i in range(100)]
    assert np.array_equal(together, np.concatenate(alone))
    none, reading = budget(model, table.take(np.array([], dtype=np.int64)), second)
    assert none.shape == (0, 6)
    assert len(reading.both) == 0


def test_equal_answers_favour_none_and_need_no_second_reading():
    model = Model()
    same = packed("same", 7)
    table = Pairs(["7"], [same], [same], np.zeros(1, np.int64))
    values, reading = budget(model, table, SecondOrder(((9.0, 9.0, 9.0), (1.0, 1.0, 1.0)), -1.0))
    assert model.seen == [7]
    assert values[0, 0] == 0
    assert reading.both.all()


def test_the_fit_is_the_mean_of_both_orders_as_well_as_one_can_say_it():
    model, table = Model(noise=1.0), battles(2000)
    second = fit_second_order(model.read, table, 0.3)
    _, reading = budget(model, table, SecondOrder(second.weights, -1.0))
    assert not reading.both.any()
    found, _ = mean_odds(reading.forward, reading.swapped)
    sides = np.array([[model.logits(i)[0] * 2 for i in (k, -k)] for k in range(1, 2001)])
    truth = (sides[:, 0] - sides[:, 1]) / 2
    mean_only = np.where(reading.first[:, 0] == reading.forward[:, 0], 1, -1) * (
        reading.first[:, 0] * 2 - sides.mean()
    )
    assert np.square(found - truth).mean() < np.square(mean_only - truth).mean()
    assert np.mean(found - truth) == pytest.approx(0, abs=0.05)


def test_lost_battles_stay_lost_and_are_no_part_of_the_fit():
    model, table = Model(), battles(60)
    plain = model.read

    def read(tables):
        found = plain(tables)
        for table, logits in zip(tables, found, strict=True):
            logits[[abs(int(s.ids[0])) == 3 for s in table.sequences]] = np.nan
        return found

    model.read = read
    second = fit_second_order(model.read, table, 0.3)
    values, _ = budget(model, table, second)
    assert np.isnan(values[2]).all()
    assert np.isfinite(np.delete(values, 2, axis=0)).all()


def test_nothing_finite_is_one_line():
    def read(tables):
        return [np.full((len(t.sequences), 3), np.nan, np.float32) for t in tables]

    with raises(Code.NUMBERS_NOT_FINITE, match="--orders both"):
        fit_second_order(read, battles(5), 0.3)


def test_a_record_gives_it_back():
    second = SecondOrder(((0.1, 0.2, 0.3), (1 / 3, 0.5, 0.6)), 0.25)
    assert SecondOrder.of(second.record()) == second
    assert SecondOrder.of(None) is None
