"""An endpoint on the loopback, asked for real, that fails in the ways servers fail."""

import hashlib
import signal
import subprocess
import sys
import time
from math import log
from pathlib import Path

import numpy as np
import pytest

from common.errors import Code
from embeddings.cache.responses import ResponseCache
from embeddings.prompts.pairs import PackedPair
from embeddings.zero_shot.endpoint import LEAST, MOST_SILENT, SILENT, Endpoint
from embeddings.zero_shot.http_client import API_KEY, SENT_HEADERS
from tests.helpers.errors import raises
from tests.helpers.fake_server import break_off, hang_up, llama_cpp, openai, serve, status

ROOT = Path(__file__).resolve().parents[3]
PATIENT = {"top_logprobs": 20, "concurrency": 2, "timeout": 10, "attempts": 3}
SAID = [log(0.5), log(0.2), log(0.2)]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.delenv(API_KEY, raising=False)


@pytest.fixture
def answers(tmp_path):
    with ResponseCache(tmp_path / "answers", {}) as found:
        yield found


def questions(n):
    ids = [np.array([i, 7], dtype=np.int32) for i in range(n)]
    return [
        PackedPair(hashlib.sha256(x.tobytes()).digest(), x, np.zeros(len(x), dtype=np.int8))
        for x in ids
    ]


def endpoint(server, **how):
    return Endpoint.of(server.url, "toy", **{**PATIENT, **how})


@pytest.mark.parametrize("shape", [openai, llama_cpp])
def test_every_question_is_asked_once_and_its_letters_are_kept(shape, answers):
    asked = questions(5)
    with serve(answer=lambda _: shape()) as server:
        endpoint(server).query(asked, answers, text=False)
    assert sorted(server.prompts) == [[i, 7] for i in range(5)]
    body = server.bodies[0]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("toy", 1, 0)
    assert body["logprobs"] == 20
    logs, unseen = answers.get(asked)
    # " B" counts as B, and C is said with and without a space.
    assert logs == pytest.approx(np.tile(SAID, (5, 1)))
    assert unseen.tolist() == [0] * 5
    assert answers.missing(asked) == []


def test_plain_text_is_sent_as_a_string(answers):
    codes = np.array(list(map(ord, "Is it «so»?\n")), dtype=np.int32)
    with serve() as server:
        endpoint(server).query(
            [PackedPair(b"k" * 32, codes, np.zeros(len(codes), dtype=np.int8))], answers, text=True
        )
    assert server.prompts == ["Is it «so»?\n"]


@pytest.mark.parametrize(
    "fault",
    [
        status(500, b"out of memory"),
        status(503, {"error": {"message": "Loading model"}}),
        status(429),
        hang_up,
        break_off,
    ],
)
def test_what_passes_is_asked_again(fault, answers):
    asked = questions(3)
    with serve() as server:
        server.faults += [fault, fault]
        endpoint(server).query(asked, answers, text=False)
    assert len(server.bodies) == 5
    assert answers.get(asked)[0] == pytest.approx(np.tile(SAID, (3, 1)))


def test_retry_after_is_waited_for(answers):
    with serve() as server:
        server.faults.append(status(429, Retry_After="0.4"))
        start = time.monotonic()
        endpoint(server).query(questions(1), answers, text=False)
    assert 0.4 <= time.monotonic() - start < 5
    assert len(server.bodies) == 2


def complaint(server, answers, code, asked=None, **how):
    """The line, of this code, that a failing run ends with."""
    with raises(code) as error:
        endpoint(server, **how).query(asked or questions(1), answers, text=False)
    return error.value.message


@pytest.mark.parametrize(
    "fault",
    [
        status(200, b"<html>Bad gateway</html>"),
        status(200, b"[" * 100_000),
        status(200, {"choices": []}),
        status(200, ["choices"]),
        status(200, openai({"A": "likely"})),
        status(200, openai({"A": float("nan")})),
        status(200, openai({"A": 3.0})),
    ],
)
def test_an_answer_that_is_no_completion_ends_the_run(fault, answers):
    with serve() as server:
        server.faults.append(fault)
        complaint(server, answers, Code.ENDPOINT_FAILED)
    assert len(server.bodies) == 1
    assert not answers.begun


