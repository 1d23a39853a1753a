"""A synthetic city on the real platform: what an interval of a million meters costs, end to end.

`population` draws who lives there, `senders` what they send, `setup` makes the shards' directories; `market_process`
and `load_process` are the processes of a run, `benchmark` plays the intervals and reports. Customers, networks and
load are synthetic; cryptography, HTTP, durable storage, clearing, settlement and books are the platform's own.
"""
