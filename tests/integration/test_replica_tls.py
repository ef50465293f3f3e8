"""Replicas with certificates: everything between them, and to their clients, is encrypted and checked."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.client import Client, NoAnswer
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.verify import serves
from leaderjob.tls import CertificateFiles
from tests.support.authority import Authority
from tests.support.commands import leaderjob
from tests.support.replicas import Cluster, told
from tests.support.streams import run_with_streams


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def encrypted(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, authority: Authority) -> Iterator[Cluster]:
    files = authority.issue("replica")
    config = f'[tls]\ncert = "{files.cert}"\nkey = "{files.key}"\nca = "{files.ca}"\n'
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path / "replicas",
            jobs="tests.support.jobs.results",
            names=("r1", "r2"),
            config=config,
        ) as cluster,
        told(cluster),
    ):
        yield cluster.start()


def published(cluster: Cluster, text: str) -> None:
    """Build and publish; the followers have fetched and verified it."""
    done = cluster.ended("files", cluster.trigger("files", text=text))
    view = cluster.serves("files", done.version or 0)
    pointer = view.pointer("files")
    assert pointer is not None
    for replica in cluster.replicas.values():
        assert serves(replica.state_dir, "files", pointer.record.digest)


def ask(cluster: Cluster, certificates: CertificateFiles | None) -> str:
    async def query() -> str:
        async with Client([cluster.endpoint], cluster.namespace, replica_certificates=certificates) as client:
            answer = await client.query("files", {"number": 0}, timeout_s=5.0)
            return str(answer.value["line"])

    return run_with_streams(query())


def test_results_are_shared_and_queried_with_certificates_and_not_without(
    encrypted: Cluster, authority: Authority, tmp_path: Path
) -> None:
    published(encrypted, "secret")
    assert ask(encrypted, authority.issue("client")) == "0 secret"
    for wrong in (
        None,
        CertificateFiles(ca=authority.ca),
        Authority(tmp_path / "stranger").issue("stranger"),
    ):
        with pytest.raises(NoAnswer):
            ask(encrypted, wrong)


def test_the_command_line_shows_the_certificate_of_its_settings(
    encrypted: Cluster, authority: Authority, tmp_path: Path
) -> None:
    published(encrypted, "secret")
    files = authority.issue("client")
    settings = {
        "LEADERJOB_TLS_CERT": str(files.cert),
        "LEADERJOB_TLS_KEY": str(files.key),
        "LEADERJOB_TLS_CA": str(files.ca),
    }
    done = leaderjob("query", "files", '{"number": 0}', *encrypted.target, cwd=tmp_path, **settings)
    assert (done.returncode, "0 secret" in done.stdout) == (0, True), done.stderr


def test_probes_need_no_certificate(encrypted: Cluster, authority: Authority) -> None:
    address = next(iter(encrypted.view().members.values())).record.addresses["http"]
    context = CertificateFiles(ca=authority.ca).client_context()
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/objects/x", 403)):
        connection = http.client.HTTPSConnection(address, timeout=5, context=context)
        try:
            connection.request("GET", path)
            assert connection.getresponse().status == status, path
        finally:
            connection.close()


def test_certificates_that_are_exchanged_under_running_replicas_are_used(
    encrypted: Cluster, authority: Authority
) -> None:
    published(encrypted, "before")
    authority.issue("replica")
    published(encrypted, "after")
    assert ask(encrypted, authority.issue("client")) == "0 after"


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        ("cert", "does not belong to the certificate"),
        pytest.param("key", "is a directory, and a file is needed", marks=pytest.mark.slow),
        pytest.param("ca", "has no certificate of an authority in PEM form", marks=pytest.mark.slow),
        pytest.param("name", "is not valid for '127.0.0.1'", marks=pytest.mark.slow),
    ],
)
def test_certificates_that_cannot_be_used_are_named_before_anything_starts(
    etcd: EmbeddedEtcd, tmp_path: Path, authority: Authority, break_it: str, sentence: str
) -> None:
    files = authority.issue("replica")
    assert files.ca is not None
    assert files.cert is not None
    assert files.key is not None
    if break_it == "cert":
        other = authority.issue("other")
        assert other.cert is not None
        files.cert.write_bytes(other.cert.read_bytes())
    elif break_it == "name":
        files = authority.issue("replica", "another.example")
    elif break_it == "ca":
        files.ca.write_text("nothing of the kind")
    else:
        # Whoever is root may read everything, but not what is no file.
        files.key.unlink()
        files.key.mkdir()
    done = leaderjob(
        "run",
        *("--etcd", etcd.endpoint, "--jobs", "tests.support.jobs.results"),
        *("--state-dir", str(tmp_path / "state")),
        cwd=tmp_path,
        LEADERJOB_TLS_CERT=str(files.cert),
        LEADERJOB_TLS_KEY=str(files.key),
        LEADERJOB_TLS_CA=str(files.ca),
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_state_directory_belongs_to_one_replica(encrypted: Cluster, tmp_path: Path) -> None:
    taken = encrypted["r1"].state_dir
    done = leaderjob("run", *encrypted.target, "--id", "r3", "--state-dir", str(taken), cwd=tmp_path)
    assert done.returncode == 2
    pid = encrypted["r1"].process.pid
    assert f"the state directory {taken} is used by replica 'r1' with pid {pid}" in done.stderr
