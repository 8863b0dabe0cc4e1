"""Readers of single settings: they take a text and return the value, or raise ``ValueError`` saying what is allowed."""

from __future__ import annotations

import ipaddress
import math
import re
import ssl
import string
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from otel_resilience import Jitter, Severity
from otel_resilience.redaction import MIN_SECRET, redact_url

if TYPE_CHECKING:
    from otel_resilience.alerting.channels.template import MessageTemplate

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?")
VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"(?i)(?=.{1,253}\.?$)(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_BOOLEANS: Final = {
    "true": True, "1": True, "yes": True, "on": True,
    "false": False, "0": False, "no": False, "off": False,
}  # fmt: skip
BOOLEAN_WORDS: Final = "true, false, 1, 0, yes, no, on or off"

_MAX_SHOWN: Final = 80
_ADDRESS: Final = re.compile(
    r"(?i)(?:[a-z][a-z0-9+.-]*://)?(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]*)?(?:/(?!/)[^?#:]*)?"
)
"""Scheme, host, port and path: the parts of a URL that may be shown."""

Reader = Callable[[str], object]


class Secret:
    """A value that never shows itself: ``repr``, ``str`` and ``format`` give ``***``; call :meth:`reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Only for the code that sends it."""
        return self._value

    def __bool__(self) -> bool:
        """Whether it is set."""
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __str__(self) -> str:
        return "***" if self._value else ""

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> str | tuple[object, ...]:
        """Raises ``TypeError``: a secret must not be pickled."""
        raise TypeError("a secret cannot be pickled")


def whole(minimum: int, maximum: int) -> Reader:
    """A whole number within bounds."""
    allowed = f"a whole number from {minimum} to {maximum}"

    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not minimum <= int(text) <= maximum:
            raise ValueError(allowed)
        return int(text)

    return read


def number(minimum: float, maximum: float, *, exclusive: bool = False, unit: str = "", scale: float = 1.0) -> Reader:
    """A finite decimal number within bounds, multiplied by ``scale``."""
    bounds = (
        f"greater than {minimum:.12g} and at most {maximum:.12g}"
        if exclusive
        else f"from {minimum:.12g} to {maximum:.12g}"
    )
    allowed = f"a number {bounds}" + (f" ({unit})" if unit else "")

    def read(text: str) -> float:
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not minimum <= value <= maximum or (exclusive and value == minimum):
            raise ValueError(allowed)
        return value * scale

    return read


def milliseconds(*, zero: bool = False, maximum: float = 86_400_000) -> Reader:
    """A duration given in milliseconds, as seconds."""
    return number(0, maximum, exclusive=not zero, unit="milliseconds", scale=0.001)


def boolean(text: str) -> bool:
    """One of :data:`BOOLEAN_WORDS`, in any case."""
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError(BOOLEAN_WORDS) from None


def jitter(text: str) -> Jitter:
    """A boolean, or the name of a kind of jitter."""
    word = text.lower()
    if word in _BOOLEANS:
        return Jitter.of(_BOOLEANS[word])
    try:
        return Jitter(word)
    except ValueError:
        raise ValueError(f"{BOOLEAN_WORDS}, or one of {', '.join(Jitter)}") from None


def severity(text: str) -> Severity:
    """A severity by its name, in any case."""
    try:
        return Severity(text.upper())
    except ValueError:
        raise ValueError(f"one of {', '.join(each.value for each in Severity)}") from None


def secret(text: str) -> Secret:
    """A key that is valid in an HTTP header."""
    if not VISIBLE.fullmatch(text) or len(text) < MIN_SECRET:
        raise ValueError(f"{MIN_SECRET} or more visible ASCII characters without spaces")
    return Secret(text)


MIN_TOKEN: Final = 12
"""Minimum characters of a token that allows writing."""


