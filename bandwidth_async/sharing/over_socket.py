"""A carrier for the processes of one machine: who holds a file's lock leads, and listens on a socket beside it."""
