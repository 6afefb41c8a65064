"""Questions to an OpenAI-compatible completions endpoint with logprobs (vLLM, llama.cpp, …).

One token is requested at temperature 0, with the log-probabilities of the likeliest tokens.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import numpy as np

from common.errors import Code, UserError
from common.progress import Progress
from embeddings.cache.responses import ResponseCache
from embeddings.prompts.pairs import PackedPair
from embeddings.zero_shot.http_client import API_KEY, one_line, open_client, request_json
from embeddings.zero_shot.prompt import LETTERS, as_text, from_top

if TYPE_CHECKING:
    from openai import AsyncOpenAI

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


LIMITS = {"top_logprobs": 20, "concurrency": 4, "timeout": 300, "attempts": 8}
"""How an endpoint is queried where nothing else is said."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint and how it is queried."""

    url: str
    """Up to ``/v1``."""
    model: str
    top_logprobs: int
    """How many of the likeliest tokens are requested; servers have a limit (vLLM 20)."""
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
            valid = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
        except (ValueError, httpx2.InvalidURL):
            valid = False
        if not valid:
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

    def query(self, questions: Sequence[PackedPair], cache: ResponseCache, *, text: bool) -> None:
        """Send every question and keep each answer as it comes.

        Args:
            questions: those that have no answer yet.
            cache: where answers are kept.
            text: whether the questions are code points of plain text, and not token ids.

        Raises:
            UserError: the endpoint never gave logprobs, refuses, or fails too often.
        """
        try:
            asyncio.run(self._query(questions, cache, text))
        except ExceptionGroup as group:
            mistakes = group.subgroup(UserError)
            raise (mistakes or group).exceptions[0] from None

    async def _query(
        self, questions: Sequence[PackedPair], cache: ResponseCache, text: bool
    ) -> None:
        waiting = iter(questions)

        def keep(question: PackedPair, top: dict[str, float]) -> None:
            letters = from_top(top) if top else (np.full(len(LETTERS), SILENT), len(LETTERS))
            cache.add(question.key, *letters)
            progress.update()

        async def find_logprobs() -> None:
            silent: list[PackedPair] = []
            for question in waiting:
                top = await self._likeliest(client, question, text)
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
                f"{self.url} answers without logprobs. Serve the model with a server that gives "
                "them on /completions, such as vLLM or llama.cpp's llama-server.",
            )

        async def work() -> None:
            for question in waiting:
                keep(question, await self._likeliest(client, question, text))

        with Progress(f"{self.model} answers", len(questions), unit="questions") as progress:
            async with self._client() as client:
                # One at a time, until an answer shows that this server has logprobs.
                if not cache.begun:
                    await find_logprobs()
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.concurrency):
                        group.create_task(work())

    async def _likeliest(
        self, client: AsyncOpenAI, question: PackedPair, text: bool
    ) -> dict[str, float]:
        """The likeliest next tokens; empty where the answer has no logprobs."""
        body = {
            "model": self.model,
            "prompt": as_text(question.ids) if text else question.ids.tolist(),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": self.top_logprobs,
        }
        answer = await request_json(client, "/completions", body)
        try:
            return top_tokens(answer)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                Code.ENDPOINT_FAILED,
                f"{self.url}/completions answers what is no completion: {one_line(repr(answer))}.",
            ) from error

    async def _identify(self, probe: Sequence[int] | None) -> dict[str, object]:
        async with self._client() as client:
            once = client.with_options(max_retries=0)
            models = model_facts(await request_json(once, "/models"))
            if models and self.model not in models:
                names = ", ".join(map(one_line, models))
                raise UserError(
                    Code.ENDPOINT_LACKS_MODEL,
                    f"{self.url} has no model {self.model}. It serves {names}.",
                )
            if probe is not None:
                await self._compare_tokenizers(once, list(probe))
        return models.get(self.model, {})

    async def _compare_tokenizers(self, client: AsyncOpenAI, probe: list[int]) -> None:
        body = {
            "model": self.model,
            # What vLLM and llama.cpp call the text, and the tokens that it shall not add.
            **{"prompt": PROBE, "add_special_tokens": False},
            **{"content": PROBE, "add_special": False},
        }
        root = self.url.removesuffix("/v1")
        try:
            answer = await request_json(client.with_options(base_url=root), "/tokenize", body)
        except UserError:
            answer = None
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(tokens, list):
            print(f"{root}/tokenize does not answer: the server's tokenizer is not checked")
        elif tokens != probe:
            raise UserError(
                Code.ENDPOINT_TOKENIZER_DIFFERS,
                f"The model at {self.url} has another tokenizer than --backbone. Name its own (a "
                "YAML, or a folder with its config.json and tokenizer), or none to send plain "
                "text.",
            )

    def _client(self) -> AsyncOpenAI:
        return open_client(self.url, self.timeout, self.concurrency, self.attempts)


def top_tokens(answer: Any) -> dict[str, float]:
    """The likeliest tokens of an answer, as OpenAI and vLLM write them, or as llama.cpp does.

    Empty where the answer has no logprobs, or only that of the token itself. Whatever else an
    answer may be raises ``KeyError``, ``IndexError``, ``TypeError``, ``AttributeError`` or
    ``ValueError``.
    """
    logprobs = answer["choices"][0].get("logprobs") or {}
    if places := logprobs.get("content"):
        entries = places[0].get("top_logprobs") or []
        top = {entry["token"]: entry["logprob"] for entry in entries}
    else:
        top = (logprobs.get("top_logprobs") or [{}])[0] or {}
    return {str(token): _log_prob(value) for token, value in top.items()}


def model_facts(answer: Any) -> dict[str, dict[str, object]]:
    """What a server's list says of each of its models, by each name; empty without a list."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    named: dict[str, dict[str, object]] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            aliases, meta = entry.get("aliases"), entry.get("meta")
            facts = {key: meta.get(key) for key in MODEL_FACTS} if isinstance(meta, dict) else {}
            names = [entry.get("id"), *(aliases if isinstance(aliases, list) else [])]
            named |= {str(name): {"root": entry.get("root"), **facts} for name in names}
    return named


def _log_prob(value: Any) -> float:
    """A log-probability, at least ``LEAST`` and at most 0; ``ValueError`` for what is none."""
    number = LEAST if value is None else float(value)
    if math.isnan(number) or number > 0.01:
        raise ValueError(f"{number} is not a log-probability")
    return min(max(number, LEAST), 0.0)
