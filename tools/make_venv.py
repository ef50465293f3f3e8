"""Make the project's virtualenv, if it is not there yet or out of date; say nothing if it is.

    python3 tools/make_venv.py [--extras demo|dev] [--link .venv] [--python PYTHON]

Whatever Python runs this, the virtualenv is made with the newest of python3.13, python3.12, python3.11
and this one that can make virtualenvs, or with PYTHON if that is given. The file itself is written for
Python 2.7 and later, so that an old one ends with a sentence and not with a syntax error; the work is
done by environment.py, under the Python that was found.
"""

from __future__ import print_function

import argparse
import glob
import hashlib
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CANDIDATES = ("python3.13", "python3.12", "python3.11")
INPUTS = ("pyproject.toml", "constraints.txt")
EXTRAS = ("demo", "dev")  # each contains the ones before it
STAMP = "leaderjob-venv.json"

PROBE = """
import sys
if sys.version_info < (3, 11):
    print("old %d.%d.%d" % sys.version_info[:3])
else:
    try:
        import ensurepip, venv
        print("good %d.%d.%d" % sys.version_info[:3])
    except ImportError:
        print("no-venv %d.%d" % sys.version_info[:2])
"""


def fingerprint():
    """What a virtualenv is made from: another one of these, and it has to be made again."""
    digest = hashlib.sha256(ROOT.encode("utf-8", "replace") if sys.version_info[0] > 2 else ROOT)
    for name in INPUTS:
        with open(os.path.join(ROOT, name), "rb") as stream:
            digest.update(stream.read())
    return digest.hexdigest()


def read_stamp(link):
    """What the virtualenv ``link`` was made from; None where there is no finished one."""
    try:
        with open(os.path.join(link, STAMP)) as stream:
            return json.load(stream)
    except (IOError, OSError, ValueError):
        return None


def reason_to_build(link, extras, wanted, version=None):
    """Why the virtualenv ``link`` has to be made, in words; None if it is as it should be.

    ``version`` is the Python version that it must have, if one was asked for.
    """
    stamp = read_stamp(link)
    if stamp is None or not os.path.exists(os.path.join(link, "bin", "python")):
        return "there is none"
    if stamp["fingerprint"] != wanted:
        return " or ".join(INPUTS) + " changed"
    if EXTRAS.index(stamp["extras"]) < EXTRAS.index(extras):
        return "it lacks what '{0}' needs".format(extras)
    if version not in (None, stamp["version"]):
        return "it has Python {0}".format(stamp["version"])
    # The two distributions share files, so that either half of the other may be there now.
    if glob.glob(os.path.join(link, "lib", "python*", "site-packages", "etcd3-*.dist-info")):
        return "etcd3 was installed over python3-etcd3, which has the same files"
    return None


def probe(python):
    """('good' | 'old' | 'no-venv' | 'broken', version) of an interpreter."""
    try:
        process = subprocess.Popen(
            [python, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=os.sep
        )
        words = process.communicate()[0].decode("ascii", "replace").split()
    except OSError:
        return "broken", ""
    return (words[0], words[1]) if process.returncode == 0 and len(words) == 2 else ("broken", "")


def choose(candidates):
    """(path, version) of the first candidate that can make our virtualenv; one sentence if none can."""
    found = []
    for python in candidates:
        verdict, version = probe(python)
        if verdict == "good":
            return python, version
        found.append((verdict, version, python))
    for verdict, version, python in found:
        if verdict == "no-venv":
            sys.exit(
                "leaderjob: {0} (Python {1}) cannot make virtualenvs because its module ensurepip is missing: "
                "install that (Debian, Ubuntu: apt install python3-venv, or python{1}-venv) and run this "
                "again.".format(python, version)
            )
    seen = ["{0} is {1}".format(python, version) for verdict, version, python in found if verdict == "old"]
    sys.exit(
        "leaderjob: Python 3.11 or newer is needed, {0}: install one (Debian, Ubuntu: apt install python3 "
        "python3-venv) so that it is on PATH as python3.11, python3.12 or python3.13, or name it with "
        "PYTHON=/path/to/python3.11 behind the make command.".format(
            "but " + ", ".join(seen) if seen else "and {0} is none".format(", ".join(candidates))
        )
    )


def main():
    parser = argparse.ArgumentParser(description="Make the project's virtualenv if that is necessary.")
    parser.add_argument("--extras", choices=EXTRAS, default=EXTRAS[-1])
    parser.add_argument("--link", default=".venv", help="where to find it, relative to the project")
    parser.add_argument("--python", default="", help="the interpreter to make it with")
    options = parser.parse_args()

    link = os.path.join(ROOT, options.link)
    if os.path.isdir(link) and not os.path.islink(link):
        sys.exit(
            "leaderjob: {0} was not made by this project's Makefile: move it away and run this again.".format(
                link
            )
        )
    wanted = fingerprint()
    python = version = None
    if options.python:
        named = os.path.abspath(options.python) if os.sep in options.python else options.python
        python, version = choose([named])
    reason = reason_to_build(link, options.extras, wanted, version)
    if reason is None:
        return
    if python is None:
        python, version = choose(list(CANDIDATES) + [sys.executable])
    print("leaderjob: making {0} with Python {1}: {2}".format(options.link, version, reason))
    sys.stdout.flush()
    worker = [python, "-B", os.path.join(ROOT, "tools", "environment.py"), link, options.extras, wanted]
    sys.exit(subprocess.call(worker))


if __name__ == "__main__":
    main()
