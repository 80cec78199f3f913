"""When certificates are made and replaced: a table of what is held, and what follows."""

import pytest
from baton_operator.certificates import (
    AUTHORITY_LIFETIME_S,
    BACKDATE_S,
    DAY_S,
    LEAF_LIFETIME_S,
    RENEW_SHARE,
    TRUST_SPREAD_S,
    Authority,
    AuthorityStep,
    Held,
    Leaf,
    decide,
)

NAME = "smol.models.baton"
NOW = 1_000 * DAY_S


def authority(name: str, age_s: float) -> Authority:
    made_s = NOW - age_s
    return Authority(name, made_s - BACKDATE_S, made_s + AUTHORITY_LIFETIME_S)


def leaf(issuer: str | None = "one", age_s: float = DAY_S, name: str = NAME) -> Leaf:
    made_s = NOW - age_s
    return Leaf(issuer, name, made_s - BACKDATE_S, made_s + LEAF_LIFETIME_S)


YOUNG = authority("one", 10 * DAY_S)
OLD = authority("one", AUTHORITY_LIFETIME_S * RENEW_SHARE + DAY_S)
ENDED = authority("one", AUTHORITY_LIFETIME_S + DAY_S)
NEXT_NEW = authority("two", 60.0)
NEXT_SPREAD = authority("two", TRUST_SPREAD_S + 60.0)
WELL = Held(YOUNG, leaf=leaf(), trusted=frozenset({"one"}))
KEEP, FOUND, FOLLOW, PROMOTE = AuthorityStep


@pytest.mark.parametrize(
    ("held", "step", "issues", "rewrites"),
    [
        (WELL, KEEP, False, False),
        (Held(), FOUND, True, True),
        (Held(YOUNG, trusted=frozenset({"one"})), KEEP, True, False),
        # The leaf.
        (Held(YOUNG, leaf=leaf(None), trusted=frozenset({"one"})), KEEP, True, False),
        (Held(YOUNG, leaf=leaf(age_s=21 * DAY_S), trusted=frozenset({"one"})), KEEP, True, False),
        (Held(YOUNG, leaf=leaf(age_s=19 * DAY_S), trusted=frozenset({"one"})), KEEP, False, False),
        (Held(YOUNG, leaf=leaf(name="x"), trusted=frozenset({"one"})), KEEP, True, False),
        # The bundle.
        (Held(YOUNG, leaf=leaf()), KEEP, False, True),
        (Held(YOUNG, leaf=leaf(), trusted=frozenset({"one", "x"})), KEEP, False, True),
        # A new CA: trusted first, signing an hour later.
        (Held(OLD, leaf=leaf(), trusted=frozenset({"one"})), FOLLOW, False, True),
        (Held(OLD, NEXT_NEW, leaf=leaf(), trusted=frozenset({"one"})), KEEP, False, True),
        (Held(OLD, NEXT_NEW, leaf=leaf(), trusted=frozenset({"one", "two"})), KEEP, False, False),
        (
            Held(OLD, NEXT_SPREAD, leaf=leaf(), trusted=frozenset({"one", "two"})),
            PROMOTE,
            True,
            False,
        ),
        # An old one: trusted until it ends.
        (Held(YOUNG, former=(OLD,), leaf=leaf(), trusted=frozenset({"one"})), KEEP, False, False),
        # Nobody looked for a year.
        (Held(ENDED, leaf=leaf(), trusted=frozenset({"one"})), FOUND, True, True),
        (Held(ENDED, NEXT_SPREAD, leaf=leaf()), PROMOTE, True, True),
    ],
)
def test_what_follows_from_what_is_held(
    held: Held, step: AuthorityStep, issues: bool, rewrites: bool
) -> None:
    plan = decide(held, NAME, NOW)
    assert (plan.step, plan.issue_leaf, plan.rewrite_bundle) == (step, issues, rewrites)


def test_a_former_authority_is_trusted_no_longer_than_it_lasts() -> None:
    lasting, over = authority("a", 300 * DAY_S), authority("b", 366 * DAY_S)
    held = Held(YOUNG, former=(lasting, over), leaf=leaf(), trusted=frozenset({"one", "a", "b"}))
    plan = decide(held, NAME, NOW)
    assert plan.former == (lasting,)
    assert plan.rewrite_bundle
