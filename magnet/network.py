"""Which outer world a session lives in: the machine's own network, or one behind a proxy. A shell; no I/O by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wire.net import Network, TrioNetwork

if TYPE_CHECKING:
    from magnet.config import Config

__all__ = ["check_proxy", "network_of", "trouble_of"]


def network_of(config: Config, inner: Network | None = None) -> Network:
    """The network that the settings ask for, over `inner` (None: the machine's). With a proxy there is no other way."""
    inner = inner or TrioNetwork()
    if config.proxy is None:
        return inner
    from wire.proxied import ProxiedNetwork  # not needed by those without

    return ProxiedNetwork(inner, config.proxy)


def trouble_of(network: Network) -> str | None:
    """Why nothing goes through the proxy now, one line; None where all is well or there is none."""
    trouble = getattr(network, "trouble", None)
    return trouble if isinstance(trouble, str) else None


async def check_proxy(network: Network) -> None:
    """Talks to the proxy, where there is one, up to the login. Raises NetworkError, in one line, where that fails."""
    from wire.proxied import ProxiedNetwork

    if isinstance(network, ProxiedNetwork):
        await network.check()
