"""The classifier that is used where none is given."""

from __future__ import annotations

import functools

from otel_resilience.classification import Classification, Classifier
from otel_resilience.rules import default_rules

_TELLING_TYPES = (
    ConnectionError,
    ConnectionRefusedError,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    TimeoutError,
    Exception,
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)
"""Built-in types whose instances all mean the same, if only that nothing is known; looked up instead of asked about."""


@functools.cache
def default_classifier() -> Classifier:
    """The rules for the standard library, httpx and redis-py. Extend it with :meth:`Classifier.extended`."""
    rules = default_rules()
    asked = Classifier(rules)
    return Classifier(rules, {kind: asked.classify(kind()) for kind in _TELLING_TYPES})


def classify(exception: BaseException, classifier: Classifier | None = None) -> Classification:
    """What ``exception`` means, by ``classifier`` or the default one."""
    return (classifier or default_classifier()).classify(exception)
