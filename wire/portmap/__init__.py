"""Asking the gateway for a port: PCP, NAT-PMP and UPnP (RFC 6887, RFC 6886, UPnP IGD)."""
