"""Rule sets."""
from otel_resilience.classification import *
from otel_resilience.classification import self_described
def _t(e):
    if isinstance(e, (TimeoutError, ConnectionError)):
        return Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "connection_error", BreakerEffect.FAILURE)
    return None
def default_rules(): return (self_described, _t)
