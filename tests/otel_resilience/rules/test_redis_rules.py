"""Redis: every row, with the exceptions that redis-py raises."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import pytest
import redis.exceptions as r

from otel_resilience import Severity, classify
from otel_resilience._internal.once import Once
from support.verdict_rows import Row, assert_verdict, behind, check, row

CRITICAL = Severity.CRITICAL
UNSENT: dict[str, Any] = {"unsent": True}
PAUSED: dict[str, Any] = {"max_retries": 0, "retryable": False}


def error_at_connect(cause: OSError) -> BaseException:
    return behind(r.ConnectionError("Error 0 connecting to 127.0.0.1:6379. said the system."), cause, context=True)


def old_script(code: str) -> r.ResponseError:
    """As Redis 6.2 and older report an error inside a script."""
    text = f"Error running script (call to f_0): @user_script:1: @user_script: 1: -{code} said the command"
    return r.ResponseError(text, status_code="ERR")


def reply(text: str) -> r.ResponseError:
    return r.ResponseError(text)


SEVERITIES = [
    (r.OutOfMemoryError("command not allowed"), Severity.HIGH),
    (reply("MISCONF Redis is configured to save"), Severity.CRITICAL),
    (reply("NOREPLICAS Not enough good replicas"), Severity.HIGH),
    (r.LockError("Unable to acquire lock within the time specified"), Severity.LOW),
    (r.NoScriptError("No matching script."), Severity.LOW),
    (reply("ERR syntax"), Severity.HIGH),
    (r.ConnectionError("Connection closed by server."), Severity.MEDIUM),
]

ROWS = [
    row("connect refused", error_at_connect(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        "T", "yes", "connection_error", **UNSENT),
    row("reset",
        behind(r.ConnectionError("Error while reading"), ConnectionResetError(errno.ECONNRESET, "reset"), context=True),
        "T", "yes", "connection_error"),
    row("closed by server", r.ConnectionError("Connection closed by server."), "T", "yes", "connection_error"),
    row("behind it: unknown host", error_at_connect(socket.gaierror(socket.EAI_NONAME, "unknown")),
        "P", "no", "name_resolution_error", max_retries=1, **UNSENT),
    row("behind it: certificate", error_at_connect(ssl.SSLCertVerificationError(1, "verify failed")),
        "P", "no", "secure_connection_error", severity=CRITICAL, **UNSENT),
    row("behind it: files", error_at_connect(OSError(errno.EMFILE, "files")),
        "TS", "no", "resource_exhausted", **UNSENT),
    row("socket timeout", r.TimeoutError("Timeout reading from 127.0.0.1:6379"), "T", "yes", "read_timeout"),
    row("socket timeout while connecting", r.TimeoutError("Timeout connecting to server"),
        "T", "yes", "connect_timeout", **UNSENT),
    row("socket timeout while writing", r.TimeoutError("Timeout writing to socket"), "T", "yes", "write_timeout"),
    row("max number of clients", r.ConnectionError("max number of clients reached", status_code="ERR"),
        "TS", "yes", "redis_err", **UNSENT),
    row("max number of clients, within a longer text", r.ConnectionError("Error: max number of clients reached"),
        "TS", "yes", "redis_err", **UNSENT),
    row("max number of clients, as a plain reply", reply("ERR max number of clients + cluster connections reached"),
        "TS", "yes", "redis_err", **UNSENT),
    row("connecting, for a reason that nobody knows", r.ConnectionError("Error connecting to a:1. ?"),
        "T", "yes", "connection_error", **UNSENT),
    row("connecting, with a reason of several lines", r.ConnectionError("Error 1\n2 connecting to a:1. ?"),
        "T", "yes", "connection_error", **UNSENT),
    row("a connection that broke while connecting",
        error_at_connect(ConnectionResetError(errno.ECONNRESET, "reset")), "T", "yes", "connection_error", **UNSENT),
    row("behind it: unknown host, not while connecting",
        behind(r.ConnectionError("said the system"), socket.gaierror(socket.EAI_NONAME, "unknown"), context=True),
        "P", "no", "name_resolution_error", max_retries=1, **UNSENT),
    row("a password that is refused on a unix socket",
        behind(r.ConnectionError(r.AuthenticationError("invalid")), r.AuthenticationError("invalid")),
        "P", "no", "redis_auth", severity=CRITICAL),
    row("a server that is loading, on a unix socket",
        behind(r.ConnectionError("loading"), r.BusyLoadingError("Redis is loading the dataset in memory")),
        "T", "yes", "redis_loading"),
    row("a database that does not exist, on a unix socket",
        behind(r.ConnectionError("DB index is out of range"), reply("DB index is out of range")),
        "P", "no", "redis_err"),
    row("a connection that was lost while it was wrapped",
        behind(r.ConnectionError("closed"), r.ConnectionError("Connection closed by server.")),
        "T", "yes", "connection_error"),
    row("Too many connections", r.ConnectionError("Too many connections"), "local", "no", "pool_exhausted", **UNSENT),
    row("MaxConnectionsError", r.MaxConnectionsError("Too many connections"),
        "local", "no", "pool_exhausted", **UNSENT),
    row("No connection available", r.ConnectionError("No connection available."),
        "local", "no", "pool_exhausted", **UNSENT),
    row("LOADING", r.BusyLoadingError("loading"), "T", "yes", "redis_loading"),
    row("READONLY", r.ReadOnlyError("You can't write"), "T", "yes", "redis_readonly"),
    row("MASTERDOWN", r.MasterDownError("Link with MASTER is down"), "T", "yes", "redis_masterdown"),
    row("CLUSTERDOWN", r.ClusterDownError("The cluster is down"), "TS", "yes", "redis_clusterdown"),
    row("TRYAGAIN", r.TryAgainError("Multiple keys"), "T", "no", "redis_tryagain"),
    row("MOVED", r.MovedError("3999 127.0.0.1:6381"), "P", "no", "redis_moved"),
    row("ASK", r.AskError("3999 127.0.0.1:6381"), "P", "no", "redis_ask"),
    row("CROSSSLOT", r.ClusterCrossSlotError("Keys in request"), "P", "no", "redis_crossslot"),
    row("CrossSlotTransactionError", r.CrossSlotTransactionError("slots"), "P", "no", "redis_crossslot"),
    row("SlotNotCoveredError", r.SlotNotCoveredError("slot"), "TS", "yes", "redis_clusterdown"),
    row("ClusterError", r.ClusterError("TTL exhausted"), "TS", "yes", "redis_clusterdown"),
    row("InvalidPipelineStack", r.InvalidPipelineStack("length"), "P", "no", "_OTHER"),
    row("IncorrectPolicyType", r.IncorrectPolicyType("policy"), "P", "no", "_OTHER"),
    row("BUSY", reply("BUSY Redis is busy running a script."), "T", "yes", "redis_busy"),
    row("OOM", r.OutOfMemoryError("command not allowed"), "TS", "no", "redis_oom", **PAUSED),
    row("MISCONF", reply("MISCONF Redis is configured to save"),
        "TS", "no", "redis_misconf", severity=CRITICAL, **PAUSED),
    row("NOREPLICAS", reply("NOREPLICAS Not enough good replicas"), "TS", "no", "redis_noreplicas", **PAUSED),
    row("NOAUTH", r.AuthenticationError("Authentication required."), "P", "no", "redis_auth", severity=CRITICAL),
    row("WRONGPASS", r.AuthenticationError("invalid username-password pair"),
        "P", "no", "redis_auth", severity=CRITICAL),
    row("NOAUTH, as a plain reply", reply("NOAUTH Authentication required."),
        "P", "no", "redis_auth", severity=CRITICAL),
    row("AuthorizationError", r.AuthorizationError("refused"), "P", "no", "redis_auth", severity=CRITICAL),
    row("wrong-argument AUTH", r.AuthenticationWrongNumberOfArgsError("wrong number"),
        "P", "no", "redis_auth", severity=CRITICAL),
    row("ExternalAuthProviderError", r.ExternalAuthProviderError("problem with LDAP service"), "T", "yes", "redis_err"),
    row("NOPERM", r.NoPermissionError("no permissions to run"), "P", "no", "redis_noperm"),
    row("DENIED", reply("DENIED Redis is running in protected mode"), "P", "no", "redis_denied"),
    row("NOPROTO", reply("NOPROTO unsupported protocol version"), "P", "no", "redis_noproto"),
    row("NOSCRIPT", r.NoScriptError("No matching script."), "H", "no", "redis_noscript"),
    row("EXECABORT", r.ExecAbortError("Transaction discarded because of previous errors."),
        "P", "no", "redis_execabort"),
    row("EXECABORT that names the inner error",
        r.ExecAbortError("Transaction discarded because of: OOM command not allowed"),
        "TS", "no", "redis_oom", **PAUSED),
    row("EXECABORT that names no known error",
        r.ExecAbortError("Transaction discarded because of: STALEFENCE 7 < 9"), "P", "no", "redis_execabort"),
    row("EXECABORT that names the inner error after another",
        r.ExecAbortError("Transaction discarded because of: errors, because of: OOM command not allowed"),
        "TS", "no", "redis_oom", **PAUSED),
    row("EXECABORT with a plain reply of no meaning behind it",
        behind(behind(r.ExecAbortError("Transaction discarded"), reply("unknown command")), r.ReadOnlyError("x"),
               context=True),
        "P", "no", "redis_err"),
    row("EXECABORT with another one before the inner error",
        behind(behind(r.ExecAbortError("Transaction discarded"), r.ExecAbortError("first")), r.ReadOnlyError("x"),
               context=True),
        "T", "yes", "redis_readonly"),
    row("EXECABORT that names itself",
        behind(r.ExecAbortError("Transaction discarded because of: EXECABORT again"), r.ReadOnlyError("replica")),
        "T", "yes", "redis_readonly"),
    row("EXECABORT with another one behind it",
        behind(r.ExecAbortError("Transaction discarded"), r.ExecAbortError("first")), "P", "no", "redis_execabort"),
    row("EXECABORT with a plain reply behind it",
        behind(r.ExecAbortError("Transaction discarded"), reply("OOM command not allowed")),
        "TS", "no", "redis_oom", **PAUSED),
    row("EXECABORT with a plain reply only as its context",
        behind(r.ExecAbortError("Transaction discarded"), reply("OOM command not allowed"), context=True),
        "TS", "no", "redis_oom", **PAUSED),
    row("EXECABORT with something that nobody knows behind it",
        behind(r.ExecAbortError("Transaction discarded"), ValueError("?")), "P", "no", "redis_execabort"),
    row("EXECABORT with the inner error behind something else",
        behind(behind(r.ExecAbortError("Transaction discarded"), ValueError("?")), r.ReadOnlyError("x"), context=True),
        "T", "yes", "redis_readonly"),
    row("EXECABORT with the inner error behind it",
        behind(r.ExecAbortError("Transaction discarded"), r.ReadOnlyError("replica"), context=True),
        "T", "yes", "redis_readonly"),
    row("WRONGTYPE", reply("WRONGTYPE Operation against a key"), "P", "no", "redis_wrongtype"),
    row("ERR syntax", r.ResponseError("syntax error", status_code="ERR"), "P", "no", "redis_err"),
    row("ERR not an integer", reply("ERR value is not an integer or out of range"), "P", "no", "redis_err"),
    row("ERR unknown command", reply("ERR unknown command 'X'"), "P", "no", "redis_err"),
    row("ERR no such key", r.ResponseError("no such key", status_code="ERR"), "P", "no", "redis_err"),
    row("a script's own prefix stays out of the vocabulary", reply("STALEFENCE 7 < 9"), "P", "no", "redis_err"),
    row("BUSYGROUP", reply("BUSYGROUP Consumer Group name already exists"), "H", "success", "redis_busygroup"),
    row("NOGROUP", reply("NOGROUP No such key"), "H", "no", "redis_nogroup"),
    row("UNBLOCKED", reply("UNBLOCKED client unblocked"), "T", "no", "redis_unblocked"),
    row("INPROG", reply("INPROG Failover already in progress"), "T", "no", "redis_inprog"),
    row("NOMASTERLINK", reply("NOMASTERLINK Can't SYNC"), "T", "no", "redis_nomasterlink"),
    row("IOERR", reply("IOERR error or timeout"), "T", "no", "redis_ioerr"),
    row("Script killed", reply("ERR Error running script (call to f_0): Script killed by user with SCRIPT KILL..."),
        "T", "no", "redis_err"),
    row("UNKILLABLE", reply("UNKILLABLE Sorry the script already executed write commands"),
        "TS", "no", "redis_unkillable"),
    row("BUSYKEY", reply("BUSYKEY Target key name already exists."), "P", "no", "redis_busykey"),
    row("ModuleError", r.ModuleError("Error loading the extension."), "P", "no", "redis_err"),
    row("old script error OOM", old_script("OOM"), "TS", "no", "redis_oom", **PAUSED),
    row("old script error READONLY", old_script("READONLY"), "T", "yes", "redis_readonly"),
    row("old script error MISCONF", old_script("MISCONF"), "TS", "no", "redis_misconf", severity=CRITICAL, **PAUSED),
    row("old script error BUSY", old_script("BUSY"), "T", "yes", "redis_busy"),
    row("old script error NOREPLICAS", old_script("NOREPLICAS"), "TS", "no", "redis_noreplicas", **PAUSED),
    row("old script error WRONGTYPE", old_script("WRONGTYPE"), "P", "no", "redis_wrongtype"),
    row("old script error NOPERM", old_script("NOPERM"), "P", "no", "redis_noperm"),
    row("what the ACL forbids in a script, before 7.2",
        reply("The user executing the script can't run this command or subcommand script: 0e, on @user_script:2."),
        "P", "no", "redis_noperm"),
    row("old script error within a script's own message",
        reply("ERR Error running script (call to f_0): -OOM said the command: Error running script"),
        "TS", "no", "redis_oom", **PAUSED),
    row("old script error of its own", reply("ERR Error running script (call to f_0): attempt to index a nil value"),
        "P", "no", "redis_err"),
    row("DataError", r.DataError("Invalid input of type"), "P", "no", "_OTHER"),
    row("PubSubError", r.PubSubError("not subscribed"), "P", "no", "_OTHER"),
    row("InvalidResponse", r.InvalidResponse('Protocol error, got "H" as reply type byte'),
        "P", "no", "invalid_response"),
    row("WatchError", r.WatchError("Watched variable changed."), "T", "no", "_OTHER"),
    row("LockError on acquire", r.LockError("Unable to acquire lock within the time specified"), "C", "no", "_OTHER"),
    row("LockError of a lock never taken", r.LockError("Cannot release an unlocked lock"), "P", "no", "_OTHER"),
    row("LockNotOwnedError", r.LockNotOwnedError("Cannot release a lock that's no longer owned"), "P", "no", "_OTHER"),
    row("NoSuchFieldsetError", r.NoSuchFieldsetError("no such fieldset"), "H", "no", "redis_err"),
    row("ChildDeadlockedError", r.ChildDeadlockedError("fork"), "P", "no", "_OTHER", severity=CRITICAL),
    row("another setting of the client", r.ConnectionError("Invalid Database"), "P", "no", "_OTHER"),
    row("a version of the protocol", r.ConnectionError("Invalid RESP version"), "P", "no", "_OTHER"),
    row("a setting of the client", r.ConnectionError("protocol must be either 2 or 3"), "P", "no", "_OTHER"),
]  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_each_row(case: Row) -> None:
    check(case)


@pytest.mark.parametrize(("error", "severity"), SEVERITIES)
def test_how_bad_each_is(error: Exception, severity: Severity) -> None:
    assert classify(error).severity is severity


@pytest.mark.parametrize("code", ["BUSY", "MISCONF", "WRONGTYPE", "NOREPLICAS", "NOGROUP"])
def test_a_reply_inside_a_pipeline_keeps_its_prefix(code: str) -> None:
    plain = classify(reply(f"{code} said the server"))
    in_pipeline = reply(f"Command # 2 (SET note BUSY of pipeline) of pipeline caused error: {code} said the server")
    assert classify(in_pipeline) == plain


def test_exceptions_of_older_versions_without_a_status_code_are_known() -> None:
    error = r.ResponseError("BUSY Redis is busy")
    del error.status_code
    del error.error_type
    assert_verdict(classify(error), "T", "yes", "redis_busy")


def test_an_application_subclass_is_as_its_base() -> None:
    class OurReadOnly(r.ReadOnlyError):
        pass

    assert classify(OurReadOnly("replica")).error_type == "redis_readonly"


def test_a_failure_while_an_earlier_one_was_handled_is_judged_by_itself() -> None:
    first = error_at_connect(socket.gaierror(socket.EAI_NONAME, "unknown"))
    second = behind(r.ConnectionError("Connection closed by server."), first, context=True)
    assert_verdict(classify(second), "T", "yes", "connection_error")


class TestAConnectionErrorThatWrapsAnother:
    """As the asyncio client raises it on a unix socket."""

    def test_is_judged_by_what_the_server_said(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("otel_resilience.classification.classifier._broken_rules", Once())
        error = r.ConnectionError("Error connecting to /run/redis.sock")
        error.__cause__ = r.ResponseError("max number of clients reached")
        assert classify(error) == classify(error.__cause__)
        assert classify(error).unsent
        assert not caplog.records, "no rule failed"

    def test_is_unsent_as_without_it_where_that_is_not_a_reply(self) -> None:
        error = r.ConnectionError("Error 111 connecting to localhost:6379.")
        alone = classify(error)
        error.__cause__ = r.ConnectionError("Connection closed by server.")
        assert classify(error) == alone
        assert alone.unsent
