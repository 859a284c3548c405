"""One request, from socket to answer: the HTTP service."""

VERSION = "0.1.0"
