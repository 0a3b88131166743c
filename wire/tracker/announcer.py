"""One torrent at its trackers: told that we are here, that it is complete, that we leave; asked again when it is time.

The trackers of a .torrent are tried tier by tier (BEP 12). Those of a link have no tiers: each is a group of its own,
and all groups are asked at once. While a tracker is silent for the first time, the one behind it is asked too. A
private torrent has one group, and one tracker at a time (BEP 27). Failures wait longer and longer, or as long as the
tracker says (BEP 31).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError, WireError
from wire.tracker.client import Answer, TrackerClient
from wire.tracker.tiers import Tiers, TrackerState
from wire.tracker.urls import is_tracker_url
from wire.tracker.values import Announce, AnnounceEvent, TrackerError

__all__ = ["Announcer", "Progress", "TrackerCounts", "TrackerPeer"]

AT_ONCE = 20
"""Trackers of one torrent that are asked at the same time: links name a hundred dead ones."""
IMPATIENCE_S = 4.0
"""A tracker that has not answered after this does not keep us from asking the next one."""
LEAVE_S = 3.0
"""For all goodbyes together: who presses Ctrl-C waits for them."""
FINISH_S = 1.0
"""Before them, for what was being said: a tracker that has fallen silent may not double the wait."""
WANTED = 100
"""Peers to be named in one answer; 50 is the custom, 200 the most that trackers give."""
WANTED_BY_SEED = 30
_BUFFERED = 256


@dataclass(frozen=True, slots=True)
class Progress:
    """What a tracker is told of us."""

    uploaded: int
    downloaded: int
    left: int
    """Bytes that are missing of the whole torrent; any number above 0 where its size is not known yet."""
    is_done: bool
    """We have all that we want; with some left, that is a partial seed (BEP 21)."""


@dataclass(frozen=True, slots=True)
class TrackerPeer:
    """An address that a tracker named."""

    endpoint: Endpoint
    is_near: bool
    """The tracker lives in a network of ours, so what it names may too."""


@dataclass(frozen=True, slots=True)
class TrackerCounts:
    """What came of asking."""

    asked: int = 0
    """Trackers asked, and how many of them ever answered."""
    answered: int = 0
    seeders: int | None = None
    """The most that a tracker told of, of both kinds."""
    leechers: int | None = None
    reason: str | None = None
    """The last failure, for people."""


class Announcer:
    """Works in `run` until it is cancelled, then says goodbye. What trackers name comes out of `found`.

    Args:
        client: How trackers are spoken to.
        groups: Each a list of tiers of announce URLs. URLs that are none of a tracker are left out.
        named: URLs that a person named; those may be anywhere.
        swarm_id: The 20 bytes that name the torrent on the wire.
        progress: Gives our numbers when they are needed.
    """

    def __init__(
        self,
        client: TrackerClient,
        groups: Iterable[Iterable[Sequence[str]]],
        *,
        named: Iterable[str] = (),
        swarm_id: bytes,
        peer_id: bytes,
        port: int,
        progress: Callable[[], Progress],
        rng: random.Random,
        private: bool = False,
    ) -> None:
        self._client = client
        self._groups = [[[url for url in tier if is_tracker_url(url)] for tier in group] for group in groups]
        self._named = frozenset(named)
        self.swarm_id = swarm_id
        self._peer_id = peer_id
        self._port = port
        self._progress = progress
        self._rng = rng
        self._private = private
        self._round = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._stirred = trio.Event()
        self._limiter = trio.Semaphore(AT_ONCE)
        self._under_way: set[trio.CancelScope] = set()
        self._tiers: list[Tiers] = []
        self._completed: set[str] = set()
        self._was_missing = False
        self._asked: set[str] = set()
        self._answered: dict[str, None] = {}
        self._seeders: int | None = None
        self._leechers: int | None = None
        self._reason: str | None = None
        self.external: str | None = None
        """Our own IP address, as a tracker sees it (BEP 24)."""
        self._send, self.found = trio.open_memory_channel[TrackerPeer](_BUFFERED)

    @property
    def counts(self) -> TrackerCounts:
        """A snapshot."""
        return TrackerCounts(len(self._asked), len(self._answered), self._seeders, self._leechers, self._reason)

    def add(self, group: Iterable[Sequence[str]]) -> None:
        """Takes in one more group of tiers."""
        tiers = [[url for url in tier if is_tracker_url(url) and url not in self._asked] for tier in group]
        self._groups.append(tiers)
        if self._nursery is None:
            return
        if self._private:
            self._round.cancel()
        elif (added := Tiers(tiers, self._rng, trio.current_time())).trackers:
            self._tiers.append(added)
            self._nursery.start_soon(self._work, added, self._nursery)

    def complete(self) -> None:
        """Nothing is missing any more: where it was downloaded just now, the trackers are told at once."""
        progress = self._progress()
        if self._was_missing and progress.downloaded and not progress.left:
            now = trio.current_time()
            for tracker in self._trackers:
                if tracker.started:
                    self._completed.add(tracker.url)
                    tracker.due = min(tracker.due, now)
        self._stir()

    def make_private(self) -> None:
        """The torrent turned out to be private: one tracker at a time from now on, the others are left (BEP 27)."""
        if not self._private:
            self._private = True
            self._round.cancel()

    async def run(self) -> None:
        """Announces until cancelled. Then `found` ends."""
        async with self._send:
            while True:
                self._round = trio.CancelScope()
                with self._round:
                    await self._announce_to_all()
                if not self._round.cancelled_caught:
                    return

    async def _announce_to_all(self) -> None:
        now = trio.current_time()
        self._tiers = [tiers for group in self._arranged() if (tiers := Tiers(group, self._rng, now)).trackers]
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for tiers in self._tiers:
                    nursery.start_soon(self._work, tiers, nursery)
                try:
                    await trio.sleep_forever()
                finally:
                    for scope in self._under_way:
                        scope.deadline = trio.current_time() + FINISH_S
        finally:
            self._nursery = None
            await self._leave()

    def _arranged(self) -> list[list[list[str]]]:
        if not self._private:
            return self._groups
        tiers = [tier for group in self._groups for tier in group]
        return [[list(self._answered)[:1], *tiers]]  # who answered first stays ours

    @property
    def _trackers(self) -> list[TrackerState]:
        return [tracker for tiers in self._tiers for tracker in tiers.trackers]

    async def _work(self, tiers: Tiers, nursery: trio.Nursery) -> None:
        while True:
            stirred = self._stirred
            tracker = tiers.next(trio.current_time())
            if tracker is None:
                timer = tiers.next_timer()
                with trio.move_on_at(float("inf") if timer is None else timer):
                    await stirred.wait()
                continue
            tracker.busy = True
            over = trio.Event()
            nursery.start_soon(self._ask, tiers, tracker, over)
            with trio.move_on_after(float("inf") if self._private else IMPATIENCE_S):
                await over.wait()

    async def _ask(self, tiers: Tiers, tracker: TrackerState, over: trio.Event) -> None:
        try:
            async with self._limiter:
                await self._ask_now(tiers, tracker)
        finally:
            tracker.busy = False
            over.set()
            self._stir()

    async def _ask_now(self, tiers: Tiers, tracker: TrackerState) -> None:
        self._asked.add(tracker.url)
        said = self._said(tracker)
        # Whom we said hello hears all of what we began to say, then goodbye: over two connections the later word may
        # come first, and the tracker would go on to name us.
        scope = trio.CancelScope(shield=tracker.started)
        self._under_way.add(scope)
        try:
            with scope:
                answer = await self._client.announce(tracker.url, said, near=tracker.url in self._named)
        except (NetworkError, ProtocolError) as error:
            self._failed(tiers, tracker, error)
        else:
            if scope.cancelled_caught:
                return
            if said.event is AnnounceEvent.COMPLETED:
                self._completed.discard(tracker.url)
            await self._take(tiers, tracker, answer)
        finally:
            self._under_way.discard(scope)

    def _failed(self, tiers: Tiers, tracker: TrackerState, error: WireError) -> None:
        self._reason = str(error)
        retry_in_s, never = (error.retry_in_s, error.never) if isinstance(error, TrackerError) else (None, False)
        tiers.failed(tracker, str(error), trio.current_time(), retry_in_s=retry_in_s, never=never)

    async def _take(self, tiers: Tiers, tracker: TrackerState, answer: Answer) -> None:
        reply = answer.reply
        tracker.started = True
        tracker.tracker_id = reply.tracker_id or tracker.tracker_id
        tiers.answered(tracker, max(reply.interval_s, reply.min_interval_s or 0), trio.current_time())
        if tracker.url in self._completed:  # it was completed while it was asked
            tracker.due = trio.current_time()
        self._answered[tracker.url] = None
        self._seeders = _most(self._seeders, reply.seeders)
        self._leechers = _most(self._leechers, reply.leechers)
        self.external = reply.external_ip or self.external
        for peer in reply.peers:
            await self._send.send(TrackerPeer(peer, answer.is_near))

    def _said(self, tracker: TrackerState) -> Announce:
        progress = self._progress()
        self._was_missing = self._was_missing or progress.left > 0
        if not tracker.started:
            event = AnnounceEvent.STARTED
        elif tracker.url in self._completed:
            event = AnnounceEvent.COMPLETED
        elif progress.is_done and progress.left:
            event = AnnounceEvent.PAUSED
        else:
            event = AnnounceEvent.NONE
        return self._announce(tracker, event, progress, WANTED_BY_SEED if progress.is_done else WANTED)

    def _announce(self, tracker: TrackerState, event: AnnounceEvent, progress: Progress, wanted: int) -> Announce:
        return Announce(
            info_hash=self.swarm_id,
            peer_id=self._peer_id,
            port=self._port,
            uploaded=progress.uploaded,
            downloaded=progress.downloaded,
            left=progress.left,
            event=event,
            numwant=wanted,
            key=self._client.key,
            tracker_id=tracker.tracker_id,
        )

    async def _leave(self) -> None:
        """Says goodbye to whom we said hello."""
        told = [tracker for tracker in self._trackers if tracker.started]
        if not told:
            return
        with trio.CancelScope(shield=True) as scope:
            scope.deadline = trio.current_time() + LEAVE_S
            async with trio.open_nursery() as nursery:
                for tracker in told:
                    tracker.started = False
                    nursery.start_soon(self._say_goodbye, tracker)

    async def _say_goodbye(self, tracker: TrackerState) -> None:
        said = self._announce(tracker, AnnounceEvent.STOPPED, self._progress(), 0)
        try:
            await self._client.announce(tracker.url, said, near=tracker.url in self._named, leaving=True)
        except (NetworkError, ProtocolError) as error:
            self._reason = str(error)  # it will forget us by itself

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()


def _most(known: int | None, told: int | None) -> int | None:
    return told if known is None else known if told is None else max(known, told)
