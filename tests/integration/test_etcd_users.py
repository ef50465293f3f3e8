"""An etcd that demands users: what they may do, and tokens that are forgotten or run out."""

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leaderjob.errors import SettingsError
from leaderjob.etcd import (
    AuthenticationFailed,
    Etcd,
    EtcdError,
    NobodyKnown,
    PermissionDenied,
    Put,
    User,
    follow,
)
from leaderjob.etcd.auth import Auth, Token
from leaderjob.etcd.rpc import Stubs, rpc
from tests.support.authority import Authority
from tests.support.cuttable import Cuttable
from tests.support.etcd import every_release
from tests.support.secure_etcd import ROOT_PASSWORD, SecureEtcd, started
from tests.support.streams import run_with_streams

PASSWORD = "of-the-tester"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def asking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SecureEtcd]:
    """Demands a user: ``tester`` may read and write what is below /mine/."""
    for server in started(SecureEtcd(tmp_path / "etcd", binary=getattr(request, "param", None))):
        server.enable_users()
        server.add_user("tester", PASSWORD, ("readwrite", "/mine/"))
        yield server


@asynccontextmanager
async def signed_in(server: SecureEtcd, password: str = PASSWORD) -> AsyncIterator[Etcd]:
    async with Etcd([server.endpoint], user=User("tester", lambda: password)) as client:
        yield client


@every_release("asking")
async def test_a_user_may_do_what_its_role_allows(asking: SecureEtcd) -> None:
    async with signed_in(asking) as client:
        await client.put("/mine/key", b"1")
        assert (await client.range("/mine/")).kvs
        async with aclosing(follow(client, "/mine/")) as batches:
            assert [event.key for event in (await anext(batches)).events] == ["/mine/key"]
            await client.put("/mine/key", b"2")
            assert [event.key for event in (await anext(batches)).events] == ["/mine/key"]


@every_release("asking")
async def test_what_is_not_allowed_is_named(asking: SecureEtcd) -> None:
    async with signed_in(asking) as client:
        with pytest.raises(PermissionDenied, match="'tester' may not write /other/key"):
            await client.put("/other/key", b"")
        with pytest.raises(PermissionDenied, match="may not read /other/ and what is below"):
            await client.range("/other/")
        with pytest.raises(PermissionDenied, match="may not write /mine/key, write /other/key"):
            await client.txn((), [Put("/mine/key", b""), Put("/other/key", b"")])
        assert await client.get("/mine/key") is None


async def test_a_watch_that_is_not_allowed_is_named(asking: SecureEtcd) -> None:
    async with signed_in(asking) as client:
        asking.as_root("role", "grant-permission", "tester", "read", "/listed/", "--prefix")
        async with aclosing(follow(client, "/listed/")) as batches:
            await anext(batches)
            asking.as_root("role", "revoke-permission", "tester", "/listed/", "--prefix")
            asking.kill()
            await asking.start()
            with pytest.raises(PermissionDenied, match="may not read /listed/"):
                await anext(batches)


async def test_a_wrong_password_is_named(asking: SecureEtcd) -> None:
    async with signed_in(asking, "wrong") as client:
        with pytest.raises(AuthenticationFailed, match="'tester'") as caught:
            await client.get("/mine/key")
    assert caught.value.exit_code == 2
    assert "wrong" not in str(caught.value)


async def test_a_password_that_cannot_be_read_just_now_is_trouble_with_etcd_and_tried_again(
    asking: SecureEtcd,
) -> None:
    """Its file is being exchanged: what goes on in spite of trouble with etcd, a session say, goes on."""
    problems = [SettingsError("setting 'etcd.password_file': the file is empty")]

    def password() -> str:
        if problems:
            raise problems.pop()
        return PASSWORD

    async with Etcd([asking.endpoint], user=User("tester", password)) as client:
        with pytest.raises(EtcdError, match="is empty"):
            await client.get("/mine/key")
        await client.put("/mine/key", b"1")


async def test_whoever_does_not_say_who_he_is_is_told_so(asking: SecureEtcd) -> None:
    async with Etcd([asking.endpoint]) as client:
        with pytest.raises(NobodyKnown, match=r"etcd\.username"):
            await client.get("/mine/key")


