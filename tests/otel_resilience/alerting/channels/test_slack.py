"""Slack: what a person reads, and Slack's reasons for a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience.alerting.channels import ChannelError, SlackChannel
from otel_resilience.alerting.channels._text import headline
from otel_resilience.alerting.channels.slack import REASONS, build_message
from otel_resilience.alerting.model.alert import Links, Status
from support.alert_payloads import check_slack
from support.alert_receivers import FakeSlack, served
from support.notifications import BEGAN, LINKS, SAMPLES, notification


def texts(message: dict[str, Any]) -> str:
    """All texts of the blocks, one per line."""

    def visit(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["text"]] if isinstance(node.get("text"), str) else []
            return own + [text for value in node.values() for text in visit(value)]
        return [text for item in node for text in visit(item)] if isinstance(node, list) else []

    return "\n".join(visit(message["blocks"]))


def buttons(message: dict[str, Any]) -> dict[str, str]:
    rows = [block["elements"] for block in message["blocks"] if block["type"] == "actions"]
    return {button["text"]["text"]: button["url"] for row in rows for button in row}


class TestTheMessage:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, "🔴 CRITICAL: It broke"),
            ({"severity": Severity.HIGH}, "🟠 HIGH: It broke"),
            ({"severity": Severity.MEDIUM}, "🟡 MEDIUM: It broke"),
            ({"severity": Severity.LOW}, "🔵 LOW: It broke"),
            ({"reason": "escalated"}, "🔴 CRITICAL, ESCALATED: It broke"),
            ({"reason": "repeat"}, "🔴 CRITICAL, STILL FIRING: It broke"),
            ({"reason": "back"}, "🔴 CRITICAL, BACK: It broke"),
            ({"status": Status.RESOLVED, "reason": "resolved"}, "✅ RESOLVED: It broke"),
            ({"reason": "test"}, "🧪 TEST CRITICAL: It broke"),
        ],
    )
    def test_its_head_says_how_bad_it_is_and_what_happened(self, changes: dict[str, Any], expected: str) -> None:
        message = notification(title="It broke", **changes)
        assert headline(message) == expected
        block = build_message(message)["blocks"][0]
        assert (block["type"], block["text"]["text"]) == ("header", expected)

    def test_it_says_how_often_since_when_and_which_errors(self) -> None:
        read = texts(build_message(SAMPLES["aggregated"]))
        assert "*Seen*\n412 times in 60 s, 3 error types" in read
        assert "*Error types*\nconnect_timeout (300), 503 (100), 429 (12)" in read
        assert "*Since*\n2026-11-24 06:00:00 UTC" in read
        assert "*Dependency*\nsupplier" in read

    def test_further_messages_say_what_is_new(self) -> None:
        message = notification(count=12, total=424, last_seen=BEGAN + 300)
        assert "*Seen*\n424 times in 5 min, 12 since the last message" in texts(build_message(message))

    def test_the_end_says_how_long_it_took(self) -> None:
        message = build_message(SAMPLES["resolved"])
        assert "*Duration*\n41 min" in texts(message)
        assert message["text"] == "✅ RESOLVED: The circuit of supplier is closed again (after 41 min)"

    def test_the_correlation_id_can_be_copied(self) -> None:
        assert f"```{SAMPLES['firing'].correlation_id}```" in texts(build_message(SAMPLES["firing"]))
        assert "```" not in texts(build_message(notification(correlation_id=None)))

    def test_buttons_stand_where_there_are_links(self) -> None:
        assert list(buttons(build_message(notification()))) == ["Open trace", "Dashboard", "Runbook"]
        only_runbook = build_message(notification(links=Links(runbook=LINKS.runbook)))
        assert buttons(only_runbook) == {"Runbook": LINKS.runbook}
        without = build_message(notification(links=Links()))
        assert buttons(without) == {}
        assert "actions" not in [block["type"] for block in without["blocks"]]

    @pytest.mark.parametrize(
        "link", ["javascript:alert(1)", "/relative", "https://x.example/" + "a" * 3000, "http://[", ""]
    )
    def test_a_link_that_slack_would_refuse_is_left_out(self, link: str) -> None:
        message = build_message(notification(links=Links(trace=link, runbook=LINKS.runbook)))
        assert buttons(message) == {"Runbook": LINKS.runbook}
        check_slack(message)

    def test_text_becomes_no_markup(self) -> None:
        message = build_message(
            notification(
                title="<!channel> & <https://evil.example|click>",
                summary="<@U123> said a < b && c > d",
                correlation_id="```<!here>```",
                context={"<!everyone>": "<#C1>"},
            )
        )
        check_slack(message)
        read = texts(message) + message["text"]
        assert "<" not in read
        assert "&lt;!channel&gt; &amp; " in read
        assert "```'''&lt;!here&gt;'''```" in read

    def test_limits_count_after_escaping(self) -> None:
        message = notification(title="&" * 500, summary="<" * 5000, context={f"k{n}": ">" * 500 for n in range(20)})
        built = build_message(message)
        check_slack(built)
        assert built["blocks"][0]["text"]["text"].endswith("&amp;…")
        assert "… and " in texts(built), "what was left out of the context is told"

    def test_a_digest_lists_its_incidents(self) -> None:
        message = build_message(SAMPLES["digest"])
        assert message["blocks"][0]["text"]["text"] == "🔴 CRITICAL: 4 incidents"
        assert (
            "• CRITICAL: The circuit of supplier is open\n"
            "• HIGH: Calls to redis fail (40 times)\n"
            "• MEDIUM: Field &lt;speed&gt; is new &amp; unknown\n"
            "• resolved: The catalogue is stale"
        ) in texts(message)


class TestTheReceiver:
    def test_one_message_a_second_is_the_channels_own_limit(self) -> None:
        with served(FakeSlack()) as slack:
            channel = SlackChannel(slack.url)
            assert channel.min_interval == 1.0
            channel.deliver(notification(), timeout=5)
            with pytest.raises(ChannelError) as caught:
                channel.deliver(notification(), timeout=5)
            assert (caught.value.status, caught.value.classification.retry_after) == (429, 1.0)
            assert len(slack.accepted) == 1

    @pytest.mark.parametrize(
        ("status", "reason", "revoked"),
        [
            (404, "no_service", True),
            (404, "channel_not_found", True),
            (403, "action_prohibited", True),
            (410, "channel_is_archived", True),
            (400, "invalid_payload", False),
            (400, "user_not_found", False),
            (500, "rollup_error", False),
        ],
    )
    def test_its_own_text_is_kept(self, status: int, reason: str, revoked: bool) -> None:
        assert reason in REASONS
        with served(FakeSlack()) as slack:
            slack.revoke(status, reason)
            with pytest.raises(ChannelError) as caught:
                SlackChannel(slack.url).deliver(notification(), timeout=5)
        assert str(caught.value) == f"slack answered {status} ({reason})"
        assert (caught.value.reason, caught.value.revoked) == (reason, revoked)
        assert caught.value.classification.retryable is (status == 500)
