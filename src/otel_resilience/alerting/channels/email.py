"""E-mail, by SMTP with TLS."""

from __future__ import annotations

import base64
import dataclasses
import email.message
import functools
import logging
import smtplib
import socket
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from otel_resilience._internal import validation as check
from otel_resilience.alerting.channels._bounded import BoundedThread
from otel_resilience.alerting.channels._text import cut, facts, headline, links, readable
from otel_resilience.alerting.channels.errors import ChannelError
from otel_resilience.alerting.model.alert import Notification
from otel_resilience.classification.defaults import classify
from otel_resilience.classification.model import Classification, ErrorClass, Severity
from otel_resilience.errors import AttemptTimeoutError
from otel_resilience.redaction import register_secret

MIN_INTERVAL: Final = 1.0
MAX_SUBJECT: Final = 200
MAX_VALUE: Final = 1000
MAX_FACTS: Final = 20_000
MAX_LEFT: Final = 100
"""Maximum messages for which unreached recipients are remembered."""

_log = logging.getLogger("otel_resilience.alerting")

_FORM: Final = (
    "smtp:// (with STARTTLS) or smtps://, user:password@ in ASCII if the server needs it, a host, and"
    " /?from=ADDRESS&to=ADDRESS,ADDRESS; to= may be repeated, tls=none sends without TLS and password"
)
_LATER: Final = Classification(ErrorClass.TRANSIENT, Severity.HIGH, "503")
_NO_ADDRESS: Final = frozenset(' \t\r\n<>,;:"\\')
_PORTS: Final = {"smtp": 587, "smtps": 465}


@dataclasses.dataclass(frozen=True, slots=True)
class MailServer:
    """The server, its credentials, the sender and the recipients."""

    host: str
    port: int
    tls: str
    """``starttls``, ``tls`` (from the start) or ``none``."""
    user: str | None
    password: str | None = dataclasses.field(repr=False)
    sender: str
    recipients: tuple[str, ...]


def read_url(url: str) -> MailServer:
    """The server, sender and recipients of ``smtp(s)://user:password@host:587/?from=…&to=…``.

    Raises ``ValueError``, without the URL in it, if it does not have that form.
    """
    try:
        parts = urlsplit(check.secret_text("url", url).strip())
        query = parse_qs(parts.query, strict_parsing=True)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise ValueError(_FORM) from None  # the cause quotes the URL
    senders = query.pop("from", [])
    recipients = [each.strip() for entry in query.pop("to", []) for each in entry.split(",") if each.strip()]
    plain = query.pop("tls", []) == ["none"]
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    addresses = [*senders, *recipients]
    usable = (
        bool(parts.hostname)
        and parts.path in ("", "/")
        and not (query or parts.fragment)
        and len(senders) == 1
        and bool(recipients)
        and all("@" in address.strip("@") and _NO_ADDRESS.isdisjoint(address) for address in addresses)
        and (user is None) == (password is None)
        and f"{user}{password}".isascii()  # SMTP authentication accepts nothing else
        and not (plain and (parts.scheme == "smtps" or password))
    )
    if not usable:
        raise ValueError(_FORM)
    tls = "none" if plain else "tls" if parts.scheme == "smtps" else "starttls"
    return MailServer(str(parts.hostname), port, tls, user, password, senders[0], tuple(recipients))


