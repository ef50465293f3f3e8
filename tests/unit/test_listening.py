"""Where a replica may listen, and what it tells others."""

import pytest

from leaderjob.errors import SettingsError
from leaderjob.listening import plan_listening


def test_loopback_needs_no_permission() -> None:
    for listen in ("127.0.0.1:0", "localhost:7000", "[::1]:7000"):
        plan_listening(listen, None, insecure=False)


@pytest.mark.parametrize("listen", ["10.0.0.1:7000", "0.0.0.0:7000", "example.org:7000"])
def test_an_address_that_others_reach_is_refused_without_encryption(listen: str) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        plan_listening(listen, "a.example:1", insecure=False)


def test_every_address_of_a_host_is_not_an_address_to_tell_others() -> None:
    with pytest.raises(SettingsError, match="--advertise"):
        plan_listening("0.0.0.0:7000", None, insecure=True)


@pytest.mark.parametrize("listen", ["7000", ":7000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_not_host_and_port_is_refused(listen: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        plan_listening(listen, None, insecure=True)


def test_others_are_told_the_advertised_host_for_every_port() -> None:
    plan = plan_listening("0.0.0.0:7000", "a.example:9000", insecure=True)

    assert (plan.bind, plan.advertise(7000), plan.advertised_host) == (
        "0.0.0.0:7000",
        "a.example:9000",
        "a.example",
    )


def test_without_an_advertised_port_the_bound_one_is_told() -> None:
    assert plan_listening("127.0.0.1:0", None, insecure=False).advertise(4711) == "127.0.0.1:4711"
    assert plan_listening("[::1]:0", None, insecure=False).advertise(4711) == "[::1]:4711"
