"""The units of systemd and the crontab: consistent with the programs, hardened, and valid."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from catalog_sync import exit_codes
from catalog_sync.settings.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
EACH = pytest.mark.parametrize("name", SERVICES)
KNOWN = {variable.name for variable in VARIABLES}
PREFIX = "/opt/catalog-sync/bin/"
IN_COMPOSE = {"catalog-api": "api", "catalog-worker@": "worker", "catalog-scheduler": "beat"}


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / name)
    return parser


@EACH
def test_it_runs_a_program_that_there_is(name: str) -> None:
    command = unit(name)["Service"]["ExecStart"].split()
    assert command[0].startswith(PREFIX)
    program = Path(sys.executable).with_name(command[0].removeprefix(PREFIX))
    arguments = [each for each in command[1:] if each not in {"--if-due", "--json"}]
    answer = subprocess.run([program, *arguments, "--help"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


@EACH
def test_it_is_hardened_and_limited(name: str) -> None:
    service = unit(name)["Service"]
    assert service["User"] == "catalog"
    for setting in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"):
        assert service[setting] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert {"MemoryMax", "TasksMax", "TimeoutStopSec"} <= set(service)


@EACH
def test_it_is_restarted_unless_a_setting_is_wrong(name: str) -> None:
    service = unit(name)["Service"]
    if service["Type"] == "oneshot":
        assert service["SuccessExitStatus"] == str(exit_codes.SKIPPED_LOCKED)
    else:
        assert service["Restart"] == "always"
        assert service["RestartPreventExitStatus"] == str(exit_codes.USAGE)


@EACH
def test_its_limit_is_that_of_the_container(name: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    service = IN_COMPOSE.get(name.removesuffix(".service"))
    if service is not None:
        assert unit(name)["Service"]["MemoryMax"].lower() == compose["services"][service]["mem_limit"]


def test_a_sync_may_take_as_long_as_its_deadline() -> None:
    found = re.fullmatch(r"(\d+)min", unit("catalog-sync.service")["Service"]["TimeoutStartSec"])
    assert found
    assert int(found[1]) * 60 > Settings.from_env({}).sync_deadline


def test_every_variable_is_a_setting() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\b((?:CATALOG|ERROR|ESIM_GO|REDIS)_[A-Z_]+)\b", text)) <= KNOWN, path.name


def test_the_crontab_runs_the_command_of_the_unit() -> None:
    command = unit("catalog-sync.service")["Service"]["ExecStart"]
    assert command in (FOLDER / "crontab.example").read_text(encoding="utf-8")


def test_systemd_takes_them(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    files = []
    for path in FOLDER.glob("*.[st]*[er]"):
        copy = tmp_path / path.name.replace("@.", "@1.")
        text = path.read_text(encoding="utf-8")
        copy.write_text(text.replace(PREFIX, f"{Path(sys.executable).parent}{os.sep}"), encoding="utf-8")
        files.append(copy)
    assert len(files) == len(SERVICES) + 1
    answer = subprocess.run([analyze, "verify", "--man=no", *files], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_command_of_a_person_runs_as_the_unit_does(tmp_path: Path) -> None:
    """Another user, folder or file of settings would show an installation in which nothing ever happened."""
    recorder = tmp_path / "systemd-run"
    recorder.write_text('#!/bin/sh\nfor each in "$@"; do echo "$each"; done\n', encoding="utf-8")
    recorder.chmod(0o755)
    command = [str(FOLDER / "catalog"), "alerts", "ack", "an ID", "--reason", "it's known"]
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    program = answer.index(f"{PREFIX}catalog-sync")
    assert answer[program + 1 :] == ["alerts", "ack", "an ID", "--reason", "it's known"]
    options, service = set(answer[:program]), unit("catalog-sync.service")["Service"]
    state = service["WorkingDirectory"].replace("%S", "/var/lib")
    wanted = {f"--uid={service['User']}", f"--gid={service['Group']}", f"--working-directory={state}", "--pipe"}
    wanted |= {f"--property={name}={service[name]}" for name in ("EnvironmentFile", "UMask")}
    wanted |= {f"--setenv={each.replace('%S', '/var/lib')}" for each in service["Environment"].split()}
    assert wanted <= options
    assert {"--wait", "--collect"} <= options  # it ends with the command's exit code and leaves no failed unit behind
