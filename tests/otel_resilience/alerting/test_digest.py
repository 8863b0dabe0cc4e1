"""Several waiting notifications sent as one."""

from __future__ import annotations

import pytest

from otel_resilience import Severity
from otel_resilience.alerting.model.alert import MAX_CONTEXT, Links, Notification, Status
from otel_resilience.alerting.model.digest import MORE, digest
from support.notifications import BEGAN, LINKS, notification


def incident(number: int, **changes: object) -> Notification:
    fields: dict[str, object] = {
        "id": f"id-{number}",
        "incident": f"incident-{number}",
        "fingerprint": f"{number:016x}",
        "title": f"Thing {number} broke",
        **changes,
    }
    return notification(**fields)


def test_one_stays_as_it_is() -> None:
    alone = incident(1)
    assert digest([alone]) is alone


def test_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        digest([])


def test_many_become_one_that_lists_them_the_worst_first() -> None:
    told = digest(
        [
            incident(1, severity=Severity.LOW),
            incident(2, severity=Severity.CRITICAL, status=Status.RESOLVED),
            incident(3, severity=Severity.HIGH, count=40, total=50),
        ]
    )
    assert (told.title, told.kind, told.reason) == ("3 incidents", "digest", "digest")
    assert (told.status, told.severity) == (Status.FIRING, Severity.CRITICAL)
    assert list(told.context.values()) == [
        "HIGH: Thing 3 broke (50 times)",
        "LOW: Thing 1 broke",
        "resolved: Thing 2 broke",
    ]
    assert (told.count, told.total) == (42, 52)
    assert told.merged == ("id-1", "id-2", "id-3")


def test_it_is_over_when_all_are() -> None:
    told = digest([incident(number, status=Status.RESOLVED) for number in (1, 2)])
    assert (told.status, told.title) == (Status.RESOLVED, "2 incidents resolved")


def test_it_keeps_what_all_have_in_common() -> None:
    told = digest(
        [
            incident(1, error_type="503", links=Links(trace="https://a.example/1", dashboard=LINKS.dashboard)),
            incident(2, error_type="429", links=Links(trace="https://a.example/2", dashboard=LINKS.dashboard)),
        ]
    )
    assert (told.dependency, told.error_type, told.service) == ("supplier", None, "catalog-sync")
    assert told.links == Links(dashboard=LINKS.dashboard)


def test_it_spans_all_of_them() -> None:
    told = digest(
        [
            incident(1, first_seen=BEGAN + 5, last_seen=BEGAN + 9, escalation=2, error_types={"503": 3}),
            incident(2, first_seen=BEGAN, last_seen=BEGAN + 7, error_types={"503": 1, "429": 9}),
        ]
    )
    assert (told.first_seen, told.last_seen, told.escalation) == (BEGAN, BEGAN + 9, 2)
    assert list(told.error_types.items()) == [("429", 9), ("503", 4)]


def test_several_about_one_incident_are_the_latest_with_all_its_occurrences() -> None:
    told = digest(
        [
            incident(1, id="a", count=1, total=1),
            incident(1, id="b", count=9, total=10, reason="more"),
            incident(1, id="c", count=0, total=10, status=Status.RESOLVED, reason="resolved"),
        ]
    )
    assert (told.title, told.status, told.reason) == ("Thing 1 broke", Status.RESOLVED, "resolved")
    assert (told.count, told.total, told.merged) == (10, 10, ("a", "b", "c"))
    assert told.fingerprint == incident(1).fingerprint


def test_an_incident_stands_in_the_list_once() -> None:
    told = digest([incident(1, id="a"), incident(2), incident(1, id="b", count=4, total=5)])
    assert told.title == "2 incidents"
    assert (told.count, told.total) == (6, 6)
    assert sorted(map(str, told.context.values())) == ["CRITICAL: Thing 1 broke (5 times)", "CRITICAL: Thing 2 broke"]


@pytest.mark.parametrize(("number", "listed", "more"), [(20, 20, None), (21, 19, 2), (70, 19, 51)])
def test_a_long_list_is_cut_and_says_so(number: int, listed: int, more: int | None) -> None:
    told = digest([incident(each) for each in range(number)])
    assert told.title == f"{number} incidents"
    assert len(told.context) <= MAX_CONTEXT
    assert told.context.get(MORE) == more
    assert len([name for name in told.context if name != MORE]) == listed
    assert len(told.merged) == number


def test_a_digest_can_be_merged_again() -> None:
    first = digest([incident(each) for each in range(30)])
    told = digest([first, incident(100), digest([incident(200), incident(201)])])
    assert told.title == "33 incidents"
    assert told.merged == (*(f"id-{each}" for each in range(30)), "id-100", "id-200", "id-201")
    assert told.context[MORE] == 33 - 19
    assert told.total == 33


def test_the_same_messages_always_give_the_same_id() -> None:
    messages = [incident(1), incident(2)]
    assert digest(messages).id == digest(messages).id
    assert digest(messages).id != digest([*messages, incident(3)]).id


def test_it_goes_where_any_of_them_was_to_go() -> None:
    assert digest([incident(1, channels=("a",)), incident(2, channels=("b", "a"))]).channels == ("a", "b")
    assert digest([incident(1, channels=("a",)), incident(2)]).channels is None


def test_it_survives_the_outbox() -> None:
    told = digest([incident(1), incident(2)])
    assert Notification.load(told.dump()) == told
    assert told.to_json()["merged"] == ["id-1", "id-2"]
    assert "merged" not in incident(1).to_json()
