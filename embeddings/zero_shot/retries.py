"""HTTP requests that are made again: what one means, and how long to wait between two.

What a passing fault breaks (no connection, a time-out, HTTP 408, 425, 429 or 5xx, an answer that is
no JSON) is asked again after a wait that doubles, or as long as the server says in ``Retry-After``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from common.errors import Code, UserError

API_KEY = "TIEBREAK_API_KEY"
"""The environment variable that holds the key. One of its own: a key for elsewhere that happens to
be set must not be sent to whatever stands behind a URL."""

PASSING = (408, 425, 429, 500, 502, 503, 504, 529)
"""HTTP statuses after which the same request may succeed."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 120.0
"""Seconds."""

T = TypeVar("T")


class PassingError(Exception):
    """A request failed, and may succeed when it is made again."""

    def __init__(self, what: str, retry_after: float = 0.0) -> None:
        """``retry_after`` is what the server asks for, in seconds."""
        super().__init__(what)
        self.retry_after = retry_after


def client(url: str, timeout: float, connections: int) -> httpx2.AsyncClient:
    """A client that sends the key, if there is one.

    Args:
        url: of the server; over plain http there are no certificates to be read.
        timeout: seconds without an answer after which a request has failed.
        connections: most at any moment.

    Raises:
        UserError: the key is none.
    """
    key = os.environ.get(API_KEY, "").strip()
    # What is refused later would be shown in the message.
    if not key.isascii() or not key.isprintable():
        raise UserError(Code.API_KEY_INVALID, f"{API_KEY} holds characters that no key has.")
    return httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        verify=url.startswith("https:"),
        timeout=httpx2.Timeout(timeout, connect=min(10.0, timeout)),
        limits=httpx2.Limits(max_connections=connections),
    )


async def request_with_retries(
    client: httpx2.AsyncClient,
    url: str,
    body: dict[str, Any] | None,
    read: Callable[[Any], T],
    attempts: int,
) -> T:
    """Make a request until ``read`` understands its JSON.

    Args:
        client: of ``client``.
        url: where to.
        body: to be posted as JSON; ``None`` for a GET, whose answer may then be missing.
        read: makes something of the JSON, or raises ``PassingError``; gets ``None`` where the
            server has nothing at the URL of a GET.
        attempts: how often in a row the request may fail.

    Raises:
        UserError: the server refuses, or the last attempt failed.
    """

    async def attempt() -> T:
        return read(await _exchange(client, url, body))

    try:
        return await AsyncRetrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(attempts),
            wait=_wait,
            reraise=True,
        )(attempt)
    except PassingError as error:
        raise UserError(
            Code.ENDPOINT_FAILED,
            f"{url} failed {attempts} times in a row, at last with {error}. Rerun the command; "
            "finished work is reused.",
        ) from error


async def _exchange(client: httpx2.AsyncClient, url: str, body: dict[str, Any] | None) -> Any:
    """The JSON of one request, ``None`` where a GET finds nothing.

    Raises:
        UserError: the server refuses for good.
        PassingError: it may do better another time.
    """
    try:
        response = await (client.get(url) if body is None else client.post(url, json=body))
    except httpx2.RequestError as error:
        raise PassingError(one_line(f"{type(error).__name__} {error}")) from error
    status = response.status_code
    if status in PASSING:
        raise PassingError(f"HTTP {status}{_said(response)}", _retry_after(response))
    if status in (401, 403):
        raise UserError(
            Code.API_KEY_INVALID,
            f"{url}: HTTP {status}{_said(response)}. Set {API_KEY} to its key.",
        )
    if body is None and status in (404, 405, 501):
        return None
    if not response.is_success:
        raise UserError(Code.ENDPOINT_REFUSED, f"{url}: HTTP {status}{_said(response)}")
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise PassingError(f"an answer that is no JSON ({one_line(response.text)})") from error


def _wait(state: RetryCallState) -> float:
    """Seconds before the next attempt."""
    doubling = wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)(state)
    error = state.outcome.exception() if state.outcome else None
    return max(doubling, error.retry_after if isinstance(error, PassingError) else 0.0)


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that a server asks to wait, as a number or a date; 0 where it asks for nothing."""
    said = response.headers.get("Retry-After", "")
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except ValueError:
            seconds = 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else 0.0


def _said(response: httpx2.Response) -> str:
    """What a server says of an error, as ``: text``; empty where it says nothing."""
    text = response.text
    try:
        found = response.json()
        error = found.get("error", found)
        text = error.get("message") or error.get("detail") or text
    except (ValueError, RecursionError, AttributeError):
        pass
    said = one_line(str(text))
    return f": {said}" if said else ""


def one_line(text: str) -> str:
    """A text that nobody trusts, fit for one line of a terminal."""
    printable = "".join(c if c.isprintable() else " " for c in text[:2000])
    return " ".join(printable.split())[:200]
