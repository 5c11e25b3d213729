"""Passwords in storage URLs are never shown, logged or written down."""

from __future__ import annotations

import re

SECRET = r"[?&][\w.-]*(?:password|passwd|passphrase|pwd|secret|token|odbc_connect)[\w.-]*="
"""An option of a URL whose value is nobody's business."""


def mask(text: str) -> str:
    """The text with every password in a URL replaced, also one that holds an '@' unquoted.

    One with white space in it can be told only where the URL stands alone: see `shown`.
    """
    text = re.sub(r"(://[^:/\s]*:)\S*@", r"\1***@", text)
    return re.sub(rf"(?i)({SECRET})[^&\s'\"]*", r"\1***", text)


def shown(url: str) -> str:
    """A URL, or a word that holds one, without its password, whatever that is made of."""
    url = re.sub(r"(?s)(://[^:/]*:).*@", r"\1***@", url)
    return re.sub(rf"(?is)({SECRET})[^&]*", r"\1***", url)
