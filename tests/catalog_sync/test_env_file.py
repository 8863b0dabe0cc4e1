"""The file ``.env``: what of it counts, what wins, and that nothing of it is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.env_file import load_env_file
from catalog_sync.settings.settings import Settings
from catalog_sync.settings.unknown import unknown_variables

SECRET = "hidden-Key-0815-4711"
PROGRAMS = (
    ("catalog_sync", "run"),
    ("catalog_sync", "status"),
    ("catalog_sync", "doctor"),
    ("catalog_sync", "simulate"),
    ("catalog_sync.api.command",),
    ("catalog_sync.worker",),
    ("catalog_sync.worker.beat",),
    ("catalog_sync.up",),
)


def loaded(text: str, tmp_path: Path, **environ: str) -> dict[str, str]:
    """The environment after a file of this text was read."""
    path = tmp_path / "some.env"
    path.write_text(text, "utf-8")
    environ = {"CATALOG_ENV_FILE": str(path), **environ}
    load_env_file(environ)
    assert environ.pop("CATALOG_ENV_FILE") == "none"  # so that no child process reads it again
    return environ


def run(program: tuple[str, ...], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A program in ``folder``, with none of our variables in its environment but ``environ``."""
    own = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return subprocess.run(
        [sys.executable, "-m", *program],
        cwd=folder,
        env={**kept, "HOME": str(folder), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_only_variables_of_ours_and_of_opentelemetry_are_taken(tmp_path: Path) -> None:
    text = (
        "# a comment\nexport CATALOG_PAGE_SIZE=7\nREDIS_URL='redis://h' # here\nOTEL_SERVICE_NAME=\"a b\"\nPATH=/evil\n"
    )
    assert loaded(text, tmp_path) == {
        "CATALOG_PAGE_SIZE": "7",
        "REDIS_URL": "redis://h",
        "OTEL_SERVICE_NAME": "a b",
    }


def test_the_environment_wins_also_with_nothing(tmp_path: Path) -> None:
    text = "CATALOG_PAGE_SIZE=7\nREDIS_URL=redis://h\nCATALOG_WORKERS=3\n"
    found = loaded(text, tmp_path, CATALOG_PAGE_SIZE="8", REDIS_URL="")
    assert found == {"CATALOG_PAGE_SIZE": "8", "REDIS_URL": "", "CATALOG_WORKERS": "3"}
    settings = Settings.from_env(found)
    assert (settings.page_size, settings.redis_url, settings.workers) == (8, None, 3)


@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="'\\", exclude_categories=("C", "Zl", "Zp")), min_size=1
    ).filter(lambda text: text == text.strip())
)
def test_a_value_in_single_quotes_is_taken_as_it_stands(value: str) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"quoted-{os.getpid()}.env"
    path.write_text(f"ESIM_GO_API_KEY='{value}'\n", "utf-8")
    environ = {"CATALOG_ENV_FILE": str(path)}
    try:
        load_env_file(environ)
    finally:
        path.unlink()
    assert environ["ESIM_GO_API_KEY"] == value