@every_release("asking")
async def test_a_token_that_etcd_has_forgotten_is_replaced(asking: SecureEtcd) -> None:
    """Tokens are kept in the memory of a member: after a restart it knows none."""

    async with signed_in(asking) as client, aclosing(follow(client, "/mine/")) as batches:
        await anext(batches)
        lease_id, _ = await client.grant(60)
        asking.kill()
        await asking.start()
        assert await client.keep_alive(lease_id, timeout_s=5.0) == 60
        await client.put("/mine/key", b"1")
        asking.kill()
        await asking.start()
        await client.put("/mine/key", b"2")
        values: list[bytes] = []
        while len(values) < 2:
            values += [event.now.value for event in (await anext(batches)).events if event.now]
        assert values == [b"1", b"2"]


async def void_tokens(server: SecureEtcd) -> None:
    """Give the user the password that it has: etcd forgets all its tokens."""
    request = rpc.AuthUserChangePasswordRequest(name="tester", password=PASSWORD)
    async with Etcd([server.endpoint], user=User("root", lambda: ROOT_PASSWORD)) as root:
        await root.connection.call(
            lambda stubs: stubs.auth.UserChangePassword, request, repeatable=True, linearizable=False
        )


@every_release("asking")
async def test_of_many_calls_whose_token_is_refused_all_are_sent_again(asking: SecureEtcd) -> None:
    async with signed_in(asking) as client:
        await client.put("/mine/key", b"1")
        await void_tokens(asking)
        reads = (client.get("/mine/key") for _ in range(20))
        for found in await asyncio.gather(*reads):
            assert found is not None
        await void_tokens(asking)
        writes = (client.put(f"/mine/{number}", b"") for number in range(20))
        assert len(set(await asyncio.gather(*writes))) == 20


class Asked(Stubs):
    """An endpoint that counts how often it is asked for a token, and answers when it is told."""

    def __init__(self) -> None:
        self.auth = self
        self.questions = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def Authenticate(self, request: Any, timeout: float) -> Any:
        self.questions += 1
        return rpc.AuthenticateResponse(token=await asyncio.shield(self.answer))


async def test_all_who_wait_at_one_endpoint_share_one_question_and_its_failure() -> None:
    auth, asked = Auth(User("tester", lambda: PASSWORD)), Asked()

    def waiting() -> "list[asyncio.Task[Token | None]]":
        return [asyncio.create_task(auth.token(asked, timeout_s=5.0)) for _ in range(20)]

    first = waiting()
    await asyncio.sleep(0)
    first[0].cancel()
    asyncio.get_running_loop().call_later(0.01, asked.answer.set_exception, AuthenticationFailed("tester"))
    failures = await asyncio.gather(*first[1:], return_exceptions=True)
    assert {type(failure) for failure in failures} == {AuthenticationFailed}
    assert asked.questions == 1

    asked.answer = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, asked.answer.set_result, "new")
    assert {token.text for token in await asyncio.gather(*waiting()) if token} == {"new"}
    assert asked.questions == 2


async def test_an_answer_that_comes_late_does_not_replace_a_newer_token() -> None:
    auth, slow, quick = Auth(User("tester", lambda: PASSWORD)), Asked(), Asked()
    late = asyncio.create_task(auth.token(slow, timeout_s=5.0))
    with pytest.raises(TimeoutError):
        await auth.token(slow, timeout_s=0.01)
    quick.answer.set_result("newer")
    newer = await auth.token(quick, timeout_s=5.0)
    slow.answer.set_result("older")
    assert await late is newer
    assert await auth.token(slow, timeout_s=5.0) is newer
    assert (slow.questions, quick.questions) == (1, 1)


