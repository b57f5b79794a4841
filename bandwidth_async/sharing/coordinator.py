"""Leads or follows over a carrier, and goes on alone when the carrier or the leader fails."""
