"""The registry against a real etcd: who is registered, for how long, and what others see of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, SettingsError
from leaderjob.etcd import Etcd, EtcdUnavailable, EventKind, HistoryWentBack, ValueTooLarge, follow
from leaderjob.recipes import AlreadyRegistered, Followed, NotFollowed, Registration, Registry, Timing
from leaderjob.telemetry.events import Events, listen
from tests.support.backups import wipe
from tests.support.candidates import SHORT
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release
from tests.support.hearing import hearing

HERE = "127.0.0.1:7001"
THERE = "127.0.0.1:7002"


@asynccontextmanager
async def registry(endpoint: str, namespace: str) -> AsyncIterator[tuple[Registry, Etcd]]:
    async with Etcd([endpoint]) as client:
        yield Registry(client, namespace=namespace, timing=SHORT), client


async def until(followed: Followed, *addresses: str) -> None:
    instances = followed.instances
    while sorted(instance.address for instance in instances) != sorted(addresses):
        instances = await followed.changed(instances)


async def registered_anew(registration: Registration, old: str) -> str:
    while (key := registration.key) is None or key == old:
        await asyncio.sleep(0.01)
    return key


async def lease_of(client: Etcd, registration: Registration) -> int:
    found = await client.get(await registration.wait_registered())
    assert found is not None
    return found.lease


@every_release("etcd")
async def test_an_instance_is_found_while_it_is_registered_and_not_any_more(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with registry(etcd.endpoint, namespace) as (ours, client):
        assert await ours.discover("greeter") == ()
        async with ours.register("greeter", HERE, metadata={"zone": "b"}) as registration:
            (found,) = await ours.discover("greeter")
            assert (found.address, found.metadata, found.key) == (HERE, {"zone": "b"}, registration.key)
            assert await ours.services() == {"greeter": (found,)}
            lease = await lease_of(client, registration)
        assert registration.key is None
        assert await ours.discover("greeter") == ()
        assert f"{lease:x}" not in etcdctl(etcd.endpoint, "lease", "list")


async def test_services_of_similar_names_are_kept_apart(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        registry(etcd.endpoint, namespace) as (ours, _),
        ours.register("greeter", HERE),
        ours.register("greeter2", THERE),
    ):
        assert [each.address for each in await ours.discover("greeter")] == [HERE]
        assert list(await ours.services()) == ["greeter", "greeter2"]


async def test_who_comes_and_goes_is_told_and_the_view_at_hand_follows(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        registry(etcd.endpoint, namespace) as (ours, _),
        ours.register("greeter", HERE),
        aclosing(ours.watch("greeter")) as changes,
        ours.following("greeter") as followed,
    ):
        assert [each.address for each in ours.instances("greeter")] == [HERE]
        first = await anext(changes)
        async with ours.register("greeter", THERE):
            await until(followed, HERE, THERE)
            second = await anext(changes)
        await until(followed, HERE)
        third = await anext(changes)
    assert [(each.kind, each.instance.address) for each in (first, second, third)] == [
        (EventKind.CREATED, HERE),
        (EventKind.CREATED, THERE),
        (EventKind.DELETED, THERE),
    ]
    with pytest.raises(NotFollowed, match="discover"):
        ours.instances("greeter")


@pytest.mark.parametrize("how", ["revoked", "deleted"])
async def test_an_instance_whose_entry_is_taken_away_is_registered_again(
    etcd: EmbeddedEtcd, namespace: str, how: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        # No keepalive comes in time to notice it.
        patient = Timing(ttl_s=60, margin_s=2, keepalive_s=20)
        ours = Registry(client, namespace=namespace, timing=patient)
        async with asyncio.timeout(5), ours.register("greeter", HERE) as registration:
            old, lease = await registration.wait_registered(), await lease_of(client, registration)
            if how == "revoked":
                await client.revoke(lease)
            else:
                await client.delete(old)
            key = await registered_anew(registration, old)
            assert [each.key for each in await ours.discover("greeter")] == [key]
        assert f"{lease:x}" not in etcdctl(etcd.endpoint, "lease", "list")
        assert await ours.discover("greeter") == ()


async def test_an_instance_that_was_cut_off_until_its_lease_ran_out_is_registered_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        registry(proxy.endpoint, namespace) as (ours, _),
        registry(etcd.endpoint, namespace) as (others, _),
        others.following("greeter") as followed,
        ours.register("greeter", HERE) as registration,
    ):
        old = await registration.wait_registered()
        await until(followed, HERE)
        proxy.cut()
        await until(followed)
        proxy.reset()
        proxy.heal()
        await until(followed, HERE)
        assert await registered_anew(registration, old) == followed.instances[0].key


async def test_a_view_stays_as_it_is_while_etcd_does_not_answer_and_catches_up(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        registry(proxy.endpoint, namespace) as (cut_off, _),
        registry(etcd.endpoint, namespace) as (ours, _),
        ours.register("greeter", HERE),
        cut_off.following("greeter") as followed,
    ):
        await proxy.refuse()
        async with ours.register("greeter", THERE):
            assert [each.address for each in cut_off.instances("greeter")] == [HERE]
            await proxy.accept()
            await until(followed, HERE, THERE)


async def test_a_change_before_it_is_waited_for_is_not_missed(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        registry(etcd.endpoint, namespace) as (ours, _),
        ours.following("greeter") as followed,
    ):
        seen = followed.instances
        async with ours.register("greeter", HERE):
            while not followed.instances:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                assert [each.address for each in await followed.changed(seen)] == [HERE]


async def test_a_store_that_went_back_ends_registrations_and_views_and_says_so(
    own_etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.recipes.registry.follow", partial(follow, look_again_s=0.2))

    async with (
        registry(own_etcd.endpoint, namespace) as (ours, client),
        ours.register("greeter", HERE) as registration,
        ours.following("greeter") as followed,
    ):
        for _ in range(20):
            await client.put(f"/{namespace}/lost", b"")
        waiting = asyncio.create_task(followed.changed(followed.instances))
        with hearing() as heard, pytest.raises(HistoryWentBack, match="restored from a backup"):
            await wipe(own_etcd)
            assert isinstance(await registration.wait_ended(), HistoryWentBack)
            assert registration.key is None
            with pytest.raises(HistoryWentBack):
                await registration.wait_registered()
            await waiting
        assert [each.address for each in ours.instances("greeter")] == [HERE]
        assert [each["address"] for each in heard.all(Events.REGISTRATION_ENDED)] == [HERE]
        assert [each["prefix"] for each in heard.all(Events.VIEW_ENDED)] == [ours.prefix("greeter")]
        with pytest.raises(HistoryWentBack):
            await followed.changed(followed.instances)


@pytest.mark.parametrize(
    "address",
    ["", "host", ":8080", "host:", "host:0", "host:65536", "host:http", "::1:80", "[]:80", "a b:80",
     "0.0.0.0:80", "[::]:80", "http://host:80", "host:-1", "host:٣", "[host:80", "host]:80", "[host]:80",
     "[10.0.0.1]:80", "[::1:80", "0:80", "1.2.3:80", "0x7f.1:80", "[::ffff:0.0.0.0]:80", "[fe80::1%eth0]:80",
     "dns:///host:80", "unix:/run/x.sock:80", "host..b:80", "-host:80", "host\0:80", "\ud800:80", "höst:80",
     f"{'h' * 64}:80", f"{'h.' * 127}h:80"],
)  # fmt: skip
async def test_an_address_that_nobody_could_connect_to_is_refused(address: str) -> None:
    async with Etcd(["127.0.0.1:1"]) as client:
        with pytest.raises(SettingsError, match="address"):
            Registry(client).register("greeter", address)
        for good in (
            "host:80",
            "10.0.0.1:1",
            "[::1]:65535",
            "a-b.c_d.svc.:80",
            "3com:80",
            "unix:80",
            "localhost:80",
        ):
            Registry(client).register("greeter", good)


async def test_what_is_no_name_and_no_metadata_is_refused(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with registry(etcd.endpoint, namespace) as (ours, client):
        for name in ("", "a/b", "Greeter", ".."):
            with pytest.raises(InvalidName):
                ours.register(name, HERE)
            with pytest.raises(InvalidName):
                await ours.discover(name)
            with pytest.raises(InvalidName):
                Registry(client, namespace=name)
        for metadata in ({"when": object()}, {"load": float("nan")}):
            with pytest.raises(SettingsError, match="JSON"):
                ours.register("greeter", HERE, metadata=metadata)
        with pytest.raises(ValueTooLarge, match="1500000"):
            async with ours.register("greeter", HERE, metadata={"all": "x" * 1_500_000}):
                pass
        assert await ours.discover("greeter") == ()


async def test_a_registration_is_entered_once_at_a_time_and_can_be_used_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with registry(etcd.endpoint, namespace) as (ours, _):
        registration = ours.register("greeter", HERE)
        async with registration:
            with pytest.raises(AlreadyRegistered):
                async with registration:
                    pass
            assert len(await ours.discover("greeter")) == 1
        async with registration:
            assert len(await ours.discover("greeter")) == 1


async def test_nothing_is_registered_or_followed_where_etcd_does_not_answer() -> None:
    async with Etcd(["127.0.0.1:1"], call_timeout_s=0.2) as client:
        ours = Registry(client)
        with pytest.raises(EtcdUnavailable):
            async with ours.register("greeter", HERE):
                pass
        with pytest.raises(EtcdUnavailable):
            async with ours.following("greeter"):
                pass
        assert not [task for task in asyncio.all_tasks() if "greeter" in task.get_name()]


async def test_a_registration_that_is_cancelled_on_its_way_leaves_nothing(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        registry(proxy.endpoint, namespace) as (ours, _),
        registry(etcd.endpoint, namespace) as (others, _),
    ):

        async def register() -> None:
            async with ours.register("greeter", HERE):
                pass

        proxy.cut(requests=False)
        task = asyncio.create_task(register())
        await proxy.holding_answer()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proxy.heal()
        assert await others.discover("greeter") == ()
        assert not [each for each in asyncio.all_tasks() if "registration" in each.get_name()]


async def test_what_is_no_instance_is_told_left_out_and_left_alone(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    told: list[str] = []
    forget = listen(
        lambda event, fields: told.append(fields["key"]) if event is Events.RECORD_QUARANTINED else None
    )
    try:
        async with registry(etcd.endpoint, namespace) as (ours, client):
            prefix = ours.prefix("greeter")
            odd = [b"", b"\xff", b"[]", b'{"Op":0}', b'{"Addr":""}', b'{"Addr":7}', b"[" * 100_000]
            addresses = ("dns:///greeter.example", "unix:/run/greeter.sock", "[::1", "0:80", "\ud800:80")
            odd += [json.dumps({"Addr": address}).encode() for address in addresses]
            for number, value in enumerate(odd):
                await client.put(f"{prefix}{number}", value)
            await client.put(f"{prefix}whole", b'{"Op":0,"Addr":"10.0.0.1:1","Metadata":{"a":1}}')
            async with ours.following("greeter") as followed:
                (whole,) = followed.instances
                assert (whole.address, whole.metadata) == ("10.0.0.1:1", {"a": 1})
                await client.put(f"{prefix}whole", b"broken now")
                await until(followed)
            assert sorted(set(told)) == sorted([*(f"{prefix}{n}" for n in range(len(odd))), f"{prefix}whole"])
            assert len((await client.range(prefix)).kvs) == len(odd) + 1
    finally:
        forget()


async def test_an_entry_reads_as_gos_naming_endpoints_writes_and_wants_it(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        registry(etcd.endpoint, namespace) as (ours, client),
        ours.register("greeter", HERE, metadata={"zone": "b"}),
        ours.register("greeter", THERE),
    ):
        values = [json.loads(kv.value) for kv in (await client.range(ours.prefix("greeter"))).kvs]
    # Never an object: grpc-go compares addresses with ==, which panics on one.
    assert values == [
        {"Op": 0, "Addr": HERE, "Metadata": '{"zone": "b"}'},
        {"Op": 0, "Addr": THERE, "Metadata": None},
    ]


async def test_a_lost_session_is_told_with_the_reason(etcd: EmbeddedEtcd, namespace: str) -> None:
    told: list[tuple[Events, str]] = []
    forget = listen(lambda event, fields: told.append((event, str(fields.get("reason", "")))))
    try:
        async with (
            registry(etcd.endpoint, namespace) as (ours, client),
            ours.register("greeter", HERE) as registration,
        ):
            old = await registration.wait_registered()
            await client.delete(old)
            await registered_anew(registration, old)
    finally:
        forget()
    names = [event for event, _ in told if event in (Events.INSTANCE_REGISTERED, Events.INSTANCE_LOST)]
    assert names == [Events.INSTANCE_REGISTERED, Events.INSTANCE_LOST, Events.INSTANCE_REGISTERED]
    assert any(event is Events.INSTANCE_LOST and ("gone" in why or "deleted" in why) for event, why in told)
