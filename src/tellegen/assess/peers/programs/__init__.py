"""Programs that solve an instance with another engine; each runs alone, in that engine's own environment.

They import nothing of this package, and what they need only when they solve. A file of arrays goes in (see
`tellegen.assess.peers.instance`), a file of arrays comes out. Tests call their `solve` directly.
"""
