"""What Discord, Teams, Mattermost and Opsgenie accept, by their published formats and limits; and a mail server."""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from support.alert_payloads import RFC3339, RefusedError, require, units
from support.alert_receivers import Received, Receiver, Reply

API_KEY = "11112222-3333-4444-5555-666677778888"


def _text(value: Any, limit: int, what: str) -> None:
    require(isinstance(value, str) and value.strip(), f"{what} is empty")
    require(units(value) <= limit, f"{what} is longer than {limit}")


def _link(value: Any) -> None:
    require(urlsplit(value).scheme in ("http", "https"), "no link")


def check_discord(message: Any) -> None:
    require(set(message) <= {"content", "embeds", "allowed_mentions"}, "unknown fields")
    require(message["allowed_mentions"] == {"parse": []}, "it may mention people")
    (embed,) = message["embeds"]
    require(set(embed) <= {"title", "description", "url", "timestamp", "color", "fields"}, "unknown fields of an embed")
    _text(embed["title"], 256, "title")
    if "description" in embed:
        _text(embed["description"], 4096, "description")
    require(RFC3339.fullmatch(embed["timestamp"]), "timestamp")
    require(isinstance(embed["color"], int) and 0 <= embed["color"] <= 0xFFFFFF, "colour")
    require(len(embed["fields"]) <= 25, "too many fields")
    texts = [embed["title"], embed.get("description", "")]
    for field in embed["fields"]:
        require(set(field) <= {"name", "value", "inline"}, "unknown fields of a field")
        _text(field["name"], 256, "name")
        _text(field["value"], 1024, "value")
        texts += [field["name"], field["value"]]
    require(sum(map(units, texts)) <= 6000, "more than 6000 characters")


def check_teams(message: Any) -> None:
    require(2 * units(json.dumps(message, ensure_ascii=False)) <= 28 * 1024, "more than 28 KB in UTF-16")
    require(message["type"] == "message", "type")
    (attachment,) = message["attachments"]
    require(attachment["contentType"] == "application/vnd.microsoft.card.adaptive", "contentType")
    card = attachment["content"]
    require(card["type"] == "AdaptiveCard" and card["version"] == "1.4", "version of the card")
    for element in card["body"]:
        require(element["type"] in {"TextBlock", "FactSet"}, "element")
        if element["type"] == "TextBlock":
            _text(element["text"], 10_000, "text")
            colours = {"default", "dark", "light", "accent", "good", "warning", "attention"}
            require(element.get("color", "default") in colours, "colour")
        else:
            for fact in element["facts"]:
                require(set(fact) == {"title", "value"}, "fact")
                _text(fact["title"], 1000, "title")
                _text(fact["value"], 10_000, "value")
    require(len(card.get("actions", [])) <= 6, "too many actions")
    for action in card.get("actions", []):
        require(action["type"] == "Action.OpenUrl", "action")
        _link(action["url"])


def check_mattermost(message: Any) -> None:
    require(set(message) <= {"text", "attachments"}, "unknown fields")
    _text(message["text"], 5000, "text")
    (attachment,) = message["attachments"]
    require(set(attachment) <= {"fallback", "color", "text", "title", "title_link", "fields"}, "unknown fields")
    require(re.fullmatch(r"#[0-9a-f]{6}", attachment["color"]), "colour")
    require(units(attachment["text"]) <= 5000, "text too long")
    for field in attachment["fields"]:
        require(set(field) == {"title", "value", "short"} and isinstance(field["short"], bool), "field")
        _text(field["value"], 5000, "value")
    shown = json.dumps(message, ensure_ascii=False)
    require(not re.search(r"@(all|channel|here)\b", shown), "it mentions everybody")


def check_opsgenie(alert: Any) -> None:
    known = {"message", "alias", "description", "priority", "entity", "source", "tags", "details"}
    require(set(alert) <= known, "unknown fields")
    _text(alert["message"], 130, "message")
    _text(alert["alias"], 512, "alias")
    require(alert["priority"] in {"P1", "P2", "P3", "P4", "P5"}, "priority")
    for name, limit in (("description", 15_000), ("entity", 512), ("source", 100)):
        if name in alert:
            _text(alert[name], limit, name)
    require(len(alert.get("tags", [])) <= 20 and all(units(tag) <= 50 for tag in alert.get("tags", [])), "tags")
    details = alert.get("details", {})
    require(all(isinstance(each, str) for each in details.values()), "details are texts")
    require(sum(units(name) + units(value) for name, value in details.items()) <= 8000, "details too long")


