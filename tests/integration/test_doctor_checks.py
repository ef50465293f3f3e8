"""The doctor finds what would keep a replica from starting, or a job from firing, by the checks of the replica."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import Etcd
from leaderjob.model.member import Member, Role
from leaderjob.records.keys import Keys
from tests.support.commands import leaderjob

_MODULE = """
from leaderjob import job

@job(schedule="61 * * * *")
def minute(ctx): ...

@job(schedule="@daily", time_zone="Nowhere/City")
def zone(ctx): ...

@job(schedule="9999-12-31T23:59:59", time_zone="America/New_York")
def late(ctx): ...

@job(schedule="CRON_TZ=Asia/Tokyo 0 3 * * *")
def foreign(ctx): ...

@job(schedule="@daily")
def needs(ctx, corpus: str): ...

@job
def given(ctx, corpus: str): ...

@job(schedule="\\udc80", time_zone="\\udc80")
def odd(ctx):
    "\\udc80"

@job(schedule="@daily")
def sound(ctx, size: int = 1): ...
"""


class Examined:
    """What ``leaderjob doctor`` finds in a folder with the module above."""

    def __init__(self, etcd: EmbeddedEtcd, namespace: str, directory: Path) -> None:
        self.directory = directory
        self._target = ["--etcd", etcd.endpoint, "--namespace", namespace, "--jobs", "mine"]
        (directory / "mine.py").write_text(_MODULE)

    def __call__(self, *arguments: str, config: str = "") -> tuple[int, dict[str, tuple[str, str]]]:
        """The exit code, and by subject the verdict and what was found."""
        (self.directory / "leaderjob.toml").write_text(config)
        state = ["--state-dir", str(self.directory / "state")]
        done = leaderjob("doctor", "--json", *self._target, *state, *arguments, cwd=self.directory)
        assert "Traceback" not in done.stderr
        found = json.loads(done.stdout)["findings"]
        return done.returncode, {entry["subject"]: (entry["verdict"], entry["found"]) for entry in found}


@pytest.fixture
def doctor(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> Examined:
    return Examined(etcd, namespace, tmp_path)


def test_jobs_that_could_never_fire_are_problems_and_the_others_are_not(doctor: Examined) -> None:
    code, found = doctor()
    assert code == 1
    for job, reason in {
        "minute": "minute field '61' is not in 0-59",
        "zone": "time zone 'Nowhere/City' is unknown",
        "late": "it is out of range",
        "foreign": "set the job's time_zone to 'Asia/Tokyo'",
        "needs": "needs the parameter 'corpus' (str): no scheduled run can begin",
        "odd": "is unknown: use a name of the IANA database",
    }.items():
        assert (found[f"job {job}"][0], reason in found[f"job {job}"][1]) == ("problem", True), found[
            f"job {job}"
        ]
    assert found["jobs"] == ("ok", "given, sound")


@pytest.mark.parametrize(
    ("config", "subject", "reason"),
    [
        ('[overrides.sound]\nschedule = "@every 5m"', "job sound", "use 'every 5m'"),
        ("[overrides.sound.params]\nsise = 1", "job sound", "did you mean 'size'?"),
        ("[overrides.given.params]\ncorpus = 1", "job given", "has to be of type str"),
        ("[overrides.sound.params]\nsize = true", "job sound", "has to be of type int"),
        ("[overrides.sounds]\ntimeout = 5", "jobs", "setting 'overrides.sounds': no job is called that"),
    ],
)
def test_overrides_in_the_settings_are_checked(
    doctor: Examined, config: str, subject: str, reason: str
) -> None:
    code, found = doctor(config=config)
    assert (code, found[subject][0]) == (1, "problem")
    assert reason in found[subject][1]


async def test_overrides_in_etcd_are_checked(etcd: EmbeddedEtcd, namespace: str, doctor: Examined) -> None:
    key = f"/leaderjob/{namespace}/config/leaderjob/current"
    jobs = {
        "sound": {"params": {"sise": 1}, "timeout": "5m"},
        "needs": {"params": {"corpus": "/srv"}},
        "given": {"schedule": "@daily"},
        "nobody": {"enabled": False},
    }
    document = {"v": 1, "number": 1, "by": "me", "at": utcnow().isoformat(), "values": {"jobs": jobs}}
    async with Etcd([etcd.endpoint]) as client:
        await client.put(key, json.dumps(document).encode())
        _, found = await asyncio.to_thread(doctor)
        assert found["overrides of sound"][0] == "problem"
        assert (
            "a leader leaves this out: job 'sound' has no parameter 'sise'" in found["overrides of sound"][1]
        )
        assert "job needs" not in found, "the override gives what it lacks"
        assert "needs the parameter 'corpus'" in found["job given"][1]
        assert found["overrides of nobody"] == ("warning", "no job is called that")
        await client.put(key, b"junk")
        _, found = await asyncio.to_thread(doctor)
        assert found["overrides"][0] == "problem"


async def test_an_id_that_a_live_process_has_is_a_problem_and_one_in_doubt_a_warning(
    etcd: EmbeddedEtcd, namespace: str, doctor: Examined
) -> None:
    async with Etcd([etcd.endpoint]) as client, LivenessListener("r1", "other", "127.0.0.1") as listener:
        lease, _ = await client.grant(60)

        async def register(port: int) -> None:
            member = Member(
                replica="r1",
                incarnation="other",
                role=Role.FOLLOWER,
                release="1",
                host="elsewhere",
                pid=4321,
                started=utcnow(),
                addresses={"liveness": f"127.0.0.1:{port}"},
            )
            await client.put(Keys(namespace).member("r1"), member.to_bytes(), lease=lease)

        await register(listener.port)
        code, found = await asyncio.to_thread(doctor, "--id", "r1")
        assert (code, found["id"][0]) == (1, "problem")
        assert "replica 'r1' is already running on host elsewhere with pid 4321" in found["id"][1]
        _, found = await asyncio.to_thread(doctor, "--id", "r2")
        assert found["id"] == ("ok", "'r2' is free")
        await register(free_ports(1)[0])
        _, found = await asyncio.to_thread(doctor, "--id", "r1")
        assert found["id"][0] == "warning"
        assert "pid 4321, which does not answer" in found["id"][1]
        (doctor.directory / "state").mkdir()
        (doctor.directory / "state" / "incarnations").write_text("other\n")
        _, found = await asyncio.to_thread(doctor, "--id", "r1")
        assert found["id"] == ("ok", "'r1' is free"), "the state directory knows that process to be gone"
        await client.revoke(lease)


def test_a_secret_and_a_port_that_cannot_be_used_are_found(doctor: Examined) -> None:
    empty = doctor.directory / "password"
    empty.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, found = doctor(
            config=f'[etcd]\nusername = "me"\npassword_file = "{empty}"\n[replica]\nliveness_port = {port}\n'
        )
    assert code == 1
    assert found["secrets"][0] == "problem"
    assert "is empty: write the secret into it" in found["secrets"][1]
    assert found["liveness port"] == ("warning", f"127.0.0.1:{port} is in use")
