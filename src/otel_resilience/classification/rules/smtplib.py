"""Rules for ``smtplib``, by the reply codes of SMTP (RFC 5321, 4.2.3) and the enhanced ones (RFC 3463)."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification.causes import by_class_name, message_of
from otel_resilience.classification.model import BreakerEffect, Classification, Rule
from otel_resilience.classification.rules import verdicts

_REPLY: Final = verdicts.SERVER_ERROR
_BEFORE_MAIL: Final = verdicts.SERVER_ERROR.replace(unsent=True)
_RECIPIENTS: Final = verdicts.BAD_REQUEST.replace()

_CLASSES: Final = {
    "SMTPServerDisconnected": verdicts.ENDED,
    "SMTPAuthenticationError": _BEFORE_MAIL,
    "SMTPConnectError": _BEFORE_MAIL,
    "SMTPHeloError": _BEFORE_MAIL,
    "SMTPRecipientsRefused": _RECIPIENTS,
    "SMTPNotSupportedError": verdicts.MISUSE,
    "SMTPResponseException": _REPLY,
    "SMTPException": verdicts.MISUSE,
}
_by_name: Final = by_class_name((f"smtplib.{name}", verdict) for name, verdict in _CLASSES.items())

_NOT_YET: Final = verdicts.UNAVAILABLE.replace(breaker=BreakerEffect.NEUTRAL)

_BY_CODE: Final = {
    421: verdicts.UNAVAILABLE,
    450: _NOT_YET,  # the mailbox is busy, or greylisting
    451: verdicts.SERVER_ERROR,
    452: verdicts.THROTTLED,  # too many recipients or messages; a full disk
    454: verdicts.UNAVAILABLE,
    530: verdicts.AUTHENTICATION,
    534: verdicts.AUTHENTICATION,
    535: verdicts.AUTHENTICATION,
    538: verdicts.AUTHENTICATION,
    550: verdicts.NOT_FOUND,
    551: verdicts.NOT_FOUND,
    553: verdicts.BAD_REQUEST,
}


def classify_smtplib(exception: BaseException) -> Classification | None:
    """The verdict on an exception of ``smtplib``; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is verdicts.ENDED:
        return _disconnected(message_of(exception))
    if verdict is _RECIPIENTS:
        return _by_code(_code_of(attribute(exception, "recipients"))) or verdict
    if verdict is _BEFORE_MAIL:
        return (_by_code(attribute(exception, "smtp_code")) or _REPLY).replace(unsent=True)
    if verdict is _REPLY:
        return _by_code(attribute(exception, "smtp_code")) or verdict
    return verdict


RULES: Final[tuple[Rule, ...]] = (classify_smtplib,)
"""Silent on everything that it did not raise."""


def _disconnected(text: str) -> Classification:
    if "timed out" in text:
        return verdicts.READ_TIMEOUT
    return verdicts.MISUSE if text.startswith("please run connect") else verdicts.ENDED


def _code_of(recipients: object) -> object:
    """Of several refused recipients one that may be accepted later decides: the others are only refused anew."""
    replies = recipients.values() if type(recipients) is dict else ()
    codes = [reply[0] for reply in replies if is_a(reply, tuple) and reply and is_a(reply[0], int)]
    return min(codes, default=None)


def _by_code(code: object) -> Classification | None:
    if not is_a(code, int):
        return None
    return _BY_CODE.get(code) or (verdicts.SERVER_ERROR if 400 <= code < 500 else verdicts.BAD_REQUEST)
