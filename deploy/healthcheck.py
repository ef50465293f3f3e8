"""Ask the replica in this container whether it is alive; exit with 0 if it is, with 1 and a line if not.

Its port is that of ``LEADERJOB_REPLICA_LISTEN_HTTP``, else of ``listen_http`` in the settings' file: the one that is
named as argument, else ``leaderjob.toml`` in the current directory. Whether the port is encrypted is found out by
asking; whose certificate it shows is not checked, for nobody else can listen at this port of this container.
The host is that of the setting too, unless it stands for all addresses.

The standard library only: this is run every ten seconds.
"""

import http.client
import os
import ssl
import sys
import tomllib
from pathlib import Path

TIMEOUT_S = 1.8


def address() -> tuple[str, int]:
    """Host and port to ask at."""
    listen_http = os.environ.get("LEADERJOB_REPLICA_LISTEN_HTTP")
    if not listen_http:
        settings = tomllib.loads(Path(sys.argv[1] if len(sys.argv) > 1 else "leaderjob.toml").read_text())
        listen_http = str(settings["replica"]["listen_http"])
    host, _, port = listen_http.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return "localhost" if host in ("0.0.0.0", "::") else host, int(port)


def ask(connection: http.client.HTTPConnection) -> tuple[int, str]:
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    finally:
        connection.close()


def main() -> int:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        host, port = address()
        try:
            status, said = ask(http.client.HTTPConnection(host, port, timeout=TIMEOUT_S))
        except ConnectionRefusedError:
            raise
        except (OSError, http.client.HTTPException):
            encrypted = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
            status, said = ask(encrypted)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        print(f"no answer from /healthz: {type(error).__name__}: {error}")
        return 1
    print(said)
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
