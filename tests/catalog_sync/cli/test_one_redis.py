"""Which Redis a program uses: every program refuses other kinds of servers, and that of another installation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.models import SyncRequest
from catalog_sync.store.checksums import meta_digest
from catalog_sync.store.keys import OWNER
from support.certificates import loopback_certificate
from support.cli import Cli, Supplier, running_supplier
from support.redis_server import RedisServer, free_port
from support.worker_world import worker_world

PROGRAMS = [
    ("catalog_sync", "run"),
    ("catalog_sync", "run", "--if-due"),
    ("catalog_sync", "search"),
    ("catalog_sync", "show", "x"),
    ("catalog_sync", "status"),
    ("catalog_sync", "syncs"),
    ("catalog_sync", "trace"),
    ("catalog_sync", "alerts"),
    ("catalog_sync", "doctor"),
    ("catalog_sync.api.command",),
    ("catalog_sync.worker",),
    ("catalog_sync.worker.beat",),
    ("catalog_sync.up",),
]


def ends_with(cli: Cli, program: Sequence[str], **changes: str) -> tuple[int, str]:
    """Exit code and stderr of a program that has to end by itself."""
    if program[0] == "catalog_sync":
        result = cli(*program[1:], **changes)
        return result.code, result.err
    done = subprocess.run(
        [sys.executable, "-m", *program],
        env={"PATH": "/usr/bin:/bin", "CATALOG_ENV_FILE": "none", "CATALOG_API_PORT": "0", **cli.env, **changes},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("cluster"), "--cluster-enabled", "yes") as server:
        server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield server


@pytest.mark.fault("S8")
@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_a_cluster_is_refused_by_every_program_in_one_line(
    cluster: RedisServer, supplier: Supplier, tmp_path: Path, program: tuple[str, ...]
) -> None:
    code, err = ends_with(Cli(tmp_path / "state", supplier, cluster.url), program)
    assert code == 2
    [line] = [line for line in err.splitlines() if "Redis Cluster" in line]
    assert f"REDIS_URL='redis://127.0.0.1:{cluster.port}/0' is not usable" in line


@pytest.mark.fault("S8")
@pytest.mark.parametrize("program", [PROGRAMS[0], PROGRAMS[2], *PROGRAMS[9:12]], ids=" ".join)
@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:26379/mymaster", "redis://127.0.0.1/0?decode_responses=1"])
def test_what_no_client_takes_is_refused_by_every_program_in_one_line(
    supplier: Supplier, tmp_path: Path, program: tuple[str, ...], url: str
) -> None:
    code, err = ends_with(Cli(tmp_path / "state", supplier, url), program)
    assert code == 2
    assert len([line for line in err.splitlines() if "REDIS_URL=" in line and "is not allowed" in line]) == 1


@pytest.mark.fault("S8")
@pytest.mark.parametrize("program", [PROGRAMS[0], PROGRAMS[2], PROGRAMS[8], *PROGRAMS[9:12]], ids=" ".join)
def test_a_database_that_is_not_there_is_refused_by_every_program_in_one_line(
    supplier: Supplier, redis_server: RedisServer, tmp_path: Path, program: tuple[str, ...]
) -> None:
    code, err = ends_with(Cli(tmp_path / "state", supplier, redis_server.url.replace("/0", "/16")), program)
    assert code == 2
    [line] = [line for line in err.splitlines() if "DB index is out of range" in line]
    assert f"REDIS_URL='redis://127.0.0.1:{redis_server.port}/16' is not usable" in line


@pytest.mark.fault("S8")
def test_a_sentinel_is_recognised_by_its_answer(supplier: Supplier, redis_server: RedisServer, tmp_path: Path) -> None:
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor mymaster 127.0.0.1 {redis_server.port} 1\n")
    with RedisServer(tmp_path / "server", program_options=(str(config), "--sentinel")) as sentinel:
        result = Cli(tmp_path / "state", supplier, sentinel.url)("search")
    assert result.code == 2
    assert "it is a Sentinel, which is not supported: name the server that it watches" in result.err


@pytest.fixture(scope="module")
def other_supplier() -> Iterator[Supplier]:
    with running_supplier(60) as supplier:
        yield supplier


@pytest.mark.fault("S10")
def test_two_installations_live_beside_each_other_with_prefixes(
    supplier: Supplier, other_supplier: Supplier, redis_server: RedisServer, tmp_path: Path
) -> None:
    ours = Cli(tmp_path / "a", supplier, redis_server.url)
    theirs = Cli(tmp_path / "b", other_supplier, redis_server.url)
    ours.env["CATALOG_KEY_PREFIX"] = "ours:"
    theirs.env["CATALOG_KEY_PREFIX"] = "theirs:"
    first = ours("run", "--json").json
    second = theirs("run", "--json").json
    assert (first["outcome"], second["outcome"]) == ("COMPLETE", "COMPLETE")
    assert first["bundles"] != second["bundles"]
    for cli, report in ((ours, first), (theirs, second)):
        found = cli("search", "--limit", "1", "--json").json
        assert (found["source"], found["version"], found["total"]) == ("fresh", report["version"], report["bundles"])
        assert cli("status", "--json").json["catalogue"]["version"] == report["version"]
        assert [sync["version"] for sync in cli("syncs", "--json").json["syncs"]] == [report["version"]]
    names = {key.partition(b":")[0] for key in redis_server.command("KEYS", "*")}
    assert names == {b"ours", b"theirs"}


@pytest.mark.fault("S10")
def test_the_redis_of_another_installation_is_refused_before_anything_is_asked(
    supplier: Supplier, other_supplier: Supplier, redis_server: RedisServer, tmp_path: Path
) -> None:
    ours = Cli(tmp_path / "a", supplier, redis_server.url)
    theirs = Cli(tmp_path / "b", other_supplier, redis_server.url)
    version = ours("run", "--json").json["version"]
    asked = other_supplier.requests()
    for program, changes in (
        (("catalog_sync", "run"), {}),
        (("catalog_sync", "run", "--country", "PT"), {}),
        (("catalog_sync.worker",), {}),
        (("catalog_sync.worker.beat",), {}),
        (("catalog_sync.api.command",), {"CATALOG_API_TOKEN": "a-long-token-for-writes"}),
    ):
        code, err = ends_with(theirs, program, **changes)
        assert code == 2, program
        [line] = [line for line in err.splitlines() if "another installation" in line]
        assert "CATALOG_KEY_PREFIX" in line
        assert "--force" in line
    assert other_supplier.requests() == asked
    assert theirs("search", "--json").json["version"] == version, "reading is bound to no supplier"

    assert theirs("run", "--force", "--json").json["outcome"] == "COMPLETE", "it is taken over on purpose"
    assert ours("run").code == 2
    assert theirs("run", "--json").json["outcome"] == "COMPLETE"


@pytest.mark.fault("S10")
def test_another_environment_is_another_installation_for_readers_too(
    supplier: Supplier, redis_server: RedisServer, tmp_path: Path
) -> None:
    production = Cli(tmp_path / "a", supplier, redis_server.url)
    production.env["CATALOG_ENVIRONMENT"] = "production"
    assert production("run", "--json").json["outcome"] == "COMPLETE"
    for arguments in (("run",), ("search",), ("status",)):
        result = production(*arguments, CATALOG_ENVIRONMENT="staging")
        assert result.code == 2
        assert "CATALOG_ENVIRONMENT is production there, staging here" in result.err
    assert production("search", CATALOG_ENVIRONMENT="").code == 0, "who says nothing may read"


def test_one_installation_may_have_many_state_folders_and_move_to_another_supplier(
    supplier: Supplier, other_supplier: Supplier, redis_server: RedisServer, tmp_path: Path
) -> None:
    one = Cli(tmp_path / "a", supplier, redis_server.url)
    assert one("run", "--json").json["outcome"] == "COMPLETE"
    assert Cli(tmp_path / "b", supplier, redis_server.url)("run", "--json").json["outcome"] == "COMPLETE"
    moved = one("run", "--json", ESIM_GO_BASE_URL=other_supplier.base_url).json
    assert moved["error"] is None or moved["error"]["type"] == "publish_refused", "its guards are all that objects"
    assert other_supplier.base_url.split("/")[2].encode() in redis_server.command("GET", OWNER)


def test_a_mark_that_cannot_be_read_stops_nobody(supplier: Supplier, redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.command("SET", OWNER, b"\xff{")
    assert Cli(tmp_path / "a", supplier, redis_server.url)("run", "--json").json["outcome"] == "COMPLETE"
    assert b"installation" in redis_server.command("GET", OWNER)


@pytest.mark.fault("S8")
def test_a_user_of_an_access_list_behind_tls_with_a_private_authority(supplier: Supplier, tmp_path: Path) -> None:
    certificate, key = loopback_certificate(tmp_path)
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with RedisServer(
        tmp_path / "tls", *tls, "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate)
    ) as server:
        keys = ("~*{cat}*", "~*catalog:alerts*", "~*catalog-sync:*", "~*resilience:*")
        server.command("ACL", "SETUSER", "shop", "on", ">pass-word-1", *keys, "allchannels", "+@all")
        server.command("ACL", "SETUSER", "default", "resetpass", "-@all", "+ping", "+flushall")
        url = f"rediss://shop:pass-word-1@localhost:{port}/0?ssl_ca_certs={certificate}"
        cli = Cli(tmp_path / "state", supplier, url)
        cli.env["CATALOG_KEY_PREFIX"] = "shop:"
        version = cli("run", "--json").json["version"]
        assert cli("search", "--limit", "1", "--json").json["source"] == "fresh"
        assert cli("status", "--json").json["catalogue"]["version"] == version
        assert next(c for c in cli("doctor", "--json").json["checks"] if c["name"] == "store")["status"] == "ok"
        with job_done_by_a_worker(tmp_path, server, supplier, REDIS_URL=url, CATALOG_KEY_PREFIX="shop:") as report:
            assert report["outcome"] == "COMPLETE"
        untrusted = cli("run", "--json", REDIS_URL=url.partition("?")[0])
        assert untrusted.code == 5
        assert "pass-word-1" not in untrusted.err + untrusted.out


@pytest.mark.fault("S10")
def test_workers_of_two_installations_take_their_own_work_alone(
    supplier: Supplier, redis_server: RedisServer, tmp_path: Path
) -> None:
    for prefix in ("one:", "two:"):
        with job_done_by_a_worker(tmp_path / prefix[:-1], redis_server, supplier, CATALOG_KEY_PREFIX=prefix) as report:
            assert report["outcome"] == "COMPLETE"
    assert {key.partition(b":")[0] for key in redis_server.command("KEYS", "*")} == {b"one", b"two"}


@contextlib.contextmanager
def job_done_by_a_worker(
    directory: Path, redis: RedisServer, supplier: Supplier, **changes: str
) -> Iterator[dict[str, Any]]:
    """The report of a full sync that a worker did for the API's side of the queue."""
    directory.mkdir(exist_ok=True)
    with worker_world(directory, redis, supplier, **changes) as world:
        world.preloaded = True
        world.start_worker()

        async def submit() -> dict[str, Any]:
            async with world.opened():
                job = await world.jobs.submit(SyncRequest())
                return dict((await world.ended(job.id)).report or {})

        yield asyncio.run(submit())


