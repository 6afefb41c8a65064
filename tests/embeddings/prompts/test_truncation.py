"""Packing, by hand with one token a letter: the template's tokens are 1 to 6, a text's its letters.

A conversation reads ``12 prompt 3 answer [6 answer] 4 prompt 3 answer [6 answer] 5``.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import Code
from embeddings.prompts.chat_template import Encoder, Template, comparison_template
from embeddings.prompts.truncation import CHARACTERS_A_TOKEN, SMALLEST_SHARE, Packer, shares
from tests.helpers.errors import raises
from tests.helpers.tiny import tiny_tokenizer

ELLIPSIS = ord("…")
ONE = Template((1, 2), ((3,),), (4,), (5,))
TWO = Template((1, 2), ((3,), (6,)), (4,), (5,))
TEMPLATES = {1: ONE, 2: TWO}


class Letters:
    """One token a letter, and a record of what was tokenized."""

    def __init__(self):
        self.asked = []

    def text(self, text):
        self.asked.append(text)
        return [ord(letter) for letter in text]


def pack(prompt, *answers, budget=1000):
    return Packer(Letters(), TEMPLATES[len(answers)]).pack(prompt, answers, budget)


def read(packed):
    return "".join(str(i) if i < 10 else chr(i) for i in packed.ids)


def different(n, first="一"):
    """A text of ``n`` different letters."""
    return "".join(chr(ord(first) + i) for i in range(n))


def written(packed, owner):
    return "".join(chr(i) for i in packed.ids[packed.owner == owner])


def test_everything_that_fits_is_there_in_order():
    found = pack(["ab", "c"], ["defg", "hi"])
    assert read(found) == "12ab3defg4c3hi5"
    assert found.owner.tolist() == [-1, -1, 0, 0, -1, 1, 1, 1, 1, -1, 0, -1, 1, 1, -1]
    assert found.content(0).tolist() == [5, 6, 7, 8, 12, 13]
    assert (found.start, found.last) == ((12,), (13,))
    assert (found.prompt_cut, found.answer_cut, found.rounds) == (0, 0, 2)
    assert (found.ids.dtype, found.owner.dtype) == (np.int32, np.int8)


def test_two_answers_stand_side_by_side():
    found = pack(["ab"], ["cd"], ["efg"])
    assert read(found) == "12ab3cd6efg5"
    assert found.content(1).tolist() == [8, 9, 10]
    assert (found.start, found.last) == ((5, 8), (6, 10))


def test_no_turn_reads_as_empty_and_a_missing_one_too():
    assert read(pack([None, "c"], ["defg", None])) == "123defg4c35"
    assert read(pack(["a", "b"], ["c"])) == "12a3c4b35"
    assert read(pack([], [])) == "1235"


def test_white_space_around_a_text_goes():
    assert read(pack(["\n a b \t"], [" \n"])) == "12a b35"


def test_last_is_the_token_before_where_the_last_turn_is_empty():
    found = pack(["ab", "c"], ["defg", ""])
    assert read(found) == "12ab3defg4c35"
    assert (found.start, found.last) == ((12,), (11,))
    assert found.content(0).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("lengths", "room", "granted"),
    [
        ([100, 100, 100], 50, [10, 20, 20]),
        ([100, 100], 90, [30, 60]),
        ([100, 100, 100], 54, [10, 21, 21]),
        ([10, 20, 20], 50, [10, 20, 20]),
        # What one does not need goes to the others by their weights.
        ([5, 100, 100], 105, [5, 50, 50]),
        ([100, 10, 100], 100, [30, 10, 60]),
        ([100, 1, 4], 50, [45, 1, 4]),
        # 40 fit once the prompt is content, and leave 60 - 5 - 21 to the other.
        ([5, 21, 100], 60, [5, 21, 34]),
        ([0, 0, 0], 10, [0, 0, 0]),
        ([3, 3], 0, [0, 0]),
    ],
)
def test_shares_by_hand(lengths, room, granted):
    assert shares(lengths, room) == granted


@given(st.lists(st.integers(0, 500), min_size=2, max_size=3), st.integers(0, 1500))
def test_shares_waste_nothing_and_grant_nobody_too_much(lengths, room):
    granted = shares(lengths, room)
    assert all(g <= n for g, n in zip(granted, lengths, strict=True))
    assert sum(granted) <= room
    if sum(lengths) <= room:
        assert granted == lengths
    else:
        assert room - sum(granted) < len(lengths)
    if len(lengths) == 3:
        swapped = shares([lengths[0], lengths[2], lengths[1]], room)
        assert swapped == [granted[0], granted[2], granted[1]]


def test_a_cut_text_keeps_head_and_tail_around_an_ellipsis():
    # 94 less 4 of the template: 30 for the prompt, 60 for the answer. Less the ellipsis 29 and 59
    # are left, a quarter of them (7 and 14) for the tail.
    prompt, answer = different(90), different(90, "가")
    found = pack([prompt], [answer], budget=94)
    cut_prompt = prompt[:22] + "…" + prompt[-7:]
    assert read(found) == "12" + cut_prompt + "3" + answer[:45] + "…" + answer[-14:] + "5"
    assert (found.prompt_cut, found.answer_cut) == (61, 31)
    ellipses = np.flatnonzero(found.ids == ELLIPSIS)
    assert found.owner[ellipses].tolist() == [-1, -1]
    assert chr(found.ids[found.last[0]]) == answer[-1]
    assert chr(found.ids[found.start[0]]) == answer[0]


def test_two_long_answers_get_twice_the_share_of_the_prompt():
    # 105 less 5 of the template.
    texts = [different(200, first) for first in "一가ঀ"]
    found = pack([texts[0]], [texts[1]], [texts[2]], budget=105)
    lengths = [len(part) for part in read(found)[2:-1].replace("6", "3").split("3")]
    assert lengths == [20, 40, 40]
    assert (found.prompt_cut, found.answer_cut) == (181, 322)


@pytest.mark.parametrize(("budget", "rounds"), [(87, 1), (88, 2)])
def test_a_round_with_less_than_the_smallest_share_is_dropped(budget, rounds):
    # The last round takes 2 + 1 + 1 + 1 + 1, the one before 2 more for the template.
    found = pack(["p" * 200, "q"], ["a" * 200, "r"], budget=budget)
    assert found.rounds == rounds
    assert read(found).endswith("q3r5")
    if rounds == 1:
        assert read(found) == "12q3r5"
        assert (found.prompt_cut, found.answer_cut) == (200, 200)
    else:
        # 80 // 3 and 160 // 3, an ellipsis each.
        assert (found.prompt_cut, found.answer_cut) == (200 - 25, 200 - 52)


def test_a_whole_round_is_kept_however_little_is_left():
    assert read(pack(["ab", "q" * 60], ["c", "r" * 25], budget=94)).startswith("12ab3c4q")


def test_what_came_before_a_cut_round_is_dropped():
    found = pack(["a", "p" * 500, "q"], ["b", "x" * 500, "r"], budget=150)
    assert found.rounds == 2
    assert read(found).startswith("12ppp")
    kept_prompt, kept_answer = written(found, 0), written(found, 1)
    assert found.prompt_cut == 1 + 501 - len(kept_prompt)
    assert found.answer_cut == 1 + 501 - len(kept_answer)


def test_too_small_a_budget_is_refused():
    packer = Packer(Letters(), ONE)
    assert packer.smallest_budget() == 2 + 1 + 1 + SMALLEST_SHARE
    with raises(Code.MAX_TOKENS_TOO_SMALL, match="83 .* 84"):
        packer.pack(["a"], [["b"]], 83)
    # 80 are left for the texts: 26 and 53.
    assert len(packer.pack(["a" * 999], [["b" * 999]], 84).ids) == 4 + 26 + 53


TURN = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "x", "two words"]),
    st.integers(0, 400).map(different),
    st.integers(0, 40_000).map(lambda n: "y" * n),
)


@st.composite
def conversations(draw):
    rounds = draw(st.integers(0, 5))
    turns = st.lists(TURN, min_size=rounds, max_size=rounds)
    answers = draw(st.integers(1, 2))
    budget = draw(st.integers(SMALLEST_SHARE + 5, 600))
    return draw(turns), [draw(turns) for _ in range(answers)], budget


@settings(max_examples=150, deadline=None)
@given(conversations())
def test_never_over_budget_and_every_letter_kept_or_counted(conversation):
    prompt, answers, budget = conversation
    found = pack(prompt, *answers, budget=budget)
    assert len(found.ids) == len(found.owner) <= budget
    sides = [[(turn or "").strip() for turn in turns] for turns in (prompt, *answers)]
    letters = [sum(map(len, side)) for side in sides]
    assert len(written(found, 0)) + found.prompt_cut == letters[0]
    kept = sum(len(written(found, 1 + j)) for j in range(len(answers)))
    assert kept + found.answer_cut == sum(letters[1:])
    assert 1 <= found.rounds <= max(1, len(prompt))
    # All rounds but the earliest of those kept are whole.
    for owner, side in enumerate(sides):
        whole = "".join(side[len(side) - found.rounds + 1 :])
        assert written(found, owner).endswith(whole)
    for j, side in enumerate(sides[1:]):
        if side and side[-1]:
            assert found.content(j)[-1] == found.last[j]
            assert chr(found.ids[found.last[j]]) == side[-1][-1]
            assert chr(found.ids[found.start[j]]) == side[-1][0]
        else:
            assert found.last[j] == found.start[j] - 1


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_an_exchange_of_the_answers_exchanges_what_is_kept(conversation):
    prompt, answers, budget = conversation
    assume(len(answers) == 2)
    found = pack(prompt, *answers, budget=budget)
    swapped = pack(prompt, *answers[::-1], budget=budget)
    texts = [written(found, owner) for owner in (0, 1, 2)]
    assert [written(swapped, owner) for owner in (0, 2, 1)] == texts


def test_a_megabyte_of_one_letter_is_cut_before_it_is_tokenized():
    letters = Letters()
    found = Packer(letters, ONE).pack(["hm"], [["a" * 1_000_000]], 600)
    # 600 less 4 of the template and 2 of the prompt, less the ellipsis.
    assert written(found, 1) == "a" * 593
    assert found.answer_cut == 1_000_000 - 593
    assert sum(map(len, letters.asked)) <= 2 * CHARACTERS_A_TOKEN * 600 + len("…hm")


def test_a_megabyte_is_cut_with_a_real_tokenizer_too():
    encoder = Encoder(tiny_tokenizer())
    packer = Packer(encoder, comparison_template(encoder))
    texts = ["list " * 200_000 + "end", "a" * 1_000_000, "猫" * 1_000_000]
    found = packer.pack(texts[:1], [texts[1:2], texts[2:]], 600)
    # Rounding down may leave a token to each of the three.
    assert 597 < len(found.ids) <= 600
    assert found.prompt_cut > 100_000
    assert found.answer_cut > 1_000_000
    ids = found.ids[found.owner == 0]
    assert encoder.tokenizer.decode(ids).startswith("list list")
    assert encoder.tokenizer.decode(ids).endswith("list end")
