"""The attack campaigns: what may be done to fastseg, and what has to hold then."""