@pytest.mark.fault("S5")
def test_a_publisher_whose_clock_was_ahead_is_seen_and_mended(cli: Cli, redis_server: RedisServer) -> None:
    key = f"{{cat}}:v:{cli('run', '--json').json['version']}:meta"
    meta = json.loads(redis_server.command("HGET", key, "json"))
    groups = {name: {**group, "as_of": "2036-01-01T00:00:00.000Z"} for name, group in meta["groups"].items()}
    text = json.dumps({**meta, "as_of": "2036-01-01T00:00:00.000Z", "groups": groups}).encode()
    manifest, fence = (redis_server.command("HGET", key, field) for field in ("manifest", "fence"))
    redis_server.command("HSET", key, "json", text, "digest", meta_digest(text, manifest, fence))
    found = cli("search", "--limit", "1", "--json").json
    assert (found["source"], found["stale"]) == ("stale", True)
    assert "IN THE FUTURE" in cli("search", "--limit", "1").out
    catalogue = cli("status", "--json").json["catalogue"]
    assert (catalogue["source"], catalogue["stale"]) == ("stale", True)
    assert "in the future" in catalogue["problem"]
    assert "WRONG CLOCK" in cli("status").out
    assert cli("run", "--if-due", "--json").json["outcome"] == "COMPLETE"
    assert cli("search", "--limit", "1", "--json").json["source"] == "fresh"
    assert cli("run", "--if-due", "--json").json["reason"] == "young"