def token(text: str) -> Secret:
    """A bearer token that cannot be guessed."""
    if not VISIBLE.fullmatch(text) or len(text) < MIN_TOKEN:
        raise ValueError(
            f"{MIN_TOKEN} or more visible ASCII characters without spaces, such as `openssl rand -hex 16` prints"
        )
    return Secret(text)


def networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """IP addresses and networks, separated by commas."""
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("IP addresses or networks such as 10.0.0.0/8, separated by commas") from None


def url(*schemes: str, query: bool = True, user: bool = True) -> Reader:
    """An absolute URL with one of the schemes and a host. ``query``, ``user``: whether it may have those."""
    allowed = "a URL that starts with " + " or ".join(f"{scheme}://" for scheme in schemes)

    def read(text: str) -> str:
        parts = _split(text, allowed)
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(allowed + " and names a host")
        if not query and (parts.query or parts.fragment):
            raise ValueError(allowed + ", without query and fragment")
        if not user and "@" in parts.netloc:
            raise ValueError(allowed + ", without user and password, which everyone who gets a link would see")
        return text

    return read


web_url: Final = url("http", "https")


def base_url(text: str, *, user: bool = True) -> str:
    """The base URL of an API, without a trailing slash."""
    read = url("http", "https", query=False, user=user)
    return str(read(text)).rstrip("/")


def public_url(text: str) -> str:
    """The start of the links that people get."""
    return base_url(text, user=False)


def secret_url(text: str) -> Secret:
    """A web URL that is itself a credential."""
    return Secret(str(web_url(text)))


def mail_url(text: str) -> Secret:
    """The URL of a mail server, with its password, sender and recipients."""
    from otel_resilience.alerting.channels.email import read_url

    read_url(text)
    return Secret(text)


def message_template(text: str) -> MessageTemplate:
    """A JSON object with placeholders, or the path of a file that contains one."""
    from otel_resilience.alerting.channels.template import MAX_TEMPLATE, MessageTemplate

    if not text.lstrip().startswith("{"):
        try:
            with Path(text).open(encoding="utf-8") as file:
                text = file.read(MAX_TEMPLATE + 1)
        except (OSError, ValueError) as error:
            raise ValueError("a JSON object with {{ field }}, or the path of a file that holds one") from error
    return MessageTemplate(text)


def redis_url(text: str) -> str:
    """A URL of a Redis server."""
    allowed = "a URL that starts with redis://, rediss:// or unix://"
    parts = _split(text, allowed)
    if parts.fragment:
        raise ValueError(allowed + ", with a # in the password written as %23")
    _check_redis_options(parts, allowed)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError(allowed + "; unix:// needs the path of a socket")
        return text
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError(allowed + " and names a host")
    if not re.fullmatch(r"/?[0-9]{0,5}", parts.path):
        raise ValueError(allowed + ", with the number of a database as its path")
    return text


def readable_file(text: str) -> Path:
    """A readable file."""
    path = Path(text)
    try:
        with path.open("rb"):
            return path
    except (OSError, ValueError) as error:
        raise ValueError("a file that can be read") from error


def ca_file(text: str) -> Path:
    """A file with certificates of authorities."""
    path = readable_file(text)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("a file with certificates in PEM format") from error
    return path


def proxy_url(text: str) -> str:
    """A proxy, with credentials if it needs them."""
    read = url("http", "https", query=False)
    if urlsplit(str(read(text))).path not in {"", "/"}:
        raise ValueError("a URL that starts with http:// or https:// and ends with the port of the proxy")
    return text


def template(*names: str, required: bool = False) -> Reader:
    """A web URL with placeholders out of ``names``, written ``{name}``."""
    placeholders = " and ".join(f"{{{name}}}" for name in names)
    verb = "with" if required else "which may hold"
    allowed = f"an http:// or https:// URL {verb} {placeholders}, and no other placeholder"
    link = url("http", "https", user=False)

    def read(text: str) -> str:
        try:
            found = [(field, spec, how) for _, field, spec, how in string.Formatter().parse(text) if field is not None]
        except ValueError:
            raise ValueError(allowed) from None
        used = {field for field, _, _ in found}
        plain = all(not spec and how is None for _, spec, how in found)
        if not plain or not used.issubset(names) or (required and used != set(names)):
            raise ValueError(allowed)
        link(text.format(**dict.fromkeys(names, "0")))
        return text

    return read


