"""The checks of every HTTP response before an SDK reads it: it is no redirect, and its body has a limited size.

The body is decompressed here in small steps, because an SDK decompresses a whole chunk at once: a megabyte of gzip can
be a gigabyte of text.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from urllib.parse import urljoin, urlsplit

from tutelage.services.problems import Permanent, Transient, Unusable

ACCEPTED_ENCODINGS = "gzip, deflate"
"""The value of the header ``Accept-Encoding`` that a plugin sends: the encodings that ``checked_body`` decodes."""
_PIECE = 65_536
"""Maximum number of bytes that are decompressed at once."""


def checked_body(
    url: str, status: int, headers: Mapping[str, str], chunks: Iterable[bytes], most_bytes: int
) -> tuple[bytes, dict[str, str]]:
    """Return the decompressed body of a response, and its headers without those that described the compressed body.

    ``chunks`` is the body as it was transferred; ``headers`` is case-insensitive. Raises ``Unusable`` for a redirect,
    ``Permanent`` if the body is larger than ``most_bytes``, and ``Transient`` if its compression is damaged.
    """
    check_redirect(url, status, headers.get("location"))
    names = headers.get("content-encoding", "").lower().replace(" ", "").split(",")
    encodings = [name for name in names if name not in ("", "identity")]
    received: list[bytes] = []
    sizes = accumulate(map(len, _decoded(_recorded(chunks, received), encodings)))
    if _announced_size(headers) > most_bytes or any(size > most_bytes for size in sizes):
        received.clear()  # the traceback of the error would keep the chunks
        raise Permanent(
            f"the reply is larger than {most_bytes:,} bytes; the setting limits.response_bytes is the limit"
        )
    outdated = ("content-encoding", "content-length", "transfer-encoding")
    return b"".join(_decoded(received, encodings)), {
        name: value for name, value in headers.items() if name.lower() not in outdated
    }


def _announced_size(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


def _recorded(chunks: Iterable[bytes], received: list[bytes]) -> Iterator[bytes]:
    """The chunks, which are added to ``received``. A bomb is small there: it is decompressed only to be measured."""
    for chunk in chunks:
        received.append(chunk)
        yield chunk


def check_redirect(url: str, status: int, location: str | None) -> None:
    """Raise ``Unusable`` for a redirect, which would send key and prompt to another address. It is never followed."""
    if 300 <= status < 400:
        target = _without_query(urljoin(url, location)) if location else "an address that it does not name"
        raise Unusable(
            f"the service redirects {_without_query(url)} to {target} (status {status}); no redirect is followed, "
            "because the key and the prompt are sent to the configured address only; if the new address is right, "
            "set it as base_url"
        )


def lines_of(chunks: Iterable[bytes], most_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Yield each line of a file that is read in pieces, and whether it is whole: the end of a longer one is dropped."""
    line, is_whole = b"", True
    for chunk in chunks:
        *ended, last = chunk.split(b"\n")
        for part in ended:
            whole = line + part[: most_bytes + 1 - len(line)]
            yield whole[:most_bytes], is_whole and len(whole) <= most_bytes
            line, is_whole = b"", True
        line += last[: most_bytes + 1 - len(line)]
        is_whole = is_whole and len(line) <= most_bytes
        line = line[:most_bytes] if not is_whole else line
    if line:
        yield line, is_whole


def _without_query(url: str) -> str:
    """The address without user name, password, query and fragment, which may contain secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _decoded(chunks: Iterable[bytes], encodings: list[str]) -> Iterator[bytes]:
    if not encodings:
        yield from chunks
    elif encodings in (["gzip"], ["x-gzip"], ["deflate"]):
        yield from _inflated(chunks)
    else:
        raise Permanent(f"the reply is encoded as {', '.join(encodings)}, which was not requested")


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The decompressed body in pieces of at most ``_PIECE`` bytes: gzip (several members, too), zlib or raw deflate."""
    inflater = None
    for chunk in chunks:
        pending = chunk
        while pending:
            if inflater is None or inflater.eof:
                inflater = zlib.decompressobj(_window_bits(pending))
            try:
                yield inflater.decompress(pending, _PIECE)
            except zlib.error as error:
                raise Transient(f"the compressed reply is damaged: {error}") from None
            pending = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if inflater is not None and not inflater.eof:
        yield from _rest(inflater)


def _rest(inflater: zlib._Decompress) -> Iterator[bytes]:
    """The output that the decompressor still holds after the last input. Raises ``Transient`` if the end is missing."""
    while piece := inflater.decompress(inflater.unconsumed_tail, _PIECE):
        yield piece
    if not inflater.eof:
        raise Transient("the compressed reply is incomplete")


def _window_bits(start: bytes) -> int:
    """The format by its first byte: gzip or zlib are detected by the library, anything else is raw deflate."""
    is_wrapped = start[0] == 0x1F or start[0] & 0x0F == 8
    return 32 + zlib.MAX_WBITS if is_wrapped else -zlib.MAX_WBITS
