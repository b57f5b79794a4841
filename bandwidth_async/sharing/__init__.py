"""Shares one rate limit among processes: on one machine over a socket, on many over Redis."""
