"""The short road to metadata: one conversation with one peer, who gets no place in a swarm.

A swarm, its sources and their tasks are made for what lasts. Of many links whose peer is known by address most are over
after a few packets: those are fetched here, over the session's switchboard; and so is the metadata of a torrent of
which nothing else is wanted, from the first peers that are found. Where it does not work at once, for whatever reason,
the long road is gone as if this one had not been, and who is to blame is judged there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from magnet.link import MagnetLink
from magnet.parts import split_given
from magnet.sources import PEER
from magnet.task import CACHE, Shared
from wire.compact import Endpoint
from wire.errors import MetainfoError
from wire.ids import InfoHash
from wire.metainfo import Info, Torrent
from wire.peer.errand import MetadataErrand
from wire.peer.veiled import VeiledErrand
from wire.secure import methods_of
from wire.switchboard import Call, CallError, Switchboard, switchboard_of

__all__ = ["Errands", "Visit"]

_MAX_PEERS = 2
"""Of one link that are asked, one after the other."""
_MAX_VISITS = 64
"""Peers that are asked at a time for torrents in the session: each is a connection that is in no swarm's count."""
_MAX_SILENT = 1000
"""Addresses that did not answer, and are spared while they are remembered."""


class Errands:
    """The errands of one session."""

    def __init__(self, shared: Shared) -> None:
        config = shared.config
        unlimited = not (config.down_limit or config.up_limit)
        self._shared = shared
        self._board = switchboard_of(shared.network) if config.transport != "utp" and unlimited else None
        self._silent: dict[Endpoint, None] = {}
        self._visits = 0

    async def run(self) -> None:
        """Serves those who ask, until cancelled; for the session, once."""
        if self._board is not None:
            await self._board.run()

    async def fetch(self, link: MagnetLink) -> tuple[Torrent, str] | None:
        """The metadata of a link, and where it came from; None where it must be looked for on the long road."""
        shared = self._shared
        endpoints = [endpoint for endpoint in split_given(link, shared)[0] if self.may_ask(endpoint)]
        if not endpoints:
            return None
        if (known := await shared.vault.load(link.info_hash)) is not None:
            return (known, CACHE) if known.info.layers.complete else None
        for endpoint in endpoints[:_MAX_PEERS]:
            info = await self._fetch(endpoint, link.info_hash)
            # Hashes that are not in the info dictionary (BEP 52) are got where there are several to ask.
            if info is not None and info.layers.complete:
                torrent = Torrent.of(info, trackers=[[url] for url in link.trackers], web_seeds=link.web_seeds)
                await shared.vault.save(torrent)
                return torrent, PEER
        return None

    @property
    def can_be_run(self) -> bool:
        """Whether the session's settings and its network allow for errands."""
        return self._board is not None

    def may_ask(self, endpoint: Endpoint) -> bool:
        """Whether this peer can be asked here, and was not silent before."""
        blocked = self._shared.config.block_list
        return (
            self._board is not None
            and endpoint not in self._silent
            and (blocked is None or endpoint.host not in blocked)
        )

    @property
    def has_room(self) -> bool:
        """Whether one more may be asked for a torrent of the session."""
        return self._visits < _MAX_VISITS

    def ask(self, endpoint: Endpoint, info_hash: InfoHash) -> Visit:
        """Begins to ask a peer, one whom it `may_ask`."""
        assert self._board is not None
        self._visits += 1
        return Visit(self, self._shared, self._board, endpoint, info_hash)

    def was_silent(self, endpoint: Endpoint) -> None:
        """What a visit found out: nobody answered, and it took long."""
        self._shared.dialler.avoid_tcp(endpoint)
        self._silent[endpoint] = None
        if len(self._silent) > _MAX_SILENT:
            del self._silent[next(iter(self._silent))]

    def left(self) -> None:
        """A visit is over."""
        self._visits -= 1

    async def _fetch(self, endpoint: Endpoint, info_hash: InfoHash) -> Info | None:
        visit = self.ask(endpoint, info_hash)
        if visit.is_over:
            await trio.lowlevel.checkpoint()
            return visit.info
        task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            visit.close()
            return trio.lowlevel.Abort.SUCCEEDED

        visit.ended = lambda: trio.lowlevel.reschedule(task)
        await trio.lowlevel.wait_task_rescheduled(abort)
        return visit.info


class Visit:
    """One peer, asked for one info dictionary: by each kind of handshake that is allowed, until he understands one.

    Who waits for its end sets `ended`, unless it `is_over` when it is made.
    """

    __slots__ = (
        "_board",
        "_call",
        "_encrypted",
        "_endpoint",
        "_errand",
        "_errands",
        "_info_hash",
        "_kinds",
        "_shared",
        "ended",
        "info",
        "is_over",
    )

    def __init__(
        self, errands: Errands, shared: Shared, board: Switchboard, endpoint: Endpoint, info_hash: InfoHash
    ) -> None:
        self.info: Info | None = None
        """What he gave, and is what was named; a torrent of version 2 may lack piece layers."""
        self.is_over = False
        self.ended: Callable[[], None] | None = None
        """Told once, when it is over; it must not raise."""
        self._errands = errands
        self._shared = shared
        self._board = board
        self._endpoint = endpoint
        self._info_hash = info_hash
        self._kinds = iter(shared.dialler.kinds(endpoint))
        self._call: Call | None = None
        self._go_on()

    def close(self) -> None:
        """Breaks it off, if it is not over; nobody is told."""
        if not self.is_over:
            self.ended = None
            if self._call is not None:
                self._board.break_off(self._call)
            self._end()

    def _go_on(self) -> None:
        """Tries the next kind of handshake, up to one whose end is to be waited for."""
        for encrypted in self._kinds:
            self._encrypted = encrypted
            self._errand = errand = MetadataErrand(self._info_hash, self._shared.peer_id)
            call = self._board.place(self._endpoint, self._veiled(errand) if encrypted else errand)
            if not call.is_over:
                self._call = call
                call.ended = partial(self._call_ended, call)
                return
            if self._leads_nowhere(call.error):
                break
        self._end()

    def _veiled(self, errand: MetadataErrand) -> VeiledErrand:
        shared = self._shared
        methods = methods_of(shared.config.encryption)
        return VeiledErrand(errand, self._info_hash.swarm_ids[0], methods, shared.rng, shared.dialler.spare_keys())

    def _call_ended(self, call: Call) -> None:
        self._call = None
        if call.error is None:
            assert self._errand.raw is not None
            self._shared.dialler.remember(self._endpoint, "tcp", encrypted=self._encrypted)
            self.info = _read(self._errand.raw, self._info_hash)
            self._end()
        elif self._leads_nowhere(call.error):
            self._end()
        else:
            self._go_on()

    def _leads_nowhere(self, error: Exception | None) -> bool:
        """Whether another kind of handshake would fare no better."""
        if isinstance(error, CallError):
            if error.silent:
                self._errands.was_silent(self._endpoint)
            return self._errand.shaken or not error.connected
        return self._errand.shaken

    def _end(self) -> None:
        self.is_over = True
        self._errands.left()
        if self.ended is not None:
            self.ended()


def _read(raw: bytes, info_hash: InfoHash) -> Info | None:
    """What a peer sent, if it is what was named."""
    try:
        return Info.from_bytes(raw, info_hash)
    except MetainfoError:
        return None
