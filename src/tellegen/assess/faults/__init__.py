"""What may go wrong with a record, on purpose: simulated worlds from a seed, flipped bits, killed processes.

In: seeds, or processes that hand out receipts. Out: counts of what was survived, or the promise that was broken.
"""
