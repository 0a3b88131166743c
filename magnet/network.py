"""Which outer world a session lives in: the machine's own network, or one behind a proxy. A shell; no I/O by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wire.net import Network
from wire.trio_net import TrioNetwork

if TYPE_CHECKING:
    from magnet.config import Config

__all__ = ["check_proxy", "network_of", "refused_by", "trouble_of"]


def network_of(config: Config, inner: Network | None = None) -> Network:
    """The network that the settings ask for, over `inner` (None: the machine's). With a proxy there is no other way."""
    network = inner or TrioNetwork(config.listen)
    if config.proxy is not None:
        from wire.proxied import ProxiedNetwork  # not needed by those without

        network = ProxiedNetwork(network, config.proxy)
    if config.block_list is not None:
        from wire.filtered import FilteredNetwork

        network = FilteredNetwork(network, config.block_list)
    return network


def refused_by(network: Network) -> int:
    """Dials, connections and datagrams that the block list refused."""
    refused = getattr(network, "refused", 0)
    return refused if isinstance(refused, int) else 0


def trouble_of(network: Network) -> str | None:
    """Why nothing goes through the proxy now, one line; None where all is well or there is none."""
    trouble = getattr(getattr(network, "inner", network), "trouble", None)
    return trouble if isinstance(trouble, str) else None


async def check_proxy(network: Network) -> None:
    """Talks to the proxy, where there is one, up to the login. Raises NetworkError, in one line, where that fails."""
    from wire.proxied import ProxiedNetwork

    proxied = getattr(network, "inner", network)
    if isinstance(proxied, ProxiedNetwork):
        await proxied.check()
