"""Requests to an OpenAI-compatible server, by the ``openai`` client and with its retries.

No connection, a time-out, HTTP 408, 409, 429 or 5xx are retried after a wait that doubles, or as
long as the server says in ``Retry-After``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import httpx2

from common.errors import Code, UserError

if TYPE_CHECKING:
    # It takes a second to load: nothing for --help.
    from openai import AsyncOpenAI

API_KEY = "TIEBREAK_API_KEY"
"""The environment variable that holds the key. One of its own: a key for elsewhere that happens to
be set must not be sent to whatever stands behind a URL."""

SENT_HEADERS = {
    *("accept", "accept-encoding", "connection", "content-length", "content-type", "host"),
    "user-agent",
}
"""Headers that a request keeps."""


def open_client(url: str, timeout: float, connections: int, attempts: int) -> AsyncOpenAI:
    """A client that sends the key of ``API_KEY``, if there is one, and no other.

    Args:
        url: of the API, up to ``/v1``.
        timeout: seconds without an answer after which a request has failed.
        connections: most at any moment.
        attempts: how often in a row a request may fail.

    Raises:
        UserError: the key has characters that no key has.
    """
    from openai import AsyncOpenAI

    key = os.environ.get(API_KEY, "").strip()
    # A key that is refused later would be shown in the message.
    if not key.isascii() or not key.isprintable():
        raise UserError(Code.API_KEY_INVALID, f"{API_KEY} contains characters that no key has.")

    async def keep_known_headers(request: httpx2.Request) -> None:
        # The client takes keys and headers for OpenAI from other environment variables.
        for name in set(request.headers) - SENT_HEADERS:
            del request.headers[name]
        if key:
            request.headers["Authorization"] = f"Bearer {key}"

    return AsyncOpenAI(
        api_key="none",
        base_url=url,
        max_retries=attempts - 1,
        http_client=httpx2.AsyncClient(
            # Over plain http there are no certificates to be read.
            verify=url.startswith("https:"),
            timeout=httpx2.Timeout(timeout, connect=min(10.0, timeout)),
            limits=httpx2.Limits(max_connections=connections),
            event_hooks={"request": [keep_known_headers]},
        ),
    )


async def request_json(client: AsyncOpenAI, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON of an answer; ``None`` where a GET finds nothing.

    Args:
        client: of ``open_client``.
        path: below the client's URL, such as ``/models``.
        body: to be posted as JSON; ``None`` for a GET.

    Raises:
        UserError: the server cannot be reached, refuses, or answers what is no JSON.
    """
    import openai

    url, body_text = f"{str(client.base_url).rstrip('/')}{path}", ""
    try:
        if body is None:
            response = await client.get(path, cast_to=httpx2.Response)
        else:
            response = await client.post(path, body=body, cast_to=httpx2.Response)
        body_text = response.text
        return response.json()
    except openai.APIStatusError as error:
        status, advice, code = error.status_code, "", Code.ENDPOINT_REFUSED
        if body is None and status in (404, 405, 501):
            return None
        if status in (401, 403):
            advice, code = f" Set {API_KEY} to its key.", Code.API_KEY_INVALID
        elif status in (408, 409, 429) or status >= 500:
            advice, code = _failed(client), Code.ENDPOINT_FAILED
        raise UserError(
            code,
            f"{url}: HTTP {status}: {one_line(error.response.text)}.{advice}",
        ) from error
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        reason = one_line(f"{type(cause).__name__} {cause}")
        if isinstance(cause, httpx2.ConnectError):
            raise UserError(
                Code.ENDPOINT_UNREACHABLE,
                f"{url} cannot be reached ({reason}). Start the server, or correct --endpoint.",
            ) from error
        raise UserError(Code.ENDPOINT_FAILED, f"{url}: {reason}.{_failed(client)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            Code.ENDPOINT_FAILED, f"{url} answers what is not JSON: {one_line(body_text)}."
        ) from error


def _failed(client: AsyncOpenAI) -> str:
    return (
        f" It failed {client.max_retries + 1} times in a row. Rerun the command; what was answered "
        "is kept."
    )


def one_line(text: str) -> str:
    """A text from outside, fit for one line of a terminal."""
    printable = "".join(c if c.isprintable() else " " for c in text[:2000])
    return " ".join(printable.split())[:200]
