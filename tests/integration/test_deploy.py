"""What is in deploy/ is valid, knows no setting and no metric that there is not, and does what it says."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from check_jsonschema import builtin_schemas
from prometheus_client.parser import text_string_to_metric_families

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.settings import load_settings, variable_names
from leaderjob.telemetry.metrics import JobState, Metrics, Snapshot
from tests.support.commands import environment
from tests.support.needs import needs

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_KUBERNETES_RELEASES = ("1.31", "1.34")


def done(command: Sequence[str | Path], cwd: Path, **more: str) -> str:
    found = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, f"{command}:\n{found.stdout}\n{found.stderr}"
    return found.stdout + found.stderr


def test_the_compose_file_is_one() -> None:
    compose = yaml.safe_load((_DEPLOY / "compose.yaml").read_text())
    schema = json.loads(resources.files(builtin_schemas).joinpath("vendor/compose-spec.json").read_text())
    # Not a draft of our choice: an older one would pass over what it does not know, and take any property.
    jsonschema.validators.validator_for(schema, default=None)(schema).validate(compose)
    names = set(compose["services"])
    assert names == {
        *(f"{kind}-{number}" for kind in ("etcd", "replica") for number in (1, 2, 3)),
        "prometheus",
    }
    for service in compose["services"].values():
        assert ":latest" not in service["image"], "what runs must not depend on when it was pulled"
        assert set(service.get("depends_on", ())) <= names
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (_DEPLOY / source).is_dir()


@pytest.mark.parametrize("release", _KUBERNETES_RELEASES)
def test_the_manifests_are_what_kubernetes_takes(release: str) -> None:
    documents = manifests()
    for document in documents.values():
        kubernetes_validate.validate(document, release, strict=True)
    labels = documents["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert documents["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["Service"]["spec"]["selector"] == labels
    assert documents["StatefulSet"]["spec"]["serviceName"] == documents["Service"]["metadata"]["name"]


def test_the_settings_of_the_manifests_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = manifests()["ConfigMap"]["data"]["leaderjob.toml"]
    mounted = tmp_path / "mounted"
    for name in ("etcd/ca.crt", "etcd/password", "tls/ca.crt", "tls/tls.crt", "tls/tls.key"):
        path = mounted / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("something")
    config = tmp_path / "leaderjob.toml"
    config.write_text(text.replace("/etc/leaderjob", str(mounted)))
    monkeypatch.setenv("LEADERJOB_REPLICA_ID", "leaderjob-0")
    settings = load_settings(config, {})
    assert settings.tls.enabled
    assert settings.replica.id == "leaderjob-0"
    container = manifests()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(settings.replica.state_dir), "/etc/leaderjob/etcd", "/etc/leaderjob/tls"} <= mounts


def manifests() -> dict[str, Any]:
    """By their kind."""
    documents = yaml.safe_load_all((_DEPLOY / "kubernetes" / "leaderjob.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_every_variable_that_is_set_anywhere_sets_something() -> None:
    known = variable_names()
    for path in _DEPLOY.rglob("*"):
        if path.is_file():
            for name in re.findall(r"\bLEADERJOB_[A-Z_]+", path.read_text()):
                assert name in known, f"{path} sets {name}"


@needs("promtool")
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    directory = _DEPLOY / "prometheus"
    done(["promtool", "check", "config", "prometheus.yml"], directory)
    done(["promtool", "check", "rules", "alerts.yml"], directory)
    done(["promtool", "test", "rules", "alerts.test.yml"], directory)
    tests = (directory / "alerts.test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", (directory / "alerts.yml").read_text()):
        assert alert in tests, f"{alert} has no case"


def test_alerts_ask_for_metrics_that_there_are() -> None:
    metrics = Metrics(
        replica="r",
        namespace="n",
        release="1",
        snapshot=lambda: Snapshot(jobs={"j": JobState(1, 1, 1.0, 1.0)}),
    )
    families = text_string_to_metric_families(metrics.exposition().decode())
    told = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    told |= {f"{name}_{part}" for name in told for part in ("bucket", "sum", "count")} | {"leaderjob_info"}
    rules = yaml.safe_load((_DEPLOY / "prometheus" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            for name in re.findall(r"(?<![:\w])leaderjob_\w+", rule["expr"]):
                assert name in told, f"{rule} asks for {name}"


@needs("systemd-analyze")
def test_the_unit_is_one_and_lets_little_through(tmp_path: Path) -> None:
    unit = (_DEPLOY / "systemd" / "leaderjob.service").read_text()
    installed = tmp_path / "leaderjob.service"
    installed.write_text(unit.replace("/opt/leaderjob/venv/bin/leaderjob", "/bin/true"))
    said = done(["systemd-analyze", "verify", "--man=no", installed], tmp_path)
    assert [line for line in said.splitlines() if "leaderjob" in line] == []
    security = done(["systemd-analyze", "security", "--offline=true", installed], tmp_path)
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", security)
    assert exposure is not None
    assert float(exposure.group(1)) < 2.0


def test_a_replica_tells_its_service_manager_that_it_is_up_alive_and_leaving(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20.0)
        replica = subprocess.Popen(
            [
                *(sys.executable, "-m", "leaderjob", "run", "--id", "r1", "--etcd", etcd.endpoint),
                *("--namespace", namespace, "--jobs", "tests.support.jobs.results"),
                *("--state-dir", str(tmp_path / "state")),
            ],
            cwd=tmp_path,
            env=environment(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000"),
            stderr=subprocess.DEVNULL,
        )
        try:
            assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            replica.terminate()
            while (said := manager.recv(100)) == b"WATCHDOG=1":
                pass
            assert said == b"STOPPING=1"
            assert replica.wait(15) == 0
        finally:
            replica.kill()
            replica.wait()


def instructions() -> list[list[tuple[str, str]]]:
    """Of the container file, a list for each stage: instruction and arguments."""
    text = re.sub(r"^\s*#.*\n", "", (_DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[list[tuple[str, str]]] = []
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        elif word and stages:
            stages[-1].append((word, rest.strip()))
    return stages


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in which the steps of the container file were taken, as if it were the root of a system."""
    root = tmp_path_factory.mktemp("container")
    build, _ = instructions()
    here = root
    for word, rest in build:
        if word == "WORKDIR":
            here = root / rest.lstrip("/")
            here.mkdir(parents=True)
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                place = here / target / source if target.endswith("/") else here / target
                if (_ROOT / source).is_dir():
                    shutil.copytree(_ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(_ROOT / source, place)
        elif word == "RUN" and not rest.startswith("apt-get"):
            # A virtualenv knows its place, so that the one of the container is made where it is here.
            script = rest.replace("/opt/leaderjob", str(root / "opt/leaderjob"))
            done(
                ["sh", "-ec", script],
                here,
                PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                EXTRAS="",
            )
    yield root


@pytest.mark.long
def test_the_steps_of_the_container_make_a_replica_that_is_found_healthy(
    container: Path, etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    _, image = instructions()
    (variables,) = [rest for word, rest in image if word == "ENV"]
    assert "LEADERJOB_" not in variables, "it would win over whatever file is mounted"
    grpc, http = free_ports(2)
    (copied,) = [rest.split() for word, rest in image if word == "COPY" and "container.toml" in rest]
    text = (_ROOT / copied[0]).read_text().replace("/var/lib/leaderjob", str(tmp_path / "state"))
    text = text.replace("0.0.0.0:7070", f"127.0.0.1:{grpc}").replace("0.0.0.0:8080", f"127.0.0.1:{http}")
    (tmp_path / copied[1]).write_text(text)
    settings = {
        "LEADERJOB_ETCD_ENDPOINTS": etcd.endpoint,
        "LEADERJOB_ETCD_NAMESPACE": namespace,
    }
    kept = {name: value for name, value in environment(**settings).items() if name != "PYTHONPATH"}
    program = container / "opt/leaderjob/bin/leaderjob"
    check = [str(container / "opt/leaderjob/bin/python"), str(_DEPLOY / "healthcheck.py")]

    def health() -> tuple[int, str]:
        asked = subprocess.run(
            check, env=kept, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        return asked.returncode, asked.stdout.strip()

    assert health()[0] == 1, "nobody is there yet"
    (command,) = [rest for word, rest in image if word == "CMD"]
    with subprocess.Popen([program, *json.loads(command)], cwd=tmp_path, env=kept) as replica:
        try:
            give_up_at = time.monotonic() + 20
            while health()[0] != 0:
                assert time.monotonic() < give_up_at
                time.sleep(0.2)
            assert health() == (0, "alive")
        finally:
            replica.terminate()
            assert replica.wait(15) == 0
    assert (word := dict(image))["USER"] == "10001:10001", word
    assert not (container / "opt/leaderjob/bin/pip").exists()