class EmailChannel:
    """Sends each notification as a mail; ``coalesce_from`` or more waiting ones as one.

    The mails of one incident form a thread. A certificate that cannot be verified, or a server without STARTTLS, is an
    error: nothing is sent unencrypted unless ``tls=none`` says so. Needs no client library.

    ``min_interval`` is the minimum time in seconds between two mails.

    Examples:
        >>> from otel_resilience.alerting.channels import EmailChannel
        >>> channel = EmailChannel("smtp://me:secret@mail.example:587/?from=alerts@shop.example&to=oncall@shop.example")
        >>> channel.name, channel.coalesce_from
        ('email', 3)
    """

    keeps_incidents = False

    def __init__(
        self,
        url: str,
        *,
        name: str = "email",
        min_interval: float = MIN_INTERVAL,
        coalesce_from: int | None = 3,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        """``url``: see :func:`read_url`. ``tls_context``: by default one with the system's certificates. Raises
        ``ValueError``, without the URL in it, if it is not usable."""
        self.name = name
        self.min_interval = min_interval
        self.coalesce_from = coalesce_from
        self._server = read_url(url)
        self._tls = tls_context
        self._left: dict[str, tuple[str, ...]] = {}
        """By message ID, the recipients still to be reached after others were."""
        if self._server.password:
            register_secret(self._server.password)
            login = f"\0{self._server.user}\0{self._server.password}"
            register_secret(base64.b64encode(login.encode()).decode())  # in the form in which it is sent

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Hands the mail over within ``timeout`` seconds. Raises :class:`ChannelError`, also if the server defers some
        recipients: only they are tried again. If it rejects some permanently and accepts others, that is logged."""
        server = self._server
        recipients = self._left.get(notification.id, server.recipients)
        transfer = _Transfer(
            server, build_mail(notification, server), self._tls or _default_tls(), timeout, recipients=recipients
        )
        self._run(transfer)
        self._left.pop(notification.id, None)
        self._judge(notification, transfer.refused)

    def _judge(self, notification: Notification, refused: Mapping[str, int]) -> None:
        for_good = [code for code in refused.values() if code >= 500]
        if for_good:
            _log.warning(
                "the mail server refuses %d of the %d recipients of alerts: %s",
                len(for_good),
                len(self._server.recipients),
                ", ".join(map(str, sorted(set(for_good)))),
            )
        put_off = tuple(recipient for recipient, code in refused.items() if code < 500)
        if put_off:
            if len(self._left) >= MAX_LEFT:
                del self._left[next(iter(self._left))]
            self._left[notification.id] = put_off
            raise self._error(_LATER, refused[put_off[0]], smtplib.SMTPRecipientsRefused.__name__)

    def reach(self, *, timeout: float) -> None:
        """A dry run of a delivery: connects with TLS and signs in, within ``timeout`` seconds, and sends no mail.

        Raises :class:`ChannelError`.
        """
        self._run(_Transfer(self._server, None, self._tls or _default_tls(), timeout, recipients=()))

    def _run(self, transfer: _Transfer) -> None:
        if not transfer.bounded():
            raise self._error(AttemptTimeoutError.classification)
        if transfer.failure is not None:
            raise self._error(*transfer.failure)

    def close(self) -> None:
        """Nothing to close: no connection is kept between deliveries."""

    def _error(self, verdict: Classification, status: int | None = None, reason: str | None = None) -> ChannelError:
        return ChannelError(self.name, verdict.replace(idempotent=True), status, reason)


def build_mail(notification: Notification, server: MailServer) -> email.message.EmailMessage:
    """The mail: plain text, marked as automatically generated, in the thread of its incident."""
    domain = server.sender.rpartition("@")[2]
    mail = email.message.EmailMessage()
    mail["Subject"] = cut(headline(notification), MAX_SUBJECT)
    mail["From"] = server.sender
    mail["To"] = ", ".join(server.recipients)
    mail["Message-ID"] = f"<{_token(notification.id)}@{domain}>"
    mail["References"] = f"<{_token(notification.incident)}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Priority"] = "1" if notification.severity is Severity.CRITICAL else "3"
    lines = [f"{label}: {value}" for label, value in facts(notification, MAX_VALUE, MAX_FACTS)]
    shown_links = [f"{label}: {url}" for label, url in links(notification)]
    parts = (readable(notification.summary), "\n".join(lines), "\n".join(shown_links))
    mail.set_content("\n\n".join(filter(None, parts)) + "\n", cte="base64")
    return mail


class _Transfer(BoundedThread):
    """One mail, or none."""

    def __init__(
        self,
        server: MailServer,
        mail: email.message.EmailMessage | None,
        tls: ssl.SSLContext,
        timeout: float,
        *,
        recipients: tuple[str, ...],
    ) -> None:
        super().__init__("alert mail", timeout)
        self.refused: dict[str, int] = {}
        """Recipients that the server rejected while it accepted others, with its replies."""
        self._recipients = recipients
        self.failure: tuple[Classification, int | None, str] | None = None
        self._server, self._mail, self._tls = server, mail, tls
        self._client: smtplib.SMTP | None = None

    def _failed(self, error: Exception) -> None:
        self.failure = _verdict(error), getattr(error, "smtp_code", None), type(error).__name__

    def _held(self) -> socket.socket | None:
        return None if self._client is None else self._client.sock

    def _send(self) -> None:
        server = self._server
        if server.tls == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(timeout=self._timeout, context=self._tls)
        else:
            client = smtplib.SMTP(timeout=self._timeout)
        self._client = client
        client._host = server.host  # type: ignore[attr-defined]  # noqa: SLF001  # connect() alone does not set it for TLS
        try:
            client.connect(server.host, server.port)
            if server.tls == "starttls":
                client.starttls(context=self._tls)
            if server.user is not None:
                client.login(server.user, server.password or "")
            if self._mail is not None:
                refused = client.send_message(self._mail, server.sender, list(self._recipients))
                self.refused = {recipient: code for recipient, (code, _) in refused.items()}
            else:
                client.quit()
        finally:
            client.close()


def _verdict(error: Exception) -> Classification:
    """4yz: try again; 5yz: permanent; 535 and similar: the credentials are rejected."""
    if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code >= 500:
        return Classification(ErrorClass.PERMANENT, Severity.HIGH, "401")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
    else:
        codes = [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []
    if codes:
        return _LATER if min(codes) < 500 else Classification(ErrorClass.PERMANENT, Severity.HIGH, "400")
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return classify(ConnectionResetError())
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Classification(ErrorClass.PERMANENT, Severity.HIGH, "secure_connection_error")
    return classify(error)


@functools.cache
def _default_tls() -> ssl.SSLContext:
    """Made once: loading the certificates takes longer than a mail."""
    return ssl.create_default_context()


def _token(text: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in text)
