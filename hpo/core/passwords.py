"""Passwords in storage URLs are never shown, logged or written down.

Also where the URL is none: a slash, the colon or the host forgotten.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

SECRET = (
    r"(?:[?&#;][\w.-]*(?:password|passwd|passphrase|pwd|secret|token|api_?key|odbc_connect)[\w.-]*"
    r"|[?&#;]pass)="
)
"""An option of a URL whose value is nobody's business."""


OPTION = r"([?&#;])([^\s=&?#;'\"]*%[0-9A-Fa-f]{2}[^\s=&?#;'\"]*)="
"""An option whose name is written with %XX."""


SETTING = r"((?:^|[\s'\"+]|%20)(?:pg)?(?:password|passwd|pwd|pass)\s*=\s*)(?!\*\*\*)"
"""The same among words, as in libpq's `host=h password=p`; the value may be in quotes."""


QUOTED_COLON = r"(://[^:/\s@]*(?:%3A|\uff1a))[^\s@]*@"
"""USER: whose colon is no colon of a URL's."""


FRAGMENT = r"((?<!sqlite)(?<!http)(?<!https)://[^\s#'\"]*#)(?!\*\*\*)[^\s'\"]+"
"""What is after the `#` of a URL that is neither a file nor a page."""


NO_HOST = r"((?:://?|//)[^\s:/@?#'\"\[\]]*:)(?!\*\*\*@|\d{1,5}(?:\W|$))[^\s/?#'\"]+"
"""USER:PASSWORD at the place of HOST:PORT."""


WITH_SPACE = (
    r"((?:(?:postgres|mysql|mariadb|mssql|oracle)[\w+]*://[^\s:/@\[]*:\s?|://[^\s:/@\[]*:)"
    r"(?!\*\*\*@|\d{1,5}(?:[\W_]|$)))(?=\S)(?:(?!://)[^\n])*@"
)
"""USER: of a URL and all up to the last @ of the line: more than the password rather than less."""


WHOLE = re.compile(r"://[^/\s]|sqlite(?:\+\w+)?:///")
"""In a word that holds a URL as it should be, or the name of a file, which may be anything."""


LOGIN = r"^((?:[^\s:/]*:?/+)?[^\s:/]*:)(?!\*\*\*@)"
"""USER: in a word, after what may be half of SCHEME://."""


def mask(text: str) -> str:
    """The text with every password in a URL replaced, also one that holds an '@' unquoted.

    Of one with white space it is not sure where it ends; see `WITH_SPACE`, and `shown`.
    """
    text = re.sub(r"(://[^:/\s]*:)\S*@", r"\1***@", text)
    text = re.sub(WITH_SPACE, r"\1***@", text)
    text = re.sub(OPTION, _readable, text)
    text = re.sub(rf"(?i)({SECRET})[^&\s'\"]*", r"\1***", text)
    text = re.sub(rf"(?i){SETTING}(?:'[^']*'|\"[^\"]*\"|[^&\s'\"]*)", r"\1***", text)
    text = re.sub(f"(?i){QUOTED_COLON}", r"\1***@", text)
    text = re.sub(FRAGMENT, r"\1***", text)
    text = re.sub(NO_HOST, r"\1***", text)
    return re.sub(r"\S+", _word, text) if "@" in text else text


def shown(url: str) -> str:
    """A URL, or a word that holds one, without its password, whatever that is made of."""
    url = re.sub(r"(?s)(://[^:/]*:).*@", r"\1***@", url)
    url = re.sub(OPTION, _readable, url)
    url = re.sub(rf"(?is)({SECRET})[^&]*", r"\1***", url)
    return mask(url if WHOLE.search(url) else re.sub(f"(?s){LOGIN}.*@", r"\1***@", url))


def _readable(option: re.Match[str]) -> str:
    """The option's name without %XX, if it is one of `SECRET`."""
    plain = f"{option[1]}{unquote(option[2])}="
    return plain if re.fullmatch(f"(?i){SECRET}", plain) else option[0]


def _word(found: re.Match[str]) -> str:
    word = found[0]
    return word if WHOLE.search(word) else re.sub(rf"{LOGIN}\S*@", r"\1***@", word)
