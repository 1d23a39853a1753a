"""What happens every interval? The one operator's market: gates, clearing, settlement, close of days, corrections.

In: the record of a shard's intake, wholesale prices, a clock. Out: the market's record, books, statements. It knows
no agent and no simulation.
"""
