"""E-mail: only over TLS, complete and readable at the receiver, with errors that say what to do."""

from __future__ import annotations

import base64
import dataclasses
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_resilience import ErrorClass
from otel_resilience.alerting.channels import ChannelError, EmailChannel, email
from otel_resilience.alerting.channels.email import read_url
from otel_resilience.redaction import redact
from support.alert_chats import FakeMailServer
from support.certificates import loopback_certificate
from support.notifications import SAMPLES

LOGIN = ("alerts@shop.example", "p@ss/w:rd-of-mail")
QUERY = "from=alerts@shop.example&to=oncall@shop.example,second@shop.example"
EVIL = "x\r\nBcc: all@shop.example\r\n\r\n.\r\n"
WRITTEN = "alerts%40shop.example:p%40ss%2Fw%3Ard-of-mail"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return loopback_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


@pytest.fixture(params=["starttls", "tls"])
def server(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[FakeMailServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with FakeMailServer(context, implicit=request.param == "tls", login=LOGIN).serving() as made:
        yield made


def url(server: FakeMailServer, login: str = WRITTEN) -> str:
    scheme = "smtps" if server.implicit else "smtp"
    return f"{scheme}://{login}@localhost:{server.port}/?{QUERY}"


class TestDelivery:
    @pytest.mark.parametrize("sample", SAMPLES)
    def test_brings_every_message_over_tls(self, server: FakeMailServer, trusted: ssl.SSLContext, sample: str) -> None:
        EmailChannel(url(server), tls_context=trusted).deliver(SAMPLES[sample], timeout=60)
        (mail,) = server.mails
        assert server.recipients == [["oncall@shop.example", "second@shop.example"]]
        assert SAMPLES[sample].title[:20] in str(mail["Subject"])
        assert SAMPLES[sample].summary[:20] in mail.get_content()
        assert mail["Auto-Submitted"] == "auto-generated"
        assert set(server.in_the_open) <= {"EHLO", "STARTTLS"}

    def test_mails_of_an_incident_are_a_thread(self, server: FakeMailServer, trusted: ssl.SSLContext) -> None:
        channel = EmailChannel(url(server), tls_context=trusted)
        channel.deliver(SAMPLES["firing"], timeout=60)
        channel.deliver(dataclasses.replace(SAMPLES["firing"], id=SAMPLES["firing"].id + "0"), timeout=60)
        assert len({mail["References"] for mail in server.mails}) == 1
        assert len({mail["Message-ID"] for mail in server.mails}) == 2

    def test_no_text_becomes_a_header(self, server: FakeMailServer, trusted: ssl.SSLContext) -> None:
        evil = dataclasses.replace(
            SAMPLES["firing"], title="x\r\nBcc: all@shop.example\r\n\r\n.\r\n", summary="\r\n.\r\n"
        )
        EmailChannel(url(server), tls_context=trusted).deliver(evil, timeout=60)
        (mail,) = server.mails
        assert mail["Bcc"] is None
        assert server.recipients == [["oncall@shop.example", "second@shop.example"]]


class TestSomeRecipients:
    """Greylisting and full mailboxes concern one recipient, not the mail."""

    FIRST, SECOND = "oncall@shop.example", "second@shop.example"

    def test_that_are_put_off_get_it_later_and_the_others_once(
        self, server: FakeMailServer, trusted: ssl.SSLContext
    ) -> None:
        channel = EmailChannel(url(server), tls_context=trusted)
        server.refusals = {self.SECOND: "450 4.2.0 greylisted, try again in 300 s"}
        for _ in range(2):
            with pytest.raises(ChannelError) as caught:
                channel.deliver(SAMPLES["firing"], timeout=60)
            assert caught.value.classification.error_class is ErrorClass.TRANSIENT
        server.refusals = {}
        channel.deliver(SAMPLES["firing"], timeout=60)
        assert server.recipients == [[self.FIRST], [self.SECOND]]
        channel.deliver(dataclasses.replace(SAMPLES["firing"], id="another-1"), timeout=60)
        assert server.recipients[2:] == [[self.FIRST, self.SECOND]]

    def test_that_are_refused_for_good_are_logged_without_their_address(
        self, server: FakeMailServer, trusted: ssl.SSLContext, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.refusals = {self.SECOND: "550 5.1.1 no such user"}
        EmailChannel(url(server), tls_context=trusted).deliver(SAMPLES["firing"], timeout=60)
        assert server.recipients == [[self.FIRST]]
        assert caplog.messages == ["the mail server refuses 1 of the 2 recipients of alerts: 550"]

    def test_what_is_remembered_of_them_is_bounded(
        self, server: FakeMailServer, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(email, "MAX_LEFT", 2)
        channel = EmailChannel(url(server), tls_context=trusted)
        server.refusals = {self.SECOND: "452 4.2.2 mailbox full"}
        for number in range(4):
            with pytest.raises(ChannelError):
                channel.deliver(dataclasses.replace(SAMPLES["firing"], id=f"{number}-1"), timeout=60)
        assert [*channel._left] == ["2-1", "3-1"]


class TestFailure:
    def test_an_unknown_certificate_sends_nothing(self, server: FakeMailServer) -> None:
        with pytest.raises(ChannelError) as caught:
            EmailChannel(url(server)).deliver(SAMPLES["firing"], timeout=60)
        assert caught.value.classification.error_class is ErrorClass.PERMANENT
        assert server.mails == []

    def test_a_refused_password_revokes_the_channel(self, server: FakeMailServer, trusted: ssl.SSLContext) -> None:
        channel = EmailChannel(url(server, "alerts%40shop.example:wrong-password"), tls_context=trusted)
        with pytest.raises(ChannelError) as caught:
            channel.deliver(SAMPLES["firing"], timeout=60)
        assert caught.value.classification.error_type == "401"
        assert "wrong-password" not in str(caught.value)

    @pytest.mark.parametrize(
        ("command", "reply", "error_class"),
        [
            ("MAIL", "451 4.3.0 later", ErrorClass.TRANSIENT),
            ("RCPT", "450 4.2.1 greylisted", ErrorClass.TRANSIENT),
            ("RCPT", "550 5.1.1 unknown", ErrorClass.PERMANENT),
            ("DATA", "554 5.7.1 spam", ErrorClass.PERMANENT),
        ],
    )
    def test_replies_mean_what_their_first_digit_says(
        self, server: FakeMailServer, trusted: ssl.SSLContext, command: str, reply: str, error_class: ErrorClass
    ) -> None:
        server.replies[command] = reply
        with pytest.raises(ChannelError) as caught:
            EmailChannel(url(server), tls_context=trusted).deliver(SAMPLES["firing"], timeout=60)
        assert caught.value.classification.error_class is error_class

    def test_a_server_that_says_nothing_is_left_in_time(self, server: FakeMailServer, trusted: ssl.SSLContext) -> None:
        server.silent.set()
        with pytest.raises(ChannelError) as caught:
            EmailChannel(url(server), tls_context=trusted).deliver(SAMPLES["firing"], timeout=0.3)
        assert caught.value.classification.retryable
        for thread in threading.enumerate():
            if thread.name == "alert mail":
                thread.join(60)
                assert not thread.is_alive()

    def test_a_server_without_tls_gets_nothing(self) -> None:
        with FakeMailServer(None).serving() as plain:
            channel = EmailChannel(f"smtp://localhost:{plain.port}/?{QUERY}")
            with pytest.raises(ChannelError) as caught:
                channel.deliver(SAMPLES["firing"], timeout=60)
            assert caught.value.classification.error_type == "secure_connection_error"
            assert plain.mails == []
            EmailChannel(f"smtp://localhost:{plain.port}/?{QUERY}&tls=none").deliver(SAMPLES["firing"], timeout=60)
            assert len(plain.mails) == 1


class TestTheUrl:
    def test_holds_everything(self) -> None:
        server = read_url(f"smtp://{WRITTEN}@mail.example/?{QUERY}&to=third@shop.example")
        assert (server.host, server.port, server.tls) == ("mail.example", 587, "starttls")
        assert (server.user, server.password) == LOGIN
        assert server.recipients == ("oncall@shop.example", "second@shop.example", "third@shop.example")
        assert LOGIN[1] not in repr(server)
        assert read_url(f"smtps://mail.example/?{QUERY}").port == 465

    @pytest.mark.parametrize(
        "wrong",
        [
            "https://mail.example/?" + QUERY,
            "smtp:///?" + QUERY,
            "smtp://mail.example:x/?" + QUERY,
            "smtp://mail.example/?from=a@b.example",
            "smtp://mail.example/?to=a@b.example",
            "smtp://mail.example/?from=a&to=b@c.example",
            "smtp://mail.example/?from=a@b.example&to=c@d.example%0d%0aBcc:x@y.example",
            "smtp://mail.example/box?" + QUERY,
            f"smtp://mail.example/?{QUERY}&cc=a@b.example",
            f"smtp://user@mail.example/?{QUERY}",
            f"smtp://user:s3cret-password@mail.example/?{QUERY}&tls=none",
            f"smtp://user:pass%C3%A9word@mail.example/?{QUERY}",
        ],
    )
    def test_is_refused_without_being_shown(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="smtp://") as caught:
            read_url(wrong)
        assert "example" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_its_password_is_masked_in_every_spelling(self) -> None:
        EmailChannel(f"smtp://{WRITTEN}@mail.example/?{QUERY}")
        sent = base64.b64encode(f"\0{LOGIN[0]}\0{LOGIN[1]}".encode()).decode()
        for spelling in (LOGIN[1], sent):
            assert spelling not in redact(f"AUTH PLAIN {spelling}")
