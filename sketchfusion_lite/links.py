"""A photo in an address: the bytes of a ``.skf`` behind ``#skf=``, in base64url. See ``docs/web.md``."""

from __future__ import annotations

import base64

from . import bitstream, checks
from .errors import ArgumentError

__all__ = ["LINK_BYTES", "check_page", "link"]

LINK_BYTES = 48 << 10  # a longer address is cut by somebody on its way; the page refuses it, too


def check_page(page: str) -> str:
    """The address of a page that ``make web`` built, if it is one, or empty.

    Raises:
        ArgumentError: neither.
    """
    if checks.text("page", page) and not page.startswith(("http://", "https://")):
        raise ArgumentError(f"page={page!r}: give an address that begins with http:// or https://.")
    return page


def link(
    data: bytes | bytearray | memoryview,
    page: str = "",
    max_pixels: int = bitstream.DEFAULT_MAX_PIXELS,
    name: str = "stream",
) -> str:
    """A link that holds a whole photo: whoever opens it sees sketch and preview, and no server is asked.

    What follows the ``#`` of an address stays in the browser.

    Args:
        data: a ``.skf`` file of at most :data:`LINK_BYTES`.
        page: address of a page that ``make web`` built. Empty: the end of the link alone.
        max_pixels: refuse pictures larger than this.
        name: what error messages call the stream, usually the file name.

    Raises:
        ArgumentError: the stream is too long, ``page`` is no address, or an argument has the wrong type or range.
        StreamError: not an intact ``.skf``.
    """
    check_page(page)
    bitstream.parse(data, max_pixels, name)
    if len(data) > LINK_BYTES:
        raise ArgumentError(
            f"{name}: {len(data)} bytes; a link carries {LINK_BYTES} at most. Encode the photo with fewer."
        )
    text = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    return f"{page.partition('#')[0]}#skf={text}"
