"""Attacks by those who have no credentials: what is left of a well-behaved sender's rate meanwhile.

In: kinds of hostile connections (`kinds`, `connections`), each a coroutine that is one connection and does its harm.
Out: the share of its rate that a sender keeps beside 200 of them, from one address, from 200, and from the sender's
own. `siege` keeps the connections open from a process of its own, `senders` are the well-behaved, `servers` starts what
is attacked. One more kind is one more entry of `connections.KINDS`.
"""
