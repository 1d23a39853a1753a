"""How do machines reach it? A bare ASGI application over HTTP/1.1, one process per shard.

In: batches of readings and bids, in three wire formats. Out: receipts, refusals row by row, and the log for whoever
audits it. Needs the extra `service`.
"""
