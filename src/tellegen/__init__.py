"""A market platform for transactive energy: prices that are physics, money that balances.

The rooms of the house, from the bottom up: `units`, `records`, `journal`, `privacy`, `books`,
`metering`, `grid`, `market`, `rules`, `settlement`, `replay`, `agents`, `operations`, `cli`;
`verify` stands beside them. See ``docs/architecture.md``.
"""

__version__ = "0.1.0"
