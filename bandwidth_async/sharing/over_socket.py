"""A carrier for the processes of one machine: who locks a file leads, and listens on a socket beside it."""
