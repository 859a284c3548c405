"""The address that attempts are counted by cannot be chosen by the client."""

from web.client_address import client_address

FORGED = {"X-Forwarded-For": "203.0.113.9, 198.51.100.2", "Fly-Client-IP": "203.0.113.9"}


def test_without_a_configured_proxy_headers_are_ignored():
    """The peer counts; on this machine itself there may be none."""
    assert client_address(FORGED, "192.0.2.1", header=None, proxy_hops=0) == "192.0.2.1"
    assert client_address({}, None, header=None, proxy_hops=0) == "local"


def test_a_configured_header_is_believed():
    """Behind a proxy that always sets it, it is the client."""
    address = client_address(FORGED, "192.0.2.1", header="Fly-Client-IP", proxy_hops=0)
    assert address == "203.0.113.9"


def test_hops_are_counted_from_the_right():
    """What a client wrote into the header itself is left of what the proxy added."""
    assert client_address(FORGED, "192.0.2.1", header=None, proxy_hops=1) == "198.51.100.2"
    assert client_address(FORGED, "192.0.2.1", header=None, proxy_hops=2) == "203.0.113.9"
    assert client_address(FORGED, "192.0.2.1", header=None, proxy_hops=3) == "192.0.2.1"


def test_an_absent_header_leaves_the_peer():
    """A health check that did not come through the proxy has an address too."""
    assert client_address({}, "192.0.2.1", header="Fly-Client-IP", proxy_hops=1) == "192.0.2.1"
