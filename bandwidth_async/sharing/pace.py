"""The one pace that a limiter sees, whoever decides at present: the leader, this process for all, or alone."""
