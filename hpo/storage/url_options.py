"""Options of a storage URL, what is after its `?`: which there are, and what they may be.

SQLAlchemy and the drivers take many more: some load plugins or run SQL, some have a driver read
its settings from any file, turn transactions off or change the types of what is read. A record is
safe with none of these, so that only what it takes to reach a database is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy.engine import URL

TEXT = r".{1,500}"


FILE = r"[^\0]{1,4000}"


COUNT = r"[1-9][0-9]{0,5}"


MILLISECONDS = r"[1-9][0-9]{0,8}"


SWITCH = "0|1|true|false"


WORDS = {
    COUNT: "a whole number from 1 to 999999",
    MILLISECONDS: "a whole number above 0",
    SWITCH: "true or false",
}
"""What a pattern asks for, in words."""


LIBPQ = {
    **dict.fromkeys(("host", "hostaddr", "port", "user", "password", "sslpassword"), TEXT),
    **dict.fromkeys(("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile"), FILE),
    **dict.fromkeys(
        ("application_name", "service", "krbsrvname", "sslmode", "sslnegotiation", "gssencmode",
         "channel_binding", "require_auth", "target_session_attrs", "load_balance_hosts",
         "ssl_min_protocol_version", "ssl_max_protocol_version"), r"[\w.,!-]{1,100}"
    ),
    **dict.fromkeys(
        ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count"), COUNT
    ),
    "tcp_user_timeout": MILLISECONDS,
    "keepalives": "0|1",
    "options": r"(\s*-c\s*(search_path|statement_timeout|role)=[\w,$\"-]+)+",
}  # fmt: skip
"""https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"""


MYSQL = {
    **dict.fromkeys(("unix_socket", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key"), FILE),
    **dict.fromkeys(("ssl_cipher", "ssl_key_password", "program_name"), TEXT),
    **dict.fromkeys(("ssl_check_hostname", "ssl_verify_cert", "ssl_verify_identity"), SWITCH),
    **dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), COUNT),
    "ssl_mode": "[A-Za-z_]{1,30}",
    "charset": "utf8mb4",
}
"""Of PyMySQL and mysqlclient, as SQLAlchemy names them."""


OPTIONS: dict[str, dict[str, str]] = {
    "sqlite": {"timeout": r"[0-9]{1,5}(\.[0-9]+)?"},
    "postgresql": LIBPQ,
    "mysql": MYSQL,
    "mariadb": MYSQL,
}
"""Kind of database -> option -> the pattern of its value."""


MAY_REPEAT = ("host", "port")
"""Of PostgreSQL, for several servers."""


def check(url: URL, what: str) -> None:
    """Whether all options of a URL are known and have values that can be right.

    Raises:
        ValueError: one is not; the message shows no value that may be a password.
    """
    known = OPTIONS.get(url.get_backend_name())
    for name, value in url.query.items():
        if name == "plugin" or (known is not None and name not in known):
            raise ValueError(_unknown(url, name, known or {}, what))
        if known is not None and not _fits(name, value, known):
            wanted = WORDS.get(known[name], f"as in {name}=... of the database's manual, once")
            got = f", got {value!r}" if known[name] in WORDS else ""
            raise ValueError(f"{what}: the option {name} must be {wanted}{got}; change the URL.")


def _unknown(url: URL, name: str, known: Mapping[str, str], what: str) -> str:
    named = f" {name!r}" if re.fullmatch("[a-z_]{1,30}", name) else ""
    which = f"leave it out, or use {', '.join(sorted(known))}" if known else "leave it out"
    return f"{what}: the option{named} of a {url.get_backend_name()} URL is not taken; {which}."


def _fits(name: str, value: str | tuple[str, ...], known: Mapping[str, str]) -> bool:
    values = [value] if isinstance(value, str) else value
    return (len(values) == 1 or name in MAY_REPEAT) and all(
        re.fullmatch(known[name], each) for each in values
    )
