"""Folders of photos to folders of streams and back: what is done to one file, and what was done to all.

photos --> manifest: what is missing? --> coding: bytes to bytes, here or on workers --> streams
               ^                                                                           |
               +------------------ a row for each, before its file ------------------------+
"""

from .coding import Decoding, Encoding, Item, Made, Networks, attempt, attempt_on_worker, read_photo
from .manifest import Manifest

__all__ = [
    "Decoding",
    "Encoding",
    "Item",
    "Made",
    "Manifest",
    "Networks",
    "attempt",
    "attempt_on_worker",
    "read_photo",
]
