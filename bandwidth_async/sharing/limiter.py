"""`SharedLimiter`: a limiter whose rate holds for all processes of an account together."""
