"""A real MariaDB for a test, on a free loopback port, with its data in memory if possible."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql

from support.programs import missing
from support.redis_server import free_port

PASSWORD = "right"
_SHARE = (Path("/usr/share/mysql"), Path("/usr/local/share/mysql"), Path("/opt/homebrew/share/mariadb"))
_SYSTEM_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
_SMALL = ("--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0")


def _program() -> str:
    found = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        missing("mariadbd is not on PATH")
    return found


def _system_tables() -> str:
    for share in _SHARE:
        if all((share / name).is_file() for name in _SYSTEM_TABLES):
            return "".join((share / name).read_text(encoding="utf-8") for name in _SYSTEM_TABLES)
    missing("MariaDB is installed without its system tables (mysql_system_tables.sql)")
    raise AssertionError


class MariaServer:
    """Its port. The user is ``root``, the password :data:`PASSWORD`, the database ``shop``."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, **options: Any) -> Any:
        """A connection of PyMySQL."""
        fixed = {"host": "127.0.0.1", "port": self.port, "user": "root", "password": PASSWORD, "database": "shop"}
        return pymysql.connect(**{**fixed, **options})


@contextlib.contextmanager
def mariadb_server() -> Iterator[MariaServer]:
    """A server for the tests of one file. Started by root it runs as ``nobody``, since it refuses to run as root."""
    program, tables = _program(), _system_tables()
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    user: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="mariadb-", dir=memory if os.access(memory, os.W_OK) else None))
    data = root / "data"
    data.mkdir()
    if account:
        for folder in (root, data):
            os.chown(folder, account.pw_uid, account.pw_gid)
    command = [program, "--no-defaults", f"--datadir={data}", *_SMALL]
    head = "create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\nset @skip_auth_anonymous=1;\n"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **user}
    server = MariaServer(free_port())
    try:
        subprocess.run([*command, "--bootstrap"], input=(head + tables).encode(), check=True, **quiet)
        where = [
            f"--port={server.port}",
            "--bind-address=127.0.0.1",
            f"--socket={root}/socket",
            f"--pid-file={root}/pid",
        ]
        process = subprocess.Popen([*command, *where, "--max-connections=10", "--skip-name-resolve"], **quiet)
        try:
            _set_up(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(60)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _set_up(server: MariaServer, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while True:
        try:
            connection = server.connect(password="", database=None)
            break
        except pymysql.OperationalError:
            if time.monotonic() > give_up or process.poll() is not None:
                raise
            time.sleep(0.02)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE shop")
        cursor.execute(f"SET PASSWORD = PASSWORD('{PASSWORD}')")
