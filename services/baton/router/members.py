"""Who is in the fleet: every configured worker is watched, and each change makes a new immutable
`Fleet`.

DNS names are resolved again at an interval; addresses come and go with them. Knows how to hear from
workers, not what they are good for.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from baton.common.errors import Unavailable
from baton.common.logs import get_log
from baton.router.decide import Fleet, Role, WorkerView
from baton.router.discovery import Member, Resolver, address_of

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
"""A restarted worker is heard again within about two seconds; a dead one costs one call in that
time."""

DNS_LIMIT_S = 5.0

_log = get_log(__name__)


class Watches(Protocol):
    """Opens watches; the one place where members meet the network."""

    def watch(self, address: str) -> AsyncGenerator[WorkerView, None]:
        """Raises Unavailable when the worker cannot be heard."""

    async def drop(self, address: str) -> None:
        """The address has left the fleet."""


class Members:
    """The fleet as it is heard. `start` begins to listen, `aclose` ends it."""

    def __init__(
        self,
        members: Sequence[tuple[Role, Member]],
        *,
        watches: Watches,
        resolver: Resolver,
        jitter: random.Random,
        dns_interval_s: float,
        on_change: Callable[[Fleet], None],
        on_removed: Callable[[str], None],
    ) -> None:
        self._members = tuple(members)
        self._watches = watches
        self._resolver = resolver
        self._jitter = jitter
        self._dns_interval_s = dns_interval_s
        self._on_change = on_change
        self._on_removed = on_removed
        self._views: dict[str, WorkerView] = {}
        self._heard: set[str] = set()  # followed addresses that were heard once
        self._silences: dict[str, str] = {}  # address -> why it is not heard
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._resolvers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self.fleet = Fleet()

    def start(self) -> None:
        for role, member in self._members:
            if member.dns:
                task = asyncio.create_task(self._resolve(role, member), name=f"dns {member.host}")
                self._resolvers.append(task)
            else:
                self._add(role, address_of(member.host, member.port))

    async def wait_change(self, limit_s: float) -> bool:
        """Whether the fleet changed within `limit_s` seconds from now."""
        changed = self._changed
        try:
            await asyncio.wait_for(changed.wait(), limit_s)
        except TimeoutError:
            return False
        return True

    async def aclose(self) -> None:
        tasks = [*self._resolvers, *self._followers.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _resolve(self, role: Role, member: Member) -> None:
        """Keep the followed addresses equal to what the name stands for. While the resolver fails,
        the last answer stays."""
        known: frozenset[str] = frozenset()
        while True:
            try:
                hosts = await asyncio.wait_for(self._resolver.resolve(member.host), DNS_LIMIT_S)
            except (OSError, TimeoutError) as error:
                _log.warning("name not resolved", name=member.host, reason=type(error).__name__)
            else:
                addresses = frozenset(address_of(host, member.port) for host in hosts)
                for address in sorted(addresses - known):
                    self._add(role, address)
                for address in sorted(known - addresses):
                    await self._remove(address)
                known = addresses
            await asyncio.sleep(self._dns_interval_s)

    def _add(self, role: Role, address: str) -> None:
        if address not in self._followers:
            follower = asyncio.create_task(self._follow(role, address), name=f"watch {address}")
            self._followers[address] = follower

    async def _remove(self, address: str) -> None:
        self._silences.pop(address, None)
        self._heard.discard(address)
        follower = self._followers.pop(address, None)
        if follower is not None:
            follower.cancel()
            await asyncio.wait({follower})
            await self._watches.drop(address)
            self._on_removed(address)

    async def _follow(self, role: Role, address: str) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                async with aclosing(self._watches.watch(address)) as views:
                    async for view in views:
                        backoff_s = BACKOFF_FIRST_S
                        self._publish(role, view)
            except Unavailable as error:
                self._log_silence(address, error)
            finally:
                self._withdraw(address)
            # Jitter: routers must not knock in step at a worker that comes back.
            await asyncio.sleep(backoff_s * self._jitter.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _publish(self, role: Role, view: WorkerView) -> None:
        known = self._views.get(view.address)
        if view.role is not role:
            raise Unavailable(f"listed as {role.value} worker but is a {view.role.value} worker")
        if view == known:
            return  # deltas of load and blocks change nothing we look at
        self._views[view.address] = view
        self._heard.add(view.address)
        self._silences.pop(view.address, None)
        self._changed_to()
        if known is None or known.ready != view.ready:
            _log.info("worker heard", worker=view.address, role=role.value, ready=view.ready)

    def _withdraw(self, address: str) -> None:
        if self._views.pop(address, None) is not None:
            self._changed_to()

    def _log_silence(self, address: str, error: Unavailable) -> None:
        """Once per reason; the same failure of the tries after it is no news.

        A worker that was never heard is most likely starting: nothing to warn of yet.
        """
        if self._silences.get(address) != error.message:
            self._silences[address] = error.message
            say = _log.warning if address in self._heard else _log.info
            say("worker not heard", worker=address, reason=error.message)

    def _changed_to(self) -> None:
        self.fleet = Fleet(tuple(self._views[address] for address in sorted(self._views)))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_change(self.fleet)
