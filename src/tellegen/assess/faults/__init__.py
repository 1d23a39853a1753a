"""What may go wrong with a record, on purpose: a simulated world from a seed, flipped bits, killed processes.

In: seeds, or a command that prints receipts. Out: counts of what was survived, or the promise that was broken.
"""
