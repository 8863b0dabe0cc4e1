"""Every text is accepted, and no secret in it is delivered."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_resilience import Severity
from otel_resilience.alerting.channels._text import ELLIPSIS, cut, encode, readable, web_link
from otel_resilience.alerting.channels.pagerduty import build_event
from otel_resilience.alerting.channels.slack import build_message
from otel_resilience.alerting.model.alert import Alert, Links, Notification, Status
from otel_resilience.redaction import register_secret
from support.alert_payloads import check_generic, check_pagerduty, check_slack, units
from support.alert_receivers import ROUTING_KEY
from support.notifications import notification

NASTY = ["&", "<", "`", "*", "|", "\\", '"', "\n", "\x00", "\x1b", "\u202e", "\u2066", "\ufeff", "\ud83d", "\udc00"]
NASTY += ["😀", "👩\u200d👩\u200d👧", "e\u0301", "مرحبا"]
texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=60),
    st.lists(st.sampled_from([*NASTY, "a", " "]), max_size=20).map("".join),
    st.builds(lambda part, times: part * times, st.sampled_from([*NASTY, "word "]), st.sampled_from([1, 160, 10_000])),
)
quick = settings(max_examples=100, phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink))
"""Without the phase that traces every line to explain a failure."""
maybe = st.none() | texts
scalars = st.one_of(texts, st.integers(), st.floats(), st.booleans(), st.none())
moments = st.floats(0, 4e9)
numbers = st.integers(0, 10**9)

notifications = st.builds(
    Notification,
    id=texts,
    status=st.sampled_from(Status),
    severity=st.sampled_from(Severity),
    kind=texts,
    title=texts,
    summary=texts,
    dependency=maybe,
    error_type=maybe,
    error_class=maybe,
    correlation_id=maybe,
    span_id=st.none(),
    fingerprint=texts.filter(bool),
    incident=texts,
    count=numbers,
    total=numbers,
    first_seen=moments,
    last_seen=moments,
    escalation=st.integers(0, 9),
    links=st.builds(Links, trace=maybe, dashboard=maybe, runbook=maybe | st.just("https://x.example/runbook")),
    context=st.dictionaries(texts, scalars, max_size=22),
    service=texts,
    reason=st.sampled_from(["new", "more", "escalated", "repeat", "back", "resolved", "test"]),
    error_types=st.dictionaries(texts, numbers, max_size=10),
)


@quick
@given(notifications)
def test_any_notification_becomes_a_message_that_is_accepted(message: Notification) -> None:
    check_slack(json.loads(encode(build_message(message))))
    event = encode({"routing_key": ROUTING_KEY, **build_event(message)})
    check_pagerduty(json.loads(event))
    assert len(event) <= 512 * 1024
    check_generic(json.loads(encode(message.to_json())), links_lead_somewhere=False)


SECRETS = {
    "registered": "sk-live-4f9c2b7e81",
    "password of a URL": "hunter2hunter2",
    "token of a URL": "tok-9d3f1a",
    "slack webhook": "T0FUZZ/B0FUZZ/abcdefghijklmnopqrstuvwx",
    "header": "Zm9vOmJhcg-header",
}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    register_secret(SECRETS["registered"])


leaks = st.sampled_from(
    [
        f"call with {SECRETS['registered']} failed",
        f"https://user:{SECRETS['password of a URL']}@supplier.example/v2",
        f"GET https://supplier.example/v2?api_key={SECRETS['token of a URL']}&page=2 timed out",
        f"POST https://hooks.slack.com/services/{SECRETS['slack webhook']}",
        f"ConnectError(headers={{'Authorization': 'Bearer {SECRETS['header']}'}})",
        f"redis://:{SECRETS['password of a URL']}@cache.example:6379/0",
    ]
)
around = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
leaky = st.builds(lambda before, leak, after: f"{before} {leak} {after}", around, leaks, around)


@quick
@given(
    title=leaky,
    summary=leaky,
    name=leaky,
    context=st.dictionaries(leaky, leaky, max_size=3),
    status=st.sampled_from(Status),
)
def test_no_secret_of_an_alert_arrives(
    title: str, summary: str, name: str, context: dict[str, str], status: Status
) -> None:
    alert = Alert(
        kind="errors",
        title=title,
        severity=Severity.HIGH,
        summary=summary,
        dependency=name,
        error_type=name,
        error_class=name,
        context=context,
    )
    told = ("kind", "title", "summary", "dependency", "error_type", "error_class", "context")
    message = notification(status=status, **{field: getattr(alert, field) for field in told})
    payloads: list[dict[str, Any]] = [build_message(message), build_event(message), message.to_json()]
    for payload in payloads:
        wire = encode(payload).decode()
        for kind, secret in SECRETS.items():
            assert secret not in wire, kind


class TestText:
    @quick
    @given(texts, st.integers(2, 200))
    def test_a_cut_text_fits_and_is_a_beginning(self, text: str, limit: int) -> None:
        text = readable(text)
        short = cut(text, limit)
        assert units(short) <= limit
        assert short == text or (short.endswith(ELLIPSIS) and text.startswith(short[:-1]))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("abcdef", "abc…"),
            ("abcd", "abcd"),
            ("ab e\u0301x", "ab…"),
            ("a👩‍👩‍👧", "a…"),
            ("ab👍🏽x", "ab…"),
            ("😀😀😀", "😀…"),
        ],
    )
    def test_a_letter_is_not_cut_from_its_accents(self, text: str, expected: str) -> None:
        assert cut(text, 4) == expected

    def test_what_is_not_seen_or_turns_the_line_around_is_dropped(self) -> None:
        assert readable("a\x00b\u202ec\n\td\ud83d\ude00\udc00") == "a b c d😀\ufffd"
        assert readable("مرحبا") == "مرحبا"

    @quick
    @given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=10))
    def test_json_can_be_read_by_everybody(self, value: Any) -> None:
        read = json.loads(encode({"value": value}).decode("utf-8"), parse_constant=pytest.fail)
        if isinstance(value, float) and math.isfinite(value):
            assert read["value"] == value

    @quick
    @given(texts)
    def test_no_text_breaks_the_check_of_links(self, text: str) -> None:
        assert web_link(text) in (None, text)
