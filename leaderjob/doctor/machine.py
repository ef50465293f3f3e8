"""This machine: Python, packages, secrets, the state directory, the ports."""

import errno
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from leaderjob.clock import utcnow
from leaderjob.connecting import replica_certificates
from leaderjob.doctor.verdict import Finding, ok, problem, warning
from leaderjob.errors import SettingsError
from leaderjob.listening import Listening, plan_http, plan_listening
from leaderjob.settings import Settings
from leaderjob.state_directory import holder_of

_PACKAGES = (
    "python3-etcd3",
    "protobuf",
    "grpcio",
    "apscheduler",
    "pydantic",
    "pydantic-settings",
    "sentry-sdk",
)
_STATE_DIRECTORY = "state directory"
_LITTLE_SPACE_BYTES = 1 << 30
_NO_SPACE_BYTES = 1 << 20
_RENEW_BEFORE = timedelta(days=14)


def check_python() -> Iterator[Finding]:
    found = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    if sys.platform != "linux":
        yield warning("Python", found, "run replicas on Linux: the guard of a job needs its subreapers")
    else:
        yield ok("Python", found)
    missing = [name for name in _PACKAGES if _version(name) is None]
    if missing:
        yield problem("packages", f"{', '.join(missing)} not installed", "install leaderjob again, with pip")
    elif _version("etcd3") is not None:
        yield problem(
            "packages",
            "the abandoned 'etcd3' is installed beside 'python3-etcd3', and each overwrites the other's files",
            "pip uninstall -y etcd3 python3-etcd3 && pip install python3-etcd3",
        )
    else:
        yield ok("packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))


def check_state(settings: Settings) -> Iterator[Finding]:
    try:
        path = settings.state_dir
    except SettingsError as error:
        yield problem(_STATE_DIRECTORY, str(error), "choose --state-dir")
    else:
        yield from check_state_directory(path)


def check_state_directory(path: Path) -> Iterator[Finding]:
    subject = _STATE_DIRECTORY
    # The methods of Path would raise where this user may not look into a folder above.
    existing = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not os.access(f"{existing}/.", os.W_OK | os.X_OK):  # the dot refuses a file
        yield problem(
            subject, f"{existing} is not writable for this user", "change its rights, or choose --state-dir"
        )
        return
    holder = holder_of(path)
    if holder is not None:
        yield warning(
            subject, f"{path} is used by {holder}", "give each replica its own --state-dir, or stop that one"
        )
        return
    free_bytes = shutil.disk_usage(existing).free
    found = f"{path}, {free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < _NO_SPACE_BYTES:
        yield problem(subject, found, "free some space: a replica cannot even begin")
    elif free_bytes < _LITTLE_SPACE_BYTES:
        yield warning(subject, found, "free some space: published versions are kept there")
    else:
        yield ok(subject, found)


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """Only what is wrong: secrets that are in files which cannot be read, or hold something else."""
    for read in (settings.etcd.read_password, settings.sentry.read_dsn):
        try:
            read()
        except SettingsError as error:
            yield problem("secrets", str(error), "a replica does not start without it")


def check_ports(settings: Settings) -> Iterator[Finding]:
    replica = settings.replica
    open_to_all = settings.tls.enabled or replica.insecure
    try:
        main = plan_listening(replica.listen, replica.advertise, open_to_all=open_to_all)
        http = plan_http(replica.listen_http, replica.advertise, main=main, open_to_all=open_to_all)
    except SettingsError as error:
        yield problem("ports", str(error), "correct replica.listen, replica.listen_http or replica.advertise")
        return
    liveness = Listening(main.host, replica.liveness_port, main.advertised_host, None)
    for subject, plan in (
        ("port for queries", main),
        ("port for files and probes", http),
        *([("liveness port", liveness)] if replica.liveness_port else ()),
    ):
        yield _check_port(subject, plan)
    yield _check_name(main.advertised_host)
    certificates = replica_certificates(settings.tls)
    if certificates is None:
        yield ok("TLS between replicas", "off")
        return
    try:
        good_until = certificates.check_among_peers(main.advertised_host)
    except SettingsError as error:
        yield problem("TLS between replicas", str(error), "correct tls.cert, tls.key and tls.ca")
        return
    found = f"on, with {certificates.cert}, which is good until {good_until:%Y-%m-%d}"
    if good_until - utcnow() < _RENEW_BEFORE:
        yield warning(
            "TLS between replicas", found, "renew it: replicas read files that change by themselves"
        )
    else:
        yield ok("TLS between replicas", found)


def _check_port(subject: str, plan: Listening) -> Finding:
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((plan.host, plan.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                remedy = "stop what listens there (a replica that runs does), or choose another port"
                return warning(subject, f"{plan.bind} is in use", remedy)
            why = f"{plan.bind} cannot be bound: {error.strerror}"
            return problem(subject, why, "choose an address of this machine")
    return ok(subject, f"{plan.bind} is free" if plan.port else f"a free one of {plan.host}")


def _check_name(host: str) -> Finding:
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        remedy = "set replica.advertise to a name or an address that the others can reach"
        return problem("advertised host", f"{host} has no address: {error.strerror}", remedy)
    return ok("advertised host", host)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