class FakeChat(Receiver):
    """A chat's webhook: takes what its check accepts."""

    path = "/api/webhooks/1234567890/fakeWebhookToken000000000000"

    def __init__(self, check: Callable[[Any], None], status: int) -> None:
        super().__init__()
        self._check, self._status = check, status

    def answer(self, request: Received) -> Reply:
        try:
            message = request.json
            self._check(message)
        except (ValueError, KeyError, TypeError, RefusedError) as problem:
            self.failures.append(problem)
            return Reply(400, "refused")
        self.accepted.append(message)
        return Reply(self._status)


class FakeOpsgenie(Receiver):
    """The Alert API: opens alerts, joins those that are open, and closes them by their alias."""

    path = "/v2/alerts"

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, int] = {}
        """By alias, how often it was opened."""
        self.closed: list[str] = []

    def answer(self, request: Received) -> Reply:
        if request.headers.get("authorization") != f"GenieKey {API_KEY}":
            return Reply(401, "Key format is not valid!")
        url = urlsplit(request.path)
        try:
            if url.path == self.path:
                alert = request.json
                check_opsgenie(alert)
                self.open[alert["alias"]] = self.open.get(alert["alias"], 0) + 1
            else:
                match = re.fullmatch(r"/v2/alerts/([^/]+)/close", url.path)
                require(match and url.query == "identifierType=alias", "no such address")
                assert match is not None
                alias = match[1].replace("%3A", ":")
                require(set(request.json) <= {"user", "source", "note"}, "unknown fields")
                self.open.pop(alias, None)
                self.closed.append(alias)
        except (ValueError, KeyError, TypeError, RefusedError) as problem:
            self.failures.append(problem)
            return Reply(422, "refused")
        self.accepted.append(request.json)
        return Reply(202, json.dumps({"result": "Request will be processed", "took": 0.1, "requestId": "1"}))


class FakeMailServer:
    """SMTP on the loopback, with STARTTLS or TLS from the start, AUTH PLAIN, and a script of replies to DATA."""

    def __init__(self, tls: ssl.SSLContext | None, *, implicit: bool = False, login: tuple[str, str] | None = None):
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.replies: dict[str, str] = {}
        """Replies by command, in place of the usual ones."""
        self.refusals: dict[str, str] = {}
        """Replies by recipient, for recipients that are refused."""
        self.in_the_open: list[str] = []
        """Commands received without TLS."""
        self.silent = threading.Event()
        """If set, the server does not reply."""
        self._tls, self.implicit, self._login = tls, implicit, login
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @contextlib.contextmanager
    def serving(self) -> Iterator[FakeMailServer]:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for each in (thread, *self._threads):
                each.join(60)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._guarded, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _guarded(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            self._serve(held.enter_context(connection), held)

    def _serve(self, connection: socket.socket, held: contextlib.ExitStack) -> None:  # noqa: C901  # one branch for each command
        connection.settimeout(60)
        secure = self.implicit
        if self.implicit and self._tls is not None:
            connection = held.enter_context(self._tls.wrap_socket(connection, server_side=True))
        if self.silent.is_set():
            connection.recv(1)
            return
        lines = held.enter_context(connection.makefile("rb"))
        recipients: list[str] = []

        def say(text: str) -> None:
            connection.sendall(text.encode() + b"\r\n")

        say("220 mail.example ESMTP")
        while line := lines.readline().decode().strip():
            command = line.split()[0].upper()
            if not secure:
                self.in_the_open.append(command)
            if command in self.replies:
                say(self.replies[command])
            elif command == "EHLO":
                offers = ["mail.example", "8BITMIME"]
                offers += ["STARTTLS"] if self._tls and not secure else []
                offers += ["AUTH PLAIN"] if self._login and secure else []
                for offer in offers[:-1]:
                    say(f"250-{offer}")
                say(f"250 {offers[-1]}")
            elif command == "STARTTLS" and self._tls is not None:
                say("220 go ahead")
                connection = held.enter_context(self._tls.wrap_socket(connection, server_side=True))
                lines, secure = held.enter_context(connection.makefile("rb")), True
            elif command == "AUTH":
                user, password = base64.b64decode(line.split()[2]).decode().split("\0")[1:]
                say("235 welcome" if (user, password) == self._login else "535 5.7.8 refused")
            elif command == "RCPT":
                recipient = line.partition("<")[2].partition(">")[0]
                if recipient not in self.refusals:
                    recipients.append(recipient)
                say(self.refusals.get(recipient, "250 ok"))
            elif command == "DATA":
                say("354 go on")
                raw = b""
                while not raw.endswith(b"\r\n.\r\n"):
                    raw += lines.readline()
                self.mails.append(email.message_from_bytes(raw[:-5], policy=email.policy.default))
                self.recipients.append(recipients)
                say("250 queued")
            else:
                say("250 ok")
