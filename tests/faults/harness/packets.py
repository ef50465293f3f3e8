"""The packet filter of one machine: what it loses without a word, and what it resets. Needs root."""

import subprocess
from collections.abc import Sequence

_RESET = "-p tcp -j REJECT --reject-with tcp-reset"
# Our own resets must get out, or nobody would hear of them.
_RESET_BUT_RESETS = "-p tcp ! --tcp-flags RST RST -j REJECT --reject-with tcp-reset"


class PacketFilter:
    """iptables rules inside a network namespace; they add up until :meth:`clear`.

    :param within: what a command begins with to run in that namespace.
    """

    def __init__(self, within: Sequence[str]) -> None:
        self._within = list(within)

    def drop(self, addresses: Sequence[str], *, sending: bool = True, hearing: bool = True) -> None:
        """Lose what goes to these addresses (``sending``), what comes from them (``hearing``), or both."""
        unheard = [f"-A INPUT -s {address} -j DROP" for address in addresses]
        unsaid = [f"-A OUTPUT -d {address} -j DROP" for address in addresses]
        self._apply(unheard * hearing + unsaid * sending)

    def reject(self, addresses: Sequence[str]) -> None:
        """Answer whatever goes either way with a reset. A connection on which nothing goes does not notice."""
        self._apply(
            [f"-A INPUT -s {address} {_RESET}" for address in addresses]
            + [f"-A OUTPUT -d {address} {_RESET_BUT_RESETS}" for address in addresses]
        )

    def reset(self, addresses: Sequence[str]) -> None:
        """Break what is connected to these addresses; both ends are told."""
        for address in addresses:
            command = [*self._within, "ss", "--kill", "--tcp", "state", "established", "dst", address]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"

    def clear(self) -> None:
        """Let everything through again."""
        self._apply(["-F INPUT", "-F OUTPUT"])

    def _apply(self, rules: Sequence[str]) -> None:
        """All of the rules at once."""
        text = "\n".join(("*filter", *rules, "COMMIT", ""))
        command = [*self._within, "iptables-restore", "--noflush"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}: {done.stderr.strip()}"
