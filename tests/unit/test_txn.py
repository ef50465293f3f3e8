"""Transactions as values: the messages they become, etcd's limits, and what comes back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderjob.etcd import (
    Compare,
    Delete,
    Get,
    KeyValue,
    Put,
    RangeResult,
    RequestRefused,
    Txn,
    TxnResult,
    ValueTooLarge,
    absent,
    created_at,
    modified_at,
    none_created_before,
)
from leaderjob.etcd.rpc import mvcc, rpc
from leaderjob.etcd.txn import MAX_OPS, txn_result
from leaderjob.etcd.values import decode_key, encode_key, prefix_end


def _message(compare: Compare) -> Any:
    return Txn((compare,)).request().compare[0]


@pytest.mark.parametrize(
    ("compare", "operator", "target", "operand"),
    [
        (absent("/k"), "EQUAL", "CREATE", 0),
        (created_at("/k", 7), "EQUAL", "CREATE", 7),
        (modified_at("/k", 7), "EQUAL", "MOD", 7),
        (none_created_before("/k", 7), "GREATER", "CREATE", 6),
        (Compare("/k", "version", "<", 3), "LESS", "VERSION", 3),
        (Compare("/k", "lease", "!=", 3), "NOT_EQUAL", "LEASE", 3),
        (Compare("/k", "value", "=", b"v"), "EQUAL", "VALUE", b"v"),
    ],
)
def test_a_compare_becomes_what_etcd_calls_it(
    compare: Compare, operator: str, target: str, operand: int | bytes
) -> None:
    message = _message(compare)
    assert rpc.Compare.CompareResult.Name(message.result) == operator
    assert rpc.Compare.CompareTarget.Name(message.target) == target
    assert message.WhichOneof("target_union") == compare.target
    assert getattr(message, compare.target) == operand


def test_only_a_compare_over_a_prefix_has_a_range_end() -> None:
    assert _message(none_created_before("/election/", 5)).range_end == b"/election0"
    assert _message(created_at("/election/1", 5)).range_end == b""


@pytest.mark.parametrize(
    "txn",
    [
        Txn(compares=(absent("/k"),) * (MAX_OPS + 1)),
        Txn(success=(Get("/k"),) * (MAX_OPS + 1)),
        Txn(failure=(Get("/k"),) * (MAX_OPS + 1)),
        Txn(success=(Txn(success=(Get("/k"),) * MAX_OPS),)),
        Txn(compares=(absent("/k"),) * 127, success=(Txn(compares=(absent("/k"),) * 2),)),
        Txn(failure=(Txn(success=(Txn(success=(Get("/k"),) * 127),)),)),
    ],
    ids=["compares", "success", "failure", "nested", "nested beside many compares", "nested twice"],
)
def test_a_transaction_over_the_limit_is_refused_here(txn: Txn) -> None:
    with pytest.raises(ValueTooLarge, match=r"etcd takes at most \d+ entries; it was not sent"):
        txn.request()


@pytest.mark.parametrize(
    "txn",
    [
        Txn((absent("/k"),) * MAX_OPS, (Get("/k"),) * MAX_OPS, (Get("/k"),) * MAX_OPS),
        Txn(success=(Txn(success=(Get("/k"),) * (MAX_OPS - 1)),)),
        Txn(failure=(Txn(success=(Txn(success=(Get("/k"),) * 126),)),)),
    ],
    ids=["flat", "nested", "nested twice"],
)
def test_a_transaction_at_the_limit_is_taken(txn: Txn) -> None:
    assert txn.request().ByteSize() > 0


def test_the_operations_of_a_transaction_keep_their_order_and_their_kind() -> None:
    ops = (Put("/a", b"1", lease=9), Delete("/b", prefix=True), Get("/c"), Txn(success=(Put("/d", b""),)))
    put, delete, get, nested = Txn(success=ops).request().success
    assert (put.request_put.key, put.request_put.value, put.request_put.lease) == (b"/a", b"1", 9)
    assert (delete.request_delete_range.key, delete.request_delete_range.range_end) == (b"/b", b"/c")
    assert (get.request_range.key, get.request_range.range_end) == (b"/c", b"")
    assert nested.request_txn.success[0].request_put.key == b"/d"


def test_the_result_of_each_operation_is_found_under_its_index_at_any_depth() -> None:
    kv = mvcc.KeyValue(key=b"/c", value=b"v", create_revision=3, mod_revision=5, version=2, lease=8)
    answered: Any = rpc.ResponseOp(response_range=rpc.RangeResponse(kvs=[kv], count=1))
    response = rpc.TxnResponse(
        header=rpc.ResponseHeader(revision=40),
        succeeded=True,
        responses=[
            rpc.ResponseOp(response_put=rpc.PutResponse()),
            rpc.ResponseOp(response_delete_range=rpc.DeleteRangeResponse(deleted=4)),
            answered,
            rpc.ResponseOp(response_txn=rpc.TxnResponse(succeeded=False, responses=[answered])),
        ],
    )
    result = txn_result(response)
    found = RangeResult((KeyValue("/c", b"v", 3, 5, 2, 8),), 1, 40)
    assert result == TxnResult(True, 40, (None, 4, found, TxnResult(False, 40, (found,))))
    assert result.range(2).first == found.kvs[0]
    with pytest.raises(TypeError, match="operation 1 of this transaction is not a get"):
        result.range(1)


@pytest.mark.parametrize(
    "op", [Put("/k\ud800", b""), Delete("/k\ud800"), Get("/k\ud800", prefix=True)], ids=repr
)
def test_half_a_surrogate_pair_in_a_key_is_named(op: Put | Delete | Get) -> None:
    with pytest.raises(RequestRefused, match=r"'\\ud800' is half a surrogate pair"):
        Txn(success=(op,)).request()


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=6))
def test_the_end_of_a_prefix_divides_the_keys_that_begin_with_it_from_those_that_do_not(
    prefix: bytes, key: bytes
) -> None:
    end = prefix_end(decode_key(prefix))
    in_range = key >= prefix and (end == b"\0" or key < end)  # "\0" is etcd's "to the end of all keys"
    assert in_range == key.startswith(prefix)


@given(st.binary(max_size=20))
def test_a_key_that_is_no_text_survives_as_it_is(key: bytes) -> None:
    assert encode_key(decode_key(key)) == key
