"""What is outside? Homes, weather, plant, wholesale prices, faults, a synthetic city: a world that the operator serves.

In: a scenario, or a city by its seed. Out: what reality would hand to an operator (enrolments, signed bids, coded
readings), and what only a simulation knows (perfect meters, worlds without a market).
"""
