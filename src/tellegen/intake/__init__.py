"""What may come in? Bodies of senders, checked row by row, put on record in groups, and answered with receipts.

In: bytes that somebody signed. Out: entries of the shard's journal, and one reason for every row that does not count.
"""
