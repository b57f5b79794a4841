"""A carrier over Redis: single servers, Sentinel, Cluster and TLS, as redis-py knows them."""
