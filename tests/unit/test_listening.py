"""Where a replica may listen, and what it tells others."""

import pytest

from leaderjob.errors import SettingsError
from leaderjob.listening import Listening, plan_http, plan_listening


def test_loopback_needs_no_permission() -> None:
    for listen in ("127.0.0.1:0", "localhost:7000", "[::1]:7000"):
        plan_listening(listen, None, open_to_all=False)


@pytest.mark.parametrize("listen", ["10.0.0.1:7000", "0.0.0.0:7000", "example.org:7000"])
def test_an_address_that_others_reach_is_refused_without_encryption(listen: str) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        plan_listening(listen, "a.example:1", open_to_all=False)


def test_every_address_of_a_host_is_not_an_address_to_tell_others() -> None:
    with pytest.raises(SettingsError, match="--advertise"):
        plan_listening("0.0.0.0:7000", None, open_to_all=True)


@pytest.mark.parametrize(
    "listen",
    ["7000", ":7000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "h:²", "h:٣", "h:" + "9" * 5000],
)
def test_what_is_not_host_and_port_is_refused(listen: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        plan_listening(listen, None, open_to_all=True)


def test_others_are_told_the_advertised_host_for_every_port() -> None:
    plan = plan_listening("0.0.0.0:7000", "a.example:9000", open_to_all=True)

    assert (plan.bind, plan.advertise(7000), plan.advertised_host) == (
        "0.0.0.0:7000",
        "a.example:9000",
        "a.example",
    )


def test_without_an_advertised_port_the_bound_one_is_told() -> None:
    assert plan_listening("127.0.0.1:0", None, open_to_all=False).advertise(4711) == "127.0.0.1:4711"
    assert plan_listening("[::1]:0", None, open_to_all=False).advertise(4711) == "[::1]:4711"


def test_no_address_of_a_host_in_particular_is_none_to_tell_others_however_it_is_written() -> None:
    for listen in ("[::]:7000", "[0:0::0]:7000"):
        with pytest.raises(SettingsError, match="--advertise"):
            plan_listening(listen, None, open_to_all=True)
    with pytest.raises(SettingsError, match=r"advertise address 0\.0\.0\.0:9000 is no address"):
        plan_listening("127.0.0.1:0", "0.0.0.0:9000", open_to_all=True)


MAIN = Listening("127.0.0.1", 7000, "127.0.0.1", None)


def test_published_files_are_handed_out_beside_the_queries_if_nothing_is_said() -> None:
    main = plan_listening("0.0.0.0:7000", "a.example:9000", open_to_all=True)
    plan = plan_http(None, "a.example:9000", main=main, open_to_all=True)

    assert (plan.bind, plan.advertise(4711)) == ("0.0.0.0:0", "a.example:4711")


@pytest.mark.parametrize("listen_http", ["10.0.0.1:7001", "0.0.0.0:7001", "[2001:db8::1]:7001"])
def test_published_files_are_not_handed_out_to_others_without_encryption(listen_http: str) -> None:
    with pytest.raises(SettingsError, match=r"replica\.listen_http address .* say --insecure"):
        plan_http(listen_http, "a.example:1", main=MAIN, open_to_all=False)


def test_others_are_told_where_files_are_by_an_address_of_their_own() -> None:
    assert plan_http("10.0.0.1:7001", None, main=MAIN, open_to_all=True).advertise(7001) == "10.0.0.1:7001"
    with pytest.raises(SettingsError, match=r"replica\.listen_http address 0\.0\.0\.0:0 .* --advertise"):
        plan_http("0.0.0.0:0", None, main=MAIN, open_to_all=True)


def test_the_advertised_host_is_told_for_files_with_the_port_that_they_are_bound_to() -> None:
    main = plan_listening("127.0.0.1:7000", "a.example:9000", open_to_all=True)
    plan = plan_http("0.0.0.0:7001", "a.example:9000", main=main, open_to_all=True)

    assert (plan.bind, plan.advertise(7001)) == ("0.0.0.0:7001", "a.example:7001")


def test_an_address_for_files_that_is_none_is_named_by_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"replica\.listen_http address '7001' is not HOST:PORT"):
        plan_http("7001", None, main=MAIN, open_to_all=True)
