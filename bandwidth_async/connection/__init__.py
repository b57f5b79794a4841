"""The client's own sessions and their connections, and the way to the connections past the session."""

from bandwidth_async.connection.pool import NotSentError, Reply
from bandwidth_async.connection.session import direct_way, open_session

__all__ = ["NotSentError", "Reply", "direct_way", "open_session"]
