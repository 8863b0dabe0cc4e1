"""Rules for ``smtplib``, by the reply codes of SMTP (RFC 5321, 4.2.3) and the enhanced ones (RFC 3463)."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification.causes import by_class_name, message_of
from otel_resilience.classification.model import BreakerEffect, Classification
from otel_resilience.classification.rules import verdicts

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


def _by_code(code: object) -> Classification | None:
    if not is_a(code, int):
        return None
    return _BY_CODE.get(code) or (verdicts.SERVER_ERROR if 400 <= code < 500 else verdicts.BAD_REQUEST)


def _replied(exception: BaseException) -> Classification:
    return _by_code(attribute(exception, "smtp_code")) or verdicts.SERVER_ERROR


def _before_mail(exception: BaseException) -> Classification:
    return _replied(exception).replace(unsent=True)


def _disconnected(exception: BaseException) -> Classification:
    text = message_of(exception)
    if "timed out" in text:
        return verdicts.READ_TIMEOUT
    return verdicts.MISUSE if text.startswith("please run connect") else verdicts.ENDED


def _refused(exception: BaseException) -> Classification:
    """Of several refused recipients, one that may be accepted later decides: the others will just be refused again."""
    recipients = attribute(exception, "recipients")
    replies = recipients.values() if type(recipients) is dict else ()
    codes = [reply[0] for reply in replies if is_a(reply, tuple) and reply and is_a(reply[0], int)]
    return _by_code(min(codes, default=None)) or verdicts.BAD_REQUEST


classify_smtplib: Final = by_class_name(
    {
        "smtplib": {
            "SMTPServerDisconnected": _disconnected,
            "SMTPAuthenticationError": _before_mail,
            "SMTPConnectError": _before_mail,
            "SMTPHeloError": _before_mail,
            "SMTPRecipientsRefused": _refused,
            "SMTPNotSupportedError": verdicts.MISUSE,
            "SMTPResponseException": _replied,
            "SMTPException": verdicts.MISUSE,
        }
    }
)
"""The verdict on an exception of ``smtplib``; ``None`` on any other."""