async def test_an_endpoint_that_says_nothing_keeps_nobody_waiting_at_another(asking: SecureEtcd) -> None:
    """A token is due, and those who ask the silent one for it are at it one after the other."""
    user = User("tester", lambda: PASSWORD)

    async with (
        Cuttable(asking.endpoint) as silent,
        Cuttable(asking.endpoint) as sound,
        Etcd([silent.endpoint, sound.endpoint], user=user, call_timeout_s=1.0) as client,
    ):
        await client.put("/mine/key", b"1")
        silent.cut()
        await void_tokens(asking)
        client.connection.auth = Auth(user)

        async def read(after_s: float) -> None:
            await asyncio.sleep(after_s)
            assert await client.get("/mine/key") is not None

        await asyncio.gather(*(read(number * 0.05) for number in range(60)))
        silent.reset()


def watchers(server: SecureEtcd) -> int:
    """How many watches the server has, in its own words: those that it denied are not among them."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{server.endpoint}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)$", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


@every_release("asking")
async def test_quiet_watches_outlive_every_token_and_every_connection(asking: SecureEtcd) -> None:
    watches = 4

    async def until_there_are(count: int, watching: "list[asyncio.Task[str]]") -> None:
        while await asyncio.to_thread(watchers, asking) != count:
            assert not any(task.done() for task in watching)
            await asyncio.sleep(0.02)

    async def next_event(client: Etcd) -> str:
        async with aclosing(follow(client, "/mine/")) as batches:
            await anext(batches)
            (event,) = (await anext(batches)).events
            return event.key

    user = User("tester", lambda: PASSWORD)
    async with (
        Cuttable(asking.endpoint) as proxy,
        Etcd([proxy.endpoint], user=user) as client,
        asyncio.TaskGroup() as group,
    ):
        told = [group.create_task(next_event(client)) for _ in range(watches)]
        await until_there_are(watches, told)
        for _ in range(3):
            await void_tokens(asking)
            await proxy.refuse()
            await until_there_are(0, told)
            await proxy.accept()
            await until_there_are(watches, told)
        await client.put("/mine/key", b"1")
        assert await asyncio.gather(*told) == ["/mine/key"] * watches


@pytest.fixture
def with_web_tokens(
    authority: Authority, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[SecureEtcd]:
    """Its users' tokens run out after three seconds, however much they are used."""
    pair = authority.issue("signer")
    public = authority.public_key(pair)
    tokens = f"jwt,pub-key={public},priv-key={pair.key},sign-method=ES256,ttl=3s"
    yield from started(SecureEtcd(tmp_path / "etcd", binary=request.param, auth_token=tokens))


@every_release("with_web_tokens")
async def test_a_token_that_says_when_it_runs_out_is_renewed_before_that(with_web_tokens: SecureEtcd) -> None:
    refused: list[str] = []

    class Refused(Auth):
        def expired(self, error: Any, used: Token | None) -> bool:
            refused.append(error.details())
            return super().expired(error, used)

    with_web_tokens.enable_users()
    with_web_tokens.add_user("tester", PASSWORD, ("readwrite", "/mine/"))
    user = User("tester", lambda: PASSWORD)
    async with Etcd([with_web_tokens.endpoint], user=user) as client:
        client.connection.auth = Refused(user)
        async with aclosing(follow(client, "/mine/")) as batches:
            await anext(batches)
            lease_id, _ = await client.grant(60)
            for number in range(10):
                await client.put("/mine/key", str(number).encode())
                await client.keep_alive(lease_id, timeout_s=5.0)
                (event,) = (await anext(batches)).events
                assert event.now is not None
                assert event.now.value == str(number).encode()
                await asyncio.sleep(0.5)
    assert refused == []


async def test_a_change_of_users_does_not_disturb_those_at_work(asking: SecureEtcd) -> None:
    async with signed_in(asking) as client:
        await client.put("/mine/key", b"1")
        asking.as_root("role", "grant-permission", "tester", "read", "/more/", "--prefix")
        await client.put("/mine/key", b"2")


def test_a_user_where_etcd_asks_nobody_does_no_harm(tmp_path: Path) -> None:
    async def main(server: SecureEtcd) -> None:
        async with signed_in(server) as client:
            await client.put("/mine/key", b"1")
            server.enable_users()
            server.add_user("tester", PASSWORD, ("readwrite", "/mine/"))
            await client.put("/mine/key", b"2")

    for server in started(SecureEtcd(tmp_path / "etcd")):
        run_with_streams(main(server))
