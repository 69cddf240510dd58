"""The pure core: money, statuses, commands and rules. No I/O, no clock, no randomness."""