def test_no_file_is_no_error_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ: dict[str, str] = {}
    load_env_file(environ)
    (tmp_path / ".env").mkdir()  # as a virtual environment may be called
    load_env_file({})
    assert environ == {"CATALOG_ENV_FILE": "none"}
    with pytest.raises(ConfigurationError, match=r"^CATALOG_ENV_FILE=away.env cannot be read: No such file"):
        load_env_file({"CATALOG_ENV_FILE": "away.env"})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (f"ESIM_GO_API_KEY='{SECRET}\n", 1),
        (f"\n# words\n\nESIM_GO_API_KEY={SECRET}\nERROR_ALERT_WEBHOOK_SECRET = '{SECRET}' {SECRET}\n", 5),
        (f"\r\n\r\n= {SECRET}\r\n", 3),
        (f"CATALOG_PAGE_SIZE=5\nCATALOG_API_TOKEN {SECRET}\n", 2),
        (f"ESIM_GO_API_KEY\nREDIS_URL={SECRET}", 1),
        (f"REDIS_URL={SECRET}\nCATALOG_ENV_FILE=other.env", 2),
    ],
)
def test_a_broken_line_is_named_and_not_quoted(text: str, number: int, tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_bytes(text.encode())
    environ = {"CATALOG_ENV_FILE": str(path)}
    with pytest.raises(ConfigurationError, match=rf"some\.env, line {number}\b") as refused:
        load_env_file(environ)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert environ == {"CATALOG_ENV_FILE": str(path)}  # none of it or all


@pytest.mark.parametrize(
    "content",
    [
        f"ESIM_GO_API_KEY={SECRET}\xff".encode("latin-1"),
        f"ESIM_GO_API_KEY={SECRET}\0{SECRET}".encode(),
        f"CATALOG_PAGE_SIZE=5\r\nESIM_GO_API_KEY={SECRET}".encode("utf-16-le"),
    ],
    ids=("latin-1", "NUL", "UTF-16"),
)
def test_a_file_that_is_no_text_is_not_quoted(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not UTF-8 text") as refused:
        load_env_file({"CATALOG_ENV_FILE": str(path)})
    assert refused.value.__cause__ is None


@pytest.mark.fault("T1")
@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_every_program_reads_the_file_and_shows_no_secret_of_it(program: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"ESIM_GO_API_KEY={SECRET}\nCATALOG_STATE_DIR={tmp_path}\nREDIS_URL=redis://u:{SECRET}@127.0.0.1:9/0\n"
        f"ERROR_ALERT_WEBHOOK_SECRET={SECRET}\nOTEL_EXPORTER_OTLP_HEADERS=x-api-key: {SECRET}\n"
    )
    ended = run(program, tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "OTEL_EXPORTER_OTLP_HEADERS" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_every_program_names_a_broken_line(program: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"CATALOG_PAGE_SIZE=5\nESIM_GO_API_KEY='{SECRET}\n")
    ended = run(program, tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ".env, line 2" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_what_a_program_raises_with_a_secret_of_the_file_in_it_is_masked(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"ESIM_GO_API_KEY={SECRET}\n")
    (tmp_path / "program.py").write_text(
        "from catalog_sync.composition import read_settings\n"
        "from catalog_sync.programs import run_program\n"
        "def body():\n"
        "    raise RuntimeError('refused: ' + read_settings().api_key.reveal())\n"
        "raise SystemExit(run_program('a-program', body))\n"
    )
    ended = run(("program",), tmp_path)
    assert ended.returncode == 1
    assert "a-program: unexpected error: RuntimeError: refused: ***" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_an_unknown_variable_is_named_with_the_nearest_one() -> None:
    environ = {
        "CATALOG_PAGESIZE": "7",
        "ERROR_RETRY_MAX_ATTEMPTS": "1",
        "ESIM_GO_KEY": SECRET,
        "ERROR_!?\n": "x",
        "CATALOG_API_SERVICE_HOST": "10.0.0.1",
        "CATALOG_API_PORT_8080_TCP_ADDR": "10.0.0.1",
        "OTEL_NO_SUCH": "1",
        "REDIS_URI": "redis://h",
        "catalog_page_size": "7",
        "Esim_Go_Api_Key": SECRET,
        "error_log": "x",
        "redis_url": "redis://h",
    }
    assert list(unknown_variables(environ)) == [
        "CATALOG_PAGESIZE is not a known variable; the nearest is CATALOG_PAGE_SIZE",
        "ERROR_!?\\x0a is not a known variable; docs/configuration.md lists all",
        "ESIM_GO_KEY is not a known variable; the nearest is ESIM_GO_API_KEY",
        "Esim_Go_Api_Key is not a known variable; the nearest is ESIM_GO_API_KEY",
        "catalog_page_size is not a known variable; the nearest is CATALOG_PAGE_SIZE",
    ]


def test_a_name_in_lower_case_in_the_file_is_named_too(tmp_path: Path) -> None:
    environ = loaded("catalog_workers=3\nCATALOG_PAGE_SIZE=5\npath=/evil\n", tmp_path)
    assert environ["CATALOG_PAGE_SIZE"] == "5"
    assert "path" not in environ
    assert list(unknown_variables(environ)) == [
        "catalog_workers is not a known variable; the nearest is CATALOG_WORKERS"
    ]


def test_doctor_refuses_an_unknown_variable_and_other_commands_warn(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"ESIM_GO_KEY={SECRET}\nCATALOG_STATE_DIR={tmp_path}\n")
    refused = run(("catalog_sync", "doctor", "--json"), tmp_path, CATALOG_PAGESIZE="7")
    assert refused.returncode == 2
    [finding] = json.loads(refused.stdout)["checks"]
    assert (finding["name"], finding["status"]) == ("settings", "fail")
    assert finding["message"] == (
        "CATALOG_PAGESIZE is not a known variable; the nearest is CATALOG_PAGE_SIZE;"
        " ESIM_GO_KEY is not a known variable; the nearest is ESIM_GO_API_KEY"
    )
    warned = run(("catalog_sync", "search"), tmp_path, CATALOG_PAGESIZE="7", REDIS_URL="redis://127.0.0.1:9/0")
    assert warned.returncode == 6, warned.stderr
    lines = [json.loads(line) for line in warned.stderr.splitlines() if line.startswith("{")]
    messages = [line["message"] for line in lines if line["level"].lower() == "warning"]
    assert messages[:2] == finding["message"].replace("; ESIM_GO_KEY is", "\nESIM_GO_KEY is").split("\n")
    assert SECRET not in refused.stdout + refused.stderr + warned.stdout + warned.stderr
