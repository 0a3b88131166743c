"""The command `magnet`: its words, options and help. What they do stands in `magnet.commands` and `magnet.files`.

The options that most of them share are in `magnet.options`.

Only what is needed to read the command line is imported here, so that help and errors come at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from kademlia_bt.commands.console import endpoint, host_port, network_name, proxy_url, size, status_address
from kademlia_bt.commands.front import App, Argument, Option
from magnet.config import Config, default_state_dir
from magnet.options import HOST_PORT, Json, LinksFrom, Settings, Source, Sources, seconds
from magnet.options import settings as shared
from wire.compact import Endpoint
from wire.errors import MisuseError

__all__ = ["app"]

app = App(
    "magnet",
    help="From a magnet link to the files, without a tracker.",
    epilog="SOURCE is a magnet link, a bare info-hash, a .torrent file, or an http(s) URL of one. "
    "'magnet COMMAND --help' tells more.",
)


class Version(StrEnum):
    v1 = "1"
    v2 = "2"
    hybrid = "hybrid"


@app.command(shares=shared)
def get(
    sources: Sources = None,
    *,
    links_from: LinksFrom = None,
    out: Annotated[Path, Option("-o", "--out", metavar="DIR", help="Where the files go.")] = Path(),
    only: Annotated[
        list[str] | None, Option(metavar="GLOB", help="Only files that match, such as '*.mkv'; repeatable.")
    ] = None,
    first: Annotated[
        list[str] | None, Option(metavar="GLOB", help="Files to fetch before the others; repeatable.")
    ] = None,
    in_order: Annotated[
        bool, Option("--in-order", help="From the first piece to the last, not the rarest first.")
    ] = False,
    seed: Annotated[bool, Option("--seed", help="Go on sharing when it is done, until Ctrl-C.")] = False,
    jobs: Annotated[int, Option(min=1, max=1000, metavar="N", help="Downloads at a time.")] = 5,
    settings: Settings,
) -> int:
    """Download the files. Run it again to go on where it stopped.

    \b
    magnet get "magnet:?xt=urn:btih:..." -o downloads
    magnet get LINK1 LINK2 film.torrent --only '*.mkv'
    """
    from magnet import commands

    choice = commands.Choice(tuple(only or ()), tuple(first or ()), in_order)
    return commands.get(sources or [], links_from, out, choice, seed, jobs, settings)


@app.command(shares=shared)
def run(
    sources: Sources = None,
    *,
    out: Annotated[Path, Option("-o", "--out", metavar="DIR", help="Where the files of new ones go.")] = Path(),
    only: Annotated[
        list[str] | None, Option(metavar="GLOB", help="Of new ones only files that match; repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        Option(metavar="HASH", help="Take a torrent off the list first; its files stay. Repeatable."),
    ] = None,
    show: Annotated[bool, Option("--list", help="Show the list and leave.")] = False,
    settings: Settings,
) -> int:
    """Download and share a list, restored after a crash.

    Each SOURCE is put on a list in the state folder; whatever is on the list is downloaded, then shared, until Ctrl-C.
    Started again, with or without more sources, it goes on with all. A full disk makes it wait until there is room.
    While it runs, the same command in another terminal puts more on the list, or takes some off, and leaves at once.

    \b
    magnet run LINK1 LINK2 -o downloads
    magnet run
    """
    from magnet import keeping

    if show:
        return keeping.show_list(settings)
    return keeping.run(sources or [], out, only or [], remove or [], settings)


@app.command(shares=shared)
def resolve(
    sources: Sources = None,
    *,
    out: Annotated[Path, Option("-o", "--out", metavar="DIR", help="Where the .torrent files go.")] = Path(),
    links_from: LinksFrom = None,
    jobs: Annotated[int, Option(min=1, max=1000, metavar="N", help="Links to resolve at a time.")] = 16,
    settings: Settings,
) -> int:
    """Get only the metadata: writes INFO-HASH.torrent files.

    \b
    magnet resolve LINK -o torrents
    magnet resolve --from links.txt --jobs 50 --json
    """
    from magnet import commands

    return commands.resolve(sources or [], links_from, out, jobs, settings)


@app.command(shares=shared)
def info(
    source: Source,
    *,
    swarm: Annotated[bool, Option("--swarm", help="Ask its trackers and the DHT how many share it.")] = False,
    settings: Settings,
) -> int:
    """Show what a torrent or link holds.

    \b
    magnet info film.torrent
    magnet info LINK --json
    """
    from magnet.inputs import is_file

    if is_file(source) and not swarm:
        from magnet import files

        return files.info(source, settings)
    from magnet import commands

    return commands.info(source, swarm, settings)


@app.command(shares=shared)
def seed(
    sources: Annotated[
        list[str],
        Argument(metavar="SOURCE...", help="Magnet links, bare info-hashes, .torrent files, or URLs of such."),
    ],
    *,
    data: Annotated[Path, Option(metavar="DIR", help="The folder in which the file or folder lies.")],
    super_seed: Annotated[
        bool, Option("--super-seed", help="Show each peer one piece at a time: give about one copy (BEP 16).")
    ] = False,
    settings: Settings,
) -> int:
    """Share what is there, until Ctrl-C.

    It is checked first; nothing is downloaded.

    \b
    magnet seed holiday.torrent --data .
    """
    from magnet import commands

    return commands.seed(sources, data, super_seed, settings)


@app.command(shares=shared)
def stream(
    source: Source,
    *,
    file: Annotated[
        list[str] | None,
        Option(
            metavar="GLOB", help="Which files, such as '*.mkv'; repeatable. Default: the largest that can be played."
        ),
    ] = None,
    out: Annotated[Path, Option("-o", "--out", metavar="DIR", help="Where the files go.")] = Path(),
    http: Annotated[
        Any,
        Option(
            parser=status_address,
            metavar=HOST_PORT,
            help="Where to serve. Default: loopback, a free port. Whoever reaches it can read the files.",
            show_default=False,
        ),
    ] = "127.0.0.1:0",
    settings: Settings,
) -> int:
    """Play a file while it downloads: prints its URL.

    Give the URL to a player, or open it in a browser: ranges and seeking work, and what is read next is fetched first.
    Only that file is downloaded, with its subtitles. Serves until Ctrl-C; run it again to go on where it stopped.

    \b
    magnet stream LINK -o downloads
    """
    from magnet import commands

    at = http if isinstance(http, Endpoint) else Endpoint("127.0.0.1", 0)
    return commands.stream(source, out, file or [], at, settings)


@app.command()
def check(
    torrent: Annotated[str, Argument(metavar="TORRENT", help="A .torrent file.")],
    *,
    data: Annotated[Path, Option(metavar="DIR", help="The folder in which the file or folder lies.")],
    json: Json = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Only the exit code.")] = False,
) -> int:
    """Recheck files against their torrent.

    Exit code 1 if any is not whole.

    \b
    magnet check holiday.torrent --data downloads
    """
    from magnet import files

    return files.check(torrent, data, json=json, quiet=quiet)


@app.command()
def create(
    path: Annotated[Path, Argument(metavar="PATH", help="A file or a folder.")],
    *,
    out: Annotated[
        Path | None, Option("-o", "--out", metavar="FILE", help="The .torrent. Default: NAME.torrent here.")
    ] = None,
    version: Annotated[Version, Option(help="Of the format: BEP 3, BEP 52, or both in one.")] = Version.v1,
    tracker: Annotated[list[str] | None, Option(metavar="URL", help="Written into it; repeatable.")] = None,
    web_seed: Annotated[list[str] | None, Option(metavar="URL", help="Written into it; repeatable.")] = None,
    comment: Annotated[str | None, Option(metavar="TEXT", help="For people; written into it.")] = None,
    similar: Annotated[
        list[str] | None,
        Option(metavar="SOURCE", help="A .torrent, link or info-hash that shares files with it (BEP 38); repeatable."),
    ] = None,
    collection: Annotated[
        list[str] | None, Option(metavar="NAME", help="Torrents of one collection share files (BEP 38); repeatable.")
    ] = None,
    private: Annotated[bool, Option("--private", help="Peers from trackers only: no DHT, no PEX.")] = False,
    piece_size: Annotated[
        int | None, Option(parser=size, metavar="N", help="A power of two, such as 1M. Default: by the size.")
    ] = None,
    json: Json = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Only the link and errors.")] = False,
) -> int:
    """Make a .torrent and print its magnet link.

    The same files and options give the same .torrent, byte by byte.

    \b
    magnet create holiday -o holiday.torrent
    magnet create film.mkv --tracker https://tracker.example/announce --piece-size 1M
    """
    from magnet import files

    return files.create(
        path,
        out,
        piece_size=piece_size,
        trackers=tracker or [],
        web_seeds=web_seed or [],
        private=private,
        version=version.value,
        comment=comment,
        similar=similar or [],
        collections=collection or [],
        json=json,
        quiet=quiet,
    )


@app.command()
def lint(
    link: Annotated[str, Argument(metavar="LINK", help="A magnet link or a bare info-hash.")],
    *,
    json: Json = False,
) -> int:
    """Explain a link and print its clean form.

    Exit code 1 if something is wrong with it.

    \b
    magnet lint "magnet:?xt=urn:btih:..."
    """
    from magnet import files

    return files.lint(link, json=json)


@app.command()
def doctor(
    *,
    listen: Annotated[
        list[Any] | None,
        Option(parser=endpoint, metavar=HOST_PORT, help="Address to try. Default: all, on a free port."),
    ] = None,
    bootstrap: Annotated[
        list[Any] | None,
        Option(parser=host_port, metavar=HOST_PORT, help="DHT node to ask, instead of the public routers."),
    ] = None,
    network: Annotated[
        str | None,
        Option(parser=network_name, metavar="NAME", help="A private DHT of that name, not the mainline DHT."),
    ] = None,
    proxy: Annotated[
        Any,
        Option(parser=proxy_url, metavar="URL", help="SOCKS5 for all of it: socks5://[USER:PASSWORD@]HOST:PORT."),
    ] = None,
    deadline: Annotated[
        float, Option(parser=seconds, metavar="SECONDS", help="For all of it.", show_default="25")
    ] = 25.0,
    state: Annotated[Path | None, Option(metavar="DIR", help="The folder to check. Default: a user folder.")] = None,
    json: Json = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Only what is broken.")] = False,
) -> int:
    """Say what works here and what does not, and the mend.

    Asks every router by address, over IPv4 and IPv6, finds out where others see us, what kind of NAT there is, whether
    ports can be mapped and whether others reach us. Changes nothing. Exit code 1 if something is broken.
    """
    if not deadline:
        raise MisuseError("--deadline 0 leaves no time at all")
    from magnet import doctor as visit

    config = Config(
        listen=tuple(listen or ()),
        bootstrap=None if bootstrap is None else tuple(bootstrap),
        network=network,
        proxy=proxy,
        deadline_s=deadline,
        state_dir=default_state_dir() if state is None else state,
    )
    return visit.doctor(config, json=json, quiet=quiet)


@app.command()
def demo(
    *,
    nodes: Annotated[int, Option(min=2, max=200, metavar="N", help="DHT nodes to start.")] = 32,
    size: Annotated[int, Option("--size", parser=size, metavar="N", help="Bytes to share.", show_default="64M")] = 64
    << 20,
    json: Json = False,
) -> int:
    """See it work without internet.

    Starts a small real DHT, a seeder and a downloader on this machine and shows each stage with its time.
    """
    from magnet.demo import run

    return run(nodes, size, json=json)
