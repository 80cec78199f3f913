"""Who is in the fleet: every listed worker is watched, and what it tells goes into the picture.

DNS names are resolved again at an interval, Services are followed; addresses come and go with them.
While neither can be asked, what was known stays. Knows how to hear from workers, not what they are
good for.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import NoReturn, Protocol

from baton.common.clock import Clock
from baton.common.errors import Unavailable
from baton.common.logs import get_log
from baton.router.discovery import Member, Resolver, ServiceFeed, ServiceMember, address_of
from baton.router.fleet import Heard, Role, WorkerView
from baton.router.picture import Picture
from baton.router.pulse import Pulse

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
"""A restarted worker is heard again within about two seconds; a dead one costs one call in that
time."""

SILENCE_LIMIT_S = 5.0
"""Workers send an event each second, work or not: five missed ones are a frozen process or a lost
network, and either way nothing will come of what runs there."""

DNS_LIMIT_S = 5.0

_log = get_log(__name__)


class Watches(Protocol):
    """Opens watches; the one place where members meet the network."""

    def watch(self, address: str) -> AsyncGenerator[Heard, None]:
        """Raises Unavailable when the worker cannot be heard."""

    async def drop(self, address: str) -> None:
        """The address has left the fleet."""


class Audience(Protocol):
    """Who acts on what is heard."""

    def fleet_changed(self) -> None: ...

    def removed(self, address: str) -> None:
        """The address has left the list; what runs there may end."""

    def frozen(self, address: str) -> None:
        """Nothing more will come of what runs there."""

    def refused(self, reason: str) -> None:
        """A worker is heard and not used: "role" or "model"."""


class Members:
    """The fleet as it is heard. `start` begins to listen, `aclose` ends it."""

    def __init__(
        self,
        members: Sequence[tuple[Role, Member | ServiceMember]],
        *,
        model_name: str,
        picture: Picture,
        watches: Watches,
        resolver: Resolver,
        services: ServiceFeed | None,
        clock: Clock,
        jitter: random.Random,
        dns_interval_s: float,
        audience: Audience,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        """`services` may be None where no member is a Service."""
        self._members = tuple(members)
        self._model_name = model_name
        self._picture = picture
        self._watches = watches
        self._resolver = resolver
        self._services = services
        self._clock = clock
        self._jitter = jitter
        self._dns_interval_s = dns_interval_s
        self._audience = audience
        self._silence_limit_s = silence_limit_s
        self._heard: set[str] = set()  # followed addresses that were heard once
        self._silences: dict[str, str] = {}  # address -> why it is not heard
        self._unlisted: dict[str, str] = {}  # Services never read so far -> why
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._finders: list[asyncio.Task[None]] = []

    @property
    def unlisted(self) -> tuple[str, ...]:
        """Why the list of workers is not known yet; empty: it is."""
        return tuple(f"endpoints of {name}: {why}" for name, why in self._unlisted.items())

    def start(self) -> None:
        for role, member in self._members:
            match member:
                case ServiceMember():
                    self._unlisted[member.name] = "not read yet"
                    self._find(self._follow_service(role, member), f"endpoints {member.name}")
                case Member(dns=True):
                    self._find(self._resolve(role, member), f"dns {member.host}")
                case Member():
                    self._add(role, address_of(member.host, member.port))

    async def aclose(self) -> None:
        tasks = [*self._finders, *self._followers.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._services is not None:
            await self._services.aclose()

    def _find(self, finding: Coroutine[None, None, None], name: str) -> None:
        self._finders.append(asyncio.create_task(finding, name=name))

    async def _follow_service(self, role: Role, member: ServiceMember) -> None:
        """Keep the followed addresses equal to the Service's endpoints."""
        known: frozenset[str] = frozenset()
        troubles: set[str] = set()

        def on_trouble(why: str) -> None:
            if member.name in self._unlisted:
                self._unlisted[member.name] = why
            if why not in troubles:  # once per outage: the tries after it are no news
                troubles.add(why)
                _log.warning("endpoints not followed", service=member.name, reason=why)

        assert self._services is not None, "a Service is listed, so there is a feed"
        async with aclosing(self._services.follow(member, on_trouble)) as news:
            async for hosts in news:
                self._unlisted.pop(member.name, None)
                troubles.clear()
                known = await self._become(role, known, hosts, member.port)
                self._audience.fleet_changed()

    async def _resolve(self, role: Role, member: Member) -> None:
        """Keep the followed addresses equal to what the name stands for. While the resolver fails,
        the last answer stays."""
        known: frozenset[str] = frozenset()
        while True:
            try:
                async with asyncio.timeout(DNS_LIMIT_S):
                    hosts = await self._resolver.resolve(member.host)
            except (OSError, TimeoutError) as error:
                _log.warning("name not resolved", name=member.host, reason=type(error).__name__)
            else:
                known = await self._become(role, known, hosts, member.port)
            await asyncio.sleep(self._dns_interval_s)

    async def _become(
        self, role: Role, known: frozenset[str], hosts: frozenset[str], port: int
    ) -> frozenset[str]:
        addresses = frozenset(address_of(host, port) for host in hosts)
        for address in sorted(addresses - known):
            self._add(role, address)
        for address in sorted(known - addresses):
            await self._remove(address)
        return addresses

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
            self._audience.removed(address)

    async def _follow(self, role: Role, address: str) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                async with aclosing(self._watches.watch(address)) as events:
                    pulse = Pulse()
                    # Not `async for`: each event has its own limit.
                    while True:
                        async with asyncio.timeout(self._silence_limit_s):
                            heard = await anext(events)
                        backoff_s = BACKOFF_FIRST_S
                        self._take(role, heard, pulse)
            except StopAsyncIteration:
                pass
            except TimeoutError:
                self._log_silence(address, "the worker fell silent")
                self._audience.frozen(address)
            except Unavailable as error:
                self._log_silence(address, error.message)
            finally:
                self._withdraw(address)
            # Jitter: routers must not knock in step at a worker that comes back.
            await asyncio.sleep(backoff_s * self._jitter.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _take(self, role: Role, heard: Heard, pulse: Pulse) -> None:
        """Put an event into the picture. Raises Unavailable for a worker that is not what it should
        be: its watch ends, and is tried again in case another takes its address."""
        view, address = heard.view, heard.view.address
        if view.role is not role:
            self._refuse(address, "role", f"listed as {role.value} but is {view.role.value}")
        if view.model_name != self._model_name:
            name = view.model_name[:100]
            self._refuse(address, "model", f"serves the model {name!r}, not {self._model_name!r}")
        now_s = self._clock.monotonic_s()
        if pulse.frozen(heard.load, now_s):
            heard = replace(heard, view=replace(view, frozen=True))
        before = self._picture.view(address)
        self._heard.add(address)
        self._silences.pop(address, None)
        if self._picture.hear(heard, now_s):
            self._tell_change(before, heard.view)

    def _tell_change(self, before: WorkerView | None, after: WorkerView) -> None:
        if before is None or (before.state, before.frozen) != (after.state, after.frozen):
            say = _log.warning if after.frozen else _log.info
            say(
                "worker heard",
                worker=after.address,
                role=after.role.value,
                state=after.state.value,
                frozen=after.frozen,
            )
        if after.frozen:
            self._audience.frozen(after.address)
        self._audience.fleet_changed()

    def _withdraw(self, address: str) -> None:
        if self._picture.lose(address):
            self._audience.fleet_changed()

    def _refuse(self, address: str, reason: str, why: str) -> NoReturn:
        if self._silences.get(address) != why:  # counted and logged once, not with every try
            self._audience.refused(reason)
        raise Unavailable(why)

    def _log_silence(self, address: str, why: str) -> None:
        """Once per reason; the same failure of the tries after it is no news.

        A worker that was never heard is most likely starting: nothing to warn of yet.
        """
        if self._silences.get(address) != why:
            self._silences[address] = why
            say = _log.warning if address in self._heard else _log.info
            say("worker not used", worker=address, reason=why)
