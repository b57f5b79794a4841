"""The messages between leader and followers: reports, letters, and the state that the leader publishes."""