def hosts(text: str) -> tuple[str, ...]:
    """Host names and addresses, separated by commas; ``*`` stands for every host."""
    found = tuple(part.strip().lower().rstrip(".").strip("[]") for part in text.split(",") if part.strip())
    for host in found:
        if host != "*" and not _HOST.fullmatch(host) and not _is_address(host):
            raise ValueError("host names or addresses separated by commas, without scheme and port, or *")
    return found


def listen_host(text: str) -> str:
    """The name or address of an interface to listen on."""
    host = text.lower().strip("[]")
    if not _HOST.fullmatch(host) and not _is_address(host):
        raise ValueError("a host name or an address, without scheme and port")
    return host


def name(text: str) -> str:
    """A name of at most 63 letters, digits, dots, dashes and underscores."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
        raise ValueError("a name of at most 63 letters, digits, dots, dashes and underscores")
    return text


def key_prefix(text: str) -> str:
    """The first part of keys, without characters that have a meaning in patterns or for a cluster."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]{0,64}", text):
        raise ValueError("at most 64 letters, digits, dots, colons, dashes and underscores")
    return text


def one_of(*words: str) -> Reader:
    """One of ``words``, in any case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return read


def folder(text: str) -> Path:
    """A folder that exists or can be created."""
    if "\0" in text:
        raise ValueError("the path of a folder")
    path = Path(text)
    if path.parts[:1] == ("~",):
        path = path.expanduser()
    try:
        is_file = path.exists() and not path.is_dir()
    except OSError:  # it cannot be looked at: whoever writes there says so
        is_file = False
    if is_file:
        raise ValueError("the path of a folder; this is a file")
    return path


def env_file(text: str) -> Path | None:
    """The path of a file; ``none``: no file."""
    if "\0" in text:
        raise ValueError("the path of a file, or none")
    return None if text.lower() == "none" else Path(text)


_REDIS_OPTIONS: Final[dict[str, dict[str, Reader]]] = {
    "unix": {"db": whole(0, 99_999)},
    "rediss": {
        "ssl_cert_reqs": one_of("none", "optional", "required"),
        "ssl_check_hostname": one_of("true", "false"),
        "ssl_ca_certs": readable_file,
        "ssl_certfile": readable_file,
        "ssl_keyfile": readable_file,
    },
}
"""Allowed query parameters, by scheme: only those that every Redis client here accepts, including Celery's."""


def _check_redis_options(parts: SplitResult, allowed: str) -> None:
    readers = _REDIS_OPTIONS.get(parts.scheme, {})
    seen: set[str] = set()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in readers or name in seen:
            known = f"no other option than {', '.join(sorted(readers))}, each once" if readers else "no options"
            raise ValueError(f"{allowed}, with {known} after a question mark")
        seen.add(name)
        try:
            readers[name](value)
        except ValueError as error:
            raise ValueError(f"{allowed}, its {name} {error}") from error


def _split(text: str, allowed: str) -> SplitResult:
    if not VISIBLE.fullmatch(text):
        raise ValueError(allowed + ", percent-encoded, without spaces")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:  # clients would use their default port
        raise ValueError(allowed + ", with a valid host and port")
    return parts


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def shown_address(text: str) -> str:
    """A URL as a message may show it, even if malformed: ``***`` if anything in it may be a credential."""
    head, mark, _ = text.partition("?")
    if "@" in text or not _ADDRESS.fullmatch(head):
        return "***"
    return shortened(redact_url(head) + (mark and "?***"))


def shortened(text: str) -> str:
    """The text as a message may quote it."""
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")
