"""Does the clearing ever give up, and is what it says true? Random books on small feeders, each outcome judged afresh.

`grounds` are the feeders, `books` what is drawn for them, `circuit` a power flow of its own, `judge` what is asked of
an outcome, `benchmark` the run over all cores. Nothing here shares a line of arithmetic with the engine: flows come
from the admittance matrix and a Newton of its own, prices from its transpose, bids from what the outcome publishes.
"""