def test_what_does_not_pass_ends_the_run_and_loses_nothing(answers):
    asked = questions(4)
    with serve() as server:
        endpoint(server).query(asked[:2], answers, text=False)
        server.faults += [status(500, b"\x1b[31mCUDA\nerror")] * 3
        said = complaint(server, answers, Code.ENDPOINT_FAILED, asked[2:3])
        assert "3 times" in said
        assert "HTTP 500: [31mCUDA error" in said
        assert answers.missing(asked) == asked[2:]
        endpoint(server).query(answers.missing(asked), answers, text=False)
        assert answers.missing(asked) == []
        assert len(server.bodies) == 2 + 3 + 2


WITHOUT = [
    *({"choices": [{"text": "A", **logprobs}]} for logprobs in ({}, {"logprobs": None})),
    {"choices": [{"text": "A", "logprobs": {"top_logprobs": []}}]},
    {"choices": [{"text": "A", "logprobs": {"top_logprobs": [None]}}]},
    {"choices": [{"text": "A", "logprobs": {"tokens": ["A"], "token_logprobs": [-0.1]}}]},
    {"choices": [{"text": "A", "logprobs": {"content": []}}]},
    {"choices": [{"text": "A", "logprobs": {"content": None}}]},
    {"choices": [{"text": "A", "logprobs": {"content": [{"token": "A", "logprob": -0.1}]}}]},
]


@pytest.mark.parametrize("body", WITHOUT)
def test_a_server_without_logprobs(body, answers):
    with serve(answer=lambda _: body) as server:
        complaint(server, answers, Code.ENDPOINT_LACKS_LOGPROBS, questions(50))
        assert len(server.bodies) == MOST_SILENT
        complaint(server, answers, Code.ENDPOINT_LACKS_LOGPROBS)
    assert not answers.begun


@pytest.mark.parametrize("body", WITHOUT)
def test_an_answer_without_logprobs_is_kept_where_others_have_them(body, answers):
    asked, silent = questions(12), [0, 1, 5, 11]

    def answer(request):
        return body if request["prompt"][0] in silent else openai()

    with serve(answer=answer) as server:
        # The first two come before anything shows that the server has logprobs.
        endpoint(server, concurrency=4).query(asked[:10], answers, text=False)
        endpoint(server).query(asked[11:], answers, text=False)
        endpoint(server).query(answers.missing(asked), answers, text=False)
    assert len(server.bodies) == 12
    logs, unseen = answers.get(asked)
    assert logs[silent].tolist() == [[SILENT] * 3] * 4
    assert unseen.tolist() == [3 * (i in silent) for i in range(12)]
    assert np.delete(logs, silent, axis=0) == pytest.approx(np.tile(SAID, (8, 1)))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(400, {"error": {"message": "request exceeds the context"}}), "exceeds the context"),
        (status(404, {"message": "The model `toy` does not exist."}), "does not exist"),
        (status(422, {"detail": "logprobs is too large"}), "logprobs is too large"),
        (status(400, [1]), "HTTP 400: [1]"),
        (status(302, Location="http://127.0.0.1:1/"), "HTTP 302"),
    ],
)
def test_a_refusal_is_final_and_in_the_servers_words(fault, said, answers):
    with serve() as server:
        server.faults.append(fault)
        assert said in complaint(server, answers, Code.ENDPOINT_REFUSED)
    assert len(server.bodies) == 1


def test_the_key_comes_from_the_environment_and_is_never_shown(answers, monkeypatch):
    with serve() as server:
        endpoint(server).query(questions(1), answers, text=False)
        assert server.keys == {None}
        # Neither goes a key for OpenAI that happens to be set, nor a header for elsewhere.
        monkeypatch.setenv("OPENAI_API_KEY", "for-openai")
        monkeypatch.setenv("OPENAI_ORG_ID", "of-mine")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: elsewhere\nAuthorization: elsewhere")
        endpoint(server).query(questions(1), answers, text=False)
        assert server.keys == {None}
        assert {name.lower() for name in server.headers} <= SENT_HEADERS
        monkeypatch.setenv(API_KEY, "secret\n")
        endpoint(server).query(questions(1), answers, text=False)
        assert server.keys == {None, "Bearer secret"}
        server.faults.append(status(401, b"no such key"))
        said = complaint(server, answers, Code.API_KEY_INVALID)
        assert API_KEY in said
        monkeypatch.setenv(API_KEY, "secr\x07et")
        assert "secr" not in said + complaint(server, answers, Code.API_KEY_INVALID)


def test_no_more_requests_than_allowed_are_under_way(answers):
    with serve() as server:
        server.seconds = 0.02
        endpoint(server, concurrency=3).query(questions(20), answers, text=False)
    assert server.busiest == 3


