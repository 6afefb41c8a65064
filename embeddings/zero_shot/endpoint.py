"""Questions to an OpenAI-compatible completions endpoint with logprobs (vLLM, llama.cpp, …).

One token is asked for at temperature 0, with the log-probabilities of the likeliest tokens.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np

from common.errors import Code, UserError
from common.progress import Progress
from embeddings.cache.responses import Answers
from embeddings.prompts.pairs import PackedPair
from embeddings.zero_shot.prompt import LETTERS, as_text, from_top
from embeddings.zero_shot.retries import (
    API_KEY,
    PassingError,
    client,
    one_line,
    request_with_retries,
)

LEAST = -50.0
"""Log-probabilities below it are raised to it: servers write "impossible" in many ways."""

SILENT = LEAST - 1
"""Log-probability of every letter in an answer that has no logprobs. llama.cpp gives none where the
likeliest token ends inside a character."""

MOST_SILENT = 8
"""So many answers without logprobs, and none with them before, are a server that has none."""

MODEL_FACTS = ("n_params", "size", "ftype")
"""What llama.cpp says of a model that depends on the model alone."""

PROBE = "The capital of France is Paris. 12 naïve cats can't read 你好, however green."
"""A text by whose token ids a server's tokenizer is told from another."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint and how it is asked."""

    url: str
    """Up to ``/v1``."""
    model: str
    top_logprobs: int
    """How many of the likeliest tokens are asked for; servers have a limit (vLLM 20)."""
    concurrency: int
    """Most requests under way at any moment."""
    timeout: int
    """Seconds without an answer after which a request has failed."""
    attempts: int
    """How often in a row a request may fail."""

    @classmethod
    def of(cls, url: str, model: str, **how: Any) -> Endpoint:
        """An endpoint by a URL as people write it: with or without ``/v1``.

        Raises:
            UserError: it is no http or https URL, holds a password, or is one of chats.
        """
        try:
            parts, host = urlsplit(url), httpx2.URL(url).host
            sound = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
        except (ValueError, httpx2.InvalidURL):
            sound = False
        if not sound:
            raise UserError(
                Code.ENDPOINT_INVALID,
                f"--endpoint {url} is no URL such as http://localhost:8000/v1.",
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UserError(
                Code.ENDPOINT_INVALID, f"--endpoint takes a bare URL. Put a key into {API_KEY}."
            )
        path = parts.path.rstrip("/").removesuffix("/completions") or "/v1"
        if path.endswith("/chat"):
            raise UserError(
                Code.ENDPOINT_INVALID,
                f"--endpoint {url} is for chats, and a completions endpoint is needed. Give "
                f"{url[: url.rindex('/chat')]}.",
            )
        return cls(f"{parts.scheme}://{parts.netloc}{path}", model, **how)

    def identify(self, probe: Sequence[int] | None) -> dict[str, object]:
        """What the server says of its model, by which two models of one name are told apart.

        Args:
            probe: the token ids of ``PROBE``, where token ids will be sent.

        Raises:
            UserError: it cannot be reached, lacks the model, or has another tokenizer.
        """
        return asyncio.run(self._identify(probe))

    def ask(self, todo: Sequence[PackedPair], answers: Answers, *, text: bool) -> None:
        """Ask every question and keep each answer as it comes.

        Args:
            todo: questions that have no answer yet.
            answers: where to.
            text: whether the questions are code points of plain text, and not token ids.

        Raises:
            UserError: the endpoint never gave logprobs, refuses, or fails too often.
        """
        try:
            asyncio.run(self._ask(todo, answers, text))
        except ExceptionGroup as group:
            mistakes = group.subgroup(UserError)
            raise (mistakes or group).exceptions[0] from None

    async def _ask(self, todo: Sequence[PackedPair], answers: Answers, text: bool) -> None:
        waiting = iter(todo)

        def keep(question: PackedPair, top: dict[str, float]) -> None:
            found = from_top(top) if top else (np.full(len(LETTERS), SILENT), len(LETTERS))
            answers.add(question.key, *found)
            progress.update()

        async def first() -> None:
            silent: list[PackedPair] = []
            for question in waiting:
                top = await self._likeliest(web, question, text)
                if top:
                    keep(question, top)
                    for other in silent:
                        keep(other, {})
                    return
                silent.append(question)
                if len(silent) == MOST_SILENT:
                    break
            raise UserError(
                Code.ENDPOINT_LACKS_LOGPROBS,
                f"{self.url} answers without logprobs. Serve the model with a server that "
                "gives them on /completions, such as vLLM or llama.cpp's llama-server.",
            )

        async def work() -> None:
            for question in waiting:
                keep(question, await self._likeliest(web, question, text))

        with Progress(f"{self.model} answers", len(todo), unit="questions") as progress:
            async with self._client() as web:
                # One at a time, until an answer shows that this server has logprobs.
                if not answers.begun:
                    await first()
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.concurrency):
                        group.create_task(work())

    async def _likeliest(
        self, web: httpx2.AsyncClient, question: PackedPair, text: bool
    ) -> dict[str, float]:
        """The likeliest next tokens; empty where the answer has no logprobs."""
        body = {
            "model": self.model,
            "prompt": as_text(question.ids) if text else question.ids.tolist(),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": self.top_logprobs,
        }
        return await request_with_retries(web, self.url + "/completions", body, _top, self.attempts)

    async def _identify(self, probe: Sequence[int] | None) -> dict[str, object]:
        async with self._client() as web:
            try:
                await web.get(self.url + "/models")
            except httpx2.ConnectError as error:
                raise UserError(
                    Code.ENDPOINT_UNREACHABLE,
                    f"{self.url} cannot be reached ({one_line(str(error))}). Start the server, or "
                    "fix --endpoint.",
                ) from error
            except httpx2.RequestError:
                # It is there, and what it has may take patience.
                pass
            found = await request_with_retries(
                web, self.url + "/models", None, _models, self.attempts
            )
            if found and self.model not in found:
                names = ", ".join(map(one_line, found))
                raise UserError(
                    Code.ENDPOINT_LACKS_MODEL,
                    f"{self.url} has no model {self.model}. It serves {names}.",
                )
            if probe is not None:
                await self._compare_tokenizers(web, list(probe))
        return found.get(self.model, {})

    async def _compare_tokenizers(self, web: httpx2.AsyncClient, probe: list[int]) -> None:
        body = {
            "model": self.model,
            # What vLLM and llama.cpp call the text, and the tokens that it shall not add.
            **{"prompt": PROBE, "add_special_tokens": False},
            **{"content": PROBE, "add_special": False},
        }
        url = self.url.removesuffix("/v1") + "/tokenize"
        try:
            found = (await web.post(url, json=body)).json().get("tokens")
        except (httpx2.HTTPError, ValueError, AttributeError):
            found = None
        if not isinstance(found, list):
            print(f"{url} does not answer: that the server has this tokenizer is not checked")
        elif found != probe:
            raise UserError(
                Code.ENDPOINT_TOKENIZER_DIFFERS,
                f"The model at {self.url} has another tokenizer than --backbone. Name its own (a "
                "YAML, or a folder with its config.json and tokenizer), or none to send text.",
            )

    def _client(self) -> httpx2.AsyncClient:
        return client(self.url, self.timeout, self.concurrency)


