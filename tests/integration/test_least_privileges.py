"""The permissions that the page on etcd lists are enough for each, and no more than it says."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.model.run import Outcome
from tests.support.commands import environment, leaderjob
from tests.support.etcd import etcdctl
from tests.support.loop import run_async
from tests.support.secure_etcd import ROOT_PASSWORD, SecureEtcd

_PAGE = Path(__file__).parents[2] / "docs" / "etcd.md"


@pytest.fixture
def etcd_of_the_page(tmp_path: Path) -> Iterator[SecureEtcd]:
    """An etcd on which just the commands of the page were run."""
    server = SecureEtcd(tmp_path / "etcd")
    run_async(server.start())
    try:
        for block in re.findall(r"```console\n(.*?)```", _PAGE.read_text(), re.DOTALL):
            for line in block.splitlines():
                if line.startswith("etcdctl "):
                    etcdctl(server.endpoint, *answered(shlex.split(line)[1:]))
        yield server
    finally:
        server.kill()


def answered(arguments: list[str]) -> list[str]:
    """The arguments of a line of the page, with the password that etcdctl asks for at a terminal."""
    if arguments[:2] != ["user", "add"]:
        return arguments
    (user,) = arguments[2:]
    return ["user", "add", f"{user}:{ROOT_PASSWORD if user == 'root' else user + '-password'}"]


def told(server: SecureEtcd, user: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``leaderjob ARGUMENTS`` as one of the users."""
    return leaderjob(
        *arguments,
        "--etcd",
        server.endpoint,
        "--namespace",
        "prod",
        LEADERJOB_ETCD_USERNAME=f"leaderjob-{user}",
        LEADERJOB_ETCD_PASSWORD=f"leaderjob-{user}-password",
    )


def wait_for(log: Path, words: str, *, times: int = 1, timeout_s: float = 20.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while log.read_text().count(words) < times:
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(0.02)


@pytest.fixture
def replica(etcd_of_the_page: SecureEtcd, tmp_path: Path) -> Iterator[Path]:
    """A replica as the replicas' user; its log."""
    log, password = tmp_path / "log", tmp_path / "password"
    password.write_text("leaderjob-replica-password\n")
    command = ["run", "--id", "r1", "--etcd", etcd_of_the_page.endpoint, "--namespace", "prod", "--ttl", "3s"]
    command += ["--jobs", "tests.support.jobs.results", "--state-dir", str(tmp_path / "state")]
    secrets = {
        "LEADERJOB_ETCD_USERNAME": "leaderjob-replica",
        "LEADERJOB_ETCD_PASSWORD_FILE": str(password),
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "leaderjob", *command],
            stderr=output,
            env=environment(**secrets),
            cwd=tmp_path,
        ) as process,
    ):
        try:
            wait_for(log, "term_won")
            yield log
        finally:
            process.terminate()
            assert process.wait(15) == 0


def test_a_replica_a_client_and_a_monitor_do_their_work_with_what_the_page_grants(
    etcd_of_the_page: SecureEtcd, replica: Path
) -> None:
    server = etcd_of_the_page
    done = told(server, "client", "trigger", "files", "--params", '{"text": "x"}', "--wait")
    assert (done.returncode, Outcome.SUCCEEDED in done.stdout) == (0, True), done.stderr
    asked = told(server, "client", "query", "files", '{"number": 0}')
    assert asked.returncode == 0, asked.stderr
    status = told(server, "monitor", "status")
    assert status.returncode == 0, status.stderr
    assert "r1 leads" in status.stdout
    assert status.stderr == "", "nothing is kept from it"
    runs = told(server, "monitor", "runs", "files")
    assert runs.returncode == 0, runs.stderr
    assert "permission" not in replica.read_text()


def test_who_may_only_read_is_told_what_it_lacks(etcd_of_the_page: SecureEtcd, replica: Path) -> None:
    refused = told(etcd_of_the_page, "monitor", "trigger", "files", "--params", '{"text": "x"}')
    assert refused.returncode == 2
    assert "the etcd user 'leaderjob-monitor' may not read /leaderjob/prod/commands/" in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = told(etcd_of_the_page, "client", "accept-restore", "--token-floor", "7")
    assert refused.returncode == 2
    assert "may not" in refused.stderr


def test_a_replica_that_lacks_a_permission_does_not_start_and_names_it(
    etcd_of_the_page: SecureEtcd, tmp_path: Path
) -> None:
    refused = told(
        etcd_of_the_page, "client", "run", "--id", "r9", "--state-dir", str(tmp_path / "elsewhere")
    )
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert "'leaderjob-client' may not" in refused.stderr
    assert "write /leaderjob/prod/ and what is below" in refused.stderr


def test_a_wrong_password_and_a_missing_user_are_one_sentence(etcd_of_the_page: SecureEtcd) -> None:
    target = ["--etcd", etcd_of_the_page.endpoint, "--namespace", "prod"]
    wrong = leaderjob(
        "status", *target, LEADERJOB_ETCD_USERNAME="leaderjob-monitor", LEADERJOB_ETCD_PASSWORD="canary"
    )
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "refused the user 'leaderjob-monitor'" in wrong.stderr
    assert "canary" not in wrong.stderr
    nobody = leaderjob("status", *target)
    assert (nobody.returncode, len(nobody.stderr.splitlines())) == (2, 1)
    assert "demands a user" in nobody.stderr


@pytest.mark.long
def test_a_permission_that_is_revoked_is_reported_once_and_given_back_it_leads_again(
    etcd_of_the_page: SecureEtcd, replica: Path
) -> None:
    prefix = "/leaderjob/prod/"
    role = ("leaderjob-replica", "readwrite", prefix, "--prefix")
    etcd_of_the_page.as_root("role", "revoke-permission", role[0], prefix, "--prefix")
    etcd_of_the_page.as_root("role", "grant-permission", role[0], "read", prefix, "--prefix")
    # The lease goes without asking for the key.
    for lease in etcd_of_the_page.as_root("lease", "list").split()[3:]:
        etcd_of_the_page.as_root("lease", "revoke", lease)
    wait_for(replica, "etcd_refuses")
    etcd_of_the_page.as_root("role", "grant-permission", *role)
    wait_for(replica, "term_won", times=2)
    log = replica.read_text()
    assert log.count("etcd_refuses") == 1
    assert "'leaderjob-replica' may not" in log
