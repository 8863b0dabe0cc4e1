"""``smtplib`` against a socket that answers like mail servers."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import threading
from collections.abc import Iterator

import pytest

from support.error_rows import ErrorRow, check_row, closed_port, raised, rows_of, silent_port

GOOD = {
    "": b"220 mail",
    "EHLO": b"250-mail\r\n250 AUTH PLAIN",
    "DATA": b"354 go",
    "QUIT": b"221 bye",
    "AUTH": b"235 ok",
}
ANSWERS: dict[str, dict[str, bytes]] = {
    "421 at the greeting: shuts down": {"": b"421 4.3.2 shutting down"},
    "554 at the greeting": {"": b"554 no service here"},
    "421 amid the session": {"MAIL": b"421 4.3.2 shutting down"},
    "451 local error": {"MAIL": b"451 4.3.0 local error"},
    "452 too many messages": {"MAIL": b"452 4.5.3 too many"},
    "530 authentication required": {"MAIL": b"530 5.7.0 authentication required"},
    "501 bad sender": {"MAIL": b"501 5.1.7 bad address"},
    "450 recipient: greylisted": {"RCPT": b"450 4.2.0 greylisted"},
    "550 recipient: no such mailbox": {"RCPT": b"550 5.1.1 no such user"},
    "554 content refused": {"DATA": b"554 5.7.1 spam"},
    "535 bad password": {"AUTH": b"535 5.7.8 bad credentials"},
    "454 authentication unavailable": {"AUTH": b"454 4.7.0 try later"},
    "connection closed": {"MAIL": b""},
    "no authentication offered": {"EHLO": b"250 mail"},
}


@contextlib.contextmanager
def server(answers: dict[str, bytes]) -> Iterator[int]:
    """One connection, answered by the first word of each line. Yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
            reply = {**GOOD, **answers}
            connection.sendall(reply[""] + b"\r\n")
            for line in lines:
                answer = reply.get(line[:4].decode().strip().upper(), b"250 ok")
                if not answer:
                    return
                connection.sendall(answer + b"\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()


def send(port: int, row: ErrorRow) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=0.2 if row.error == "no answer in time" else 10) as client:
        if "password" in row.error or "authentication un" in row.error or "offered" in row.error:
            client.login("user", "secret")
        client.sendmail("shop@example.test", ["customer@example.test"], "Subject: order\r\n\r\nthanks")


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("smtplib"))
def test_smtplib(row: ErrorRow) -> None:
    ports = {"connection refused": closed_port, "no answer in time": silent_port}
    with ports[row.error]() if row.error in ports else server(ANSWERS[row.error]) as port:
        check_row(row, raised(lambda: send(port, row)))


def test_of_several_refused_recipients_the_one_that_may_be_accepted_later_decides() -> None:
    with server({"RCPT": b"450 4.2.0 greylisted"}) as port, smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        error = raised(lambda: client.sendmail("shop@example.test", ["a@example.test", "b@example.test"], "hello"))
    assert isinstance(error, smtplib.SMTPRecipientsRefused)
    error.recipients = {"a@example.test": (550, b"no such user"), **error.recipients}
    (row,) = (each.values[0] for each in rows_of("smtplib") if "greylisted" in each.values[0].error)
    check_row(row, error)
