"""When a request may leave: the queue, the pace, the breaker, and the events they emit."""
