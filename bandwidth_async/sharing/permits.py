"""The pace of a follower: it sends with the permits that the leader hands out, and reports what became of them."""
