"""One way to ask, whatever huggingface_hub speaks with: requests before its 1.0, httpx since.

Proxies, certificates and backends are those that the user gave huggingface_hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

TIMEOUT = 20.0  # seconds without a byte
_CHUNK = 1 << 20  # bytes at a time


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


@contextmanager
def get(url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
    """Ask for `url`. Raises HfHubHTTPError for a refusal, and what the library raises for a broken line."""
    from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

    session: Any = get_session()
    options = {"headers": {"Accept-Encoding": "identity", **headers}, "timeout": TIMEOUT}
    if callable(getattr(session, "stream", None)):
        with session.stream("GET", url, follow_redirects=True, **options) as answer:
            hf_raise_for_status(answer)
            yield Answer(status=answer.status_code, headers=answer.headers, chunks=answer.iter_bytes(_CHUNK))
    else:
        with session.get(url, stream=True, **options) as answer:
            hf_raise_for_status(answer)
            yield Answer(
                status=answer.status_code, headers=answer.headers, chunks=answer.iter_content(_CHUNK)
            )
