"""How do other engines do on the same market? Independent formulations on one instance, judged by one judge.

In: options (whether to install what is absent). Out: figures: times beside ours, welfare, violations and prices of
every peer. `instance` is the market and its file, `markets` are those that are compared, `programs` the peers' own
programs (each runs alone, in an environment of its own), `install` and `running` start them, `judging` says whose time
counts.
"""

from tellegen.assess.peers.install import PEERS, Peer, PeerError, Task, install, interpreter
from tellegen.assess.peers.instance import Instance
from tellegen.assess.peers.judging import Timed, Verdict, judge
from tellegen.assess.peers.running import run_peer

__all__ = [
    "PEERS",
    "Instance",
    "Peer",
    "PeerError",
    "Task",
    "Timed",
    "Verdict",
    "install",
    "interpreter",
    "judge",
    "run_peer",
]
