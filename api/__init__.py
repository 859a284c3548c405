"""One request, from socket to answer: the HTTP service."""
