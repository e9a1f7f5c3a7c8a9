"""How many credits there are of each kind."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.control.placement.credits import AccountCredits
from pilotlight.control.placement.policies import credit_limit

RESERVATIONS = st.dictionaries(
    st.tuples(st.sampled_from(["1", "2"]), st.sampled_from("abc")), st.integers(0, 50)
)


@given(RESERVATIONS, st.integers(0, 200))
def test_kinds_of_an_account_never_add_up_to_more_than_it_has(
    reservations: Mapping[tuple[str, str], int], most: int
) -> None:
    for account in ("1", "2"):
        reserved = sum(n for (owner, _), n in reservations.items() if owner == account)
        names = [f"{account}/{function}" for function in "abcd"]
        shared = credit_limit(account, reservations, most)
        each = [credit_limit(name, reservations, most) for name in names]
        assert sum(each) == reserved
        assert shared + reserved == max(most, reserved)


def test_what_is_held_beyond_a_lowered_limit_is_known() -> None:
    ledger = AccountCredits(10)
    ledger.take("f@1", 8, ["f"])
    assert ledger.excess == 0
    ledger.limit = 3
    assert ledger.excess == sum(ledger.held_by(holder) for holder in ("f@1",)) - 3
