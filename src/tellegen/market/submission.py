"""Signed orders: who offered what is provable, one signature per customer and gate closure.

A customer signs ``"<market>/<interval>/"`` followed by the canonical bytes of its rows of the order
batch, in order, with Ed25519. Rows of a customer stand together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from numpy.typing import NDArray

from tellegen.errors import TellegenError
from tellegen.records import Orders, Submissions


class SubmissionError(TellegenError):
    """Orders whose signatures do not cover them."""


def sign_orders(orders: Orders, market: str, interval: int, keys: Mapping[int, SigningKey]) -> Submissions:
    """Sign each customer's rows with its key.

    Raises
    ------
    SubmissionError : the rows of a customer do not stand together.

    >>> Submissions.equals(sign_orders(Orders.empty(), "real_time", 0, {}), Submissions.empty())
    True
    """
    customers, counts, signatures = [], [], []
    for customer, count, message in _messages(orders, market, interval):
        customers.append(customer)
        counts.append(count)
        signatures.append(keys[customer].sign(message).signature)
    return Submissions(
        customer=np.array(customers, dtype=np.int32),
        order_rows=np.array(counts, dtype=np.int32),
        signature=np.frombuffer(b"".join(signatures), dtype="V64"),
    )


def rejected_rows(
    orders: Orders, submissions: Submissions, market: str, interval: int, keys: Mapping[int, VerifyKey]
) -> NDArray[np.bool_]:
    """Which order rows are not covered by a valid signature of their customer.

    Returns
    -------
    bool[rows]; good rows of other customers are never lost with a bad one.
    """
    signed = {
        int(c): (int(n), s.tobytes())
        for c, n, s in zip(submissions.customer, submissions.order_rows, submissions.signature, strict=True)
    }
    bad = np.zeros(len(orders), dtype=np.bool_)
    row = 0
    for customer, count, message in _messages(orders, market, interval):
        claimed, signature = signed.get(customer, (-1, b""))
        key = keys.get(customer)
        if claimed != count or key is None or not _valid(key, message, signature):
            bad[row : row + count] = True
        row += count
    return bad


def _valid(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except BadSignatureError:
        return False
    return True


def _messages(orders: Orders, market: str, interval: int) -> Iterator[tuple[int, int, bytes]]:
    """Customer, number of rows and signed message, in the order of the rows."""
    if not len(orders):
        return
    prefix = f"{market}/{interval}/".encode()
    rows = orders.rows()
    starts = np.flatnonzero(np.r_[True, np.diff(orders.customer) != 0])
    if np.unique(orders.customer[starts]).size != starts.size:
        raise SubmissionError("the orders of a customer do not stand together; sort them by customer")
    for start, end in zip(starts, np.r_[starts[1:], len(orders)], strict=True):
        yield int(orders.customer[start]), int(end - start), prefix + rows[start:end].tobytes()
