"""The default classifier."""

from __future__ import annotations

import functools

from otel_resilience.classification.classifier import Classifier
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import default_rules

_LOOKED_UP = (
    ConnectionError,
    ConnectionRefusedError,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
)
"""Built-in types whose instances all mean the same: one table lookup instead of asking each rule. ``TimeoutError`` is
not among them: with an ``errno`` it comes from the system, without one from an attempt's time limit."""


@functools.cache
def default_classifier() -> Classifier:
    """The rules for the standard library, httpx, redis-py and for carried HTTP statuses. Extend it with
    :meth:`Classifier.extended`.

    Examples:
        >>> default_classifier().classify(ConnectionRefusedError()).unsent
        True
    """
    rules = default_rules()
    asked = Classifier(rules)
    return Classifier(rules, {kind: asked.classify(kind()) for kind in _LOOKED_UP})


def classify(exception: BaseException, classifier: Classifier | None = None) -> Classification:
    """The verdict of ``classifier`` (or the default one) on ``exception``. Raises ``TypeError`` if it is not one.

    Examples:
        >>> verdict = classify(ConnectionResetError())
        >>> verdict.error_type, verdict.retryable, verdict.counts
        ('connection_error', True, True)
        >>> classify(KeyError("plans")).retryable
        False
    """
    if not issubclass(type(exception), BaseException):
        raise TypeError(f"exception must be an exception, not {exception!r}")
    if classifier is not None and not isinstance(classifier, Classifier):
        raise TypeError(f"classifier must be a Classifier, not {classifier!r}")
    return (classifier or default_classifier()).classify(exception)
