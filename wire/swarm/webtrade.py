"""The trade with web seeds of one torrent: which pieces each is asked for, and what becomes of it (BEP 19). No I/O.

It shares the picker and the ledger of blocks with the peers: a piece is fetched by one of all of them. Three web seeds
work at once; the others wait until one of them is given up or rests.
"""

from __future__ import annotations

from collections.abc import Iterable

from wire.metainfo import Info
from wire.peer.messages import BLOCK_BYTES
from wire.swarm.meter import Meter
from wire.swarm.picker import Picker
from wire.swarm.requests import Requests
from wire.swarm.source import Source
from wire.swarm.values import WebSeedState
from wire.swarm.webseed import MAX_REQUEST_BYTES, Refusal, Stretch, WebSeed, blocks_of, stretches

__all__ = ["LANES", "WebTrade"]

MAX_WEB_SEEDS = 3
"""That work at once, as libtorrent."""
MAX_URLS = 50
"""Of one torrent: a hostile one names thousands."""
MAX_PLACES = 512
"""Pieces that one read may bring parts of: systems take 1,024 buffers at once."""
LANES = 2
"""Requests to one web seed at once: while the one is on its way, the other brings data."""


class WebTrade:
    """All web seeds of one torrent."""

    def __init__(self, info: Info, picker: Picker, requests: Requests, down: Meter) -> None:
        self.seeds: list[WebSeed] = []
        self._info = info
        self._picker = picker
        self._requests = requests
        self._down = down

    def add(self, urls: Iterable[str], now: float) -> list[WebSeed]:
        """Takes in web seeds by their URLs; those that are new and fit in."""
        known = {seed.url for seed in self.seeds}
        fresh = [url for url in dict.fromkeys(urls) if url not in known][: MAX_URLS - len(known)]
        seeds = [WebSeed(self._info, url, now) for url in fresh]
        for seed in seeds:
            seed.source.has = self._picker.full
        self.seeds += seeds
        return seeds

    @property
    def states(self) -> tuple[WebSeedState, ...]:
        """A snapshot of each."""
        return tuple(
            WebSeedState(seed.url, seed.source.meter.total, seed.source.meter.rate, seed.reason, seed.given_up)
            for seed in self.seeds
        )

    # --- asking

    def _may_work(self, seed: WebSeed, now: float) -> bool:
        if seed.given_up or now < seed.rests_until:
            return False
        if seed.source not in self._requests:
            if sum(other.source in self._requests for other in self.seeds) >= MAX_WEB_SEEDS:
                return False
            seed.source.restart()
            self._requests.join(seed.source)
        return True

    def ask(self, seed: WebSeed, now: float) -> list[Stretch]:
        """What to ask of a web seed now, counted as asked; nothing where it has to wait, or nothing is left to ask."""
        if not seed.ranges or not self._may_work(seed, now):
            return []
        source = seed.source
        most = min(max(source.depth // LANES, 1), MAX_REQUEST_BYTES // BLOCK_BYTES)
        runs = self._requests.fill_run(source, most, now)
        if not runs and not source.asked:
            self._requests.leave(source)  # its place is free for another
        return stretches(runs, self._info.piece_length)

    def next_whole(self, seed: WebSeed, now: float) -> int | None:
        """For a server that sends whole files alone: the first piece that is worth a file; None as `ask`."""
        if not self._may_work(seed, now):
            return None
        pieces = (self._picker.missing | self._requests.orphans) & seed.source.has
        if pieces:
            return self._picker.first(self._picker.most_wanted(pieces))
        self._requests.leave(seed.source)
        return None

    def claim(self, seed: WebSeed, index: int, now: float) -> bool:
        """Whether that piece, which comes next in the file, is to be taken from here."""
        return bool(self._picker.bit(index) & seed.source.has) and self._requests.claim(seed.source, index, now)

    def must_prove(self, seed: WebSeed) -> bool:
        """Whether nothing more is taken of it before what it gave is judged."""
        return not seed.source.proven and self._requests.is_unproven(seed.source)

    def awaits(self, seed: WebSeed, offset: int, end: int) -> bool:
        """Whether any block from here to there is still wanted from it: a peer may have been faster. Mostly the first
        of them is."""
        asked = seed.source.asked
        return any(
            (index << 32 | begin) in asked for index, begin, _ in blocks_of(offset, end, self._info.piece_length)
        )

    def pause(self, seed: WebSeed) -> None:
        """What is asked of it and has not come is free for others, and for itself."""
        self._requests.leave(seed.source)

    # --- what comes

    def room(self, seed: WebSeed, offset: int, most: int) -> list[tuple[int, int, memoryview]]:
        """Where whole blocks belong that come end to end from `offset` on, as (piece, begin, place): `most` bytes, and
        the rest of the last block. Nothing where the first block is not simply to be put there (see `received`).

        To be filled at once: with the next call of anything here it may not hold any more.
        """
        found: list[tuple[int, int, memoryview]] = []
        while most > 0 and len(found) < MAX_PLACES:
            index, begin = divmod(offset, self._info.piece_length)
            view = self._requests.room(seed.source, index, begin, -(-most // BLOCK_BYTES))
            if view is None:
                break
            found.append((index, begin, view))
            offset += len(view)
            most -= len(view)
            if offset % self._info.piece_length:
                break
        return found

    def filled(self, seed: WebSeed, index: int, begin: int, length: int, now: float) -> None:
        """Whole blocks came, and lie where `room` said."""
        self._requests.filled(seed.source, index, begin, length, now)
        self._down.total += length
        seed.worked()

    def received(self, seed: WebSeed, blocks: Iterable[tuple[int, int, memoryview]], now: float) -> None:
        """Blocks came, of those that were asked for or claimed; others are passed over."""
        source = seed.source
        before = source.meter.total
        for index, begin, data in blocks:
            key = index << 32 | begin
            if key in source.asked or key in source.late:
                self._requests.take(source, index, begin, data, now)
                seed.worked()
        self._down.total += source.meter.total - before

    def failed(self, seed: WebSeed, refusal: Refusal, file_index: int | None, now: float) -> None:
        """It refused, for that file, or could not be reached: what was asked of it is free for others."""
        self._requests.leave(seed.source)
        if not refusal.lasting or file_index is None:
            seed.rest(str(refusal), now, refusal.retry_s)
            return
        seed.reason = str(refusal)
        seed.source.has &= ~self._picker.span(self._info.layout.pieces_of(file_index))
        if not seed.source.has:
            seed.give_up(str(refusal))

    def lied(self, source: Source, index: int) -> None:
        """It gave a piece that does not match its hash: never again (BEP 19)."""
        for seed in self.seeds:
            if seed.source is source:
                self._requests.leave(source)
                self._requests.disown(source)
                seed.give_up(f"sent wrong data in piece {index}")

    def tick(self, now: float) -> None:
        """Once a second."""
        for seed in self.seeds:
            seed.source.measure(now)
