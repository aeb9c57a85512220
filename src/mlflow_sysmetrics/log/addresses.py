"""Addresses and texts that may contain one, without secrets: to be logged, printed or stored.

Only parts that are known to be harmless are shown. A database's address is parsed as SQLAlchemy
does, which allows `/`, `?` and `#` in a password; a server's address as its HTTP client does. If an
address is ambiguous, only its scheme and host are shown, or only the scheme.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT = 500
"""Characters of a text that are shown."""

_MAX_SEARCHED = 20_000  # characters of a text that are searched for addresses

_DATABASE = re.compile(  # sqlalchemy.engine.url._parse_url, but an `@` may be in a password, too
    r"(?P<scheme>[\w+.-]+)://(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*|[^/?#]*))?@)?"
    r"(?P<rest>(?P<host>\[[^/?@]+\]|[^/:?@]+)?(?::(?P<port>[^/?]*))?(?P<path>/[^?]*)?"
    r"(?:\?(?P<query>.*))?)",
    re.DOTALL,
)
_SERVER = re.compile(  # urllib.parse.urlsplit
    r"(?P<scheme>https?)://(?:(?P<user>[^/?#]*)@)?(?P<password>)"
    r"(?P<rest>(?P<host>\[[^/?#@]+\]|[^/:?#@]+)?(?::(?P<port>[^/?#]*))?(?P<path>/[^?#]*)?"
    r"(?:\?(?P<query>[^#]*))?(?:#.*)?)",
    re.DOTALL | re.IGNORECASE,
)
_FILE = re.compile(
    r"(?P<scheme>sqlite(\+\w+)?)://(?P<user>)(?P<password>)(?P<host>)(?P<port>)(?P<path>/[^?]*)"
    r"(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_SHOWN_AS_IT_IS = re.compile(r"databricks(-uc)?(://[\w.-]+(:[\w.-]+)?)?|arn:[\w:/.-]+")
_SQL = re.compile(r"(postgres|mysql|mariadb|mssql|oracle|cockroachdb|sqlite)[\w+]*")

_HOST = re.compile(r"[\w.-]+|\[[0-9A-Fa-f:.%]+\]")
_PORT = re.compile(r"\d{0,5}")
_USER = re.compile(r"[\w.+$\\-]+(@[\w.-]+)?")
_PATH = re.compile(r"[\w .$~+/:\\-]*")
_VALUE = re.compile(r"[\w .,:{}/\\+-]*")
_SWITCH = re.compile(r"0|1|true|false|yes|no|on|off", re.IGNORECASE)
_HARMLESS_KEYS = frozenset((
    *("host", "hostaddr", "port", "user", "dbname", "database", "service", "schema", "unix_socket"),
    *("driver", "charset", "sslmode", "mode", "cache", "vfs", "application_name"),
))  # fmt: skip
_LIKE_PORT_AND_QUERY = re.compile(r"\d*/[^?]*\?[^=]*=.*", re.DOTALL)

_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://(?:\S*@)?[^\s'\"<>`]*[^\s'\"<>`.,;:!?)\]}]")
_VALUE_IN_TEXT = r"('[^']*'|\"[^\"]*\"|(?:(?:bearer|basic)\s+)?[^\s&;,)}\]]+)"
_SECRET_IN_TEXT = re.compile(
    r"([\w-]*(?:pass(?!ed|es|ing)|pwd|secret|token|api_?key|credential|signature|odbc_connect)[\w-]*"
    r"(?:\s*=\s*|['\"]\s*:\s*(?=['\"]))|authorization['\"]?\s*[:=]\s*)" + _VALUE_IN_TEXT,
    re.IGNORECASE,
)
_TOKEN_IN_TEXT = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_TERMINAL_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)")
_HIDDEN = "***"
_LONG_ENOUGH = 4  # characters, to be hidden also within a word


class _Address(NamedTuple):
    """What may be shown of an address, and what may not, in the parts that error texts have."""

    shown: str
    secrets: tuple[str, ...]


def shown_address(uri: str) -> str:
    """An address of a store without user names of servers, passwords, tokens and their like.

    Paths of this machine are shown as they are.
    """
    return _parsed(uri).shown


def shown_text(text: object, *uris: str | None, max_length: int = MAX_TEXT) -> str:
    """A library's or server's message as one line, of bounded length, without secrets.

    Args:
        text: The message, or an exception.
        uris: Addresses in use, whose secrets the message may contain.
        max_length: Longest result, in characters.
    """
    found = str(text)
    for uri in uris:
        if uri:
            shown, secrets = _parsed(uri)
            if shown != uri:
                found = found.replace(uri, shown)
            found = hide(found, *secrets)
    found = _TERMINAL_SEQUENCE.sub("", found[:_MAX_SEARCHED])
    found = _ADDRESS_IN_TEXT.sub(lambda match: shown_address(match[0]), found)
    found = _SECRET_IN_TEXT.sub(rf"\1{_HIDDEN}", found)
    found = _TOKEN_IN_TEXT.sub(rf"\1 {_HIDDEN}", found)
    found = " ".join("".join(each if each.isprintable() else " " for each in found).split())
    return found if len(found) <= max_length else found[: max_length - 1] + "…"


def hide(text: str, *secrets: str | None) -> str:
    """The text without the secrets, in all the forms in which libraries write them."""
    forms = {
        form
        for secret in secrets
        if secret
        for plain in (secret, unquote(secret), unquote_plus(secret))
        for form in (plain, quote(plain), quote(plain, safe=""), repr(plain)[1:-1])
    }
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= _LONG_ENOUGH:
            text = text.replace(form, _HIDDEN)
        else:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", _HIDDEN, text)
    return text


def _parsed(uri: str) -> _Address:
    scheme, separator, rest = uri.partition("://")
    if _SHOWN_AS_IT_IS.fullmatch(uri) or scheme.lower() == "file":
        return _Address(uri, ())
    if ":" in scheme and separator:  # such as `uc:http://somewhere`
        outer, _, inner = uri.partition(":")
        shown, secrets = _parsed(inner)
        return _Address(f"{outer}:{shown}", secrets)
    if not separator:
        name = re.match(r"[A-Za-z][\w+.-]+:", uri)  # of one letter, it is a drive of Windows
        if name is None or name[0].lower() == "file:":
            return _Address(uri, ())
        return _Address(name[0], tuple(_pieces(uri[name.end() :])))
    match = _FILE.fullmatch(uri)
    if match is None:
        match = (_SERVER if scheme.lower() in {"http", "https"} else _DATABASE).fullmatch(uri)
        if match is None or _is_in_doubt(match):
            return _Address(_scheme_and_host(scheme, rest), tuple(_pieces(rest)))
    return _shown_parts(match)


def _is_in_doubt(match: re.Match[str]) -> bool:
    """Whether the address is ambiguous."""
    return not (
        "@" not in match["rest"]
        and _HOST.fullmatch(match["host"] or "localhost")
        and _PORT.fullmatch(match["port"] or "")
        and _PATH.fullmatch(unquote(match["path"] or ""))
        and not _LIKE_PORT_AND_QUERY.fullmatch(match["password"] or "")
    )


def _shown_parts(match: re.Match[str]) -> _Address:
    user, password = match["user"] or "", match["password"] or ""
    is_sql = _SQL.fullmatch(match["scheme"]) is not None
    is_name = _USER.fullmatch(unquote(user)) is not None
    is_user_shown = is_sql and is_name and not (password and unquote(password) in unquote(user))
    secrets = [password, *(_pieces(password) if "@" in password else ())]
    secrets += [] if is_user_shown else [user, *_pieces(user)]
    kept = []
    for pair in (match["query"] or "").split("&"):
        key, _, value = pair.partition("=")
        is_harmless = unquote_plus(key).lower() in _HARMLESS_KEYS
        plain = unquote_plus(value)
        if value and (_SWITCH.fullmatch(plain) or (is_harmless and _VALUE.fullmatch(plain))):
            kept.append(pair)
        else:
            secrets += [value, *_pieces(unquote_plus(value))]
    shown = match["scheme"] + "://" + (f"{user}@" if is_user_shown else "") + (match["host"] or "")
    if match["port"]:
        shown += f":{match['port']}"
    shown += match["path"] or ""
    if kept:
        shown += "?" + "&".join(kept)
    return _Address(shown, tuple(secrets))


def _scheme_and_host(scheme: str, rest: str) -> str:
    """What an ambiguous address shows; after `?`, even what follows an `@` may be a secret."""
    before, _, last = rest.rpartition("@")
    host = re.match(r"[\w.-]*", last)
    is_known = host is not None and not re.search(r"[?#]", before)
    is_scheme = re.fullmatch(r"[\w+.-]+", scheme) is not None
    return f"{scheme if is_scheme else ''}://{host[0] if host is not None and is_known else ''}"


def _pieces(text: str) -> Iterator[str]:
    """Parts of a misread address that error texts may quote."""
    yield text
    yield text.rpartition("@")[0]
    for piece in re.split(r"[@/?#:&;=\s]+", text):
        if len(piece) >= _LONG_ENOUGH:
            yield piece
