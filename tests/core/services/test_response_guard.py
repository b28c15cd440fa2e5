"""Responses are checked before an SDK reads them: no redirect, a limited size, also after decompression."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from tutelage.services.problems import CallError, Permanent, Transient, Unusable
from tutelage.services.response_guard import checked_body, lines_of

URL = "https://api.example/v1/chat"
TEXT = b'{"answer": "' + b"word " * 20_000 + b'"}'
RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
ENCODED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:]),
    "GZIP": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    " deflate": RAW_DEFLATE.compress(TEXT) + RAW_DEFLATE.flush(),
}


def body_of(body: bytes, encoding: str, most_bytes: int = 10**6, chunk: int = 1000) -> bytes:
    chunks = (body[start : start + chunk] for start in range(0, len(body), chunk))
    headers = {"content-encoding": encoding, "content-length": str(len(body)), "x-kept": "yes"}
    checked, left = checked_body(URL, 200, headers, chunks, most_bytes)
    assert left == {"x-kept": "yes"}
    return checked


@pytest.mark.parametrize("chunk", [1, 7, 10_000, 10**6])
@pytest.mark.parametrize("encoding", ENCODED)
def test_a_body_is_decompressed(encoding: str, chunk: int) -> None:
    assert body_of(ENCODED[encoding], encoding, chunk=chunk) == TEXT


@pytest.mark.parametrize("encoding", ENCODED)
def test_a_body_over_the_limit_is_an_error_that_names_the_setting(encoding: str) -> None:
    assert body_of(ENCODED[encoding], encoding, most_bytes=len(TEXT)) == TEXT
    with pytest.raises(Permanent, match=r"larger than [\d,]+ bytes; the setting limits\.response_bytes"):
        body_of(ENCODED[encoding], encoding, most_bytes=len(TEXT) - 1)


def test_a_bomb_is_stopped_at_the_limit_with_little_memory() -> None:
    bomb = gzip.compress(b" " * 2**25) * 8
    tracemalloc.start()
    with pytest.raises(Permanent, match="larger than 1,048,576 bytes"):
        body_of(bomb, "gzip", most_bytes=2**20, chunk=10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_an_endless_body_is_not_read_to_its_end() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1000
            yield b"x" * 1000

    with pytest.raises(Permanent, match="larger than"):
        checked_body(URL, 200, {}, endless(), 10_000)
    assert read <= 11_000


@pytest.mark.parametrize(
    ("body", "encoding", "error"),
    [
        (gzip.compress(TEXT)[:-20], "gzip", Transient),
        (zlib.compress(TEXT)[:100], "deflate", Transient),
        (b"\x1f\x8bnonsense", "gzip", Transient),
        (b"plain text", "gzip", Transient),
        (TEXT, "br", Permanent),
        (gzip.compress(gzip.compress(TEXT)), "gzip, gzip", Permanent),
    ],
    # Not the bytes: gzip writes the time into them, and the processes of pytest-xdist must collect the same names.
    ids=["cut gzip", "cut deflate", "damaged gzip", "no gzip", "unknown", "gzip twice"],
)
def test_a_damaged_or_unknown_encoding_is_an_error(body: bytes, encoding: str, error: type[CallError]) -> None:
    with pytest.raises(error):
        body_of(body, encoding)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_names_its_target_without_its_secrets(status: int) -> None:
    location = "https://user:secret@other.example/v2?key=secret#secret"
    with pytest.raises(
        Unusable, match=r"redirects https://api\.example/v1/chat to https://other\.example/v2 "
    ) as caught:
        checked_body(f"{URL}?key=secret", status, {"location": location}, iter([b"never read"]), 10)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("location", "target"), [("/v2", "https://api.example/v2"), (None, "an address that it does")])
def test_a_redirect_may_be_relative_or_nameless(location: str | None, target: str) -> None:
    with pytest.raises(Unusable, match=f"to {target}"):
        checked_body(URL, 302, {"location": location} if location else {}, [], 10)


def test_lines_are_read_from_pieces_and_the_end_of_a_long_line_is_dropped() -> None:
    text = b"one\ntwo two\n\nfour and more\nfive!"
    expected = [(b"one", True), (b"two two", True), (b"", True), (b"four an", False), (b"five!", True)]
    for size in range(1, len(text) + 1):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(lines_of(pieces, 7)) == expected
