"""Over years of rotation, with pods that see new files late: any two of them accept each other."""

from dataclasses import dataclass, field

from baton_operator.certificates import (
    AUTHORITY_LIFETIME_S,
    BACKDATE_S,
    DAY_S,
    LEAF_LIFETIME_S,
    TRUST_SPREAD_S,
    Authority,
    AuthorityStep,
    Held,
    Leaf,
    decide,
)
from hypothesis import given, settings
from hypothesis import strategies as st

NAME = "smol.models.baton"
SYNC_S = TRUST_SPREAD_S / 2
"""Pods have the newest files by then."""


@dataclass
class Secrets:
    """Carries plans out as `identity` does, with names for fingerprints."""

    held: Held = field(default_factory=Held)
    made: int = 0

    def reconcile(self, now_s: float) -> None:
        plan = decide(self.held, NAME, now_s)
        signing, following, former = self.held.signing, self.held.following, plan.former
        match plan.step:
            case AuthorityStep.FOUND:
                signing, following = self._authority(now_s), None
            case AuthorityStep.FOLLOW:
                following = self._authority(now_s)
            case AuthorityStep.PROMOTE:
                former = (*former, *(() if signing is None else (signing,)))
                signing, following = following, None
        assert signing is not None
        leaf = self.held.leaf
        if plan.issue_leaf:
            ends_s = min(now_s + LEAF_LIFETIME_S, signing.ends_s)
            leaf = Leaf(signing.fingerprint, NAME, now_s - BACKDATE_S, ends_s)
        all_of_them = (signing, *former, *(() if following is None else (following,)))
        trusted = frozenset(one.fingerprint for one in all_of_them if one.ends_s > now_s)
        self.held = Held(signing, following, former, leaf, trusted)

    def _authority(self, now_s: float) -> Authority:
        self.made += 1
        return Authority(f"ca-{self.made}", now_s - BACKDATE_S, now_s + AUTHORITY_LIFETIME_S)


@settings(max_examples=40)
@given(
    # Between two looks: minutes mostly, and outages of up to a week.
    st.lists(st.floats(60, 3_600) | st.floats(3_600, 7 * DAY_S), min_size=200, max_size=400)
)
def test_any_two_pods_accept_each_other_at_every_moment(gaps_s: list[float]) -> None:
    secrets, now_s = Secrets(), 1_000 * DAY_S
    # What the Secret said, and since when; a pod may still see any of those SYNC_S old or younger.
    history: list[tuple[float, Leaf, frozenset[str]]] = []
    for gap_s in gaps_s:
        secrets.reconcile(now_s)
        again = secrets.held
        secrets.reconcile(now_s)
        assert secrets.held == again, "a second pass at once changes nothing"
        assert again.leaf is not None
        history.append((now_s, again.leaf, again.trusted))
        recent = [index for index, entry in enumerate(history) if entry[0] >= now_s - SYNC_S]
        seen = history[max(0, recent[0] - 1) :]
        for _, leaf, _ in seen:
            assert leaf.ends_s > now_s
            assert all(leaf.issuer in trusted for _, _, trusted in seen)
        now_s += gap_s


@given(st.floats(0, 5 * 365 * DAY_S))
def test_however_long_nobody_looked_one_pass_makes_it_whole(gap_s: float) -> None:
    secrets = Secrets()
    secrets.reconcile(1_000 * DAY_S)
    secrets.reconcile(1_000 * DAY_S + gap_s)
    held = secrets.held
    assert held.leaf is not None
    assert held.signing is not None
    assert held.leaf.issuer == held.signing.fingerprint
    assert held.leaf.ends_s > 1_000 * DAY_S + gap_s
    assert held.signing.fingerprint in held.trusted