def test_a_request_without_an_answer_is_given_up(answers):
    with serve() as server:
        server.seconds = 2
        assert "ReadTimeout" in complaint(
            server, answers, Code.ENDPOINT_FAILED, timeout=1, attempts=1
        )


def test_letters_that_are_not_among_the_likeliest_get_the_smallest_probability(answers):
    top = {" A": log(0.6), "The": log(0.3), "I": log(0.05), "a": float("-inf")}
    with serve(answer=lambda _: openai(top)) as server:
        endpoint(server).query(questions(1), answers, text=False)
    logs, unseen = answers.get(questions(1))
    assert logs[0] == pytest.approx([log(0.6), LEAST, LEAST])
    assert unseen.tolist() == [2]


def test_the_server_is_asked_what_it_has():
    with serve(tokenize=lambda text: [1, 2]) as server:
        assert endpoint(server).identify([1, 2]) == {"root": None}
        with raises(Code.ENDPOINT_TOKENIZER_DIFFERS):
            endpoint(server).identify([1, 3])
        with raises(Code.ENDPOINT_LACKS_MODEL, match="other.* toy"):
            Endpoint.of(server.url, "other", **PATIENT).identify(None)
    with raises(Code.ENDPOINT_UNREACHABLE):
        endpoint(server).identify(None)


def test_a_server_that_tells_less_is_taken_at_its_word(capsys):
    with serve(models=None) as server:
        assert endpoint(server).identify([1, 2]) == {}
    assert "is not checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://box:8000", "http://box:8000/v1"),
        ("http://box:8000/", "http://box:8000/v1"),
        ("https://box/api/v1/", "https://box/api/v1"),
        ("http://[::1]:80/v1/completions", "http://[::1]:80/v1"),
    ],
)
def test_urls_as_people_write_them(url, base):
    assert Endpoint.of(url, "toy", **PATIENT).url == base


@pytest.mark.parametrize(
    "url",
    ["box:8000", "ftp://box", "http://", "http://box:99999", "http://[::1", "http://u:p@box/v1"],
)
def test_urls_that_are_none(url):
    with raises(Code.ENDPOINT_INVALID):
        Endpoint.of(url, "toy", **PATIENT)


def test_an_endpoint_of_chats_is_refused():
    with raises(Code.ENDPOINT_INVALID, match=r"http://chat/v1\.$"):
        Endpoint.of("http://chat/v1/chat/completions", "toy", **PATIENT)


WORK = """
import sys
import numpy as np
from pathlib import Path
from embeddings.cache.responses import ResponseCache
from embeddings.zero_shot.endpoint import Endpoint
from tests.embeddings.zero_shot.test_endpoint import PATIENT, questions
with ResponseCache(Path(sys.argv[2]), {}) as answers:
    todo = answers.missing(questions(40))
    Endpoint.of(sys.argv[1], "toy", **PATIENT).query(todo, answers, text=False)
"""


def start(server, folder):
    return subprocess.Popen(
        [sys.executable, "-c", WORK, server.url, folder],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(server, count):
    deadline = time.monotonic() + 60
    while len(server.prompts) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_and_started_again_nothing_is_asked_twice(tmp_path):
    with serve() as server:
        server.seconds = 0.03
        process = start(server, tmp_path)
        wait_for(server, 12)
        process.kill()
        process.communicate()
        time.sleep(0.1)
        with ResponseCache(tmp_path, {}) as answers:
            lacking = answers.missing(questions(40))
        before = len(server.bodies)
        assert 20 < len(lacking) < 40
        process = start(server, tmp_path)
        assert process.wait(60) == 0
        process.communicate()
    again = [body["prompt"] for body in server.bodies[before:]]
    assert sorted(again) == sorted(s.ids.tolist() for s in lacking)
    # What was under way when the kill came had been asked, and not answered.
    assert len(server.bodies) <= 40 + PATIENT["concurrency"]


def test_ctrl_c_stops_at_once_and_keeps_what_was_answered(tmp_path):
    with serve() as server:
        server.seconds = 0.03
        process = start(server, tmp_path)
        wait_for(server, 5)
        server.seconds = 8
        time.sleep(0.1)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        err = process.communicate()[1]
        assert time.monotonic() - begin < 5
        assert "KeyboardInterrupt" in err
        with ResponseCache(tmp_path, {}) as answers:
            assert len(answers.missing(questions(40))) == 40 - len(server.prompts)
