"""The address that login attempts are counted by: a proxy's word only where it is configured."""

from __future__ import annotations

from collections.abc import Mapping


def client_address(
    headers: Mapping[str, str], peer: str | None, *, header: str | None, proxy_hops: int
) -> str:
    """Return the client's address: a trusted header's, else a trusted hop's, else the peer's.

    `proxy_hops` counts from the right of X-Forwarded-For: what is left of it a client can forge.
    """
    if header and (named := headers.get(header, "").strip()):
        return named
    if proxy_hops:
        hops = [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",")]
        if len(hops) >= proxy_hops and hops[-proxy_hops]:
            return hops[-proxy_hops]
    return peer or "local"
