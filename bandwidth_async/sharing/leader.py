"""Runs one pace for all processes and hands out permits to send: the leader's decisions, without any I/O."""