def _top(found: Any) -> dict[str, float]:
    """The likeliest tokens of an answer, as OpenAI and vLLM write them, or as llama.cpp does.

    Empty where the answer has no logprobs, or only that of the token itself.

    Raises:
        PassingError: the answer is of neither shape.
    """
    try:
        logprobs = found["choices"][0].get("logprobs") or {}
        if places := logprobs.get("content"):
            entries = places[0].get("top_logprobs") or []
            top = {entry["token"]: entry["logprob"] for entry in entries}
        else:
            top = (logprobs.get("top_logprobs") or [{}])[0] or {}
        return {str(token): _sound(logs) for token, logs in top.items()}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise PassingError(f"an answer that is none ({one_line(repr(found))})") from error


def _models(found: Any) -> dict[str, dict[str, object]]:
    """What a server's list says of each of its models, by each name; empty without a list."""
    entries = found.get("data") if isinstance(found, dict) else None
    named: dict[str, dict[str, object]] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            aliases, meta = entry.get("aliases"), entry.get("meta")
            facts = {key: meta.get(key) for key in MODEL_FACTS} if isinstance(meta, dict) else {}
            names = [entry.get("id"), *(aliases if isinstance(aliases, list) else [])]
            named |= {str(name): {"root": entry.get("root"), **facts} for name in names}
    return named


def _sound(logs: Any) -> float:
    """A log-probability, at least ``LEAST`` and at most 0; ``ValueError`` for what is none."""
    value = LEAST if logs is None else float(logs)
    if math.isnan(value) or value > 0.01:
        raise ValueError(f"{value} is no log-probability")
    return min(max(value, LEAST), 0.0)
