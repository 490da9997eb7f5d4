"""What the files in deploy/ say is so: commands, ports, routes, paths and times, and Kubernetes' own fields."""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

from nimbed.cli import serve
from tests.support.servers import Listening, fake_app

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
OBJECTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
KINDS = {one["kind"]: one for one in OBJECTS}
POD = KINDS["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
NIMBED = COMPOSE["services"]["nimbed"]


def words(name):
    """What follows an instruction of the Dockerfile, in its last stage."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1]


def settings(arguments, monkeypatch):
    """What the image makes of these arguments; the file with the keys is there when it runs."""
    monkeypatch.setattr("nimbed.server.settings_file.read_keys", lambda *_: ["0123456789abcdef"])
    program, *line = [*json.loads(words("ENTRYPOINT")), *arguments]
    parser = argparse.ArgumentParser()
    serve.add_commands(parser.add_subparsers())
    assert program in PROJECT["project"]["scripts"]
    return serve.settings_of(parser.parse_args(line), [])


def key_file(arguments):
    return next(one.partition("=")[2] for one in arguments if one.startswith("--api-key-file="))


@pytest.fixture(params=["compose", "kubernetes"])
def arguments(request):
    return NIMBED["command"] if request.param == "compose" else CONTAINER["args"]


def test_commands_are_those_of_nimbed_serve(arguments, monkeypatch):
    said = settings(arguments, monkeypatch)
    assert said.access.keys
    assert not said.access.insecure
    assert (said.host, str(said.port)) == ("0.0.0.0", words("EXPOSE"))
    assert [one.model for one in said.models] == ["BAAI/bge-small-en-v1.5"]


def test_ports_are_one():
    port = words("EXPOSE")
    assert NIMBED["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": int(port)}]
    assert KINDS["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    notes = KINDS["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == port


def test_paths_are_one():
    kept = json.loads(f'["{words("VOLUME")}"]')[0]
    homes = re.findall(r"(?:NIMBED_HOME|HF_HOME)=(\S+)", DOCKERFILE)
    assert len(homes) == 2
    assert all(home.startswith(f"{kept}/") for home in homes)
    mounts = {one["mountPath"]: one["name"] for one in CONTAINER["volumeMounts"]}
    assert mounts[kept] == KINDS["StatefulSet"]["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert NIMBED["volumes"] == [f"artefacts:{kept}"]
    assert "/tmp" in mounts
    assert "/tmp" in NIMBED["tmpfs"]
    assert str(Path(key_file(CONTAINER["args"])).parent) in mounts
    assert key_file(NIMBED["command"]) == f"/run/secrets/{NIMBED['secrets'][0]}"
    assert {one["name"] for one in POD["volumes"]} | {"artefacts"} == set(mounts.values())


def test_nobody_is_root_and_nothing_else_is_written_to():
    user = words("USER")
    assert user == f"{POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}"
    assert f"--uid {user.partition(':')[0]} " in DOCKERFILE
    assert NIMBED["read_only"] is CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert NIMBED["cap_drop"] == CONTAINER["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_it_may_take_its_time_to_stop(arguments, monkeypatch):
    drain = settings(arguments, monkeypatch).limits.drain_s
    waits = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] >= waits + drain
    assert int(NIMBED["stop_grace_period"].removesuffix("s")) >= drain


def test_the_cache_is_the_redis_beside_it(monkeypatch):
    (model,) = settings(NIMBED["command"], monkeypatch).models
    assert re.fullmatch(r"redis://redis:6379/\d", str(model.cache))
    redis = COMPOSE["services"]["redis"]
    assert set(redis["networks"]) < set(NIMBED["networks"])
    assert COMPOSE["networks"]["cache"]["internal"]
    assert NIMBED["depends_on"]["redis"]["condition"] == "service_healthy"
    assert "healthcheck" in redis


def test_probes_ask_routes_that_need_no_key():
    app = fake_app()
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = CONTAINER[name]["httpGet"]
        route = app.routes[probe["path"]]
        assert route.key != "always"
        assert "GET" in route.handler
        assert probe["httpHeaders"] == [{"name": "Host", "value": "localhost"}]  # also where hosts are named
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] != CONTAINER["livenessProbe"]["httpGet"]["path"]
    app.close()


def test_the_health_check_tells_a_server_from_none():
    line = json.loads(re.search(r"CMD (\[.*\])$", words("HEALTHCHECK"))[1])
    assert line[0] == "python"
    with Listening(fake_app()) as server:
        asking = [sys.executable, *(one.replace(words("EXPOSE"), str(server.port)) for one in line[1:])]
        assert subprocess.run(asking, check=False).returncode == 0
        server.app.load.draining = True
        assert subprocess.run(asking, check=False).returncode == 1


def test_the_health_check_says_only_what_every_builder_reads():
    """Buildah 1.28, as Debian 12 has it, refuses a file with Docker 25's ``--start-interval``."""
    options = set(re.findall(r"--([a-z-]+)=", words("HEALTHCHECK").partition("CMD")[0]))
    assert options <= {"interval", "timeout", "start-period", "retries"}


def test_the_image_installs_a_wheel_and_extras_that_there_are():
    extras = re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, flags=re.MULTILINE)[1].split(",")
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
    wheel = re.search(r"^ARG WHEEL=(\S+)$", DOCKERFILE, flags=re.MULTILINE)[1]
    abi = PROJECT["tool"]["scikit-build"]["wheel"]["py-api"]
    assert fnmatch.fnmatch(f"dist/nimbed-0.1.0-{abi}-abi3-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", wheel)
    python = re.search(r"^ARG PYTHON=3\.(\d+)$", DOCKERFILE, flags=re.MULTILINE)[1]
    assert int(python) >= int(abi.removeprefix("cp3"))
    assert (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split() == ["*", "!dist/*.whl"]
    assert all(shlex.split(step) for step in re.findall(r"^RUN (.*)$", DOCKERFILE, flags=re.MULTILINE))


@pytest.mark.skipif(importlib.util.find_spec("kubernetes") is None, reason="kubernetes' client is not installed")
def test_kubernetes_knows_every_field():
    """By the classes of its own client; the server would drop what it does not know."""
    from kubernetes import client

    classes = {"Service": "V1Service", "PodDisruptionBudget": "V1PodDisruptionBudget", "StatefulSet": "V1StatefulSet"}
    for one in OBJECTS:
        check(client, one, classes[one["kind"]], one["kind"])


def check(client, given, kind, where):
    listed, mapped = re.fullmatch(r"List\[(.*)\]", kind), re.fullmatch(r"Dict\[(\w+), (\w+)\]", kind)
    if listed:
        assert isinstance(given, list), where
        for one in given:
            check(client, one, listed[1], f"{where}[]")
    elif mapped:
        assert all(isinstance(value, str) for value in given.values()), where
    elif kind in {"str", "int", "bool"}:
        assert type(given).__name__ == kind, where
    elif kind != "object":
        model = getattr(client, kind)
        fields = {model.attribute_map[own]: kind for own, kind in model.openapi_types.items()}
        for name, value in given.items():
            assert name in fields, f"{where}: {name}"
            check(client, value, fields[name], f"{where}.{name}")
