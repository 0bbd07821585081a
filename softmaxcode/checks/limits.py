"""Sizes up to which a code derives its measurements on demand."""

from __future__ import annotations

#: All one-vs-rest distances are derived on demand up to this K * K * d; beyond it call `softmaxcode.margin`.
MAX_ALL_MARGINS = 10**10
#: From so many coordinates on, an exact code is built once for both objectives, and on a thread of its own.
LARGE_CODE = 10**6
#: Contact lists are derived on demand up to this many classes.
MAX_CONTACT_CLASSES = 30_000


class NotComputed(ValueError):
    """A value that is not computed at this size; the message names the limit and the function to call instead."""
