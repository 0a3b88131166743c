"""How a node or a router is seen from outside: page, metrics and health over HTTP."""
